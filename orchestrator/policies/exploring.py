"""How many candidates are worth exploring where nothing foresees them: the spread between them
against the compute that it costs to find the best.

Halving M of them leaves its winner a share w(M) of the compute, and finds the best of M where one
would have had the best of those begun already. With s the sd of log loss between candidates and g
the fall of log loss by an e-fold of compute, both as the first starts show them, M pays as long as
s e(M) + g ln w(M) rises; e(M) is the expected largest of M standard normals (Blom 1958). That
order among the starts lasts is the assumption of halving itself. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

import numpy as np

from orchestrator.policies.rungs import ladder
from orchestrator.values import Curve

LEAST = 3
"""Fewer curves show no spread."""
BACK = 0.25
"""The fall is taken from this part of the compute on: early on curves fall faster."""


def worth_exploring(
    starts: Sequence[Curve], flops: float, *, count: int, budget: int, eta: int
) -> int:
    """How many of `count` candidates to halve within `budget` FLOPs; 0 where the best of the
    starts, as they stood at `flops`, should get all. All of them where the starts are too few to
    tell."""
    at = [curve for curve in starts if len(curve) and curve.flops[0] <= BACK * flops]
    if len(at) < LEAST:
        return count
    ends = [_log_loss(curve, flops) for curve in at]
    spread = stdev(ends)
    fall = fmean(_log_loss(c, BACK * flops) - e for c, e in zip(at, ends, strict=True))
    fall = max(fall, 0.0) / math.log(1 / BACK)
    sizes = {count} | {2**k for k in range(1, count.bit_length()) if 2**k > len(at)}
    worth = {size: _worth(size, spread, fall, budget, eta) for size in sizes if size > len(at)}
    best = max(worth, key=lambda size: worth[size], default=0)
    return best if best and worth[best] > spread * _largest(len(at)) else 0


def _worth(count: int, spread: float, fall: float, budget: int, eta: int) -> float:
    share = ladder([count], budget, eta)[-1].flops / budget
    return spread * _largest(count) + fall * math.log(share)


def _largest(count: int) -> float:
    """The expected largest of `count` standard normals."""
    return NormalDist().inv_cdf((count - 0.375) / (count + 0.25))


def _log_loss(curve: Curve, flops: float) -> float:
    return float(np.interp(math.log(flops), np.log(curve.flops), np.log(curve.loss)))
