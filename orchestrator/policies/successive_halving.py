"""Successive Halving on compute (Jamieson and Talwalkar 2016; in FLOPs as in arXiv 2605.17234).

Plain, trials are ranked at a rung by the lowest loss seen up to it. With another ranking handed in
(forecasts of a surrogate at the last rung's compute, as in that paper) the skeleton stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.policies.bracket import Bracket, spent_out
from orchestrator.policies.ranking import ByLoss, Ranking
from orchestrator.state import SweepState
from orchestrator.values import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessiveHalving:
    """Halve the pool at rungs of equal compute.

    `eta`: keep 1/eta. `spend_out`: what the rungs left extends trials in rank order, none beyond a
    share `most` of the budget; off, it stays unspent, as in the paper. `group_by`: a setting (or
    "params") within whose values trials are compared, so that a law keeps its spread of sizes.
    """

    eta: int = 2
    spend_out: bool = True
    most: float = 0.75
    group_by: str | None = None
    ranking: Ranking = field(default_factory=ByLoss)

    @property
    def name(self) -> str:
        return "successive_halving"

    @property
    def watches_points(self) -> bool:
        return False

    def decide(self, state: SweepState) -> list[Decision]:
        bracket = Bracket(
            candidates=state.pool.candidates,
            budget=state.terms.budget,
            eta=self.eta,
            ranking=self.ranking,
            group_by=self.group_by,
        )
        progress = bracket.next(state)
        if progress.decisions or not (self.spend_out and progress.order) or state.in_flight:
            return list(progress.decisions)
        return spent_out(state, progress.order, self.most)
