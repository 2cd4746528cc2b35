"""V-optimal design: the runs that lower the variance at the target most, were one law true.

Of the best optimum alone, without misfit, per cost^0.4, as arXiv 2604.22753 has its rival of this
name. Touches nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.laws.errors import FitError
from orchestrator.policies.buying import Choice, Market, begun_with, greedy
from orchestrator.policies.posterior import Learner

START_SHARE = 0.25
RUNS_PER_PARAMETER = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class VOptimal:
    """`learner` fits one form, without misfit."""

    learner: Learner

    @property
    def name(self) -> str:
        return "v_optimal"

    def choose(self, market: Market) -> Choice:
        """What lowers the variance at the target most."""
        size = len(self.learner.forms[0].parameters)
        runs = math.ceil(RUNS_PER_PARAMETER * size / market.outputs)
        why = "a start: one of the cheapest, so that a law can be fitted"
        first = begun_with(market, runs=runs, share=START_SHARE, why=why)
        if first.picks:
            return first
        try:
            teaching = self.learner.learn(market).alone().teaching(market)
        except FitError as error:
            why = f"the cheapest, since no law can be fitted yet: {error}"
            return begun_with(market, runs=market.begun + 1, share=1.0, why=why)
        return greedy(market, teaching)
