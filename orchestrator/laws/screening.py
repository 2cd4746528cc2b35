"""Starts for a fit: many random exponents, the linear parameters solved, the best ones kept.

Touches nothing. Unscreened starts of a law with exponents mostly end in poor optima; drawing
thousands, solving for the linear parameters exactly (variable projection; Golub and Pereyra
1973) and keeping the best costs less than one descent.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.forms.base import solvable
from orchestrator.laws.problem import Array, Problem
from orchestrator.laws.projection import aim, solution
from orchestrator.laws.robust import huber

_DRAWN = 2048
_AT_ONCE = 1_000_000  # numbers in one Jacobian of drawn values
_ROWS = (64, 10)  # that draws are judged on: at least, and for each parameter


def judged_rows(
    problem: Problem, rng: np.random.Generator, least: tuple[int, int] = _ROWS
) -> NDArray[np.intp]:
    """The rows that starts are judged on: all of them, or a random part of many. least: how
    many at least, and how many for each parameter."""
    rows = np.arange(problem.covariates.shape[1], dtype=np.intp)
    enough = max(least[0], least[1] * len(problem.form.parameters))
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
    """Fill the linear parameters of `values` in place; the objective (S,) of each."""
    parameters = problem.form.parameters
    linear = np.array([known.linear for known in parameters])
    solved = solvable(parameters)
    plain = replace(problem, offsets=None)
    nothing = np.zeros((len(values), 0))
    with np.errstate(all="ignore"):
        if solved.size:
            values[:, linear] = np.minimum(
                np.maximum(0.0, problem.lower[linear]), problem.upper[linear]
            )
            loss, columns = problem.form.columns(values, problem.covariates)
            goal, root = aim(plain, nothing)
            move, there = solution(plain, solved, values, columns, (goal - loss) * root, root)
            loss += np.matmul(move[:, None, :], columns)[:, 0, :]
            values[:, solved] = there
        else:
            loss = problem.form.loss(values, problem.covariates)
        residual = plain.residual(loss, nothing)
        # A start is judged with a wide Huber: near an optimum or not is all it must tell.
        knee = max(problem.delta, 0.05 * problem.unit)
        return np.sum(problem.weight[:1] * huber(residual, knee), axis=1)
