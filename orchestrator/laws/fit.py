"""Fit a law form to rows: robust, screened, from many starts, refused where there is no answer.

Touches nothing. The objective is summed, not averaged (an averaged one stopped the optimiser of
Hoffmann et al. early: Besiroglu et al. 2024, arXiv 2404.10102). The knee of its Huber loss comes
from the spread of the residuals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from orchestrator.laws.doubts import Groups, doubts_about, probe_logs
from orchestrator.laws.errors import FitError
from orchestrator.laws.forms import LawForm
from orchestrator.laws.law import LawFit, LocalOptimum, Objective, Prior
from orchestrator.laws.levenberg import Problem, Solution, minimise
from orchestrator.laws.posing import KNEE, Posed, middle_of
from orchestrator.laws.runs import Array, Runs, count_levels
from orchestrator.laws.screening import screened_starts

_FIRST_SCALE = 0.02  # of log loss; replaced by the residuals' own
_SMALLEST_SCALE = 1e-6  # of log loss, below any evaluation noise
_SAME = 1e-3  # of log loss at the probes: optima nearer than this are one
_ROUNDS = 3
_ROUGH_STARTS = 12


def fit(
    form: LawForm,
    runs: Runs,
    *,
    objective: Objective = "huber_log",
    delta: float | None = None,
    priors: Sequence[Prior] = (),
    offsets_sd: float | None = None,
    seed: int = 0,
    starts: int = 64,
) -> LawFit:
    """The best member of `form` for `runs`, and every other optimum that starts ended in.

    objective: "huber_log" (Huber on log loss) or "squared" (plain squared error of the loss).
    delta: knee of the Huber loss in log loss; from the residuals' spread where None.
    priors: normal priors on published parameters, in the objective.
    offsets_sd: give every trial a shift of its log loss, shrunk to zero with this sd (Huber at
        half of it). For learning curves, whose trials have odd shapes, rates and seeds.
    Raises FitError where the rows are too few, have too few different sizes, or no start
    converges; ValueError where an option makes no sense.
    """
    _check_options(form, objective, delta, priors, offsets_sd, starts)
    _refuse(form, runs, offsets_sd)
    # Sums depend on the order of rows in their last digits: with one order, the law does not.
    runs = runs.take(np.lexsort((runs.C, runs.loss, runs.D, runs.N)))
    posed = Posed(
        form=form,
        runs=runs,
        centre=middle_of(form, runs),
        objective=objective,
        delta=delta,
        priors=tuple(priors),
        offsets_sd=offsets_sd,
    )
    scale = _FIRST_SCALE * posed.unit
    pool = screened_starts(posed.problem(scale), starts=starts, rng=np.random.default_rng(seed))
    if not len(pool):
        raise FitError(f"no law: no start of {form.name} has a finite loss at all rows")
    best = pool[:_ROUGH_STARTS]
    for _ in range(_ROUNDS):
        rough = posed.problem(scale)
        solution = minimise(rough, best)
        best = solution.values[np.argsort(solution.objective, kind="stable")][:4]
        scale = _spread(rough, solution)
    problem = posed.problem(scale)
    solution = minimise(problem, np.concatenate([best, pool])[: max(starts, len(best))])
    return _law(posed, problem, solution, scale, seed)


def _check_options(
    form: LawForm,
    objective: Objective,
    delta: float | None,
    priors: Sequence[Prior],
    offsets_sd: float | None,
    starts: int,
) -> None:
    if objective not in ("huber_log", "squared"):
        raise ValueError(f"objective is {objective!r}; there are 'huber_log' and 'squared'")
    if starts < 1:
        raise ValueError(f"starts is {starts}; at least one is needed")
    for name, value in (("delta", delta), ("offsets_sd", offsets_sd)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}; it must be finite and above zero")
    known = {parameter.name: parameter for parameter in form.parameters}
    for prior in priors:
        if prior.parameter not in known:
            raise ValueError(
                f"there is no parameter {prior.parameter!r} in {form.name}"
                f" ({form.expression}); there are: {', '.join(known)}"
            )
        if known[prior.parameter].moves:
            raise ValueError(
                f"{prior.parameter} of {form.name} takes no prior: its value depends on the"
                " units of the inputs; put one on an exponent or on the irreducible loss"
            )


def _refuse(form: LawForm, runs: Runs, offsets_sd: float | None) -> None:
    """FitError where the rows cannot carry the form."""
    count = len(form.parameters)
    if len(runs) <= count:
        raise FitError(
            f"no law yet: {form.name} has {count} parameters and there are {len(runs)} rows;"
            f" at least {count + 1} are needed"
        )
    for name, column, needed in zip(
        form.inputs, runs.inputs(form.inputs), form.levels, strict=True
    ):
        different = count_levels(column)
        if different < needed:
            raise FitError(
                f"no law yet: {form.name} ({form.expression}) needs {needed} different values of"
                f" {name}, and the rows have {different}"
            )
    if offsets_sd is not None and runs.trials == len(runs):
        raise FitError(
            "offsets need trials with several rows, and here every trial has one:"
            " leave offsets_sd out"
        )


def _residual(problem: Problem, values: Array, offsets: Array) -> Array:
    loss = problem.form.loss(values[None, :], problem.logs)[0]
    residual = (np.log(loss) if problem.in_logs else loss) - problem.target[0]
    return residual if problem.offsets is None else residual + problem.offsets.member @ offsets


def _spread(problem: Problem, solution: Solution) -> float:
    """Robust sd of a row's residual at the best start: 1.4826 times the weighted median size."""
    best = int(np.argmin(solution.objective))
    if not np.isfinite(solution.objective[best]):
        raise FitError(f"no law: no start of {problem.form.name} reached a finite objective")
    size = np.abs(_residual(problem, solution.values[best], solution.offsets[best]))
    order = np.argsort(size)
    share = np.asarray(problem.weight[0][order].cumsum(), dtype=np.float64)
    middle = float(size[order][int(share.searchsorted(0.5 * float(share[-1])))])
    unit = 1.0 if problem.in_logs else float(np.mean(problem.target))
    return max(1.4826 * middle, _SMALLEST_SCALE * unit)


def _distinct(problem: Problem, solution: Solution) -> Groups:
    """Converged starts grouped by what they predict at the probes, best first."""
    order = [
        int(k)
        for k in np.argsort(solution.objective, kind="stable")
        if solution.converged[k] and np.isfinite(solution.objective[k])
    ]
    with np.errstate(all="ignore"):
        said = np.log(problem.form.loss(solution.values, probe_logs(problem.logs)))
    groups: list[tuple[int, list[int]]] = []
    for k in order:
        for leader, members in groups:
            if np.max(np.abs(said[k] - said[leader])) < _SAME:
                members.append(k)
                break
        else:
            groups.append((k, [k]))
    return groups


def _law(posed: Posed, problem: Problem, solution: Solution, scale: float, seed: int) -> LawFit:
    form, runs = posed.form, posed.runs
    groups = _distinct(problem, solution)
    if not groups:
        raise FitError(
            f"no law: none of {len(solution.objective)} starts of {form.name} converged on"
            f" {len(runs)} rows; more rows or more sizes are needed"
        )
    best = groups[0][0]
    values, offsets = solution.values[best], solution.offsets[best]
    labels = np.unique(runs.trial)
    published = form.publish(solution.values, posed.centre)
    residual = np.log(form.loss(values[None, :], problem.logs)[0]) - np.log(runs.loss)
    unshifted = None if problem.offsets is None else _without_offsets(problem, values)
    return LawFit(
        form=form,
        working=_floats(values),
        centre=_floats(posed.centre),
        objective=posed.objective,
        objective_value=float(solution.objective[best]),
        delta=problem.delta if problem.in_logs else None,
        scale=scale,
        rmse=float(np.sqrt(np.average(residual**2, weights=runs.weight))),
        scatter=_scatter(residual, runs),
        rows=len(runs),
        trials=len(labels),
        ranges=tuple(
            (float(column.min()), float(column.max())) for column in runs.inputs(form.inputs)
        ),
        optima=tuple(
            LocalOptimum(
                objective=float(solution.objective[leader]),
                values=_floats(published[leader]),
                starts=len(members),
            )
            for leader, members in groups
        ),
        warnings=doubts_about(problem, solution, groups, runs, scale, unshifted),
        starts=len(solution.objective),
        seed=seed,
        priors=posed.priors,
        offsets_sd=posed.offsets_sd,
        offsets=tuple(zip((int(t) for t in labels), _floats(offsets), strict=True))
        if problem.offsets is not None
        else (),
        phases=runs.phases,
    )


def _scatter(residual: Array, runs: Runs) -> float:
    """Root mean square over trials of the weighted mean residual of a trial."""
    _, place = np.unique(runs.trial, return_inverse=True)
    sums = np.bincount(place, weights=residual * runs.weight)
    means = sums / np.bincount(place, weights=runs.weight)
    return math.sqrt(float(np.sum(means * means)) / len(means))


def _floats(values: Array) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _without_offsets(problem: Problem, values: Array) -> Array:
    """Working values of the same fit without offsets, started from the fit with them too."""
    knee = max(problem.delta, KNEE * _FIRST_SCALE)
    plain = replace(problem, delta=knee, offsets=None)
    pool = screened_starts(
        plain, starts=_ROUGH_STARTS, rng=np.random.default_rng(0), extra=values[None, :]
    )
    solution = minimise(plain, pool)
    return solution.values[int(np.argmin(solution.objective))]
