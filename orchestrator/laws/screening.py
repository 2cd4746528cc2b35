"""Starts for a fit: many random exponents, the linear parameters solved, the best ones kept.

Touches nothing. Unscreened starts of a law with exponents mostly end in poor optima; drawing
thousands, solving for the linear parameters exactly (variable projection; Golub and Pereyra
1973) and keeping the best costs less than one descent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.levenberg import Array, Problem, huber

_DRAWN = 2048
_ROWS = 256  # rows that a start is judged on
_SWEEPS = 30


def screened_starts(
    problem: Problem, *, starts: int, rng: np.random.Generator, extra: Array | None = None
) -> Array:
    """(starts, P) working values inside the box, best first; `extra` (E, P) is put in front.

    Three quarters are the best drawn, the rest a random choice among the drawn, so that a second
    optimum is not screened away. Non-linear parameters come from a scrambled lattice in their
    start ranges. Only the first row of target and weight is used (one data set).
    """
    parameters = problem.form.parameters
    drawn = max(_DRAWN, 4 * starts)
    values = np.empty((drawn, len(parameters)))
    for k, parameter in enumerate(parameters):
        low, high = parameter.start
        # One stratified draw a parameter (Latin hypercube), shuffled apart.
        cells = (rng.permutation(drawn) + rng.random(drawn)) / drawn
        values[:, k] = low + (high - low) * cells
    rows = np.arange(problem.logs.shape[1], dtype=np.intp)
    if len(rows) > _ROWS:
        rows = np.sort(rng.choice(rows, size=_ROWS, replace=False))
    objective = _solve_linear(problem, values, rows)
    order = np.argsort(objective, kind="stable")
    order = order[np.isfinite(objective[order])]
    best = order[: max(1, (3 * starts) // 4)]
    rest = order[len(best) :]
    others = rng.choice(rest, size=min(len(rest), starts - len(best)), replace=False)
    chosen = values[np.concatenate([best, others]).astype(np.intp)]
    if extra is not None:
        chosen = np.concatenate([extra, chosen])[: max(starts, len(extra))]
    return chosen


def _solve_linear(problem: Problem, values: Array, rows: NDArray[np.intp]) -> Array:
    """Fill the linear parameters of `values` in place; the objective (S,) of each on `rows`.

    With residuals of log loss the linear problem is that of relative residuals, equal to first
    order. Bounds hold by coordinate descent on the normal equations, from the clipped solution.
    """
    logs, target = problem.logs[:, rows], problem.target[0, rows]
    weight = np.broadcast_to(problem.weight[0], problem.target[0].shape)[rows]
    linear = np.flatnonzero([parameter.linear for parameter in problem.form.parameters])
    loss = np.exp(target) if problem.in_logs else target
    if linear.size:
        values[:, linear] = 0.0
        with np.errstate(all="ignore"):
            fixed, partials = problem.form.jacobian(values, logs)
        columns = partials[:, linear, :]
        squared = weight / loss**2 if problem.in_logs else weight
        gram = np.matmul(columns * squared, columns.swapaxes(1, 2))
        right = np.matmul(columns * squared, (loss - fixed)[:, :, None])[:, :, 0]
        values[:, linear] = _boxed_least_squares(
            gram, right, problem.lower[linear], problem.upper[linear]
        )
    with np.errstate(all="ignore"):
        reached = problem.form.loss(values, logs)
        residual = np.log(reached) - target if problem.in_logs else reached - target
        # A start is judged with a wide Huber: near an optimum or not is all it must tell.
        return np.sum(weight * huber(residual, max(problem.delta, 0.05)), axis=1)


def _boxed_least_squares(gram: Array, right: Array, lower: Array, upper: Array) -> Array:
    """min x'Gx/2 - b'x inside a box, for a batch (S, M, M), (S, M)."""
    diagonal = np.arange(right.shape[1], dtype=np.intp)
    size = np.maximum(gram[:, diagonal, diagonal], 1e-300)
    scale = np.sqrt(size)
    scaled = gram / (scale[:, :, None] * scale[:, None, :])
    scaled[:, diagonal, diagonal] = 1.0 + 1e-10
    solved = np.linalg.solve(scaled, (right / scale)[:, :, None])[:, :, 0] / scale
    inside = np.clip(solved, lower, upper)
    outside = np.flatnonzero((inside != solved).any(axis=1))
    if outside.size:
        part, matrix, goal = inside[outside], gram[outside], right[outside]
        for _ in range(_SWEEPS):
            for k in range(right.shape[1]):
                pull = goal[:, k] - np.sum(matrix[:, k] * part, axis=1)
                part[:, k] = np.clip(part[:, k] + pull / size[outside, k], lower[k], upper[k])
        inside[outside] = part
    return inside
