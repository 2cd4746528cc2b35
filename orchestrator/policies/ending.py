"""When a policy that buys for an aim has enough, and how it says so.

Each aim has one figure that purchases lower: the half-width of the law at the target, the expected
regret of the recommendation, the loss along the frontier. Nothing more is bought once that figure
is as low as was asked for, or once no purchase saves as much of it as it costs of the budget. What
ends a sweep is told as the reason of stops, so that the journal holds it. Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.policies.pricing import Prices
from orchestrator.state import SweepState
from orchestrator.values import NO_MORE, Decision, FloatArray, Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Until:
    """`enough`: the figure, in log loss, at which nothing more is bought. `worth`: the least share
    of the figure that a purchase must be expected to save for each share of the budget that it
    costs. `what` the figure is, in words."""

    what: str
    enough: float | None = None
    worth: float = 0.0

    def met(self, figure: float) -> str | None:
        """That the figure is low enough, in words; None where it is not, or nobody asked."""
        if self.enough is None or figure > self.enough:
            return None
        return f"the {self.what} is {figure:.4f} of log loss, and {self.enough:g} was asked for"

    def worthless(self, saved: float, price: float, prices: Prices) -> str | None:
        """That the purchase which saves most for its price, a share `saved` of the figure, is not
        worth it, in words; None where it is."""
        if self.worth <= 0 or saved >= self.worth * price / prices.budget:
            return None
        share = price / prices.budget
        return (
            f"the best that could be bought, for {prices.said(price)}, is expected to save "
            f"{100 * saved:.2g} % of the {self.what} and costs {100 * share:.2g} % of the budget: "
            f"not worth its cost (policy.worth {self.worth:g})"
        )

    def nothing(self, figure: float) -> str:
        """That no purchase at all is worth its cost, in words."""
        return (
            f"no purchase is expected to save {100 * self.worth:.3g} % of the {self.what}, "
            f"{figure:.4f} of log loss, for the whole budget, or its part for a part: none is "
            f"worth its cost (policy.worth {self.worth:g})"
        )


def expected_regret(samples: FloatArray) -> float:
    """The log loss that the choice of the option with the least mean is expected to lose against
    the best one. samples: (draws, options), joint."""
    chosen = int(samples.mean(axis=0).argmin())
    return float((samples[:, chosen] - samples.min(axis=1)).mean())


def stops(state: SweepState, why: str) -> list[Decision]:
    """Say why nothing more is bought: to the trials that could go on, or to the last one. What
    was bought and is on its way comes to its end."""
    trials = [trial for trial in state.trials.values() if not (trial.out or trial.in_flight)]
    idle = [trial for trial in trials if trial.trunk.tokens < trial.candidate.end]
    return [Stop(trial=trial.id, reason=NO_MORE + why) for trial in idle or trials[-1:]]
