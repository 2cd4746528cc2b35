"""Active selection: buy what makes the law right at the target, per cost.

Each purchase is the one that is expected to lower the mean squared error of the prediction over
the target most, per cost^0.4, on a belief that holds every optimum and every law form, a misfit
that no form says, and what is in flight (`buying`, `posterior`). After Li et al. 2026 (arXiv
2604.22753), which has one form, no misfit, and one purchase at a time. Where no law can be fitted
yet it buys the cheapest runs. Touches nothing.

Nothing is planned ahead, as `design` does for curves. Plans for the rest of the budget, with runs
exchanged for others, are expected to end at a half-width mostly within a tenth of greed's. With a
quarter more runs, inside ScaleBench's train rows they came nearer in farseer at 1 % of the pool's
cost and in parallel at 10 %, missed lr_bsz by more at 1 %, and elsewhere and on drawn worlds made
no difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from orchestrator.laws.errors import FitError
from orchestrator.policies.buying import Choice, Market, begun_with, cheapest, greedy
from orchestrator.policies.posterior import Learner

START_SHARE = 0.25
"""Of the budget, at most, for the runs before the first fit."""
RUNS_PER_PARAMETER = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """`learner` fits. `half_width` (90 %, of log loss) at the target that is asked for; `worth`:
    the least share of the half-width that a purchase must be expected to save for each share of
    the budget that it costs, below which nothing more is bought."""

    learner: Learner
    half_width: float | None = None
    worth: float = 0.0

    @property
    def name(self) -> str:
        return "active"

    def choose(self, market: Market) -> Choice:
        """What is expected to narrow the target most; the cheapest where nothing can be said."""
        most = max(len(form.parameters) for form in self.learner.forms)
        runs = math.ceil(RUNS_PER_PARAMETER * most / market.outputs)
        why = (
            f"a start, since a law of {most} parameters wants {runs} runs: the cheapest for sale, "
            f"while {100 * START_SHARE:g} % of the budget lasts"
        )
        first = begun_with(market, runs=runs, share=START_SHARE, why=why)
        if first.picks:
            return first
        try:
            teaching = self.learner.learn(market).teaching(market)
        except FitError as error:
            why = f"the cheapest, since no law can be fitted yet: {error}"
            return cheapest(market, why)
        return greedy(market, teaching, enough=self.half_width, least_rate=self.worth)
