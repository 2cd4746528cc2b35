"""Many small quadratic problems in boxes, solved together. Touches nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_ROUNDS = 4


def boxed_minimum(
    matrix: Array, downhill: Array, low: Array, high: Array, held: NDArray[np.bool_]
) -> Array:
    """Where x'Mx/2 - d'x is least, for each of S problems, inside low <= x <= high.

    matrix (S, M, M), positive definite; downhill, low, high and held (S, M). What is held stays
    at zero. What leaves its box is put on the bound and the others are solved again beside it,
    a few times: exact where the first rounds find the bounds that matter, else a point inside
    that is good enough for one step of many.
    """
    fixed = held.copy()
    move = np.zeros_like(downhill)
    diagonal = np.arange(downhill.shape[1], dtype=np.intp)
    chosen = np.arange(len(downhill), dtype=np.intp)
    for turn in range(_ROUNDS):
        free, part = ~fixed[chosen], matrix[chosen]
        pull = downhill[chosen] - np.matmul(part, move[chosen][:, :, None])[:, :, 0]
        part = part * (free[:, :, None] & free[:, None, :])
        part[:, diagonal, diagonal] = np.where(free, part[:, diagonal, diagonal], 1.0)
        solved = np.linalg.solve(part, np.where(free, pull, 0.0)[:, :, None])[:, :, 0]
        inside = np.clip(solved, low[chosen], high[chosen])
        left = free & (inside != solved)
        move[chosen] += np.where(left, inside, solved)
        out = left.any(axis=1)
        if not out.any():
            break
        chosen, left = chosen[out], left[out]
        fixed[chosen] |= left
        # The last round keeps what it has, cut to the box.
        if turn + 1 < _ROUNDS:
            move[chosen] = np.where(fixed[chosen], move[chosen], 0.0)
    return np.clip(move, low, high)
