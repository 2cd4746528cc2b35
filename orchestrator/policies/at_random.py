"""Runs at random: every affordable offer is as likely. The rival that any rule must beat.

Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.policies.buying import Choice, Market, in_order


@dataclass(frozen=True, slots=True, kw_only=True)
class AtRandom:
    """Draws by the market's seed; what no longer fits the budget is passed over."""

    @property
    def name(self) -> str:
        return "random"

    def choose(self, market: Market) -> Choice:
        """Offers in a random order."""
        order = np.random.default_rng(market.seed).permutation(len(market.cost))
        return in_order(market, order, "drawn at random")
