"""Many small quadratic problems in boxes, solved together. Touches nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_ROUNDS = 3


def boxed_minimum(
    matrix: Array, downhill: Array, low: Array, high: Array, held: Flags | None = None
) -> Array:
    """Where x'Mx/2 - d'x is least, for each of S problems, inside low <= x <= high.

    matrix (S, M, M), positive definite; downhill, low, high and held (S, M). What is held stays
    at zero. What leaves its box is put on the bound and the others are solved again beside it,
    a few times: exact where the first rounds find the bounds that matter, else a point inside
    that is good enough for one step of many.
    """
    fixed = np.zeros_like(downhill, dtype=np.bool_) if held is None else held
    solved = _solved(matrix, downhill, fixed)
    inside: Array = np.minimum(np.maximum(solved, low), high)
    left = (inside != solved) & ~fixed
    out = left.any(axis=1)
    if not out.any():
        return inside
    chosen = np.flatnonzero(out)
    inside[chosen] = _bounded(
        matrix[chosen],
        downhill[chosen],
        low[chosen],
        high[chosen],
        fixed[chosen] | left[chosen],
        np.where(left[chosen], inside[chosen], 0.0),
    )
    return inside


def _bounded(
    matrix: Array, downhill: Array, low: Array, high: Array, fixed: Flags, move: Array
) -> Array:
    """The same for problems of which some unknowns are already fixed, at `move`."""
    inside: Array = move
    for _ in range(_ROUNDS - 1):
        pull = downhill - np.matmul(matrix, move[:, :, None])[:, :, 0]
        solved = _solved(matrix, pull, fixed)
        inside = np.minimum(np.maximum(solved, low), high)
        left = (inside != solved) & ~fixed
        if not left.any():
            break
        fixed = fixed | left
        move = np.where(left, inside, move)
    return np.minimum(np.maximum(np.where(fixed, move, inside), low), high)


def _solved(matrix: Array, downhill: Array, fixed: Flags) -> Array:
    """The minimum with what is fixed at zero."""
    if fixed.any():
        free = ~fixed
        matrix = matrix * (free[:, :, None] & free[:, None, :])
        diagonal = np.arange(downhill.shape[1], dtype=np.intp)
        matrix[:, diagonal, diagonal] += fixed
        downhill = downhill * free
    return np.asarray(np.linalg.solve(matrix, downhill[:, :, None])[:, :, 0], dtype=np.float64)
