"""Policies of shares, held to what hours and money buy.

Such a policy lays out shares of a budget of FLOPs. Where hours or money would run out first, what
they still buy at the learned speed stands in the budget's place; and since FLOPs of one size take
other seconds than those of another, each purchase is cut to what is left of the hours themselves.
Touches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.policies.base import Around, Policy, ended
from orchestrator.policies.ending import stops
from orchestrator.policies.pricing import Prices, Purse
from orchestrator.state import SweepState
from orchestrator.values import Decision, Extend

LEAST = 0.25
"""Of what a purchase asks for; less than that in tokens is not worth a start-up."""

SMALL = 0.02
"""Of the hours; a purchase is cut to no less, or what the estimate leaves over each time would be
bought in ever smaller pieces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Within(Around):
    """`policy` under `purse`."""

    purse: Purse

    def decide(self, state: SweepState) -> list[Decision]:
        """What the policy decides under the budget that can be paid for, and as far as it can;
        the end of all buying where nothing of it can."""
        decisions = self.policy.decide(self.purse.affordable(state))
        prices = self.purse.prices(state)
        if prices.pace is None or prices.unit == "FLOPs":
            return decisions
        kept = _cut(decisions, prices)
        if any(isinstance(decision, Extend) for decision in kept) or kept == decisions:
            return kept
        why = prices.nothing_fits
        return stops(state, why) if why and not state.in_flight and not ended(state) else []


def within(policy: Policy, purse: Purse) -> Policy:
    """The policy, held to what the purse buys; the policy itself where the purse has no cap."""
    return Within(policy=policy, purse=purse) if purse.capped else policy


def _cut(decisions: Sequence[Decision], prices: Prices) -> list[Decision]:
    """The decisions with each purchase as long as the hours that are left pay for, in order."""
    left, kept = prices.hours_left, list[Decision]()
    least = SMALL * prices.budget / prices.hour
    for decision in decisions:
        if not isinstance(decision, Extend):
            kept.append(decision)
            continue
        candidate = prices.state.pool[decision.trial]
        tokens = prices.within(candidate, decision.tokens, hours=left)
        trial = prices.state.trials.get(decision.trial)
        stands = trial.trunk.tokens if trial is not None else 0
        if tokens - stands < LEAST * (decision.tokens - stands):
            continue
        takes = prices.hours(candidate, tokens)
        if tokens < decision.tokens and takes < least:
            continue
        left -= takes
        if tokens < decision.tokens:
            why = f"{decision.reason}; cut to what the hours that are left pay for"
            decision = replace(decision, tokens=tokens, reason=why, expected=None)
        kept.append(decision)
    return kept
