"""The answers to a question: the target, the recommended configuration, and the first sentence.

Touches nothing. The aims differ (DESIGN section 4): the lowest loss seen for the compute, the
loss of the law where it is asked for, and what to train with a deployment compute. All three are
always given, with the interval and the reach that they have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from orchestrator.laws.errors import FitError
from orchestrator.laws.optimum import Interval, Optimum, compute_optimal
from orchestrator.report import words
from orchestrator.report.conclusions import Answer, Bounded, Conclusions, LawResult
from orchestrator.report.cost import LONG_REACH, SIZES_BEYOND, FlopsPerToken
from orchestrator.report.evidence import Evidence, TrialEvidence
from orchestrator.values import Scalar

REACH = 10.0
WIDEST = 100.0
"""Between the bounds of a best size: from this ratio on it is not known."""


def answered(conclusions: Conclusions, evidence: Evidence, cost: FlopsPerToken) -> Conclusions:
    """The conclusions with target, recommendation and sentence."""
    if conclusions.headline is None:
        return replace(conclusions, sentence=_no_law(conclusions))
    target = _by_all(_target(conclusions, evidence, cost), conclusions)
    recommended = _recommended(conclusions, evidence, cost, target)
    conclusions = replace(conclusions, target=target, recommended=recommended)
    return replace(
        conclusions,
        sentence=_sentence(conclusions),
        doubts=(
            *conclusions.doubts,
            *_unanswered(conclusions),
            *_disagreement(conclusions),
        ),
    )


def best_at(conclusions: Conclusions, flops: float) -> tuple[float | None, Bounded | None]:
    """The best size at a compute (parameters) and the loss there, as the answers have them. The
    size is None where the recommended one is not known, or this one lies too far from what was
    trained; the loss where it is not the headline's own optimum: then its line says it."""
    recommended, result, cost = conclusions.recommended, _of_size(conclusions), conclusions.cost
    if recommended is not None and math.isclose(flops, recommended.flops):
        return recommended.params.value if recommended.params else None, recommended.loss
    if recommended is None or recommended.params is None or cost is None:
        return None, None
    if result is None or result.law is None:
        return None, None
    law, level = result.posterior or result.law, conclusions.question.level
    try:
        best = compute_optimal(law, flops, flops_per_token=cost, level=level)
    except FitError:
        return None, None
    near = cost.smallest / SIZES_BEYOND <= best.N.value <= cost.largest * REACH * SIZES_BEYOND
    own = near and result is conclusions.headline
    return best.N.value if near else None, _bounded(best.loss) if own else None


def leaders(evidence: Evidence) -> Sequence[TrialEvidence]:
    """The best trial of every size, smallest size first."""
    best: dict[int, TrialEvidence] = {}
    for trial in evidence.with_points():
        known = best.get(trial.params)
        if known is None or trial.stable.loss[-1] < known.stable.loss[-1]:
            best[trial.params] = trial
    return [best[size] for size in sorted(best)]


def _of_size(conclusions: Conclusions) -> LawResult | None:
    """The first law of N and D, the headline first."""
    results = [r for r in (conclusions.headline, *conclusions.laws) if r is not None]
    return next((r for r in results if r.law is not None and r.law.form.inputs != ("C",)), None)


def _target(conclusions: Conclusions, evidence: Evidence, cost: FlopsPerToken) -> Answer | None:
    asked = conclusions.question.target
    if asked is None:
        what = f"{REACH:g} times the largest run"
        return _at_compute(conclusions, REACH * conclusions.largest_flops, what, evidence, cost)
    result = _of_size(conclusions)
    N, D = float(asked[0]), float(asked[1])
    flops = float(cost(np.array([N]))[0]) * D
    what = f"{words.amount(N)} parameters on {words.amount(D)} tokens"
    if result is None or result.law is None:
        return _at_compute(conclusions, flops, f"the compute of {what}", evidence, cost)
    low = high = None
    if result.posterior is not None:
        bounds = result.posterior.interval(N, D, level=conclusions.question.level)
        low, high = float(bounds[0]), float(bounds[1])
    return Answer(
        what=what,
        by=result.key,
        phases=result.phases,
        flops=flops,
        loss=Bounded(value=float(result.law.predict(N, D)), low=low, high=high),
        params=Bounded(value=N),
        tokens=Bounded(value=D),
        reach=flops / conclusions.largest_flops,
        doubts=tuple(_reach_doubts(flops / conclusions.largest_flops)),
    )


def _by_all(target: Answer | None, conclusions: Conclusions) -> Answer | None:
    """The answer by all forms together where there is one, of losses of the same phase."""
    averaged = conclusions.averaged
    if target is None or averaged is None or "annealed" in target.phases:
        return target
    return replace(target, by=averaged.key, loss=averaged.loss)


def _recommended(
    conclusions: Conclusions, evidence: Evidence, cost: FlopsPerToken, target: Answer | None
) -> Answer | None:
    flops = conclusions.question.deployment_flops
    if flops is not None:
        answer = _at_compute(conclusions, flops, "the deployment compute", evidence, cost)
    elif conclusions.question.target is None:
        answer = target
    else:
        far = REACH * conclusions.largest_flops
        answer = _at_compute(conclusions, far, f"{REACH:g} times the largest run", evidence, cost)
    best = leaders(evidence)
    if answer is None or not best:
        return answer
    # What is tuned within a size is taken from the best run that went furthest.
    furthest = max(best, key=lambda trial: float(trial.stable.flops[-1]))
    tuned = evidence.free_settings()
    settings = tuple((key, value) for key, value in furthest.settings if key in tuned)
    return replace(answer, settings=settings)


def _at_compute(
    conclusions: Conclusions, flops: float, what: str, evidence: Evidence, cost: FlopsPerToken
) -> Answer | None:
    """The loss at a compute by the headline law, and the best size for it by a law of N and D."""
    headline = conclusions.headline
    if headline is None or headline.law is None:
        return None
    level = conclusions.question.level
    reach = flops / conclusions.largest_flops
    doubts = list(_reach_doubts(reach))
    best: Optimum | None = None
    fixed = known = False
    of_size = _of_size(conclusions)
    if of_size is not None and of_size.law is not None:
        try:
            best = compute_optimal(
                of_size.posterior or of_size.law, flops, flops_per_token=cost, level=level
            )
        except FitError as error:
            doubts.append(str(error))
        else:
            found = _size_doubts(best, of_size, evidence)
            vague = found or _width_doubts(best, of_size, level)
            doubts += vague
            fixed, known = not found, not vague
    loss = _along(headline, flops, level)
    if of_size is headline:
        loss = _bounded(best.loss) if best is not None and fixed else _on_line(headline, flops)
    elif of_size is not None and known:
        doubts.append(f"size and tokens are by {of_size.key}, the loss is by {headline.key}")
    if loss is None:
        return None
    return Answer(
        what=what,
        by=headline.key,
        phases=headline.phases,
        flops=flops,
        loss=loss,
        params=_bounded(best.N) if best is not None and known else None,
        tokens=_bounded(best.D) if best is not None and known else None,
        reach=reach,
        doubts=tuple(doubts),
    )


def _on_line(result: LawResult, flops: float) -> Bounded | None:
    """The loss where the drawn line has it; None beyond its end, which lies at the reach."""
    if result.line is None or flops > result.line.flops[-1] * 1.001:
        return None
    loss, low, high, _ = result.line.at(flops)
    return Bounded(value=loss, low=low, high=high) if result.posterior else Bounded(value=loss)


def _size_doubts(best: Optimum, result: LawResult, evidence: Evidence) -> Sequence[str]:
    """Why a best size is not to be believed: the law is loose there, or its place lies too far
    from what was trained."""
    if result.loose:
        return (
            f"the best size is not known: {' and '.join(result.loose)} of {result.key} rests at "
            "the end of its range",
        )
    trials = evidence.with_points()
    for what, value, seen in (
        ("parameters", best.N.value, [float(trial.params) for trial in trials]),
        ("tokens", best.D.value, [float(trial.stable.tokens[-1]) for trial in trials]),
    ):
        if not min(seen) / SIZES_BEYOND <= value <= max(seen) * REACH * SIZES_BEYOND:
            return (
                f"the best size is not known: {result.key} asks for {words.amount(value)} {what}, "
                f"and {words.amount(min(seen))} to {words.amount(max(seen))} were trained",
            )
    return ()


def wide(size: Bounded) -> bool:
    """Whether the bounds of a best size lie too far apart for it to be known."""
    return size.low is not None and size.high is not None and size.high > WIDEST * size.low


def _width_doubts(best: Optimum, result: LawResult, level: float) -> Sequence[str]:
    """That the draws disagree about the best size by orders of magnitude; its loss may be known
    all the same, being flat there."""
    low, high = best.N.low, best.N.high
    if low is None or high is None or not wide(_bounded(best.N)):
        return ()
    return (
        f"the best size is not known: by {result.key} it lies between {words.amount(low)} and "
        f"{words.amount(high)} parameters ({words.share(level)}); train longer runs of more sizes",
    )


def _along(result: LawResult, flops: float, level: float) -> Bounded | None:
    """The loss of a law of compute; None for a law of other inputs."""
    if result.law is None or result.law.form.inputs != ("C",):
        return None
    low = high = None
    if result.posterior is not None:
        bounds = result.posterior.interval(C=flops, level=level)
        low, high = float(bounds[0]), float(bounds[1])
    return Bounded(value=float(result.law.predict(C=flops)), low=low, high=high)


def _bounded(interval: Interval) -> Bounded:
    return Bounded(value=interval.value, low=interval.low, high=interval.high)


def _reach_doubts(reach: float) -> Sequence[str]:
    if reach <= LONG_REACH:
        return ()
    return (
        f"it lies {words.factor(reach)} times beyond the largest run: a long reach for any law",
    )


def _unanswered(conclusions: Conclusions) -> Sequence[str]:
    """That the law says nothing at the deployment compute that was asked about."""
    flops = conclusions.question.deployment_flops
    if flops is None or conclusions.recommended is not None:
        return ()
    reach = flops / conclusions.largest_flops
    return (
        f"the law gives no answer at the deployment compute of {words.flops(flops)} FLOPs: it "
        f"lies {words.factor(reach)} times beyond the largest run, and beyond {REACH:g} times a "
        "law whose best size is not fixed says nothing",
    )


def _disagreement(conclusions: Conclusions) -> Sequence[str]:
    """Laws whose intervals do not meet where the band ends."""
    ends = [
        (result.key, float(result.line.low[-1]), float(result.line.high[-1]))
        for result in conclusions.laws
        if result.line is not None
        and result.posterior is not None
        and "annealed" not in result.phases
    ]
    found: list[str] = []
    for i, (one, low, high) in enumerate(ends):
        for other, its_low, its_high in ends[i + 1 :]:
            if low > its_high or its_low > high:
                found.append(
                    f"{one} and {other} disagree at {REACH:g} times the largest run: "
                    f"{words.loss(low)} to {words.loss(high)} against {words.loss(its_low)} to "
                    f"{words.loss(its_high)}; neither interval covers the choice of form"
                )
    return found


def interval(bounded: Bounded, level: float) -> str:
    """`2.417 (90 %: 2.391 to 2.446)`."""
    if bounded.low is None or bounded.high is None:
        return f"{words.loss(bounded.value)} (no interval)"
    return (
        f"{words.loss(bounded.value)} ({words.share(level)}: {words.loss(bounded.low)} to "
        f"{words.loss(bounded.high)})"
    )


def settings_in_words(settings: Sequence[tuple[str, Scalar]]) -> str:
    return ", ".join(
        f"{key.rpartition('.')[2].replace('_', ' ')} "
        + (f"{value:.3g}" if isinstance(value, float) else str(value))
        for key, value in settings
    )


def _no_law(conclusions: Conclusions) -> str:
    why = conclusions.why_not or ""
    why = why.removeprefix("no law yet: ").removeprefix("no law of the frontier: ")
    seen = ""
    if conclusions.best is not None:
        best = conclusions.best
        seen = (
            f" The lowest loss seen is {words.loss(best.loss)} nats per token, by {best.trial} "
            f"({words.amount(best.params)} parameters, {words.amount(best.tokens)} tokens)."
        )
    return f"No law yet: {why}.{seen}"


def _sentence(conclusions: Conclusions) -> str:
    recommended = conclusions.recommended
    if conclusions.question.aim != "recommend":
        recommended = None
    target = recommended or conclusions.target
    if target is None:
        return _no_law(conclusions)
    loss = interval(target.loss, conclusions.question.level)
    kind = "a constant-rate loss" if "stable" in target.phases else "a loss"
    if "annealed" in target.phases:
        kind = "an annealed loss"
    says = "the law says"
    together = conclusions.averaged
    if together is not None and target.by == together.key:
        says = f"{len(together.forms)} law forms together say"
    sentence = (
        f"At {target.what} ({words.flops(target.flops)} FLOPs) {says} {kind} of "
        f"{loss} nats per token"
    )
    found = recommended is not None or conclusions.question.target is None
    if found and target.params is not None and target.tokens is not None:
        ratio = target.tokens.value / target.params.value
        sentence += (
            f", reached by {words.amount(target.params.value)} parameters on "
            f"{words.amount(target.tokens.value)} tokens ({words.factor(ratio)} tokens a "
            "parameter)"
        )
    headline = conclusions.headline
    if headline is None or headline.gain is None or target.by != headline.key:
        return f"{sentence}."
    return f"{sentence}: {headline.basis}."
