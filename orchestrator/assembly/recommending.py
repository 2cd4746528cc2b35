"""The candidate that a sweep with the aim `recommend` names for its deployment compute.

The law's best size (in the report) need not be known there, and is no candidate; what the policy
would choose now, from whatever was bought, always is one. Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.assembly.policies import recommender
from orchestrator.policies.searching import observed_of
from orchestrator.report import words
from orchestrator.report.answers import settings_in_words
from orchestrator.spec import SweepSpec
from orchestrator.state import SweepState


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What is recommended for which compute, and why it is, in words."""

    what: str
    why: str

    @property
    def said(self) -> str:
        return f"{self.what}: {self.why}."


def recommendation(spec: SweepSpec, state: SweepState) -> Recommendation | None:
    """Which candidate, and why; None for another aim, and before any point."""
    flops = spec.deployment_flops
    if spec.aim != "recommend" or flops is None or not observed_of(state):
        return None
    chosen = recommender(spec).recommended(state)
    candidate, expected = chosen.candidate, chosen.expected
    told = [f"{words.amount(candidate.params)} parameters"]
    if candidate.settings:
        told.append(settings_in_words(candidate.settings))
    foreseen = (
        f", a loss of {words.loss(expected.loss)} foreseen after {words.amount(expected.tokens)} "
        "tokens"
        if expected is not None
        else ""
    )
    return Recommendation(
        what=f"For {words.flops(flops)} FLOPs the sweep recommends {candidate.id} "
        f"({', '.join(told)}){foreseen}",
        why=chosen.why,
    )
