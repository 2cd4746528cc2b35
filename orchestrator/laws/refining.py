"""Optima of a law refined beside its misfit, held by a prior on what the law says.

Touches nothing. The log loss is law, misfit and noise. The noise follows Student's t, by weights
(Lange, Little and Taylor 1989, JASA 84:881): a failed run near the target steers little. The
prior holds the law, in the mean square over the places where it is asked, to about a factor of e
about the losses seen: what rows leave open says nothing wild. How much is noise and how much
misfit is decided by the evidence with the parameters integrated over (restricted likelihood,
Patterson and Thompson 1971, Biometrika 58:545), so that few rows, which any law meets, prove
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.boxed import boxed_minimum
from orchestrator.laws.evidence import Rows
from orchestrator.laws.forms.base import LawForm
from orchestrator.laws.misfit import Misfit
from orchestrator.laws.posing import Posed
from orchestrator.laws.problem import Problem
from orchestrator.laws.runs import Array

MOVES = 1.0
"""Of log loss, rms over where a law is asked: sd of the prior."""
NOISE = 0.01
"""Of log loss: what the noise of a row is thought to be before rows tell."""
LEAST_NOISE = 2e-3
_STEPS = 16
_WEIGHED = (5, 10)  # steps before which noise and misfit are weighed against each other
_HOPELESS = 50.0  # of the log posterior below the best: such an optimum is followed no further
_PRIOR_ROWS = 64
_ANCHOR = 1e-4  # share of each parameter's prior that holds it where the search ended
_FREEDOM = 4.0  # of Student's t
_NOISES = np.geomspace(2e-3, 6.4e-2, 11)  # of log loss
_MISFITS = np.array([0.25, 0.5, 1.0, 2.0, 4.0])  # times the misfit's own sd
_DOUBT = 0.7  # sd of the log of either, about what is usual


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """Where a law is asked: inputs by name of everything that may be run (Q,), and the target
    (T,), and the misfits over both among which the rows choose; none for a law that is true."""

    pool: Mapping[str, Array]
    target: Mapping[str, Array]
    misfits: tuple[Misfit, ...] = ()


class Refining:
    """Optima of law and misfit together, with the prior on what parameters do."""

    def __init__(self, posed: Posed, problem: Problem, scene: Scene, tightness: float) -> None:
        self.problem, self.centre = problem, posed.centre
        self.scene = scene
        thin = thinned(scene.pool, _PRIOR_ROWS)
        aim = thinned(scene.target, _PRIOR_ROWS)
        both = {name: np.concatenate([thin[name], aim[name]]) for name in aim}
        counts = [len(next(iter(part.values()))) for part in (thin, aim)]
        self.places = covariates_at(posed.form, both, posed.centre)
        self.share = np.concatenate([np.full(n, 0.5 / n) for n in counts])
        self.share *= (tightness / (MOVES * problem.unit)) ** 2
        self.level = float(np.median(problem.target))
        self.bases = [
            problem.unit * misfit.features(posed.runs.features) for misfit in scene.misfits
        ]
        self.which, self.grown = 0, 1.0
        self.own = self.bases[0] if self.bases else np.zeros((len(posed.runs), 0))

    @property
    def misfit(self) -> Misfit | None:
        """The misfit that the rows speak for, as large as they have it."""
        return self.scene.misfits[self.which].grown(self.grown) if self.bases else None

    def settled(self, values: Array, noise: float) -> tuple[Array, Array, Array, float]:
        """Values (K, P), tilt (K, F), minus the log of the posterior (K,), and the noise; those
        far below the best are left out."""
        anchor, tilt = values.copy(), np.zeros((len(values), self.own.shape[1]))
        pull = _ANCHOR * self._precision(anchor)
        damping = np.full(len(values), 1e-3)
        at = self._stand(values, tilt, anchor, pull, noise)
        for step in range(_STEPS):
            if step in _WEIGHED:
                near = np.flatnonzero(at.score <= float(np.min(at.score)) + _HOPELESS)
                if 0 < len(near) < len(at.score):
                    anchor, pull, damping = anchor[near], pull[near], damping[near]
                    at = at.rows_of(near)
                noise, tilt = self._chosen(at, noise)
                at = self._stand(at.values, tilt, anchor, pull, noise)
            moved = self._moved(at, anchor, pull, damping, noise)
            there = self._stand(*moved, anchor, pull, noise)
            better = there.score < at.score
            damping = np.clip(np.where(better, damping * 0.2, damping * 8.0), 1e-9, 1e6)
            at = at.where(better, there)
        return at.values, at.tilt, at.score, noise

    def roots(self, values: Array, tilt: Array, noise: float) -> tuple[Array, Array]:
        """(K, P + F, P + F): inverse roots of the normal matrices. And (K,) the log of the part of
        the prior's volume that each fills: of optima that fit alike, the one that wants its
        parameters less exactly is the likelier (MacKay 1992, Neural Computation 4:415)."""
        pull = self._precision(values)
        at = self._stand(values, tilt, values, pull, noise)
        matrix, size = self._matrix(at, pull, noise), values.shape[1]
        found, filled = np.empty_like(matrix), np.empty(len(matrix))
        for k, each in enumerate(matrix):
            scale = 1.0 / np.sqrt(np.maximum(np.diag(each), 1e-300))
            roots, axes = np.linalg.eigh(each * np.outer(scale, scale))
            roots = np.maximum(roots, 1e-12 * roots[-1])
            found[k] = scale[:, None] * axes / np.sqrt(roots)
            prior = np.diag(pull[k]) + (at.lean[k] * self.share) @ at.lean[k].T
            own = np.linalg.eigvalsh(prior * np.outer(scale[:size], scale[:size]))
            free = 2.0 * np.log(scale[size:]).sum()  # the misfit's prior has precision 1
            filled[k] = np.log(np.maximum(own, 1e-12 * roots[-1])).sum() + free
            filled[k] = 0.5 * (filled[k] - np.log(roots).sum())
        return found, filled

    def _precision(self, values: Array) -> Array:
        """(K, P): of the prior, from what a parameter does over the scene."""
        scene, problem = self.scene, self.problem
        squares = np.zeros_like(values)
        for inputs in (thinned(scene.pool), scene.target):
            _, slopes = slopes_at(problem.form, values, inputs, self.centre, problem.in_logs)
            size = np.mean(np.minimum(slopes**2, 1e200), axis=2)
            squares += 0.5 * np.where(np.isfinite(size), size, 0.0)
        return squares / (MOVES * problem.unit) ** 2

    def _stand(
        self, values: Array, tilt: Array, anchor: Array, pull: Array, noise: float
    ) -> Standing:
        problem = self.problem
        with np.errstate(all="ignore"):
            loss, slopes = problem.form.jacobian(values, problem.covariates)
            residual = in_its_unit(loss, problem.in_logs) - problem.target + tilt @ self.own.T
            if problem.in_logs:
                slopes = slopes / loss[:, None, :]
            away = values - anchor
            far, lean = problem.form.jacobian(values, self.places)
            if problem.in_logs:
                lean = lean / far[:, None, :]
            far = in_its_unit(far, problem.in_logs) - self.level
            score = np.sum(problem.weight * np.log1p((residual / noise) ** 2 / _FREEDOM), axis=1)
            score *= 0.5 * (_FREEDOM + 1.0)
            score = score + 0.5 * np.sum(pull * away**2, axis=1) + 0.5 * np.sum(tilt**2, axis=1)
            score = score + 0.5 * far**2 @ self.share
            broken = ~(np.isfinite(score) & (np.abs(slopes) < 1e150).all(axis=(1, 2)))
            broken |= ~(np.abs(lean) < 1e150).all(axis=(1, 2))
        score[broken] = np.inf
        for array in (slopes, residual, far, lean):
            array[broken] = 0.0
        return Standing(
            values=values,
            tilt=tilt,
            residual=residual,
            slopes=slopes,
            far=far,
            lean=lean,
            score=score,
        )

    def _matrix(self, at: Standing, pull: Array, noise: float) -> Array:
        weight = self.problem.weight * _inverse_variance(at.residual, noise)
        count, size = len(at.values), at.values.shape[1]
        features = np.concatenate(
            [at.slopes, np.broadcast_to(self.own.T, (count, *self.own.T.shape))], axis=1
        )
        matrix = np.matmul(features * weight[:, None, :], features.swapaxes(1, 2))
        diagonal = np.arange(matrix.shape[1], dtype=np.intp)
        matrix[:, :size, :size] += np.matmul(at.lean * self.share, at.lean.swapaxes(1, 2))
        matrix[:, diagonal[:size], diagonal[:size]] += pull
        matrix[:, diagonal[size:], diagonal[size:]] += 1.0
        return matrix

    def _moved(
        self, at: Standing, anchor: Array, pull: Array, damping: Array, noise: float
    ) -> tuple[Array, Array]:
        problem, size = self.problem, at.values.shape[1]
        weight = problem.weight * _inverse_variance(at.residual, noise)
        pulled = weight * at.residual
        slope = np.concatenate(
            [
                np.einsum("kpr,kr->kp", at.slopes, pulled)
                + np.einsum("kpr,kr->kp", at.lean, at.far * self.share)
                + pull * (at.values - anchor),
                pulled @ self.own + at.tilt,
            ],
            axis=1,
        )
        matrix = self._matrix(at, pull, noise)
        diagonal = np.arange(matrix.shape[1], dtype=np.intp)
        lengths = np.maximum(matrix[:, diagonal, diagonal], 1e-300)
        scale = np.sqrt(np.maximum(lengths, 1e-24 * lengths.max(axis=1, keepdims=True)))
        matrix = matrix / (scale[:, :, None] * scale[:, None, :])
        matrix[:, diagonal, diagonal] += 1e-10 + damping[:, None]
        free = np.full_like(at.tilt, np.inf)
        low = np.concatenate([problem.lower - at.values, -free], axis=1) * scale
        high = np.concatenate([problem.upper - at.values, free], axis=1) * scale
        move = boxed_minimum(matrix, -slope / scale, low, high) / scale
        values = np.clip(at.values + move[:, :size], problem.lower, problem.upper)
        return values, at.tilt + move[:, size:]

    def _chosen(self, at: Standing, noise: float) -> tuple[float, Array]:
        """The noise, and the tilt (K, F) of the misfit, that the evidence now speaks for: another
        misfit starts without a tilt."""
        noise, which, grown = self._weighed(at, noise)
        tilt = at.tilt * (self.grown / grown)
        if which != self.which:
            tilt = np.zeros((len(at.values), self.bases[which].shape[1]))
        if self.bases:
            self.which, self.grown, self.own = which, grown, grown * self.bases[which]
        return noise, tilt

    def _weighed(self, at: Standing, noise: float) -> tuple[float, int, float]:
        """Noise, and number of and factor on the misfit, of most evidence at the best optimum
        (restricted likelihood: the parameters are integrated over, so that few rows prove
        nothing), with what is usual as the prior."""
        best, unit = int(np.argmin(at.score)), self.problem.unit
        law = at.residual[best] - at.tilt[best] @ self.own.T
        relative = _inverse_variance(at.residual[best], noise) * noise**2
        relative = relative * self.problem.weight[0]
        pull = np.diag(self._precision(at.values[[best]])[0])
        pull = pull + (at.lean[best] * self.share) @ at.lean[best].T
        diagonal = np.diag(pull)
        scale = np.where(diagonal > 1e-280, 1.0 / np.sqrt(np.maximum(diagonal, 1e-280)), 0.0)
        slopes, held = at.slopes[best] * scale[:, None], pull * np.outer(scale, scale)
        np.fill_diagonal(held, 1.0 + 1e-9)
        rows = Rows(residual=law, slopes=slopes, precision=relative, prior=held)
        factors = _MISFITS if self.bases else np.ones(1)
        usual = _doubted(factors)[:, None] + _doubted(_NOISES / NOISE)
        usual -= float(np.sum(self.problem.weight)) * np.log(_NOISES * unit)
        found = np.stack(
            [rows.evidence(own, factors, _NOISES * unit) for own in self.bases or [self.own]]
        )
        found = np.where(np.isnan(found), -np.inf, found + usual)
        which, grown, sd = np.unravel_index(int(np.argmax(found)), found.shape)
        return float(_NOISES[sd] * unit), int(which), float(factors[grown])


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where optima stand: residual (K, R), slopes (K, P, R), score (K,)."""

    values: Array
    tilt: Array
    residual: Array
    slopes: Array
    far: Array
    lean: Array
    score: Array

    def rows_of(self, chosen: NDArray[np.intp]) -> Standing:
        """Some of them."""
        return Standing(
            values=self.values[chosen],
            tilt=self.tilt[chosen],
            residual=self.residual[chosen],
            slopes=self.slopes[chosen],
            far=self.far[chosen],
            lean=self.lean[chosen],
            score=self.score[chosen],
        )

    def where(self, chosen: NDArray[np.bool_], other: Standing) -> Standing:
        """Those of the other where chosen."""
        one, three = chosen[:, None], chosen[:, None, None]
        return Standing(
            values=np.where(one, other.values, self.values),
            tilt=np.where(one, other.tilt, self.tilt),
            residual=np.where(one, other.residual, self.residual),
            slopes=np.where(three, other.slopes, self.slopes),
            far=np.where(one, other.far, self.far),
            lean=np.where(three, other.lean, self.lean),
            score=np.where(chosen, other.score, self.score),
        )


def thinned(inputs: Mapping[str, Array], most: int = 512) -> Mapping[str, Array]:
    rows = len(next(iter(inputs.values())))
    if rows <= most:
        return inputs
    chosen = np.linspace(0, rows - 1, most).astype(np.intp)
    return {name: column[chosen] for name, column in inputs.items()}


def covariates_at(form: LawForm, inputs: Mapping[str, Array], centre: Array) -> Array:
    return form.covariates(np.stack([inputs[name] for name in form.inputs]), centre)


def in_its_unit(loss: Array, in_logs: bool) -> Array:
    if not in_logs:
        return loss
    with np.errstate(all="ignore"):
        return np.log(loss)


def slopes_at(
    form: LawForm, values: Array, inputs: Mapping[str, Array], centre: Array, in_logs: bool
) -> tuple[Array, Array]:
    """What values (K, P) say at inputs (Q,), (K, Q), and its slopes (K, P, Q)."""
    with np.errstate(all="ignore"):
        loss, slopes = form.jacobian(values, covariates_at(form, inputs, centre))
        if in_logs:
            slopes = slopes / loss[:, None, :]
        return in_its_unit(loss, in_logs), slopes


def _doubted(value: Array) -> Array:
    """The log of the prior of a size, 1 the usual one, up to a constant."""
    return -0.5 * (np.log(value) / _DOUBT) ** 2


def _inverse_variance(residual: Array, noise: float) -> Array:
    """Of a normal that touches Student's t of this scale at the residual."""
    return (_FREEDOM + 1.0) / (_FREEDOM * noise**2 + residual**2)
