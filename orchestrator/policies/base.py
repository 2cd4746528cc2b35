"""What a policy is: a pure function from the state of a sweep to decisions.

Touches nothing. `decide` is called at the start, when a segment ends, when a trial fails or
diverges and when a slot is free; on every point only where `watches_points` says so. It is called
again until it returns nothing, so it must not repeat what the state already holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from orchestrator.state import SweepState
from orchestrator.values import NO_MORE, Decision, flops_in_words


class Policy(Protocol):
    """Chooses. Keeps nothing between calls: the same state gives the same decisions."""

    @property
    def name(self) -> str: ...

    @property
    def watches_points(self) -> bool: ...

    def decide(self, state: SweepState) -> list[Decision]:
        """What to do now; an empty list when there is nothing to add."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """A policy that lets another one choose, goes by its name, and says more or less than it."""

    policy: Policy

    @property
    def name(self) -> str:
        return self.policy.name

    @property
    def watches_points(self) -> bool:
        return self.policy.watches_points


def ended(state: SweepState) -> str | None:
    """Why nothing more is bought, as the stops that said so have it; None where none did."""
    return next(
        (
            trial.stop_reason
            for trial in state.trials.values()
            if trial.stop_reason is not None and trial.stop_reason.startswith(NO_MORE)
        ),
        None,
    )


def exhausted(state: SweepState) -> str:
    """That a policy which did not say why it ends has come to its end, how much was spent, and
    that what is left pays for no run, where it does not."""
    trials = state.trials
    if all(c.id in trials and trials[c.id].trunk.tokens >= c.end for c in state.pool):
        return "every candidate is at its end"
    spent = 100 * state.ledger.spent / state.terms.budget if state.terms.budget else 0.0
    said = f"the policy has nothing left to decide, with {spent:.1f} % of its FLOPs spent"
    left, cheapest = state.remaining, _cheapest(state)
    if cheapest is None or left >= cheapest or left < 0.0005 * state.terms.budget:
        return said
    return (
        f"{said}: the {flops_in_words(left)} that are left pay for no run to its end, of which "
        f"the cheapest takes {flops_in_words(cheapest)}"
    )


def _cheapest(state: SweepState) -> int | None:
    """FLOPs of the cheapest run to its end, from where it stands; None where all are out or
    there."""
    prices: list[int] = []
    for candidate in state.pool:
        trial = state.trials.get(candidate.id)
        stands = 0 if trial is None else trial.trunk.tokens
        if stands < candidate.end and (trial is None or not trial.out):
            prices.append(candidate.flops(candidate.end) - candidate.flops(stands))
    return min(prices, default=None)


def randomness(state: SweepState) -> np.random.Generator:
    """The generator of this decision: from the spec's seed and the decisions so far."""
    return np.random.default_rng((state.terms.seed, state.decided))
