"""What the first two approaches of Hoffmann et al. end in: lines of N*, D* and loss against C.

Touches nothing. Hoffmann et al. 2022 (arXiv 2203.15556, sections 3.1 and 3.2): the best size and
tokens of each compute, found without a law of N and D, and straight lines through them in
log-log. `envelope` and `isoflop` find the points; both read curves with `along`, and draw whole
curves again for their intervals. They are cross-checks of a fitted law, not its rivals: parabolas
lean even without noise (Czech et al. 2026, arXiv 2603.22339), and a line of the loss in log-log
has no irreducible part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.errors import FitError
from orchestrator.laws.optimum import Interval
from orchestrator.laws.runs import Array, CurveRows, Labels, levels_of

Approach: TypeAlias = Literal["envelope", "isoflop"]
Quantity: TypeAlias = Literal["N", "D", "loss"]
QUANTITIES: tuple[Quantity, ...] = ("N", "D", "loss")
_MOST_FAILED = 0.5

BURN_IN = 0.02
"""Share of a curve's own tokens before which it takes no part. Less than for the rows of a law,
which must lie on a power of D: here a curve's loss is taken as it is, and the optimum of a long
run lies early in it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Points:
    """Estimates along compute, all (G,): the best size, its tokens and the loss at each C.

    weight: what a point counts in the lines through them.
    """

    C: Array
    N: Array
    D: Array
    loss: Array
    weight: Array

    def __len__(self) -> int:
        return len(self.C)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Allocation:
    """N*, D* and loss as powers of C, with the points they were drawn through.

    centre: log C that the lines are measured from. lines (3, 2): of log N, log D and log loss,
    the value at the centre and the slope. draws (K, 3, 2): the same of every draw, K = 0 where
    there is no interval; notes then say why. widening: small-sample factor of the intervals.
    """

    approach: Approach
    points: Points
    centre: float
    lines: Array
    draws: Array
    widening: float
    notes: tuple[str, ...]

    @property
    def C_range(self) -> tuple[float, float]:
        """The compute that the lines rest on."""
        return float(self.points.C.min()), float(self.points.C.max())

    def exponent(self, of: Quantity, level: float = 0.9) -> Interval:
        """Slope of log N*, log D* or log loss in log C."""
        place = QUANTITIES.index(of)
        return self._bounded(float(self.lines[place, 1]), self.draws[:, place, 1], level)

    def at(self, of: Quantity, C: float, level: float = 0.9) -> Interval:
        """N* (parameters), D* (tokens) or loss (nats per token) at C FLOPs."""
        if not (math.isfinite(C) and C > 0):
            raise ValueError(f"C is {C}; compute must be finite and above zero")
        place = QUANTITIES.index(of)
        step = np.array([1.0, math.log(C) - self.centre])
        found = self._bounded(float(self.lines[place] @ step), self.draws[:, place] @ step, level)
        return Interval(
            value=math.exp(found.value),
            low=None if found.low is None else math.exp(found.low),
            high=None if found.high is None else math.exp(found.high),
        )

    def _bounded(self, value: float, drawn: Array, level: float) -> Interval:
        if not 0.0 < level < 1.0:
            raise ValueError(f"level is {level}; it lies between 0 and 1, such as 0.9")
        if not len(drawn):
            return Interval(value=value)
        tail = 0.5 * (1.0 - level)
        low, high = np.quantile(drawn, [tail, 1.0 - tail])
        return Interval(
            value=value,
            low=value + self.widening * (float(low) - value),
            high=value + self.widening * (float(high) - value),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Along:
    """Curves read at the same compute. loss: log loss (curves, G), infinite where a curve takes
    no part; tokens: their logs. sizes (curves,), and the number of each size, from 0 upwards."""

    C: Array
    loss: Array
    tokens: Array
    sizes: Array
    level: Labels

    def take(self, curves: NDArray[np.intp]) -> Along:
        """Some of the curves."""
        return Along(
            C=self.C,
            loss=self.loss[curves],
            tokens=self.tokens[curves],
            sizes=self.sizes[curves],
            level=self.level[curves],
        )


def along(
    curves: Sequence[CurveRows], C: Array, *, burn_in: float, gap: float = math.inf
) -> Along:
    """Every curve at every C by interpolation in log-log, never outside its points.

    burn_in: a curve takes part from this share of its own last tokens on. gap: not between
    points whose compute lies more than this factor apart.
    """
    losses = np.full((len(curves), len(C)), np.inf)
    tokens = np.zeros((len(curves), len(C)))
    asked = np.log(C)
    for place, curve in enumerate(curves):
        if len(curve) == 0:
            continue
        logs = np.log(curve.flops)
        # exp(log(x)) may miss a curve's own end by a rounding.
        inside = (logs[0] - 1e-12 <= asked) & (asked <= logs[-1] + 1e-12)
        said = np.interp(asked, logs, np.log(curve.tokens))
        inside &= said >= np.log(curve.tokens[-1]) + math.log(max(burn_in, 1e-300))
        if len(curve) > 1:
            after = np.clip(np.searchsorted(logs, asked), 1, len(logs) - 1)
            inside &= logs[after] - logs[after - 1] <= math.log(gap)
        losses[place, inside] = np.interp(asked[inside], logs, np.log(curve.loss))
        tokens[place, inside] = said[inside]
    sizes = np.array([curve.N for curve in curves], dtype=np.float64)
    return Along(C=C, loss=losses, tokens=tokens, sizes=sizes, level=levels_of(sizes))


def allocated(
    approach: Approach,
    read: Along,
    found: Callable[[Along], Points | None],
    *,
    clusters: int,
    draws: int,
    seed: int,
    notes: Sequence[str],
    righted: bool = False,
) -> Allocation:
    """Lines through the points of `found`, and through those of every draw of the curves.

    found: points of the curves it is given, None where they give no line. clusters: how many
    independent things the lines rest on, for the small-sample factor of two parameters. righted:
    the lines of N and D are moved back by as much as the draws' mean lies beside them, which is
    what the estimate itself leans by (Efron and Tibshirani 1993, An Introduction to the
    Bootstrap, section 10.6).
    """
    points = found(read)
    if points is None:
        raise FitError(f"no {approach}: the curves give no line")
    centre = float(np.average(np.log(points.C), weights=points.weight))
    rng = np.random.default_rng(seed)
    count = len(read.sizes)
    drawn: list[Array] = []
    for _ in range(draws):
        chosen = np.unique(rng.integers(count, size=count))
        again = found(read.take(chosen))
        if again is not None:
            drawn.append(lines_through(again, centre))
    said = list(notes)
    if draws and len(drawn) < (1.0 - _MOST_FAILED) * draws:
        said.append(
            f"no interval: {draws - len(drawn)} of {draws} draws of the curves give no line"
        )
        drawn = []
    elif len(drawn) < draws:
        said.append(f"{draws - len(drawn)} of {draws} draws of the curves give no line: left out")
    lines = lines_through(points, centre)
    spread = np.array(drawn) if drawn else np.zeros((0, 3, 2))
    if righted and len(spread):
        leaning = np.mean(spread, axis=0) - lines
        leaning[QUANTITIES.index("loss")] = 0.0
        lines, spread = lines - leaning, spread - 2.0 * leaning
        said.append(
            f"the exponent of N is moved by {-leaning[0, 1]:+.3f}: draws of the curves lean"
        )
    return Allocation(
        approach=approach,
        points=points,
        centre=centre,
        lines=lines,
        draws=spread,
        widening=math.sqrt(clusters / max(clusters - 2, 1)),
        notes=tuple(said),
    )


def lines_through(points: Points, centre: float) -> Array:
    """Weighted least squares of log N, log D and log loss in log C: (3, 2), value and slope."""
    x = np.log(points.C) - centre
    root = np.sqrt(points.weight)
    design = np.stack([np.ones_like(x), x], axis=1) * root[:, None]
    wanted = np.log(np.stack([points.N, points.D, points.loss], axis=1)) * root[:, None]
    return np.linalg.lstsq(design, wanted, rcond=None)[0].astype(np.float64).T
