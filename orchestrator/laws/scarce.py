"""A law from rows that may be fewer than its parameters: all optima that fit, as one belief.

Touches nothing. `fit` refuses too few rows; a policy that must choose the next runs cannot wait.
Here the log loss is the law, a misfit (`misfit`) and noise, and what the rows leave open is held
by a prior on what a parameter does: no one of them is thought to move the log loss, over the
places where the law is asked, by more than about 1. The belief is a mixture of normal
distributions, one about each optimum (Laplace); an optimum that says at the target what nobody
would believe is left out. Features are such that products of rows are covariances, so that what
a run will teach has a closed form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.doubts import probe_inputs
from orchestrator.laws.errors import FitError
from orchestrator.laws.forms.base import LawForm
from orchestrator.laws.levenberg import minimise
from orchestrator.laws.misfit import Misfit
from orchestrator.laws.posing import Posed
from orchestrator.laws.problem import Problem
from orchestrator.laws.refining import (
    LEAST_NOISE,
    NOISE,
    Refining,
    Scene,
    covariates_at,
    in_its_unit,
    slopes_at,
    thinned,
)
from orchestrator.laws.robust import KNEE
from orchestrator.laws.runs import Array, Runs
from orchestrator.laws.screening import judged_rows, screened_starts
from orchestrator.laws.search import distinct

_FIRST_SCALE = 0.02
_NOISE_ROWS = 2.0  # how many rows the usual noise counts as, before the misfit is there
_STARTS = 32
_MODES = 12
_TIGHTNESS = (1.0, 3.0, 10.0)  # of the prior: tighter where all optima are beyond belief
_LEAST_WEIGHT = 1e-3
_ABOVE, _BELOW = 0.5, 1.0  # of log loss: how far beyond the rows a target is believable
_SAME = 1e-3  # of log loss: optima that differ less wherever the law is asked are one


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Belief:
    """Optima of a form and the normal distribution about each.

    values (K, P), weights (K,) that sum to 1, tilt (K, F): of the misfit's features. roots
    (K, P + F, P + F): the covariance of parameters and tilt is root @ root.T. noise: sd of a row.
    In log loss, or in the loss where `in_logs` is False.
    """

    form: LawForm
    centre: Array
    in_logs: bool
    unit: float
    values: Array
    tilt: Array
    weights: Array
    roots: Array
    noise: float
    misfit: Misfit | None

    def alone(self) -> Belief:
        """The best optimum, as if there were no other."""
        best = slice(int(np.argmax(self.weights)), int(np.argmax(self.weights)) + 1)
        return replace(
            self,
            values=self.values[best],
            tilt=self.tilt[best],
            weights=np.ones(1),
            roots=self.roots[best],
        )

    def said(self, inputs: Mapping[str, Array], *, law_only: bool = False) -> Array:
        """(K, Q) what each optimum expects at inputs (Q,) each."""
        loss = self.form.loss(self.values, covariates_at(self.form, inputs, self.centre))
        said = in_its_unit(loss, self.in_logs)
        if self.misfit is None or law_only:
            return said
        return said + self.unit * self.tilt @ self.misfit.features(inputs).T

    def predict(self, inputs: Mapping[str, Array]) -> Array:
        """The expected loss (Q,): that of the mean over the optima."""
        with np.errstate(all="ignore"):
            mean = self.weights @ self.said(inputs)
            return np.exp(mean) if self.in_logs else mean

    def features(self, inputs: Mapping[str, Array]) -> Array:
        """(Q, features): products of rows are covariances, between optima included. The same
        columns for every call."""
        said, slopes = slopes_at(self.form, self.values, inputs, self.centre, self.in_logs)
        count, size, places = slopes.shape
        own = np.zeros((places, self.tilt.shape[1]))
        if self.misfit is not None:
            own = self.unit * self.misfit.features(inputs)
            said = said + self.tilt @ own.T
        root = np.sqrt(self.weights)[:, None]
        width = self.roots.shape[2]
        # Offers are thousands and columns hundreds: each optimum's are written where they belong.
        found = np.empty((places, count * width + count))
        with np.errstate(all="ignore"):
            for k in range(count):
                axes = root[k] * self.roots[k]
                block = found[:, k * width : (k + 1) * width]
                np.matmul(own, axes[size:], out=block)
                block += slopes[k].T @ axes[:size]
        found[:, count * width :] = (root * (said - self.weights @ said)).T
        return found


def believed(
    form: LawForm, runs: Runs, scene: Scene, *, seed: int, warm: Array | None = None
) -> Belief:
    """What the rows say of a form. warm (K, P): working values to start from, best first: they
    alone are settled beside misfit and prior, without a search. Raises FitError where no optimum
    is believable."""
    posed = _posed(form, runs, scene)
    return _settled(posed, scene, _optima(posed, seed) if warm is None else warm)


def _posed(form: LawForm, runs: Runs, scene: Scene) -> Posed:
    pool = np.stack([scene.pool[name] for name in form.inputs])
    return Posed(
        form=form,
        runs=runs,
        centre=form.middle(pool, np.ones_like(pool[0])),
        objective="huber" if runs.signed else "huber_log",
        delta=None,
        knee=KNEE,
        priors=(),
        offsets_sd=None,
    )


def _settled(posed: Posed, scene: Scene, values: Array) -> Belief:
    """The belief about the optima that are nearest to these values."""
    problem = posed.problem(_FIRST_SCALE * posed.unit)
    values = np.clip(values, problem.lower, problem.upper)
    noise = _noise(problem, values)
    for tightness in _TIGHTNESS:
        refined = Refining(posed, problem, scene, tightness)
        found, tilt, score, sd = refined.settled(values, noise)
        keep = _believable(posed, found, scene, problem) & np.isfinite(score)
        if keep.any():
            break
    else:
        raise FitError(f"no optimum of {posed.form.name} says anything believable at the target")
    values, tilt = found[keep], tilt[keep]
    roots, filled = refined.roots(values, tilt, sd)
    score = score[keep] - filled
    weights = np.exp(-(score - score.min()))
    order = np.argsort(score, kind="stable")
    kept = _apart(problem, values, refined.places, order[weights[order] >= _LEAST_WEIGHT])
    values, tilt, weights = values[kept], tilt[kept], weights[kept] / weights[kept].sum()
    return Belief(
        form=posed.form,
        centre=posed.centre,
        in_logs=problem.in_logs,
        unit=problem.unit,
        values=values,
        tilt=tilt,
        weights=weights,
        roots=roots[kept],
        noise=sd,
        misfit=refined.misfit,
    )


def _apart(
    problem: Problem, values: Array, places: Array, order: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Of the values in this order, those that are not one with an earlier one: starts that came
    to the same optimum would count it as often."""
    said = in_its_unit(problem.form.loss(values, places), problem.in_logs) / problem.unit
    kept: list[int] = []
    for k in order.tolist():
        if all(float(np.abs(said[k] - said[other]).max()) > _SAME for other in kept):
            kept.append(k)
    return np.array(kept, dtype=np.intp)


def _optima(posed: Posed, seed: int) -> Array:
    """Working values (K, P) of the optima of the law alone, best first."""
    rng = np.random.default_rng(seed)
    scale = _FIRST_SCALE * posed.unit
    problem = posed.problem(scale)
    probes = posed.form.covariates(
        probe_inputs(posed.runs.inputs(posed.form.inputs)), posed.centre
    )
    drawn = screened_starts(problem, starts=2 * _STARTS, rng=rng)
    if not len(drawn):
        raise FitError(f"no start of {posed.form.name} has a finite loss at all rows")
    few = problem.some_rows(judged_rows(problem, rng))
    found = minimise(few, drawn, tolerance=1e-4, most_iterations=10)
    values = found.values[np.argsort(found.objective, kind="stable")[:_STARTS]]
    for steps in (40, 25):
        problem = posed.problem(scale)
        found = minimise(problem, values, tolerance=1e-6, most_iterations=steps)
        values = found.values[np.argsort(found.objective, kind="stable")][:16]
        scale = _noise(problem, values)
    found = minimise(posed.problem(scale), values, tolerance=1e-7, most_iterations=40)
    groups = distinct(problem, found, probes, converged=False)
    if not groups:
        raise FitError(f"no start of {posed.form.name} came to a finite objective")
    return found.values[[lead for lead, _ in groups[:_MODES]]]


def _noise(problem: Problem, values: Array) -> float:
    """The sd of the rows about the first of the values that has a loss at all of them."""
    with np.errstate(all="ignore"):
        said = in_its_unit(problem.form.loss(values, problem.covariates), problem.in_logs)
    able = np.flatnonzero(np.isfinite(said).all(axis=1))
    if not len(able):
        raise FitError(f"no optimum of {problem.form.name} has a finite loss at all rows")
    return _spread(said[able[0]] - problem.target[0], values.shape[1], problem.unit)


def _spread(residual: Array, parameters: int, unit: float) -> float:
    """Robust sd of the rows, the parameters' degrees of freedom taken out; drawn towards what is
    usual where few rows are left."""
    rows = len(residual)
    spare = max(rows - parameters, 0)
    raw = 1.4826 * float(np.median(np.abs(residual))) * np.sqrt(rows / max(spare, 1))
    usual = NOISE * unit
    mixed = (_NOISE_ROWS * usual**2 + spare * raw**2) / (_NOISE_ROWS + spare)
    return max(float(np.sqrt(mixed)), LEAST_NOISE * unit)


def _believable(posed: Posed, values: Array, scene: Scene, problem: Problem) -> NDArray[np.bool_]:
    """Optima that are finite everywhere, and at the target not far beyond the rows."""
    with np.errstate(all="ignore"):
        said, slopes = slopes_at(posed.form, values, scene.target, posed.centre, problem.in_logs)
        _, others = slopes_at(
            posed.form, values, thinned(scene.pool), posed.centre, problem.in_logs
        )
    able = np.isfinite(said).all(axis=1)
    able &= (np.abs(slopes) < 1e150).all(axis=(1, 2)) & (np.abs(others) < 1e150).all(axis=(1, 2))
    low = float(problem.target.min()) - _BELOW * problem.unit
    high = float(problem.target.max()) + _ABOVE * problem.unit
    able &= (np.greater(said, low) & np.less(said, high)).all(axis=1)
    return np.asarray(able, dtype=np.bool_)
