"""Runs at random, each as likely as it is cheap: with a chance in proportion to 1 / cost.

Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.policies.buying import Choice, Market, in_order


@dataclass(frozen=True, slots=True, kw_only=True)
class CostWeightedRandom:
    """Draws by the market's seed; what no longer fits the budget is passed over."""

    @property
    def name(self) -> str:
        return "cost_weighted_random"

    def choose(self, market: Market) -> Choice:
        """Offers in a random order: exponential clocks that tick at 1 / cost (Efraimidis and
        Spirakis 2006, Information Processing Letters 97:181)."""
        clocks = np.random.default_rng(market.seed).exponential(size=len(market.cost))
        return in_order(
            market, np.argsort(clocks * market.cost), "drawn with a chance of 1 / cost"
        )
