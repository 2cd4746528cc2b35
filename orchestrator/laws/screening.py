"""Starts for a fit: many random exponents, the linear parameters solved, the best ones kept.

Touches nothing. Unscreened starts of a law with exponents mostly end in poor optima; drawing
thousands, solving for the linear parameters exactly (variable projection; Golub and Pereyra
1973) and keeping the best costs less than one descent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.boxed import boxed_minimum
from orchestrator.laws.levenberg import Array, Problem, huber

_DRAWN = 2048
_LEAST_SCALE = 1e-4  # of what it was: what a term is shrunk to that the rows do not want
_AT_ONCE = 1_000_000  # numbers in one Jacobian of drawn values
_ROWS = 256  # rows that a start is judged on
_ROWS_PER_PARAMETER = 12  # or this many, if more


def judged_rows(problem: Problem, rng: np.random.Generator) -> NDArray[np.intp]:
    """The rows that starts are judged on: all of them, or a random part of many."""
    rows = np.arange(problem.covariates.shape[1], dtype=np.intp)
    enough = max(_ROWS, _ROWS_PER_PARAMETER * len(problem.form.parameters))
    return rows if len(rows) <= enough else np.sort(rng.choice(rows, size=enough, replace=False))


def screened_starts(
    problem: Problem, *, starts: int, rng: np.random.Generator, extra: Array | None = None
) -> Array:
    """(starts, P) working values inside the box, best first; `extra` (E, P) is put in front.

    Three quarters are the best drawn, the rest a random choice among the drawn, so that a second
    optimum is not screened away. Non-linear parameters are drawn by the form. Only the first row
    of target and weight is used (one data set).
    """
    values = problem.form.draw(rng, max(_DRAWN, 4 * starts), problem.covariates)
    few = problem.some_rows(judged_rows(problem, rng))
    size = max(1, _AT_ONCE // (values.shape[1] * few.covariates.shape[1]))
    objective = np.concatenate(
        [solve_linear(few, values[k : k + size]) for k in range(0, len(values), size)]
    )
    order = np.argsort(objective, kind="stable")
    order = order[np.isfinite(objective[order])]
    best = order[: max(1, (3 * starts) // 4)]
    rest = order[len(best) :]
    others = rng.choice(rest, size=min(len(rest), starts - len(best)), replace=False)
    chosen = values[np.concatenate([best, others]).astype(np.intp)]
    if extra is not None:
        chosen = np.concatenate([extra, chosen])[: max(starts, len(extra))]
    return chosen


def solve_linear(problem: Problem, values: Array) -> Array:
    """Fill the linear parameters of `values` in place; the objective (S,) of each.

    With residuals of log loss the linear problem is that of relative residuals, equal to first
    order. Columns are measured by their largest entry, for squares of huge ones overflow.
    """
    target, weight = problem.target[0], problem.weight[0]
    parameters = problem.form.parameters
    linear = np.array([known.linear for known in parameters])
    solved = np.flatnonzero([known.linear or known.exponential for known in parameters])
    loss = np.exp(target) if problem.in_logs else target
    if solved.size:
        values[:, linear] = np.clip(0.0, problem.lower[linear], problem.upper[linear])
        fixed, partials = problem.form.jacobian(values, problem.covariates)
        root = np.sqrt(weight) / (loss if problem.in_logs else 1.0)
        _fill(problem, values, solved, partials[:, solved, :], (loss - fixed) * root, root)
    reached = problem.form.loss(values, problem.covariates)
    with np.errstate(all="ignore"):
        residual = np.log(reached) - target if problem.in_logs else reached - target
        # A start is judged with a wide Huber: near an optimum or not is all it must tell.
        knee = max(problem.delta, 0.05 * problem.unit)
        return np.sum(weight * huber(residual, knee), axis=1)


def _fill(
    problem: Problem,
    values: Array,
    solved: NDArray[np.intp],
    columns: Array,
    goal: Array,
    root: Array,
) -> None:
    """Least squares of goal (S, R) on root * columns (S, M, R), in the box.

    The step of an exponential parameter by d in its column's scale is one of log(1 + d).
    """
    with np.errstate(all="ignore"):
        size = np.abs(columns).max(axis=2, keepdims=True)
        columns = np.nan_to_num(columns / size * root, nan=0.0, posinf=0.0, neginf=0.0)
        goal = np.nan_to_num(goal, nan=0.0, posinf=0.0, neginf=0.0)
    gram = np.matmul(columns, columns.swapaxes(1, 2))
    right = np.matmul(columns, goal[:, :, None])[:, :, 0]
    diagonal = np.arange(len(solved), dtype=np.intp)
    length = np.sqrt(np.maximum(gram[:, diagonal, diagonal], 1e-30))
    scaled = gram / (length[:, :, None] * length[:, None, :])
    scaled[:, diagonal, diagonal] = 1.0 + 1e-10
    scale = np.where(np.isfinite(size) & (size > 0), size, 1.0)[:, :, 0] * length
    at, low, high = values[:, solved], problem.lower[solved], problem.upper[solved]
    kinds = problem.form.parameters
    grows = np.array([kinds[int(k)].exponential for k in solved], dtype=np.bool_)
    with np.errstate(all="ignore"):
        least = np.where(grows, np.maximum(np.expm1(low - at), _LEAST_SCALE - 1.0), low - at)
        most = np.where(grows, np.expm1(high - at), high - at)
        held = np.zeros_like(right, dtype=np.bool_)
        move: Array = (
            boxed_minimum(scaled, right / length, least * scale, most * scale, held) / scale
        )
        grown: Array = np.log1p(np.maximum(move, _LEAST_SCALE - 1.0))
        move = np.where(grows, grown, move)
    values[:, solved] = np.clip(at + move, low, high)
