"""Settings that end a sweep early, and have no say while no forecast is trusted.

`regret` and `worth` weigh what forecasts expect; where those fail their backtest the sweep goes on
to the end of its budget. So that nobody waits for a stop that cannot come, each purchase made
meanwhile says so, and why. Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.policies.base import Around
from orchestrator.policies.searching import observed_of
from orchestrator.policies.trust import Believer
from orchestrator.state import SweepState
from orchestrator.surrogates.base import Surrogate
from orchestrator.values import Decision, Extend


@dataclass(frozen=True, slots=True, kw_only=True)
class Unheard(Around):
    """`policy`, whose `settings` (by name) are heard only where `surrogate` is trusted; its
    `believer` is shared, so that asking again costs nothing."""

    settings: tuple[str, ...]
    surrogate: Surrogate
    gate: bool
    believer: Believer

    def decide(self, state: SweepState) -> list[Decision]:
        """What the policy decides; purchases say where a setting could not act."""
        decisions = self.policy.decide(state)
        why = None
        if decisions:
            why = doubt(self.surrogate, state, gate=self.gate, believer=self.believer)
        if why is None:
            return decisions
        return [self._told(decision, why) for decision in decisions]

    def _told(self, decision: Decision, why: str) -> Decision:
        if not isinstance(decision, Extend):
            return decision
        note = f"{named(self.settings)} cannot end the sweep yet, as no forecast is trusted"
        note += "" if why in decision.reason else f" ({why})"
        return replace(decision, reason=f"{decision.reason}; {note}")


def doubt(
    surrogate: Surrogate, state: SweepState, *, gate: bool, believer: Believer
) -> str | None:
    """Why the forecasts of `surrogate` are not trusted at this state; None where they are, or
    nothing has shown a point yet."""
    observed = observed_of(state)
    if not observed:
        return None
    belief = believer.belief(surrogate, observed, seed=state.terms.seed, gate=gate)
    return None if belief.trusted else belief.why


def named(settings: tuple[str, ...]) -> str:
    """`policy.regret and policy.worth`."""
    return " and ".join(f"policy.{name}" for name in settings)
