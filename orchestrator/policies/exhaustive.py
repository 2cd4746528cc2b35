"""Train every candidate to its end: what every other policy is measured against."""

from __future__ import annotations

from orchestrator.state import SweepState
from orchestrator.values import Decision, Extend, flops_in_words


class Exhaustive:
    """Every candidate to its horizon, in the order of the pool, as far as the budget reaches."""

    name = "exhaustive"
    watches_points = False

    def decide(self, state: SweepState) -> list[Decision]:
        decisions: list[Decision] = []
        remaining = state.remaining
        for candidate in state.pool.candidates:
            if candidate.id in state.trials or candidate.cost > remaining:
                continue
            remaining -= candidate.cost
            decisions.append(
                Extend(
                    trial=candidate.id,
                    tokens=candidate.end,
                    reason=f"whole run for {flops_in_words(candidate.cost)} FLOPs: the sweep is "
                    "exhaustive",
                )
            )
        return decisions
