"""Ceilings that no policy can reach honestly: they see the recorded curves to their ends.

Touches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.judge.replays import loss_within
from orchestrator.policies.ranking import Standing, Verdict
from orchestrator.recorded import RecordedCurve
from orchestrator.state import SweepState
from orchestrator.values import Decision, Extend


@dataclass(frozen=True, slots=True)
class Oracle:
    """Ranks trials at a rung by their true loss at the compute of the last one."""

    curves: Mapping[str, RecordedCurve]
    name = "oracle"

    def verdict(self, standing: Standing) -> Verdict:
        scores = {
            c.id: loss_within(c, self.curves[c.id], standing.final_flops) for c in standing.live
        }
        return Verdict(scores=scores, why="by the recorded curves", expected={})


@dataclass(frozen=True, slots=True)
class Hindsight:
    """The whole budget on the candidate that it serves best, known beforehand."""

    curves: Mapping[str, RecordedCurve]
    name = "hindsight"
    watches_points = False

    def decide(self, state: SweepState) -> list[Decision]:
        if state.trials:
            return []
        budget = state.terms.budget
        best = min(state.pool.candidates, key=lambda c: loss_within(c, self.curves[c.id], budget))
        return [
            Extend(
                trial=best.id,
                tokens=best.tokens_within(budget),
                reason="the best of the pool for this budget, known beforehand",
            )
        ]
