"""The best size found in three ways, side by side: by envelope, by IsoFLOP, by a law of N and D.

Touches nothing. Approaches 1 to 3 of Hoffmann et al. 2022 (arXiv 2203.15556, section 3), on the
same constant-rate curves and at the compute of the largest run, where none of them reaches beyond
the data. That they agree within their intervals is a check of all; that they do not is a doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

from orchestrator.laws.allocation import Allocation
from orchestrator.laws.envelope import envelope
from orchestrator.laws.errors import FitError
from orchestrator.laws.isoflop import isoflop
from orchestrator.laws.optimum import Interval, compute_optimal
from orchestrator.report.conclusions import Approach, Bounded, LawResult, Question
from orchestrator.report.cost import FlopsPerToken
from orchestrator.report.evidence import Evidence


def side_by_side(
    evidence: Evidence,
    results: Sequence[LawResult],
    question: Question,
    cost: FlopsPerToken,
    flops: float,
) -> tuple[Approach, ...]:
    """Every approach at this compute; none where no law of N and D was asked for."""
    of_size = [
        result
        for result in results
        if result.law is not None
        and result.law.form.inputs == ("N", "D")
        and "annealed" not in result.phases
    ]
    if not of_size or flops <= 0.0:
        return ()
    curves = [trial.stable for trial in evidence.near_best()]

    def enveloped() -> Allocation:
        return envelope(curves, draws=question.draws, seed=question.seed)

    def budgeted() -> Allocation:
        return isoflop(curves, draws=question.draws, seed=question.seed).allocation

    return (
        _allocated("envelope", enveloped, flops, question.level),
        _allocated("IsoFLOP", budgeted, flops, question.level),
        *(_fitted(result, flops, cost, question.level) for result in of_size),
    )


def disagreements(approaches: Sequence[Approach]) -> tuple[str, ...]:
    """Pairs of approaches whose intervals of the exponent do not meet."""
    found: list[str] = []
    for one, other in combinations(approaches, 2):
        a, b = _ends(one.exponent), _ends(other.exponent)
        if a is None or b is None or (a[0] <= b[1] and b[0] <= a[1]):
            continue
        found.append(
            f"the best size grows as compute to the power {a[0]:.3f} to {a[1]:.3f} by"
            f" {one.name}, and {b[0]:.3f} to {b[1]:.3f} by {other.name}: one of them leans"
        )
    return tuple(found)


def _allocated(name: str, found: Callable[[], Allocation], flops: float, level: float) -> Approach:
    try:
        lines = found()
    except FitError as error:
        return Approach(name=name, flops=flops, why_not=str(error))
    return Approach(
        name=name,
        flops=flops,
        exponent=_bounded(lines.exponent("N", level)),
        params=_bounded(lines.at("N", flops, level)),
        tokens=_bounded(lines.at("D", flops, level)),
        notes=lines.notes,
    )


def _fitted(result: LawResult, flops: float, cost: FlopsPerToken, level: float) -> Approach:
    law = result.posterior or result.law
    if law is None:
        return Approach(name=result.key, flops=flops, why_not=result.why_not)
    try:
        best = compute_optimal(law, flops, flops_per_token=cost, level=level)
    except FitError as error:
        return Approach(name=result.key, flops=flops, why_not=str(error))
    return Approach(
        name=result.key,
        flops=flops,
        exponent=_bounded(best.exponent_N),
        params=_bounded(best.N),
        tokens=_bounded(best.D),
    )


def _bounded(interval: Interval) -> Bounded:
    return Bounded(value=interval.value, low=interval.low, high=interval.high)


def _ends(bounded: Bounded | None) -> tuple[float, float] | None:
    if bounded is None or bounded.low is None or bounded.high is None:
        return None
    return bounded.low, bounded.high
