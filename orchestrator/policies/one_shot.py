"""One run at a textbook size: the whole budget on the candidate whose D / N comes nearest 20.

It watches no curve and leaves no law, and its loss is hard to beat (Hoffmann et al. 2022): the
rival that keeps claims about the best loss honest. Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.policies.textbook import by_ratio, unwatched
from orchestrator.state import SweepState
from orchestrator.values import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class OneShot:
    """The budget on one candidate, at `tokens_per_param` tokens a parameter as nearly as the pool
    has it."""

    tokens_per_param: float = 20.0

    @property
    def name(self) -> str:
        return "one_shot"

    @property
    def watches_points(self) -> bool:
        return False

    def decide(self, state: SweepState) -> list[Decision]:
        if state.trials:
            return []
        budget = state.terms.budget
        order = by_ratio(
            state.pool.candidates, budget, self.tokens_per_param, seed=state.terms.seed
        )
        return [unwatched(chosen, budget, self.tokens_per_param) for chosen in order[:1]]
