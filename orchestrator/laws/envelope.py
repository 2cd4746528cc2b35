"""Approach 1: the best size of each compute is that of the curve which is lowest there.

Touches nothing. Hoffmann et al. 2022 (arXiv 2203.15556, section 3.1): smooth the curves, take the
lowest of them at 1,500 computes evenly spaced in log, and draw lines in log-log through the sizes
and tokens found. Smoothing is over a window that grows with the tokens, 5 % to each side (Porian
et al. 2024, arXiv 2406.19146), by a local line, which does not lean at a curve's end as a mean
does.

Where no smaller size takes part, or no larger one, the lowest curve is the lowest of those at
hand and not of those there could be: such computes are left out, as minima at a grid's edge are
in approach 2. The lowest of few sizes leans, the lowest of noisy curves more, and draws of the
curves lean from all of them much as these do from the truth: the lines are moved back by that.
Training must be at a constant rate, or each curve's points are no finished runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.allocation import BURN_IN, Allocation, Along, Points, allocated, along
from orchestrator.laws.errors import FitError
from orchestrator.laws.runs import Array, CurveRows
from orchestrator.values import flops_in_words

_WINDOW = 0.05  # share of a point's tokens to each side
_LEAST_SIZES = 3  # that own a part of it between smaller and larger ones


def envelope(
    curves: Sequence[CurveRows],
    *,
    points: int = 1500,
    burn_in: float = BURN_IN,
    window: float = _WINDOW,
    draws: int = 200,
    seed: int = 0,
) -> Allocation:
    """N*, D* and loss against C along the lower envelope of learning curves.

    burn_in: share of each curve's own tokens that takes no part. window: of the smoothing, 0 for
    none. Raises FitError where fewer than three sizes own a part of the envelope between a
    smaller and a larger one; ValueError for options that make no sense.
    """
    if points < 2 or draws < 0 or not 0.0 <= burn_in < 1.0 or not 0.0 <= window < 1.0:
        raise ValueError(
            f"points={points}, burn_in={burn_in}, window={window}, draws={draws}: an envelope"
            " takes at least 2 points, shares from 0 to below 1, and no negative draws"
        )
    known = [curve for curve in curves if len(curve) > 1]
    if not known:
        raise FitError("no envelope: it needs learning curves, and no curve has two points")
    low = min(float(curve.flops[0]) for curve in known)
    high = max(float(curve.flops[-1]) for curve in known)
    grid = np.geomspace(low, high, points)
    read = along([smoothed(curve, window) for curve in known], grid, burn_in=burn_in)
    best, owners, sizes = _lowest(read)
    if sizes < _LEAST_SIZES:
        raise FitError(
            f"no envelope: {sizes} sizes own a part of it between a smaller and a larger one that"
            f" ran as far, and {_LEAST_SIZES} are needed; train more sizes, or small ones longer"
        )

    def found(drawn: Along) -> Points | None:
        again, _, owning = _lowest(drawn)
        return again if owning >= _LEAST_SIZES else None

    share = len(best) / max(int(np.isfinite(read.loss).any(axis=0).sum()), 1)
    notes = (
        f"{share:.0%} of the envelope (in log C) counts, {flops_in_words(float(best.C[0]))} to"
        f" {flops_in_words(float(best.C[-1]))} FLOPs: the rest has no smaller or no larger"
        " size beside it",
    )
    return allocated(
        "envelope",
        read,
        found,
        clusters=owners,
        draws=draws,
        seed=seed,
        notes=notes,
        righted=True,
    )


def smoothed(curve: CurveRows, window: float = _WINDOW) -> CurveRows:
    """The curve with each log loss replaced by that of a line through its neighbours in log
    tokens, those within `window` of its tokens to each side."""
    if window == 0.0 or len(curve) < 3:
        return curve
    x, y = np.log(curve.tokens), np.log(curve.loss)
    x = x - x.mean()
    first = np.asarray(np.searchsorted(x, x + math.log1p(-window), side="left"), dtype=np.intp)
    last = np.asarray(np.searchsorted(x, x + math.log1p(window), side="right"), dtype=np.intp)
    count, sum_x, sum_y, sum_xx, sum_xy = (
        _between(values, first, last) for values in (np.ones_like(x), x, y, x * x, x * y)
    )
    spread = sum_xx - sum_x**2 / count
    # Two points, or all at one place to rounding, say nothing of a slope: keep them as they are.
    able = (count > 2) & (spread > 1e-9 * count)
    slope = np.where(able, (sum_xy - sum_x * sum_y / count) / np.where(able, spread, 1.0), 0.0)
    line = sum_y / count + slope * (x - sum_x / count)
    return replace(curve, loss=np.exp(np.where(able, line, y)))


def _between(values: Array, first: NDArray[np.intp], last: NDArray[np.intp]) -> Array:
    """Sums of values[first:last], one a pair."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return sums[last] - sums[first]


def _lowest(read: Along) -> tuple[Points, int, int]:
    """The points of the envelope that count, how many curves own them, and how many sizes."""
    across = np.arange(len(read.C))
    taking_part = np.isfinite(read.loss)
    owner = np.argmin(read.loss, axis=0)
    lowest = read.loss[owner, across]
    level = np.broadcast_to(read.level[:, None], read.loss.shape)
    smallest = np.where(taking_part, level, np.iinfo(np.int64).max).min(axis=0)
    largest = np.where(taking_part, level, -1).max(axis=0)
    mine = read.level[owner]
    keep = np.isfinite(lowest) & (lowest <= np.minimum.accumulate(lowest))
    keep &= (smallest < mine) & (mine < largest)
    at, whose = np.flatnonzero(keep), owner[keep]
    points = Points(
        C=read.C[at],
        N=read.sizes[whose],
        D=np.exp(read.tokens[whose, at]),
        loss=np.exp(lowest[at]),
        weight=np.ones(len(at)),
    )
    return points, len(np.unique(whose)), len(np.unique(mine[keep]))
