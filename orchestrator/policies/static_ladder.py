"""A static ladder: a few runs at a textbook size for their compute, decided before anything runs.

Each run takes three quarters of what is left of the budget, at the candidate whose D / N comes
nearest 20 there (Hoffmann et al. 2022), so their compute falls fourfold from one to the next: a
frontier of several sizes, and nothing watched. What a run cannot use is left to the next one.
Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.policies.textbook import by_ratio, unwatched
from orchestrator.state import SweepState
from orchestrator.values import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticLadder:
    """At most `runs` candidates, each with `share` of what those before it left."""

    tokens_per_param: float = 20.0
    runs: int = 5
    share: float = 0.75

    @property
    def name(self) -> str:
        return "static_ladder"

    @property
    def watches_points(self) -> bool:
        return False

    def decide(self, state: SweepState) -> list[Decision]:
        if state.trials:
            return []
        decisions: list[Decision] = []
        left = state.terms.budget
        unused = list(state.pool.candidates)
        for _ in range(self.runs):
            flops = int(self.share * left)
            order = by_ratio(unused, flops, self.tokens_per_param, seed=state.terms.seed)
            if not order:
                break
            chosen = order[0]
            run = unwatched(chosen, flops, self.tokens_per_param)
            left -= chosen.flops(run.tokens)
            unused.remove(chosen)
            decisions.append(run)
        return decisions
