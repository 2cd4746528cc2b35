"""Active selection: buy what makes the law right at the target, per cost.

Each purchase is the one that is expected to lower the mean squared error of the prediction over
the target region most, per cost^0.4, on a belief that holds every optimum and every law form, a
misfit that no form says, and what is in flight (`buying`, `posterior`). After arXiv 2604.22753,
which has one form, no misfit and one purchase at a time. Where nothing can be fitted yet it buys
runs spread over the inputs, the cheapest first. Touches nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.errors import FitError
from orchestrator.policies.buying import COST_EXPONENT, Market, Pick, Teaching
from orchestrator.policies.posterior import Learner

HALF_90 = 1.645
START_SHARE = 0.25
"""Of the budget, at most, for the runs before the first fit."""
RUNS_PER_PARAMETER = 1.5
BATCH = 0.08
"""Runs bought on one belief, as a share of those known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """Chooses from a market. `learner` fits; `narrow`: the half-width (90 %, of log loss) at the
    target that is asked for; `cost_exponent` as in `buying`."""

    learner: Learner
    narrow: float | None = None
    cost_exponent: float = COST_EXPONENT

    @property
    def name(self) -> str:
        return "active"

    def choose(self, market: Market) -> list[Pick]:
        """What to buy now, within what is affordable; nothing where nothing is worth it."""
        if market.seen < self._start(market):
            first = spread_out(market, count=self._start(market) - market.seen)
            if first:
                return first
        try:
            posterior = self.learner.learn(market)
        except FitError as error:
            return spread_out(market, count=1, why=f"no law can be fitted yet: {error}")
        offers, target = posterior.features(market.offers), posterior.features(market.target)
        if not (np.isfinite(offers).all() and np.isfinite(target).all()):
            return spread_out(market, count=1, why="the law has no value at some offers")
        teaching = Teaching(offers, target, outputs=market.outputs, noise=posterior.noise)
        if len(next(iter(market.flying.values()), ())):
            for row in posterior.features(market.flying):
                teaching.observe(row)
        return self._bought(market, teaching)

    def _start(self, market: Market) -> int:
        most = max(len(form.parameters) for form in self.learner.forms)
        return math.ceil(RUNS_PER_PARAMETER * most / market.outputs)

    def _bought(self, market: Market, teaching: Teaching) -> list[Pick]:
        left = market.affordable
        free = np.ones(len(market.cost), dtype=np.bool_)
        picks: list[Pick] = []
        for _ in range(max(1, int(BATCH * market.seen))):
            before = HALF_90 * math.sqrt(teaching.variance)
            if self.narrow is not None and before <= self.narrow:
                break
            able = free & (market.cost <= left)
            if not able.any():
                break
            gains = teaching.gains()
            value = np.where(able, gains / market.cost**self.cost_exponent, -math.inf)
            offer = int(np.argmax(value))
            teaching.buy(offer)
            after = HALF_90 * math.sqrt(teaching.variance)
            picks.append(Pick(offer=offer, before=before, after=after))
            free &= market.owner != market.owner[offer]
            left -= float(market.cost[offer])
        return picks


def spread_out(
    market: Market, *, count: int, why: str = "nothing can be fitted yet"
) -> list[Pick]:
    """The cheapest offers, up to a share of the budget; the very cheapest whatever it costs."""
    order = np.argsort(market.cost, kind="stable")
    spent = market.budget - market.affordable
    picks: list[Pick] = []
    taken: set[int] = set()
    left = market.affordable
    for offer in (int(o) for o in order):
        cost = float(market.cost[offer])
        if cost > left or len(picks) >= count:
            break
        begun = market.seen > 0 or bool(picks)
        if begun and count > 1 and spent + cost > START_SHARE * market.budget:
            break
        if int(market.owner[offer]) in taken:
            continue
        picks.append(Pick(offer=offer, why=why))
        taken.add(int(market.owner[offer]))
        spent, left = spent + cost, left - cost
    return picks
