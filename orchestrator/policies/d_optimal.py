"""D-optimal design: the runs that tell most of the parameters, whatever the target asks.

Of the best optimum alone, without misfit, per cost^0.4, as arXiv 2604.22753 has its rival of this
name. Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.policies.buying import Choice, Market
from orchestrator.policies.posterior import Learner, classical_design


@dataclass(frozen=True, slots=True, kw_only=True)
class DOptimal:
    """`learner` fits one form, without misfit."""

    learner: Learner

    @property
    def name(self) -> str:
        return "d_optimal"

    def choose(self, market: Market) -> Choice:
        """What lowers the volume of the parameters' covariance most."""
        return classical_design(self.learner, market, by_knowledge=True)
