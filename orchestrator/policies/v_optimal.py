"""V-optimal design: the runs that lower the variance at the target most, were one law true.

Of the best optimum alone, without misfit, per cost^0.4, as arXiv 2604.22753 has its rival of this
name. Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.policies.buying import Choice, Market
from orchestrator.policies.posterior import Learner, classical_design


@dataclass(frozen=True, slots=True, kw_only=True)
class VOptimal:
    """`learner` fits one form, without misfit."""

    learner: Learner

    @property
    def name(self) -> str:
        return "v_optimal"

    def choose(self, market: Market) -> Choice:
        """What lowers the variance at the target most."""
        return classical_design(self.learner, market, by_knowledge=False)
