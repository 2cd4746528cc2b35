"""The law of annealed loss that few cooldowns carry: the stable law less the gain of annealing.

Touches nothing. See `laws.annealed`: the trials near their size's best give the shape, their
cooldowns the gain. The stable law is of the form that the user states, or the law of curves. Its
interval is widened where the law without the largest sizes errs at their annealed ends by more
than it should, or a stated form without the largest trials at their stable points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from orchestrator.laws.annealed import (
    CURVES,
    PHASES,
    AnnealedLaw,
    fit_annealed,
    name_less_gain,
    widened,
)
from orchestrator.laws.annealed_check import Build, check_annealed, held_out_law
from orchestrator.laws.annealing import LEAST_TRIALS
from orchestrator.laws.calibration import Calibration
from orchestrator.laws.cooldowns import Cooldown
from orchestrator.laws.errors import FitError
from orchestrator.laws.runs import CurveRows
from orchestrator.laws.stable import Base, FormBase
from orchestrator.laws.stated import USUAL_FORMS, form_stated
from orchestrator.laws.uncertainty import LawPosterior
from orchestrator.report import words
from orchestrator.report.bounds import REACH, optimal_line, parameters_of
from orchestrator.report.conclusions import Gained, HeldOut, LawResult, Question, Residuals
from orchestrator.report.cost import FlopsPerToken
from orchestrator.report.evidence import Evidence, TrialEvidence

NO_DRAWS = "no interval: the bootstrap was switched off"
_RATE = "learning_rate"
_SOURCE = "the gain is of the sweep's own cooldowns"
FEW = 4
"""Trials with cooldowns below which the exponents of the gain are said to be a prior's."""
_FIRST = 0.05  # quantile of the rows' compute where the line begins


class _Build(Protocol):
    def __call__(
        self, some: Sequence[CurveRows], of: Sequence[Cooldown], draws: int = ...
    ) -> AnnealedLaw: ...


def bases_of(question: Question, evidence: Evidence) -> Sequence[Base]:
    """What stands for the stable law: every form of N and D that was stated, and the law of curves
    where none was."""
    if question.forms == USUAL_FORMS:
        return (CURVES,)
    forms = [form for form in map(form_stated, question.forms) if form.inputs != ("C",)]
    return [FormBase(form=form, burn_in=evidence.burn_in) for form in forms] or (CURVES,)


def less_gain(
    base: Base, evidence: Evidence, question: Question, largest: float, cost: FlopsPerToken
) -> LawResult:
    """The stable law of this base less the gain, or why there is none."""
    result = LawResult(
        form=name_less_gain(base.name),
        expression=f"({base.expression}) * exp(-gain(N, D))",
        source="; ".join(said for said in (base.source, _SOURCE) if said),
        basis="stable points of trials within 1 % of the best of their size, and their cooldowns",
        phases=PHASES,
    )
    trials = evidence.near_best()
    curves, cooldowns = [trial.stable for trial in trials], cooldowns_of(trials)

    def build(
        some: Sequence[CurveRows], of: Sequence[Cooldown], draws: int = question.draws
    ) -> AnnealedLaw:
        return fit_annealed(some, of, base=base, draws=draws, seed=question.seed)

    def alone(some: Sequence[CurveRows], of: Sequence[Cooldown]) -> AnnealedLaw:
        return build(some, of, 0)

    try:
        found, doubts = _found(build, curves, cooldowns, question)
    except FitError as error:
        return replace(result, why_not=f"{error}{_uncounted(evidence, trials)}")
    # A decay that failed says nothing of the law, which has left it out and names it.
    cooldowns = found.counted(cooldowns)
    posterior: LawPosterior | None = None
    if not doubts:
        checks = [check_annealed(build, curves, cooldowns), base.calibration(found.stable, curves)]
        worst = max(checks, key=lambda each: each.factor)
        found = widened(found, worst.factor)
        posterior = found.posterior
        # The law is widened once: another check that fails by less would tell another factor.
        heard = [each for each in checks if each is worst or each.warning is None]
        doubts = [said for each in heard for said in _said(each)]
    law, pairs = found.posterior.law, found.pairs
    compute = np.concatenate([curve.flops for curve in curves])
    start = float(np.quantile(compute, _FIRST))
    return replace(
        result,
        basis=found.words,
        law=law,
        posterior=posterior,
        parameters=tuple(
            known
            for known in parameters_of(law, posterior, question.level)
            if not known[0].startswith("drift")
        ),
        line=optimal_line(law, posterior, question.level, start, REACH * largest, cost),
        residuals=Residuals(
            flops=cost(pairs.N) * pairs.D,
            params=pairs.N,
            log_loss=np.log(pairs.loss / law.predict(pairs.N, pairs.D)),
        ),
        held_out=_held_out(alone, curves, cooldowns, cost),
        gain=_gain(found),
        doubts=(*_doubts(found), *doubts),
    )


def _found(
    build: _Build, curves: Sequence[CurveRows], cooldowns: Sequence[Cooldown], question: Question
) -> tuple[AnnealedLaw, Sequence[str]]:
    """The law, and why it has no interval; nothing where it has one."""
    if not question.draws:
        return build(curves, cooldowns, 0), (NO_DRAWS,)
    try:
        return build(curves, cooldowns), ()
    except FitError as error:
        # Trials too few to be drawn from may still carry a law.
        return build(curves, cooldowns, 0), (str(error),)


def _uncounted(evidence: Evidence, near: Sequence[TrialEvidence]) -> str:
    """How many cooldowns take no part, where so few do that there may be no law for that."""
    if sum(bool(trial.annealed) for trial in near) >= LEAST_TRIALS:
        return ""
    known = {trial.id for trial in near}
    count = sum(len(trial.annealed) for trial in evidence.trials if trial.id not in known)
    if not count:
        return ""
    said = words.several(count, "cooldown does not count, its trunk is", "cooldowns do not count,"
                         " their trunks are")  # fmt: skip
    return f" ({said} more than 1 % above the best of the size, or without a stable point)"


def cooldowns_of(trials: Sequence[TrialEvidence]) -> list[Cooldown]:
    """The annealed ends of these trials; the place of a trunk is that of its trial."""
    best = _best_rates(trials)
    return [
        Cooldown(
            trial=place,
            tokens=float(branch.tokens),
            loss=branch.loss,
            start=None if branch.start is None else float(branch.start),
            rate=_rate(trial) / best[trial.params],
        )
        for place, trial in enumerate(trials)
        for branch in trial.annealed
    ]


def _best_rates(trials: Sequence[TrialEvidence]) -> dict[int, float]:
    """The rate of the best trial of every size."""
    best: dict[int, TrialEvidence] = {}
    for trial in trials:
        known = best.get(trial.params)
        if known is None or trial.stable.loss[-1] < known.stable.loss[-1]:
            best[trial.params] = trial
    return {size: _rate(trial) for size, trial in best.items()}


def _rate(trial: TrialEvidence) -> float:
    """The trial's learning rate, 1 where it is not varied."""
    for key, value in trial.settings:
        named = key.rpartition(".")[2] == _RATE
        if named and isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
            return float(value)
    return 1.0


def _held_out(
    build: Build, curves: Sequence[CurveRows], cooldowns: Sequence[Cooldown], cost: FlopsPerToken
) -> HeldOut | None:
    """The law without the largest size that was annealed, asked for its last annealed end."""
    last = max(cooldowns, key=lambda c: (curves[c.trial].N, c.tokens))
    N = curves[last.trial].N
    try:
        law = held_out_law(build, curves, cooldowns, N).posterior.law
    except FitError:
        return None
    flops = float(cost(np.array([N]))[0]) * last.tokens
    predicted = float(law.predict(N, last.tokens))
    return HeldOut(params=round(N), flops=flops, predicted=predicted, seen=last.loss)


def _gain(found: AnnealedLaw) -> Gained:
    nats, sd = found.gain.nats
    return Gained(
        nats=nats, sd=sd, cooldowns=found.gain.pairs, trials=found.gain.trials,
        decay=found.gain.share,
    )  # fmt: skip


def _said(checks: Calibration) -> Sequence[str]:
    return [checks.warning] if checks.warning is not None else checks.notes[:1]


def _doubts(found: AnnealedLaw) -> Sequence[str]:
    said = [*map(str, found.posterior.law.warnings), *found.gain.doubts]
    if found.gain.trials < FEW:
        said.append(
            f"the gain rests on cooldowns of {found.gain.trials} trials: how it changes with size"
            " and tokens is mostly a prior's"
        )
    if found.pairs.unpaired:
        count = words.several(found.pairs.unpaired, "annealed end")
        said.append(f"left out of the gain: {count} far from any point of the trunk")
    return said
