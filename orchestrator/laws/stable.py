"""A law of stable loss as one line with draws, for what is built on top of it.

Touches nothing. Two bases: a law form fitted to the stable rows, with the draws of its bootstrap,
and the law of curves, of which the line is the member that comes nearest. What a base offers is a
`Base`: how it is called, and its law of any curves, as a check wants it of fewer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from orchestrator.laws.calibration import Calibration, calibration_of
from orchestrator.laws.curve_options import USUAL, CurveOptions
from orchestrator.laws.curve_solving import ALPHA, law_at
from orchestrator.laws.curves import EXPRESSION, CurveLaw, fit_curves
from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit_trials
from orchestrator.laws.forms import LawForm
from orchestrator.laws.forms.line import Known, LineForm, law_of
from orchestrator.laws.law import LawFit, LawWarning
from orchestrator.laws.runs import Array, CurveRows, Runs, runs_from_curves
from orchestrator.laws.uncertainty import LawPosterior, bootstrap

_DRIFT = "exp(drift_N * max(log(N / {:.5g}), 0) + drift_D * max(log(D / {:.5g}), 0))"
_KNOWN_CURVES = {
    "E": Known(low=0.0, meaning="irreducible loss"),
    "A": Known(low=0.0, meaning="scale in N"),
    "alpha": Known(low=0.0, meaning="exponent of N"),
    "B": Known(low=0.0, meaning="scale in D"),
    "gamma": Known(meaning="power of N that data are worth"),
    "beta": Known(low=0.0, meaning="exponent of D"),
    "drift_N": Known(meaning="drift beyond the largest size"),
    "drift_D": Known(meaning="drift beyond the longest run"),
}
_GRID, _REACH = 12, 30.0  # places a side where the line meets the law of curves, and how far
_STEPS, _LEAST = 40, 1e-4


class Base(Protocol):
    """What an annealed law is built on."""

    @property
    def name(self) -> str: ...

    @property
    def expression(self) -> str: ...

    @property
    def source(self) -> str: ...

    def of(self, curves: Sequence[CurveRows], *, draws: int, seed: int) -> StableLaw:
        """The law of these curves, points of the constant rate alone, with `draws` draws; 0 for
        the law alone. Raises FitError where there is none."""
        ...

    def calibration(self, stable: StableLaw, curves: Sequence[CurveRows]) -> Calibration:
        """The law that `of` found of these curves, checked on the largest trials."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StableLaw:
    """A law of stable loss as a line: published values of its own (P,) and of draws (S, P), in
    the order of `known`. law: what it is a line of, asked at N (Q,) and D (Q,). posterior: whose
    widening holds; None where draws need none. furthest: N and D of the row that went furthest,
    empty where the largest of each stand for it."""

    name: str
    expression: str
    known: Mapping[str, Known]
    source: str
    own: Array
    draws: Array
    rows: int
    trials: int
    ranges: tuple[tuple[float, float], ...]
    scale: float
    scatter: float
    warnings: tuple[LawWarning, ...]
    law: Callable[[Array, Array], Array]
    posterior: LawPosterior | None = None
    furthest: tuple[float, ...] = ()

    def predict(self, N: Array, D: Array) -> Array:
        """Loss (Q,) at N (Q,) and D (Q,)."""
        form = line_of(self.name, self.expression, self.known, self.source)
        working = form.absorb(self.own[None, :], np.zeros(0))
        return form.loss(working, form.covariates(np.stack([N, D]), np.zeros(0)))[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormBase:
    """A law form of N and D, fitted to the rows of the curves. burn_in: share of each dropped."""

    form: LawForm
    burn_in: float = 0.1

    @property
    def name(self) -> str:
        return self.form.name

    @property
    def expression(self) -> str:
        return self.form.expression

    @property
    def source(self) -> str:
        return self.form.source

    def of(self, curves: Sequence[CurveRows], *, draws: int, seed: int) -> StableLaw:
        runs = self._runs(curves)
        law = fit_trials(self.form, runs, seed=seed)
        return stable_law(bootstrap(law, runs, draws=draws, seed=seed) if draws else law)

    def calibration(self, stable: StableLaw, curves: Sequence[CurveRows]) -> Calibration:
        if stable.posterior is None:
            return Calibration(checks=(), notes=())
        return calibration_of(stable.posterior.law, self._runs(curves))

    def _runs(self, curves: Sequence[CurveRows]) -> Runs:
        try:
            return runs_from_curves(curves, burn_in=self.burn_in)
        except ValueError as error:
            raise FitError(f"no law yet: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvesBase:
    """The law of curves. It has no check of its own: its drift is there for wrong forms."""

    options: CurveOptions = USUAL

    @property
    def name(self) -> str:
        return "curves"

    @property
    def expression(self) -> str:
        return EXPRESSION

    @property
    def source(self) -> str:
        return "the law of learning curves"

    def of(self, curves: Sequence[CurveRows], *, draws: int, seed: int) -> StableLaw:
        law = fit_curves(curves, options=self.options)
        return stable_law_of_curves(law, draws=max(draws, 1), seed=seed)

    def calibration(self, stable: StableLaw, curves: Sequence[CurveRows]) -> Calibration:
        return Calibration(checks=(), notes=())


def stable_law(found: LawPosterior | LawFit) -> StableLaw:
    """A fitted law of N and D with its draws; a law alone is its only draw. Raises ValueError for
    one of other inputs."""
    law = found.law if isinstance(found, LawPosterior) else found
    working = np.array(found.draws if isinstance(found, LawPosterior) else [law.working])
    if set(law.form.inputs) != {"N", "D"}:
        raise ValueError(
            f"an annealed law needs a stable law of N and D; {law.form.name} is one of"
            f" {', '.join(law.form.inputs)}"
        )
    centre = np.array(law.centre)
    draws = law.form.publish(working, centre)
    sides = dict(zip(law.form.inputs, law.ranges, strict=True))
    return StableLaw(
        name=law.form.name,
        expression=law.form.expression,
        known={
            p.name: Known(
                low=_published(p.lower, p.logarithmic),
                high="loss" if p.upper is None else _published(p.upper, p.logarithmic),
                meaning=p.meaning,
            )
            for p in law.form.parameters
        },
        source=law.form.source,
        own=law.form.publish(np.array([law.working]), centre)[0],
        draws=draws,
        rows=law.rows,
        trials=law.trials,
        ranges=(sides["N"], sides["D"]),
        furthest=(law.end["N"], law.end["D"]),
        scale=law.scale,
        scatter=law.scatter,
        warnings=law.warnings,
        law=law.predict,
        posterior=found if isinstance(found, LawPosterior) else None,
    )


def _published(bound: float, logarithmic: bool) -> float:
    return math.exp(min(bound, 700.0)) if logarithmic else bound


def stable_law_of_curves(law: CurveLaw, *, draws: int, seed: int) -> StableLaw:
    """The law of curves as a line: the one that comes nearest to its mean over nodes, between its
    rows and 30 times beyond; draws are of its nodes, with their drift."""
    highs = [high for _, high in law.ranges]
    slopes = law.drift * np.random.default_rng([seed, 1]).standard_normal((draws, 2))
    return StableLaw(
        name="curves",
        expression=f"({EXPRESSION}) * {_DRIFT.format(*highs)}",
        known=_KNOWN_CURVES,
        source="McLeish et al. 2025, arXiv 2502.06857; Hoffmann et al. 2022, arXiv 2203.15556",
        own=np.append(_line_of(law, _nearest(law)[None, :])[0], [0.0, 0.0]),
        draws=np.concatenate([_line_of(law, _drawn(law, draws, seed)), slopes], axis=1),
        rows=law.rows,
        trials=len(law.trials),
        ranges=law.ranges,
        scale=law.scale,
        scatter=law.scatter,
        warnings=tuple(
            LawWarning(kind="offsets" if "offsets" in said else "not_identified", text=said)
            for said in law.doubts
        ),
        law=law.predict,
    )


def _drawn(law: CurveLaw, draws: int, seed: int) -> Array:
    """Working values (S, 6) whose loss spreads as the law says it does.

    About a node the law is sure of its loss among the rows, and not of its parameters: those
    drawn by their covariance alone leave the rows, as the loss is no line in them. So what is
    drawn is the loss, as the covariance moves it to first order, at places among the rows and
    beyond, and each draw is the member of the law that comes nearest to it there, in units of the
    spread.
    """
    n, d = _places(law)
    rng = np.random.default_rng([seed, 0])
    node = rng.choice(len(law.weight), size=draws, p=law.weight)
    roots = np.linalg.cholesky(law.covariance + 1e-12 * np.eye(law.working.shape[1]))
    normal = rng.standard_normal((draws, law.working.shape[1]))
    loss, slopes = law_at(law.working, n, d)
    slopes = slopes / loss[:, None]
    spread = np.sqrt(np.einsum("kpq,kpr,kqr->kr", law.covariance, slopes, slopes))
    moved = np.einsum("spq,sq->sp", roots[node], normal)
    wanted = np.log(loss)[node] + np.einsum("sp,spr->sr", moved, slopes[node])
    free = np.ones(law.working.shape[1])
    free[ALPHA] = 0.0
    return _brought_near(law.working[node], n, d, wanted, spread[node] + _LEAST, free)


def _nearest(law: CurveLaw) -> Array:
    """Working values (6,) whose log loss is nearest to that of the mean over nodes."""
    n, d = _places(law)
    wanted = np.log(law.weight @ law_at(law.working, n, d)[0])[None]
    start = (law.weight @ law.working)[None]
    return _brought_near(start, n, d, wanted, np.ones_like(wanted), np.ones(6))[0]


def _places(law: CurveLaw) -> tuple[Array, Array]:
    """Log N and log D, from the law's centre, among the rows and beyond, (Q,) each."""
    sides = [np.geomspace(low, _REACH * high, _GRID) for low, high in law.ranges]
    N, D = (side.ravel() for side in np.meshgrid(*sides))
    return np.log(N) - law.centre[0], np.log(D) - law.centre[1]


def _brought_near(
    values: Array, n: Array, d: Array, wanted: Array, spread: Array, free: Array
) -> Array:
    """Working values (S, 6) moved until their log loss is nearest to `wanted` (S, Q) in units of
    `spread` (S, Q); those of `free` (6,) that are 0 stay."""
    for _ in range(_STEPS):
        loss, slopes = law_at(values, n, d)
        columns = slopes * free[:, None] / (loss * spread)[:, None]
        matrix = np.einsum("spq,srq->spr", columns, columns)
        # A little damping: where a term is hardly there its parameters have no column.
        matrix = matrix + 1e-6 * np.trace(matrix, axis1=1, axis2=2)[:, None, None] * np.eye(6)
        pull = np.einsum("spq,sq->sp", columns, (wanted - np.log(loss)) / spread)
        step = np.asarray(np.linalg.solve(matrix, pull[:, :, None])[:, :, 0], dtype=np.float64)
        values = values + np.clip(step, -0.5, 0.5)
    return values


def _line_of(law: CurveLaw, working: Array) -> Array:
    """(S, 6) in the order of the line's names: E, A, alpha, B, gamma, beta."""
    n0, d0 = law.centre
    E, a, b, alpha, beta = np.exp(working[:, :5]).T
    gamma = working[:, 5]
    A, B = a * np.exp(alpha * n0), b * np.exp(beta * d0 - gamma * n0)
    return np.stack([E, A, alpha, B, gamma, beta], axis=1)


def line_of(name: str, expression: str, known: Mapping[str, Known], source: str) -> LineForm:
    """A law form of N and D in one line."""
    return law_of(expression, name=name, parameters=known, inputs=("N", "D"), source=source)
