"""Huber's loss and the spread that goes with it: what a few odd rows do not move.

Touches nothing. Huber 1964, Annals of Mathematical Statistics 35:73. Knees and residuals are of
one unit; where there are several of both they broadcast.
"""

from __future__ import annotations

import numpy as np

from orchestrator.laws.runs import Array

KNEE = 1.345  # in robust sd: 95 % efficient under normal noise
_NORMAL = 1.4826  # sd of a normal in units of its median size


def huber(residual: Array, knee: Array | float) -> Array:
    """r^2 / 2 inside the knee, linear outside, with continuous slope."""
    inside = np.minimum(np.maximum(residual, -knee), knee)
    return inside * (residual - 0.5 * inside)


def huber_weight(residual: Array, knee: Array | float) -> Array:
    """Weight of the quadratic that touches `huber` at `residual` from above: min(1, knee/|r|)."""
    return knee / np.maximum(np.abs(residual), knee)


def robust_sd(residual: Array, weight: Array) -> float:
    """Sd of rows (R,) by their weighted median size."""
    size = np.abs(residual)
    order = np.argsort(size)
    share = np.asarray(weight[order].cumsum(), dtype=np.float64)
    return _NORMAL * float(size[order][int(share.searchsorted(0.5 * float(share[-1])))])
