"""The cheapest runs first: what a budget buys most of. Touches nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.policies.buying import Choice, Market, in_order


@dataclass(frozen=True, slots=True, kw_only=True)
class Cheapest:
    """Buys in the order of cost."""

    @property
    def name(self) -> str:
        return "cheapest"

    def choose(self, market: Market) -> Choice:
        """Offers, the cheapest first."""
        order = np.argsort(market.cost, kind="stable")
        return in_order(market, order, "the cheapest that is left")
