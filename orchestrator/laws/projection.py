"""Variable projection: what enters linearly is solved for, exactly, wherever the rest goes.

Golub and Pereyra 1973 (SIAM J. Numer. Anal. 10:413). A step in an exponent makes its column
thousands of times longer or shorter, and a scale that moves along a straight line does not
follow; solved for again beside it, it does, and the exponent can go far in one step. Touches
nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.boxed import boxed_minimum
from orchestrator.laws.problem import Array, Problem
from orchestrator.laws.robust import huber_weight

_LEAST_SCALE = 1e-4  # of what it was: what a term is shrunk to that the rows do not want
_RIDGE = 1e-10  # on the unit diagonal


def projected(
    problem: Problem, solved: NDArray[np.intp], values: Array, offsets: Array, before: Array
) -> tuple[Array, Array]:
    """Values (S, P) with the parameters `solved` at their best for the others, where that is
    better than as they are, and the objective (S,). before (S, R): residuals that tell which
    rows count little."""
    with np.errstate(all="ignore"):
        loss, columns = problem.form.columns(values, problem.covariates)
        objective = problem.objective(problem.residual(loss, offsets), values, offsets)
        goal, root = aim(problem, offsets)
        root = root * np.sqrt(huber_weight(before, problem.delta))
        move, grown = solution(problem, solved, values, columns, (goal - loss) * root, root)
        there = loss + np.matmul(move[:, None, :], columns)[:, 0, :]
        other = values.copy()
        other[:, solved] = grown
        reached = problem.objective(problem.residual(there, offsets), other, offsets)
        lower = reached < np.where(np.isfinite(objective), objective, np.inf)
    return np.where(lower[:, None], other, values), np.where(lower, reached, objective)


def aim(problem: Problem, offsets: Array) -> tuple[Array, Array]:
    """What the loss should be at the rows, (S, R), and roots of the rows' weights.

    With residuals of log loss the linear problem is that of relative residuals, equal to first
    order.
    """
    target = problem.target
    if problem.offsets is not None:
        target = target - offsets @ problem.offsets.member.T
    root = np.sqrt(problem.weight)
    if not problem.in_logs:
        return target, root
    goal = np.exp(target)
    return goal, root / goal


def solution(
    problem: Problem,
    solved: NDArray[np.intp],
    values: Array,
    columns: Array,
    missing: Array,
    root: Array,
) -> tuple[Array, Array]:
    """Least squares of missing (S, R) on root * columns (S, M, R), inside the box.

    Returns by how much of each column to move, and the values (S, M) of the parameters there:
    the step of an exponential parameter by d in its column's scale is one of log(1 + d).
    """
    low, high = problem.lower[solved], problem.upper[solved]
    at = values[:, solved]
    columns = columns * root[:, None, :]
    gram = np.matmul(columns, columns.swapaxes(1, 2))
    right = np.matmul(columns, missing[:, :, None])[:, :, 0]
    if problem.prior_root.any():
        precision = problem.prior_root[solved] ** 2
        gram[:, range(len(solved)), range(len(solved))] += precision
        right = right - precision * (at - problem.prior_mean[solved])
    diagonal = np.arange(len(solved), dtype=np.intp)
    broken = ~(np.isfinite(gram).all(axis=(1, 2)) & np.isfinite(right).all(axis=1))
    if broken.any():
        gram[broken], right[broken] = np.eye(len(solved)), 0.0
    length = np.sqrt(np.maximum(gram[:, diagonal, diagonal], 1e-280))
    gram = gram / (length[:, :, None] * length[:, None, :])
    gram[:, diagonal, diagonal] = 1.0 + _RIDGE
    grows = np.array([problem.form.parameters[int(k)].exponential for k in solved])
    least, most = low - at, high - at
    if grows.any():
        least = np.where(grows, np.maximum(np.expm1(least), _LEAST_SCALE - 1.0), least)
        most = np.where(grows, np.expm1(np.minimum(most, 700.0)), most)
    move = boxed_minimum(gram, right / length, least * length, most * length) / length
    move = np.minimum(np.maximum(move, least), most)
    grown = at + (np.where(grows, np.log1p(move), move) if grows.any() else move)
    return move, np.minimum(np.maximum(grown, low), high)
