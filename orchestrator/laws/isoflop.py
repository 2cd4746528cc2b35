"""Approach 2: at a few budgets of compute, a parabola of loss in log N, and its lowest point.

Touches nothing. Hoffmann et al. 2022 (arXiv 2203.15556, section 3.2). The loss of a curve at a
budget comes by interpolation in log-log between its neighbouring points (Porian et al. 2024,
arXiv 2406.19146, who discard minima at the edge of the sizes, as is done here); a finished run
counts where its compute is within 10 % of the budget. Of each size the lowest loss counts.

A parabola leans even without noise, the more the wider its sizes and the further they lie to one
side (Czech et al. 2026, arXiv 2603.22339), so sizes within 4 times of the lowest one enter it, and
those within 16 times only where the first show no minimum above their scatter. Every budget says
what it found or why it found nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.allocation import BURN_IN, Allocation, Along, Points, allocated, along
from orchestrator.laws.errors import FitError
from orchestrator.laws.runs import Array, CurveRows
from orchestrator.values import count_in_words, flops_in_words

_WIDTHS = (4.0, 16.0)  # times larger or smaller than the lowest size: what enters a parabola
_LEAST_SIZES = 4  # of a parabola: one more than it has parameters
_LEAST_BUDGETS = 3
_GAP = 2.0  # between neighbouring points of a curve, in compute
_CLOSE = 1.1  # a finished run's compute against the budget
_COARSE = 64  # computes at which the sizes taking part are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one budget of C FLOPs says.

    sizes, losses: the lowest loss of every size that takes part. N, D, loss: at the parabola's
    lowest point, curvature: there, in nats per squared unit of log N; None where why_not says why.
    at_end: the lowest size, where that is why: the smallest or the largest that ran as far.
    """

    C: float
    sizes: tuple[float, ...]
    losses: tuple[float, ...]
    curvature: float | None = None
    N: float | None = None
    D: float | None = None
    loss: float | None = None
    why_not: str | None = None
    at_end: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IsoFlop:
    """Every budget, and the lines through those that found a minimum."""

    budgets: tuple[Budget, ...]
    allocation: Allocation


def isoflop(
    curves: Sequence[CurveRows],
    budgets: Sequence[float] | None = None,
    *,
    count: int = 9,
    burn_in: float = BURN_IN,
    draws: int = 200,
    seed: int = 0,
) -> IsoFlop:
    """N*, D* and loss against C through the minima of parabolas at `budgets` of FLOPs.

    budgets: where None, the computes at which finished runs gather, or `count` of them evenly
    spaced in log over the compute at which four sizes take part. Raises FitError where fewer
    than three budgets have a minimum, with the reasons of the others.
    """
    computes = _computes(curves, budgets, count, burn_in, draws)
    found = minima(curves, computes, burn_in=burn_in)
    good = [budget for budget in found if budget.why_not is None]
    if len(good) < _LEAST_BUDGETS:
        raise FitError(
            f"no IsoFLOP line: {len(good)} of {len(found)} budgets have a minimum, and"
            f" {_LEAST_BUDGETS} are needed ({'; '.join(_reasons(found))})"
        )
    read = _read(curves, np.array(computes), burn_in)
    notes = tuple(f"no estimate {reason}" for reason in _reasons(found))
    lines = allocated(
        "isoflop",
        read,
        _points,
        clusters=int(np.isfinite(read.loss).any(axis=1).sum()),
        draws=draws,
        seed=seed,
        notes=notes,
    )
    return IsoFlop(budgets=found, allocation=lines)


def minima(
    curves: Sequence[CurveRows], budgets: Sequence[float], *, burn_in: float = BURN_IN
) -> tuple[Budget, ...]:
    """The parabola of every budget, or why it has no minimum."""
    read = _read(curves, np.array(budgets, dtype=np.float64), burn_in)
    return tuple(_budget(read, place) for place in range(len(read.C)))


def _reasons(found: Sequence[Budget]) -> list[str]:
    """Why budgets have no minimum, each reason once, with the budgets that it is of."""
    alike: dict[str, list[Budget]] = {}
    for budget in found:
        if budget.why_not is not None:
            alike.setdefault(budget.why_not, []).append(budget)
    said: list[str] = []
    for why, budgets in alike.items():
        computes = _span([budget.C for budget in budgets], flops_in_words)
        sizes = _span([b.at_end for b in budgets if b.at_end is not None], count_in_words)
        which = f" ({sizes} parameters)" if sizes else ""
        said.append(f"at {len(budgets)} of {len(found)} budgets ({computes} FLOPs): {why}{which}")
    return said


def _span(values: Sequence[float], said: Callable[[float], str]) -> str:
    """`6.53K to 20K`, or `6.53K`; nothing of none."""
    ends = (said(min(values)), said(max(values))) if values else ()
    return " to ".join(dict.fromkeys(ends))


def _read(curves: Sequence[CurveRows], C: Array, burn_in: float) -> Along:
    """The curves at the budgets; a finished run at the budget that it was meant for."""
    read = along(curves, C, burn_in=burn_in, gap=_GAP)
    for place, curve in enumerate(curves):
        if len(curve) == 1:
            near = np.abs(np.log(C / curve.flops[0])) <= math.log(_CLOSE)
            read.loss[place, near] = math.log(curve.loss[0])
            read.tokens[place, near] = math.log(curve.tokens[0])
    return read


def _computes(
    curves: Sequence[CurveRows],
    budgets: Sequence[float] | None,
    count: int,
    burn_in: float,
    draws: int,
) -> tuple[float, ...]:
    if count < _LEAST_BUDGETS or draws < 0 or not 0.0 <= burn_in < 1.0:
        raise ValueError(
            f"count={count}, burn_in={burn_in}, draws={draws}: at least {_LEAST_BUDGETS} budgets,"
            " a share from 0 to below 1, and no negative draws"
        )
    if budgets is not None:
        wrong = [C for C in budgets if not (math.isfinite(C) and C > 0)]
        if wrong:
            raise ValueError(f"a budget is {wrong[0]}; compute must be finite and above zero")
        return tuple(sorted(float(C) for C in budgets))
    known = [curve for curve in curves if len(curve)]
    if not known:
        raise FitError("no IsoFLOP line: no curve has a point")
    if all(len(curve) == 1 for curve in known):
        gathered = _gathered(known)
        if not gathered:
            raise FitError(
                f"no IsoFLOP line: nowhere have {_LEAST_SIZES} finished runs the same compute"
                " within 10 %; train sizes at equal compute, or name budgets"
            )
        return gathered
    low = min(float(curve.flops[0]) for curve in known)
    high = max(float(curve.flops[-1]) for curve in known)
    grid = np.geomspace(low, high, _COARSE)
    read = along(known, grid, burn_in=burn_in, gap=_GAP)
    enough = [k for k in range(_COARSE) if len(_by_size(read, k)[0]) >= _LEAST_SIZES]
    if len(enough) < 2:
        raise FitError(
            f"no IsoFLOP line: nowhere do {_LEAST_SIZES} sizes have points around one compute,"
            f" at most {_GAP:g} times apart; evaluate more often, or name the budgets of the runs"
        )
    computes = np.geomspace(float(grid[enough[0]]), float(grid[enough[-1]]), count)
    return tuple(float(C) for C in computes)


def _gathered(runs: Sequence[CurveRows]) -> tuple[float, ...]:
    """Computes at which finished runs gather, each within 10 % of the next."""
    ends = np.sort(np.log([float(run.flops[0]) for run in runs]))
    groups = np.split(ends, np.flatnonzero(np.diff(ends) > math.log(_CLOSE)) + 1)
    return tuple(
        math.exp(float(np.median(group))) for group in groups if len(group) >= _LEAST_SIZES
    )


def _by_size(read: Along, place: int) -> tuple[NDArray[np.intp], Array]:
    """The lowest curve of every size that takes part at one budget, smallest size first, and its
    log loss."""
    here = np.flatnonzero(np.isfinite(read.loss[:, place]))
    order = here[np.lexsort([read.loss[here, place], read.level[here]])]
    _, first = np.unique(read.level[order], return_index=True)
    chosen: NDArray[np.intp] = order[first].astype(np.intp)
    return chosen, read.loss[chosen, place]


def _budget(read: Along, place: int) -> Budget:
    chosen, logs = _by_size(read, place)
    C, sizes, losses = float(read.C[place]), read.sizes[chosen], np.exp(logs)
    seen = Budget(
        C=C, sizes=tuple(float(N) for N in sizes), losses=tuple(float(L) for L in losses)
    )

    def no(why: str) -> Budget:
        return replace(seen, why_not=why)

    if len(sizes) < _LEAST_SIZES:
        return no(f"{len(sizes)} sizes have a loss there, and {_LEAST_SIZES} are needed")
    lowest = int(np.argmin(losses))
    if lowest in (0, len(sizes) - 1):
        end = "smallest" if lowest == 0 else "largest"
        why = no(f"the {end} size that ran as far is the lowest")
        return replace(why, at_end=float(sizes[lowest]))
    turned: _Turn | str = ""
    near = np.arange(len(sizes))
    for width in _WIDTHS:
        near = _nearest(sizes, lowest, width)
        turned = _turn(np.log(sizes[near] / sizes[lowest]), losses[near])
        if isinstance(turned, _Turn):
            break
    if isinstance(turned, str):
        return no(turned)
    x = np.log(sizes[near] / sizes[lowest])
    fixed, tilt = _polynomial(x, read.tokens[chosen[near], place], 1)
    return Budget(
        C=C,
        sizes=seen.sizes,
        losses=seen.losses,
        curvature=turned.curvature,
        N=float(sizes[lowest]) * math.exp(turned.place),
        D=math.exp(fixed + tilt * turned.place),
        loss=turned.bottom,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """A parabola's lowest point: its place in x, its value, and the second derivative."""

    place: float
    bottom: float
    curvature: float


def _turn(x: Array, y: Array) -> _Turn | str:
    """The lowest point of the parabola through (x, y); in words why there is none."""
    constant, slope, square = _polynomial(x, y, 2)
    if square <= 0.0:
        return "the parabola is not convex"
    place = -0.5 * slope / square
    if not x.min() < place < x.max():
        return "the parabola turns outside its sizes"
    bottom = constant + 0.5 * slope * place
    ends = [constant + slope * end + square * end * end for end in (x.min(), x.max())]
    left = y - (constant + slope * x + square * x * x)
    noise = math.sqrt(float(np.sum(left * left)) / max(len(x) - 3, 1))
    if min(ends) - bottom <= noise:
        return "the parabola is as flat as its residuals"
    return _Turn(place=place, bottom=bottom, curvature=2.0 * square)


def _polynomial(x: Array, y: Array, degree: int) -> tuple[float, ...]:
    """Least squares; the constant first."""
    powers = x[:, None] ** np.arange(degree + 1)
    return tuple(np.linalg.lstsq(powers, y, rcond=None)[0].astype(np.float64).tolist())


def _nearest(sizes: Array, lowest: int, width: float) -> NDArray[np.intp]:
    """Places of the sizes near the lowest one, or of the nearest four."""
    away = np.abs(np.log(sizes / sizes[lowest]))
    order = np.argsort(away, kind="stable")
    near = int((away <= math.log(width) + 1e-9).sum())
    return np.sort(order[: max(near, _LEAST_SIZES)])


def _points(read: Along) -> Points | None:
    """The minima of all budgets; None where they are too few for a line."""
    found = [_budget(read, place) for place in range(len(read.C))]
    rows = [
        (b.C, b.N, b.D, b.loss)
        for b in found
        if b.N is not None and b.D is not None and b.loss is not None
    ]
    if len(rows) < _LEAST_BUDGETS:
        return None
    C, N, D, loss = (np.array(column) for column in zip(*rows, strict=True))
    return Points(C=C, N=N, D=D, loss=loss, weight=np.ones(len(C)))
