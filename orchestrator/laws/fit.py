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

from orchestrator.laws.doubts import doubts_about, relative
from orchestrator.laws.errors import FitError
from orchestrator.laws.forms import LawForm
from orchestrator.laws.law import OBJECTIVES, LawFit, LocalOptimum, Objective, Prior
from orchestrator.laws.levenberg import Problem, minimise
from orchestrator.laws.posing import Posed, middle_of
from orchestrator.laws.robust import KNEE
from orchestrator.laws.runs import Array, Labels, Runs, count_levels
from orchestrator.laws.screening import screened_starts
from orchestrator.laws.search import FIRST_SCALE, ROUGH_STARTS, Found, Given, searched
from orchestrator.laws.weak import weak_priors as weak_priors_of

STARTS = 64
"""Random starts of a fit, unless it is told otherwise."""
OFFSETS_SD = 0.02
"""Spread of the trials' own offsets in log loss; on public ladders it halved the error of laws at
sizes held out."""
OFFSETS_FROM = 8
"""Trials from which on offsets are fitted: among fewer they cannot be told from the sizes."""
_COMPUTE = ("N", "D", "C")
_AS_FAR = 1.1  # times less compute, where trials were meant to be equal


def fit(
    form: LawForm,
    runs: Runs,
    *,
    objective: Objective = "huber_log",
    delta: float | None = None,
    knee: float = KNEE,
    priors: Sequence[Prior] = (),
    weak_priors: float | None = None,
    offsets_sd: float | None = None,
    seed: int = 0,
    starts: int | None = None,
    start_from: Array | Sequence[LawFit] | None = None,
) -> LawFit:
    """The best member of `form` for `runs`, and every other optimum that starts ended in.

    objective: "huber_log" (Huber on log loss), or, where losses may be negative, "huber" or
        "squared" (on the loss itself).
    delta: knee of the Huber loss in its own unit; from the residuals' spread where None.
    knee: how many robust sd of the residuals that spread is worth.
    priors: normal priors on published parameters, in the objective.
    weak_priors: believe of parameters that may be zero, and have no prior, that they move the
        log loss over the rows by about this sd (`laws.weak`): the fit goes on from its optima
        with such priors, which are then among the law's.
    offsets_sd: give every trial a shift of its log loss, shrunk to zero with this sd (Huber at
        half of it). For learning curves, whose trials have odd shapes, rates and seeds.
    starts: random starts that are followed: 64, or none where `start_from` is given.
    start_from: where fits of the form to almost the same rows ended: the fits, all of whose
        optima are taken, or working values (K, P). Refitting after one more row so costs a few
        steps; an optimum that none of them is near is not found.
    Raises FitError where the rows are too few, have too few different sizes, or no start
    converges; ValueError where an option makes no sense.
    """
    if starts is None:
        starts = STARTS if start_from is None or not len(start_from) else 0
    if weak_priors is not None and not (math.isfinite(weak_priors) and weak_priors > 0):
        raise ValueError(f"weak_priors is {weak_priors}; it must be finite and above zero")
    priors = (*priors, *_stated(form, priors))
    _check_options(form, objective, delta, knee, priors, offsets_sd)
    if starts < (start_from is None or not len(start_from)):
        raise ValueError(f"starts is {starts}; at least one is needed")
    _refuse(form, runs, objective, offsets_sd)
    # Sums depend on the order of rows in their last digits: with one order, the law does not.
    names = sorted(runs.features, reverse=True)
    runs = runs.take(np.lexsort([runs.loss, *(runs.features[name] for name in names)]))
    posed = Posed(
        form=form,
        runs=runs,
        centre=middle_of(form, runs),
        objective=objective,
        delta=delta,
        knee=knee,
        priors=priors,
        offsets_sd=offsets_sd,
    )
    given = None if start_from is None else _given(posed, start_from)
    found = searched(posed, starts=starts, rng=np.random.default_rng(seed), given=given)
    law = _law(posed, found, seed)
    weak = () if weak_priors is None else weak_priors_of(law, runs, effect_sd=weak_priors)
    return _weakly(posed, law, weak, seed) if weak else law


def fit_trials(form: LawForm, runs: Runs, *, seed: int = 0) -> LawFit:
    """A form on the rows of a sweep's trials: with offsets where those can be told."""
    curves = runs.trials >= OFFSETS_FROM and len(runs) > runs.trials
    return fit(form, runs, offsets_sd=OFFSETS_SD if curves else None, seed=seed)


def fit_again(law: LawFit, runs: Runs, *, starts: int | None = None) -> LawFit:
    """The form of `law` on other rows, with what it was fitted with: objective, knee or stated
    delta, priors (weak ones as they were), seed, and offsets if any trial has several rows.

    Raises FitError as `fit` does.
    """
    return fit(
        law.form,
        runs,
        objective=law.objective,
        delta=law.delta if law.knee is None else None,
        knee=KNEE if law.knee is None else law.knee,
        priors=law.priors,
        offsets_sd=law.offsets_sd if runs.trials < len(runs) else None,
        seed=law.seed,
        starts=starts,
    )


def _weakly(posed: Posed, law: LawFit, weak: Sequence[Prior], seed: int) -> LawFit:
    """The law with these priors too, from all of its optima."""
    again = replace(posed, priors=(*posed.priors, *weak))
    rng = np.random.default_rng(seed)
    found = searched(again, starts=0, rng=rng, given=_given(again, [law]))
    return replace(_law(again, found, seed), starts=law.starts)


def _given(posed: Posed, start_from: Array | Sequence[LawFit]) -> Given | None:
    """Working values at the centre of these rows, and the scale of the first law's residuals."""
    if not len(start_from):
        return None
    form = posed.form
    if isinstance(start_from, np.ndarray):
        values, scale = np.asarray(start_from, dtype=np.float64), None
    else:
        for law in start_from:
            if law.form.expression != form.expression:
                raise ValueError(f"start_from holds a law of {law.form.name}, not {form.name}")
        published = [optimum.values for law in start_from for optimum in law.optima]
        values, scale = form.absorb(np.array(published), posed.centre), start_from[0].scale
    if values.ndim != 2 or values.shape[1] != len(form.parameters) or np.isnan(values).any():
        raise ValueError(
            f"start_from has shape {values.shape} or holds nan; {form.name} needs"
            f" (K, {len(form.parameters)}) working values"
        )
    return Given(values=values, scale=scale)


def _stated(form: LawForm, given: Sequence[Prior]) -> list[Prior]:
    """Priors that the form itself states, where the caller gave none."""
    named = {prior.parameter for prior in given}
    return [
        Prior(parameter=known.name, mean=known.prior[0], sd=known.prior[1])
        for known in form.parameters
        if known.prior is not None and known.name not in named
    ]


def _check_options(
    form: LawForm,
    objective: Objective,
    delta: float | None,
    knee: float,
    priors: Sequence[Prior],
    offsets_sd: float | None,
) -> None:
    if objective not in OBJECTIVES:
        raise ValueError(f"objective is {objective!r}; there are {', '.join(OBJECTIVES)}")
    for name, value in (("delta", delta), ("knee", knee), ("offsets_sd", offsets_sd)):
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
        if known[prior.parameter].logarithmic and prior.mean <= 0:
            raise ValueError(
                f"the prior on {prior.parameter} of {form.name} has the mean {prior.mean:g}: it is"
                " a scale, fitted as its logarithm, and needs a mean above zero"
            )


def _refuse(form: LawForm, runs: Runs, objective: Objective, offsets_sd: float | None) -> None:
    """FitError where the rows cannot carry the form."""
    if not form.inputs:
        raise ValueError(f"{form.name} ({form.expression}) depends on no input: it is no law")
    if objective == "huber_log" and runs.signed:
        raise ValueError(
            "objective is 'huber_log', and the losses may be zero or below: use 'huber' or"
            " 'squared'"
        )
    said = form.expression
    if form.name != said:
        said = f"{form.name} ({said})"
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
                f"no law yet: {said} needs {needed} different values of {name}, and the rows"
                f" have {different}"
            )
    if offsets_sd is not None and runs.trials == len(runs):
        raise FitError(
            "offsets need trials with several rows, and here every trial has one:"
            " leave offsets_sd out"
        )


def _law(posed: Posed, found: Found, seed: int) -> LawFit:
    form, runs = posed.form, posed.runs
    problem, solution, groups = found.problem, found.solution, found.groups
    inputs = runs.inputs(form.inputs)
    best = groups[0][0]
    values, offsets = solution.values[best], solution.offsets[best]
    labels = np.unique(runs.trial)
    published = form.publish(solution.values, posed.centre)
    reached = form.loss(values[None, :], problem.covariates)[0]
    residual = relative(problem, reached) - relative(problem, runs.loss)
    unshifted = None if problem.offsets is None else _without_offsets(problem, values)
    return LawFit(
        form=form,
        working=_floats(values),
        centre=_floats(posed.centre),
        objective=posed.objective,
        objective_value=float(solution.objective[best]),
        delta=problem.delta if posed.objective != "squared" else None,
        scale=found.scale,
        rmse=float(np.sqrt(np.average(residual**2, weights=runs.weight))),
        scatter=_scatter(residual, runs),
        rows=len(runs),
        trials=len(labels),
        ranges=tuple((float(column.min()), float(column.max())) for column in inputs),
        optima=tuple(
            LocalOptimum(
                objective=float(solution.objective[leader]),
                values=_floats(published[leader]),
                starts=int(found.met[members].sum()),
            )
            for leader, members in groups
        ),
        warnings=doubts_about(
            problem, solution, groups, runs, found.probes, found.scale, unshifted
        ),
        starts=found.starts,
        seed=seed,
        priors=posed.priors,
        offsets_sd=posed.offsets_sd,
        offsets=tuple(zip((int(t) for t in labels), _floats(offsets), strict=True))
        if problem.offsets is not None
        else (),
        phases=runs.phases,
        knee=posed.knee if posed.objective != "squared" and posed.delta is None else None,
        furthest=_furthest(form.inputs, inputs, runs.trial),
    )


def _furthest(names: tuple[str, ...], inputs: Array, trial: Labels) -> tuple[float, ...]:
    """Inputs of the last row of the trial with most compute (the product of what there is of N, D
    and C); of trials within 10 % of it, of the middle one in size. Losses have no say in it."""
    counted = [column for name, column in zip(names, inputs, strict=True) if name in _COMPUTE]
    if not counted:
        return ()
    compute = np.prod(counted, axis=0)
    order = np.lexsort([compute, trial])
    ends = order[np.append(np.diff(trial[order]) > 0, True)]
    near = ends[compute[ends] >= compute.max() / _AS_FAR]
    by_size = near[np.lexsort([compute[near], counted[0][near]])]
    return _floats(np.array([column[by_size[len(by_size) // 2]] for column in inputs]))


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
    knee = max(problem.delta, KNEE * FIRST_SCALE)
    plain = replace(problem, delta=knee, offsets=None)
    pool = screened_starts(
        plain, starts=ROUGH_STARTS, rng=np.random.default_rng(0), extra=values[None, :]
    )
    solution = minimise(plain, pool)
    return solution.values[int(np.argmin(solution.objective))]
