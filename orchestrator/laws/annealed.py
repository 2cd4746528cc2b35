"""The law of annealed loss: that of stable loss, less the gain of annealing.

Touches nothing. Many trials have stable points and few have an annealed end, so the stable law
gives the shape and the cooldowns give the gain (`annealing`):

    L = S(N, D) exp(-gain (N/N0)^gain_N (D/D0)^gain_D)

(far under the smallest pair N and D stand for themselves no more, lest the gain take all there).
No fit meets stable and annealed points as if they were the same: one is of the first, one of the
differences between both. The result is a law in one line with draws, so whatever asks a law
(intervals, the best size, the cheapest compute, JSON) asks this one alike. A draw is one of the
stable law and one of the gain; they are independent, as a pair's difference holds neither the
level nor the offset of its trial. Where the intervals of the stable law are widened, the draws of
the gain are narrowed by as much beforehand, so that the widening gives them back their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.laws.annealing import Gain, fit_gain
from orchestrator.laws.cooldowns import Cooldown, Pairs, paired
from orchestrator.laws.curve_options import USUAL, CurveOptions
from orchestrator.laws.curve_solving import ALPHA, law_at
from orchestrator.laws.curves import EXPRESSION, CurveLaw, fit_curves
from orchestrator.laws.errors import FitError
from orchestrator.laws.forms.line import Known, LineForm, law_of
from orchestrator.laws.law import LawFit, LawWarning
from orchestrator.laws.runs import Array, CurveRows
from orchestrator.laws.uncertainty import LawPosterior

PHASES = ("annealed", "stable")
_LEVEL = 0.9  # at which the gain keeps its own width
_GAIN = "exp(-gain * max(N / {:.5g}, {:.5g})**gain_N * max(D / {:.5g}, {:.5g})**gain_D)"
_BELOW = 4.0  # times under the smallest pair the gain changes no more: else it grows to all of it
_DRIFT = "exp(drift_N * max(log(N / {:.5g}), 0) + drift_D * max(log(D / {:.5g}), 0))"
_KNOWN = {
    "gain": Known(low=0.0, meaning="gain from annealing, log loss"),
    "gain_N": Known(meaning="exponent of N in the gain"),
    "gain_D": Known(meaning="exponent of D in the gain"),
}
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StableLaw:
    """A law of stable loss as a line: published values of its own (P,) and of draws (S, P), in
    the order of `known`. posterior: whose widening holds; None where draws need none."""

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
    posterior: LawPosterior | None = None

    def predict(self, N: Array, D: Array) -> Array:
        """Loss (Q,) at N (Q,) and D (Q,)."""
        form = _form(self.name, self.expression, self.known, self.source)
        working = form.absorb(self.own[None, :], np.zeros(0))
        return form.loss(working, form.covariates(np.stack([N, D]), np.zeros(0)))[0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnnealedLaw:
    """A law of annealed loss, and what it is made of."""

    posterior: LawPosterior
    gain: Gain
    pairs: Pairs
    stable: StableLaw

    @property
    def words(self) -> str:
        """What it is, in one line."""
        nats, sd = self.gain.nats
        count = self.gain.pairs
        return (
            f"annealed loss = stable law of {self.stable.trials} trials, less a gain of"
            f" {nats:.3f} +- {sd:.3f} nats learned on {count} cooldowns"
        )

    def counted(self, cooldowns: Sequence[Cooldown]) -> list[Cooldown]:
        """Those of the cooldowns that the gain did not leave out as strays."""
        strays = set(self.gain.strays)
        return [c for c in cooldowns if (c.trial, c.tokens, c.loss) not in strays]


def stable_law(posterior: LawPosterior) -> StableLaw:
    """A fitted law of N and D with its draws. Raises ValueError for one of other inputs."""
    law = posterior.law
    if set(law.form.inputs) != {"N", "D"}:
        raise ValueError(
            f"an annealed law needs a stable law of N and D; {law.form.name} is one of"
            f" {', '.join(law.form.inputs)}"
        )
    centre = np.array(law.centre)
    draws = law.form.publish(np.array(posterior.draws), centre)
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
        scale=law.scale,
        scatter=law.scatter,
        warnings=law.warnings,
        posterior=posterior,
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


def annealed_law(stable: StableLaw, gain: Gain, pairs: Pairs, *, seed: int = 0) -> AnnealedLaw:
    """Both together. Raises FitError where a parameter of the stable law is named as one of the
    gain."""
    taken = [name for name in _KNOWN if name in stable.known]
    if taken:
        raise FitError(
            f"no law of annealed loss: the parameter {taken[0]!r} of {stable.name} is named as one"
            " of the gain; rename it"
        )
    form = _form(
        f"{stable.name}_less_gain" if stable.name.isidentifier() else "less_gain",
        f"({stable.expression}) * {_gain_of(gain, pairs)}",
        {**stable.known, **_KNOWN},
        "; ".join(said for said in (stable.source, "the gain: of the sweep's cooldowns") if said),
    )
    known = stable.posterior
    own = gain.own
    drawn = gain.samples(len(stable.draws), seed)
    if known is not None:
        drawn = own + (drawn - own) / known.widened(_LEVEL)
    published = np.concatenate([stable.draws, np.exp(drawn[:, :1]), drawn[:, 1:]], axis=1)
    centre = np.zeros(0)
    middle = np.concatenate([stable.own, np.exp(own[:1]), own[1:]])
    law = LawFit(
        form=form,
        working=_floats(form.absorb(middle[None, :], centre)[0]),
        centre=(),
        objective="huber_log",
        objective_value=0.0,
        delta=None,
        scale=stable.scale,
        rmse=float(np.sqrt(np.mean(_left(form, middle, pairs) ** 2))),
        scatter=math.hypot(stable.scatter, gain.scatter),
        rows=stable.rows + gain.pairs,
        trials=stable.trials,
        ranges=stable.ranges,
        optima=(),
        warnings=stable.warnings,
        starts=0,
        seed=seed,
        phases=PHASES,
    )
    posterior = LawPosterior(
        law=law,
        draws=tuple(_floats(row) for row in form.absorb(published, centre)),
        asked=len(published),
        failed=0,
        widening=1.0 if known is None else known.widening,
        degrees=None if known is None else known.degrees,
        rescaling=1.0 if known is None else known.rescaling,
        seed=seed,
    )
    return AnnealedLaw(posterior=posterior, gain=gain, pairs=pairs, stable=stable)


def fit_annealed(
    curves: Sequence[CurveRows],
    cooldowns: Sequence[Cooldown],
    *,
    draws: int = 200,
    seed: int = 0,
    options: CurveOptions = USUAL,
) -> AnnealedLaw:
    """The annealed law on top of the law of curves. curves: points of the constant rate alone; a
    cooldown's trial is its trunk's place among them. Raises FitError where either law fails."""
    law = fit_curves(curves, options=options)
    stable = stable_law_of_curves(law, draws=draws, seed=seed)
    return on_top_of(stable, curves, cooldowns, law.predict, seed=seed)


def on_top_of(
    stable: StableLaw,
    curves: Sequence[CurveRows],
    cooldowns: Sequence[Cooldown],
    predict: Callable[[Array, Array], Array] | None = None,
    *,
    seed: int = 0,
) -> AnnealedLaw:
    """The annealed law on top of a stable one. predict: the stable law, where it is nearer to
    hand than the line. Raises FitError where there is no law of the gain."""
    pairs = paired(curves, cooldowns, predict or stable.predict)
    return annealed_law(stable, fit_gain(pairs), pairs, seed=seed)


def widened(law: AnnealedLaw, factor: float) -> AnnealedLaw:
    """The law with its intervals `factor` times as wide (in logarithms)."""
    posterior = law.posterior
    return replace(
        law, posterior=replace(posterior, rescaling=posterior.rescaling * max(factor, 1.0))
    )


def _gain_of(gain: Gain, pairs: Pairs) -> str:
    """The factor of the gain, as a line."""
    n0, d0 = gain.centre
    least_n, least_d = float(pairs.N.min()) / _BELOW, float(pairs.D.min()) / _BELOW
    return _GAIN.format(n0, least_n / n0, d0, least_d / d0)


def _left(form: LineForm, published: Array, pairs: Pairs) -> Array:
    """Log loss of the annealed ends less that of the law."""
    covariates = form.covariates(np.stack([pairs.N, pairs.D]), np.zeros(0))
    said = form.loss(form.absorb(published[None, :], np.zeros(0)), covariates)[0]
    return np.log(pairs.loss) - np.log(said)


def _form(name: str, expression: str, known: Mapping[str, Known], source: str) -> LineForm:
    return law_of(expression, name=name, parameters=known, inputs=("N", "D"), source=source)


def _floats(values: Array) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
