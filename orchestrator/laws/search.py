"""The search of a fit: from random starts to all distinct optima, at a knee set by the data.

Touches nothing. Each stage has fewer starts, and the last ones all rows: draws with their linear
parameters solved; a few steps of the best of them on a part of the rows, in heats after which
the worse half is left behind; to the end of the way there, where starts that meet go on as one;
the scale of the residuals, in rounds of the best few on all rows; and the optima at that scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.doubts import Groups, probe_inputs, relative
from orchestrator.laws.errors import FitError
from orchestrator.laws.forms.base import solvable
from orchestrator.laws.levenberg import Solution, minimise
from orchestrator.laws.posing import Posed
from orchestrator.laws.problem import Problem
from orchestrator.laws.robust import robust_sd
from orchestrator.laws.runs import Array
from orchestrator.laws.screening import judged_rows, screened_starts, solve_linear

FIRST_SCALE = 0.02  # of log loss; replaced by the residuals' own
ROUGH_STARTS = 12
_SMALLEST_SCALE = 1e-6  # of log loss, below any evaluation noise
_SAME = 1e-3  # of log loss at the probes: optima nearer than this are one
_ROUNDS = 3
_ROUND_STARTS = 4
_SETTLED = 1e-3  # relative change of the scale that ends the rounds
_ROUND_STEPS = 12
_POOL = 2  # starts that take a few steps, for each that was asked for
_HEATS = ((0.5, 3, 1.0), (0.375, 6, 2.0))  # share that goes on; steps, and more a free parameter
_BLIND_POOL = 4  # where nothing can be solved for, first steps tell little: more starts go on
_BLIND_HEATS = ((0.25, 3, 1.0),)
_RUN_ROWS = (256, 12)  # that this is judged on: at least, and for each parameter
_FEWEST = 12  # that go to the end of the way, if there are as many
_BEHIND = 5.0  # times the best objective after a heat: a lot so far above it stays behind
_RUN_STEPS = 15
_FEW_STEPS = 8
_MOST_STEPS = (40, 5)  # at least, and for each parameter: valleys of 20 are longer
_LAST_STEPS = 150  # for the best alone, if it has not come to its end by then
_MOST_OPTIMA = 12  # that are followed to their end on all rows
_FAR = 2.0  # times the best objective: an optimum so far above it is none to tell of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What the search came to. groups: distinct optima of `solution`, best first. met (S,): how
    many starts went on as each. probes: covariates where optima were compared."""

    problem: Problem
    solution: Solution
    scale: float
    groups: Groups
    met: NDArray[np.int64]
    probes: Array
    starts: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Given:
    """Where a fit to almost the same rows ended: working values (K, P), best first, and the sd of
    its residuals, where known."""

    values: Array
    scale: float | None


def searched(
    posed: Posed, *, starts: int, rng: np.random.Generator, given: Given | None = None
) -> Found:
    """The distinct optima that `starts` random starts and the given values end in. Raises
    FitError where there is none."""
    form = posed.form
    probes = form.covariates(probe_inputs(posed.runs.inputs(form.inputs)), posed.centre)
    scale = FIRST_SCALE * posed.unit
    if given is not None and given.scale is not None:
        scale = given.scale
    values, met = np.zeros((0, len(form.parameters))), np.zeros(0, dtype=np.int64)
    if starts or given is None:
        values, met = _candidates(posed.problem(scale), probes, starts, rng)
    if given is not None:
        values = np.concatenate([given.values, values])
        met = np.concatenate([np.ones(len(given.values), dtype=np.int64), met])
        starts += len(given.values)
    best = values[:_ROUND_STARTS]
    for _ in range(_ROUNDS):
        rough = posed.problem(scale)
        solution = minimise(rough, best, tolerance=1e-6, most_iterations=_ROUND_STEPS)
        best = solution.values[np.argsort(solution.objective, kind="stable")][:2]
        before, scale = scale, _spread(rough, solution)
        if posed.delta is not None or abs(scale - before) <= _SETTLED * before:
            break
    problem = posed.problem(scale)
    values, met = np.concatenate([best[:1], values]), np.concatenate([[0], met])
    if len(values) > _MOST_OPTIMA:
        values, met = _worth_while(problem, values, met)
    solution = _ended(problem, values)
    groups = distinct(problem, solution, probes)
    if not groups:
        raise FitError(
            f"no law: none of {starts} starts of {form.name} converged on"
            f" {len(posed.runs)} rows; more rows or more sizes are needed"
        )
    return Found(
        problem=problem,
        solution=solution,
        scale=scale,
        groups=groups,
        met=met,
        probes=probes,
        starts=starts,
    )


def _worth_while(
    problem: Problem, values: Array, met: NDArray[np.int64]
) -> tuple[Array, NDArray[np.int64]]:
    """Those of the values that may still end in an optimum worth telling: a few steps on all
    rows, and what is then far above the best is left out."""
    solution = minimise(problem, values, tolerance=1e-4, most_iterations=_FEW_STEPS)
    order = np.argsort(solution.objective, kind="stable")[:_MOST_OPTIMA]
    near = solution.objective[order] <= _FAR * float(solution.objective[order[0]])
    kept = order[near]
    return solution.values[kept], met[kept]


def _candidates(
    problem: Problem, probes: Array, starts: int, rng: np.random.Generator
) -> tuple[Array, NDArray[np.int64]]:
    """Values that differ, best first, and how many starts met in each."""
    blind = not len(solvable(problem.form.parameters))
    ahead = (_BLIND_POOL if blind else _POOL) * starts
    pool = screened_starts(problem, starts=ahead, rng=rng)
    if not len(pool):
        raise FitError(f"no law: no start of {problem.form.name} has a finite loss at all rows")
    return raced(problem, pool, probes, rng)


def raced(
    problem: Problem, values: Array, probes: Array, rng: np.random.Generator
) -> tuple[Array, NDArray[np.int64]]:
    """Where the best of the values end on a part of the rows, those that meet as one, best
    first; and how many met. After each heat only the better ones go on."""
    few = problem.some_rows(judged_rows(problem, rng))
    free = values.shape[1] - len(solvable(few.form.parameters))
    blind = free == values.shape[1]
    for share, steps, more in _BLIND_HEATS if blind else _HEATS:
        most = steps + round(more * free)
        solution = minimise(few, values, tolerance=1e-4, most_iterations=most)
        kept = _going_on(few, solution, probes, max(_FEWEST, round(share * len(values))))
        values = solution.values[kept]
    return _met(problem.some_rows(judged_rows(problem, rng, _RUN_ROWS)), values, probes)


def _going_on(few: Problem, solution: Solution, probes: Array, most: int) -> list[int]:
    """The starts that go on after a heat, best first: the `most` best, and the best of each lot
    that has met, up to as many lots: where most starts are on their way to one optimum, the few
    on their way to another that fits a little worse are not among the best."""
    order = [int(k) for k in np.argsort(solution.objective, kind="stable")]
    ahead = order[:most]
    worst = _BEHIND * float(solution.objective[order[0]])
    leaders = [leader for leader, _ in distinct(few, solution, probes, converged=False)[:most]]
    others = {k for k in leaders if solution.objective[k] <= worst}.difference(ahead)
    return [*ahead, *(k for k in order[most:] if k in others)]


def followed(
    problem: Problem, values: Array, probes: Array, rng: np.random.Generator
) -> tuple[Solution, NDArray[np.int64]]:
    """From given starts to the best of their optima at a given knee: where they ended on all
    rows, and how many starts went on as each."""
    values = values.copy()
    solve_linear(problem.some_rows(judged_rows(problem, rng)), values)
    values, met = raced(problem, values, probes, rng)
    values, met = _worth_while(problem, values, met)
    return _ended(problem, values), met


def _ended(problem: Problem, values: Array) -> Solution:
    """The starts at their ends; in long flat valleys only the lowest is followed all the way."""
    most = max(_MOST_STEPS[0], _MOST_STEPS[1] * values.shape[1])
    solution = minimise(problem, values, tolerance=1e-7, most_iterations=most)
    best = int(np.argmin(solution.objective))
    if not np.isfinite(solution.objective[best]):
        return solution
    last = minimise(problem, solution.values[[best]], most_iterations=_LAST_STEPS)
    solution.values[best], solution.offsets[best] = last.values[0], last.offsets[0]
    solution.objective[best], solution.converged[best] = last.objective[0], last.converged[0]
    return solution


def _met(few: Problem, values: Array, probes: Array) -> tuple[Array, NDArray[np.int64]]:
    """Where the starts end on a part of the rows, those that meet as one."""
    solution = minimise(few, values, tolerance=1e-5, most_iterations=_RUN_STEPS)
    groups = distinct(few, solution, probes, converged=False)
    if not groups:
        raise FitError(
            f"no law: at every start of {few.form.name} its slopes at the rows are not finite;"
            " give its parameters bounds"
        )
    leaders = [leader for leader, _ in groups]
    met = np.array([len(members) for _, members in groups], dtype=np.int64)
    return solution.values[leaders], met


def distinct(
    problem: Problem, solution: Solution, probes: Array, *, converged: bool = True
) -> Groups:
    """Starts grouped by what they predict at the probes' covariates, best first.

    converged: only those that converged, and those that are lower still without it (the floor of
    a long flat valley); else all with an objective.
    """
    done = solution.converged | (not converged)
    floor = np.min(solution.objective[done], initial=np.inf)
    done |= solution.objective < floor
    order = np.argsort(solution.objective, kind="stable")
    order = order[done[order] & np.isfinite(solution.objective[order])]
    said = relative(problem, problem.form.loss(solution.values, probes))
    # A law without a value at a probe agrees there with another that has none.
    said = np.nan_to_num(said, nan=1e6, posinf=1e6, neginf=-1e6)
    groups: Groups = []
    while order.size:
        near = np.abs(said[order] - said[order[0]]).max(axis=1) < _SAME
        near[0] = True
        groups.append((int(order[0]), [int(k) for k in order[near]]))
        order = order[~near]
    return groups


def _residual(problem: Problem, values: Array, offsets: Array) -> Array:
    loss = problem.form.loss(values[None, :], problem.covariates)
    return problem.residual(loss, offsets[None, :])[0]


def _spread(problem: Problem, solution: Solution) -> float:
    """Robust sd of a row's residual at the best start."""
    best = int(np.argmin(solution.objective))
    if not np.isfinite(solution.objective[best]):
        raise FitError(f"no law: no start of {problem.form.name} reached a finite objective")
    residual = _residual(problem, solution.values[best], solution.offsets[best])
    return max(robust_sd(residual, problem.weight[0]), _SMALLEST_SCALE * problem.unit)
