"""Divide the budget evenly: B / |M| FLOPs a candidate (the baseline of arXiv 2605.17234)."""

from __future__ import annotations

from orchestrator.state import SweepState
from orchestrator.values import Decision, Extend, flops_in_words


class Uniform:
    """The same compute for every candidate. What a short curve cannot use is not handed on."""

    name = "uniform"
    watches_points = False

    def decide(self, state: SweepState) -> list[Decision]:
        share = state.terms.budget // len(state.pool.candidates)
        decisions: list[Decision] = []
        for candidate in state.pool.candidates:
            tokens = candidate.tokens_within(share)
            if candidate.id in state.trials or tokens == 0:
                continue
            decisions.append(
                Extend(
                    trial=candidate.id,
                    tokens=tokens,
                    reason=f"an even share of the budget, {flops_in_words(share)} FLOPs",
                )
            )
        return decisions
