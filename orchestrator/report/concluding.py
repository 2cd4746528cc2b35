"""From evidence to conclusions: fit the laws asked for, bound them, and answer the question.

Touches nothing. Laws of compute are fitted along the frontier (approach 1 of Hoffmann et al.
2022, arXiv 2203.15556), laws of N and D to the trials near their size's best (approach 3), on
constant-rate losses and, apart from them, on annealed ones, and the stable law less the gain of
annealing (`annealing`). What cannot be fitted is said, never filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from orchestrator.laws.calibration import calibration_of, checked
from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit, fit_trials
from orchestrator.laws.forms import LawForm
from orchestrator.laws.frontier import Frontier, bootstrap_frontier, fit_frontier
from orchestrator.laws.law import LawFit
from orchestrator.laws.runs import Runs
from orchestrator.laws.stated import form_stated
from orchestrator.laws.uncertainty import LawPosterior, bootstrap
from orchestrator.report import answers, words
from orchestrator.report.annealing import NO_DRAWS, bases_of, less_gain
from orchestrator.report.approaches import disagreements, side_by_side
from orchestrator.report.bounds import LINE_POINTS, REACH, optimal_line, parameters_of
from orchestrator.report.conclusions import (
    Averaged,
    BestRun,
    Bounded,
    Conclusions,
    HeldOut,
    LawResult,
    Line,
    Question,
    Residuals,
)
from orchestrator.report.cost import FlopsPerToken
from orchestrator.report.evidence import Evidence
from orchestrator.values import FloatArray


def conclude(
    evidence: Evidence, question: Question, averaged: Averaged | None = None
) -> Conclusions:
    """Everything that the evidence says about the question. Raises nothing for want of a law.
    averaged: what all forms together say at the target, where that is to answer."""
    trials = evidence.with_points()
    edge = _edge(evidence)
    best = _best(evidence)
    largest = max((float(t.stable.flops[-1]) for t in trials), default=0.0)
    cost = FlopsPerToken.of(
        evidence.costs or ((trial.params, trial.flops_per_token) for trial in trials),
        trained=(trial.params for trial in trials),
    )
    results = tuple(_results(evidence, question, edge, largest, cost))
    headline = _headline(results)
    beside = side_by_side(evidence, results, question, cost, largest)
    conclusions = Conclusions(
        question=question,
        sentence="",
        laws=results,
        headline=headline,
        best=best,
        target=None,
        recommended=None,
        frontier=_edge_of_runs(edge),
        largest_flops=largest,
        trials=len(trials),
        points=sum(len(trial.stable) for trial in trials),
        annealing_gain=_gain(evidence),
        left_out=evidence.left_out,
        doubts=(*_doubts(evidence), *disagreements(beside)),
        cost=cost,
        approaches=beside,
        averaged=averaged,
    )
    return answers.answered(conclusions, evidence, cost)


def _results(
    evidence: Evidence,
    question: Question,
    edge: Frontier | FitError,
    largest: float,
    cost: FlopsPerToken,
) -> Sequence[LawResult]:
    results: list[LawResult] = []
    for name in question.forms:
        form = form_stated(name)
        if form.inputs == ("C",):
            results.append(_along_frontier(form, evidence, question, edge, largest))
            continue
        results.append(_of_size_and_data(form, evidence, question, largest, cost))
        if any(trial.annealed for trial in evidence.trials):
            results.append(_annealed(form, evidence, question, largest, cost))
    if any(trial.annealed for trial in evidence.with_points()):
        bases = bases_of(question, evidence)
        results += [less_gain(base, evidence, question, largest, cost) for base in bases]
    return results


def _unfitted(form: LawForm, basis: str, phases: tuple[str, ...]) -> LawResult:
    return LawResult(
        form=form.name,
        expression=form.expression,
        source=form.source,
        basis=basis,
        phases=phases,
    )


def _along_frontier(
    form: LawForm,
    evidence: Evidence,
    question: Question,
    edge: Frontier | FitError,
    largest: float,
) -> LawResult:
    basis = "the frontier: the lowest loss seen at each compute"
    result = _unfitted(form, basis, evidence.phases)
    try:
        if isinstance(edge, FitError):
            raise edge
        law = fit_frontier(edge, form=form, seed=question.seed)
    except FitError as error:
        return replace(result, why_not=str(error))
    curves = [trial.stable for trial in evidence.with_points()]

    def drawn() -> LawPosterior:
        return bootstrap_frontier(law, curves, edge, draws=question.draws, seed=question.seed)

    posterior, doubts = _bootstrapped(drawn, question)
    grid = np.geomspace(float(edge.C[0]), REACH * largest, LINE_POINTS)
    loss = law.predict(C=grid)
    low, high = loss, loss
    if posterior is not None:
        low, high = posterior.interval(C=grid, level=question.level)
    held, held_doubt = _held_out(form, evidence, question)
    return replace(
        result,
        law=law,
        posterior=posterior,
        parameters=parameters_of(law, posterior, question.level),
        line=Line(flops=grid, loss=loss, low=low, high=high),
        held_out=held,
        doubts=(*map(str, law.warnings), *doubts, *held_doubt),
    )


def _of_size_and_data(
    form: LawForm, evidence: Evidence, question: Question, largest: float, cost: FlopsPerToken
) -> LawResult:
    dropped = words.share(question.burn_in)
    basis = (
        f"trials within 1 % of the best of their size, without the first {dropped} of each curve"
    )
    result = _unfitted(form, basis, evidence.phases)
    try:
        runs = evidence.stable_runs()
        law = fit_trials(form, runs, seed=question.seed)
    except FitError as error:
        return replace(result, why_not=str(error))
    held, held_doubt = _held_out(form, evidence, question)
    return _bounded(result, law, runs, question, largest, cost, held, held_doubt)


def _annealed(
    form: LawForm, evidence: Evidence, question: Question, largest: float, cost: FlopsPerToken
) -> LawResult:
    basis = "annealed ends of trials within 1 % of the best of their size"
    result = _unfitted(form, basis, ("annealed",))
    try:
        runs = evidence.annealed_runs()
        law = fit(form, runs, seed=question.seed)
    except FitError as error:
        return replace(result, why_not=str(error))
    return _bounded(result, law, runs, question, largest, cost, None, ())


def _bounded(
    result: LawResult,
    law: LawFit,
    runs: Runs,
    question: Question,
    largest: float,
    cost: FlopsPerToken,
    held: HeldOut | None,
    held_doubt: Sequence[str],
) -> LawResult:

    def drawn() -> LawPosterior:
        return bootstrap(law, runs, draws=question.draws, seed=question.seed)

    posterior, doubts = _bootstrapped(drawn, question)
    if posterior is not None:
        found = calibration_of(law, runs)
        posterior = checked(posterior, found)
        doubts = (*doubts, *((found.warning,) if found.warning else ()))
    start = float(np.quantile(runs.C, 0.05))
    return replace(
        result,
        law=law,
        posterior=posterior,
        parameters=parameters_of(law, posterior, question.level),
        line=optimal_line(law, posterior, question.level, start, REACH * largest, cost),
        residuals=Residuals(
            flops=runs.C, params=runs.N, log_loss=np.log(runs.loss / law.predict(runs.N, runs.D))
        ),
        held_out=held,
        doubts=(*map(str, law.warnings), *doubts, *held_doubt),
    )


def _bootstrapped(
    drawn: Callable[[], LawPosterior], question: Question
) -> tuple[LawPosterior | None, Sequence[str]]:
    """The draws of a law, or why it has none."""
    if question.draws == 0:
        return None, (NO_DRAWS,)
    try:
        posterior = drawn()
    except FitError as error:
        return None, (str(error),)
    if posterior.failed:
        return posterior, (
            f"{posterior.failed} of {posterior.asked} bootstrap draws gave no law: left out",
        )
    return posterior, ()


def _held_out(
    form: LawForm, evidence: Evidence, question: Question
) -> tuple[HeldOut | None, Sequence[str]]:
    """The law without the size that had the costliest run, asked for the end of that run."""
    parted = evidence.without_costliest()
    if parted is None:
        return None, ("not validated: fewer than four sizes have points, so none was held out",)
    rest, costliest = parted
    run = costliest.stable
    D, C, seen = float(run.tokens[-1]), float(run.flops[-1]), float(run.loss[-1])
    try:
        if form.inputs == ("C",):
            law = fit_frontier(rest.frontier(), form=form, seed=question.seed)
        else:
            law = fit_trials(form, rest.stable_runs(), seed=question.seed)
    except FitError as error:
        return None, (f"not validated: without the size of the costliest run: {error}",)
    predicted = float(law.predict(costliest.params, D, C=C))
    return HeldOut(params=costliest.params, flops=C, predicted=predicted, seen=seen), ()


def _edge(evidence: Evidence) -> Frontier | FitError:
    try:
        return evidence.frontier()
    except FitError as error:
        return error


def _edge_of_runs(edge: Frontier | FitError) -> tuple[FloatArray, FloatArray]:
    """One point for each stretch of the frontier: where its owner was last the lowest."""
    if isinstance(edge, FitError):
        return np.empty(0), np.empty(0)
    at = [int(np.searchsorted(edge.C, stretch.C_high)) for stretch in edge.stretches]
    at = [int(np.flatnonzero(edge.reached[: i + 1])[-1]) for i in at]
    return edge.C[at], edge.loss[at]


def _best(evidence: Evidence) -> BestRun | None:
    trials = evidence.with_points()
    if not trials:
        return None
    best = min(trials, key=lambda trial: float(trial.stable.loss.min()))
    at = int(np.argmin(best.stable.loss))
    return BestRun(
        trial=best.id,
        params=best.params,
        tokens=int(best.stable.tokens[at]),
        flops=float(best.stable.flops[at]),
        loss=float(best.stable.loss[at]),
    )


def _headline(results: Sequence[LawResult]) -> LawResult | None:
    """The law that answers: one with an interval, that the rows fix and identify (the surest of
    those that they do not), annealed before constant rate, of two annealed ones the surer at the
    far end, of N and D before compute alone; each of these yields to those before it."""

    def rank(result: LawResult) -> tuple[bool | float, ...]:
        of_size = result.law is not None and result.law.form.inputs != ("C",)
        stable = "annealed" not in result.phases
        vague = not result.identified
        unsure = result.line.spread if result.line is not None else 0.0
        rank = (result.posterior is None, result.doubtful, vague, unsure if vague else 0.0)
        return (*rank, stable, 0.0 if stable else unsure, not of_size)

    found = [result for result in results if result.law is not None]
    return min(found, key=rank, default=None)


def _gain(evidence: Evidence) -> Bounded | None:
    gains = evidence.annealing_gains()
    if not len(gains):
        return None
    return Bounded(value=float(np.median(gains)), low=float(gains.min()), high=float(gains.max()))


def _doubts(evidence: Evidence) -> Sequence[str]:
    """What is doubtful about the evidence itself, whatever the law."""
    found: list[str] = []
    if evidence.left_out:
        found.append(f"left out of every law: {', '.join(evidence.left_out)}")
    if evidence.cut_short:
        found.append(
            f"failed, with the points up to there in the laws: {', '.join(evidence.cut_short)}"
        )
    if not evidence.phases and any(len(trial.stable) > 1 for trial in evidence.trials):
        found.append(
            "the table does not say at which rate its points were taken: each counts as the end of"
            " a shorter run, which holds at a constant rate; of curves that decay keep the ends"
        )
    found.extend(_grid_edges(evidence))
    return found


def _grid_edges(evidence: Evidence) -> Sequence[str]:
    """Settings whose best value, at most sizes, lies at an end of what was tried."""
    leaders = answers.leaders(evidence)
    found: list[str] = []
    for key in evidence.free_settings():
        tried = sorted(
            {
                value
                for trial in evidence.trials
                for name, value in trial.settings
                if name == key and isinstance(value, (int, float)) and not isinstance(value, bool)
            }
        )
        if len(tried) < 3:
            continue
        chosen = [dict(trial.settings).get(key) for trial in leaders]
        for end, side in ((tried[0], "smallest"), (tried[-1], "largest")):
            at_end = sum(value == end for value in chosen)
            if at_end * 2 > len(chosen):
                found.append(
                    f"{key}: the {side} value tried, {end:g}, is the best at {at_end} of "
                    f"{words.several(len(chosen), 'size')}; a wider range may do better"
                )
    return found
