"""The aim `recommend`: spend the budget so as to name the right candidate for a deployment compute
that is usually too dear to run (ten times the budget and more).

After a few starts, buy what is expected to lower the regret of that choice most per FLOP: the
knowledge gradient with correlated beliefs (Frazier, Powell and Dayanik 2009), each trial in steps
of twice its compute. Where nothing is worth its price any more, another policy spends the rest, so
that a frontier and a law are left too. No trial takes more than `most` of the budget. Free workers
are given the next purchase while others run. Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.policies.base import Policy, ended
from orchestrator.policies.choosing import Choice, Rule, chosen
from orchestrator.policies.ending import Until, stops
from orchestrator.policies.pricing import IN_FLOPS, Purse
from orchestrator.policies.searching import (
    Ahead,
    Starts,
    free_slots,
    observed_of,
    regret_ahead,
    telling,
)
from orchestrator.policies.starting import opening
from orchestrator.policies.trust import Belief, Believer
from orchestrator.state import SweepState
from orchestrator.surrogates.base import Surrogate
from orchestrator.values import Candidate, Decision, flops_in_words

WORTH = 5e-4
"""An expected fall of the choice's log loss below this tells nothing: seeds differ by more."""
REGRET = "expected regret of the recommendation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommend:
    """`deployment_flops`: what the recommended candidate would be trained with. `then` decides
    once nothing tells more; it may share the `believer`. `regret`: the expected one, in log loss,
    at which nothing more is bought; `worth`: the least share of it that a purchase must be
    expected to save for each share of the budget that it costs; `purse`: what is paid with."""

    surrogate: Surrogate
    deployment_flops: float
    then: Policy
    most: float = 0.75
    starts: Starts = field(default_factory=Starts)
    rule: Rule = field(default_factory=Rule)
    gate: bool = True
    regret: float | None = None
    worth: float = 0.0
    purse: Purse = IN_FLOPS
    believer: Believer = field(default_factory=Believer, repr=False, compare=False)

    @property
    def name(self) -> str:
        return "recommend"

    @property
    def watches_points(self) -> bool:
        return False

    def decide(self, state: SweepState) -> list[Decision]:
        budget = state.terms.budget
        begun = opening(
            state, self.starts, self.purse, tokens_per_param=self.rule.tokens_per_param
        )
        if begun is not None:
            return [*begun] if begun or state.trials else self.then.decide(state)
        if free_slots(state) < 1 or ended(state):
            return []
        belief = self._belief(state)
        ahead = Ahead(options=_options(state, self.deployment_flops))
        until = Until(what=REGRET, enough=self.regret, worth=self.worth)
        asked = self.regret is not None or self.worth > 0
        regret = regret_ahead(belief, ahead) if asked else None
        why = until.met(regret) if regret is not None else None
        if why is not None:
            return [] if state.in_flight else stops(state, why)
        prices = self.purse.prices(state)
        bought = telling(
            state,
            belief,
            [ahead],
            self._levels(budget),
            what=f"the best candidate for {flops_in_words(self.deployment_flops)} FLOPs",
            affordable=state.remaining,
            most=self.most * budget,
            by=self.surrogate.name,
            worth=WORTH,
            prices=prices,
            least_rate=self.worth * (regret or 0.0) / max(prices.budget, 1e-300),
        )
        if bought is not None:
            return [bought]
        if self.worth > 0 and regret is not None:
            return [] if state.in_flight else stops(state, until.nothing(regret))
        return self.then.decide(state)

    def recommended(self, state: SweepState) -> Choice:
        """The candidate for the deployment compute, as far as the sweep can tell. Raises
        ValueError where every candidate is out."""
        return chosen(
            state,
            _options(state, self.deployment_flops),
            self.deployment_flops,
            self._belief(state),
            self.rule,
            by=self.surrogate.name,
        )

    def _belief(self, state: SweepState) -> Belief:
        return self.believer.belief(
            self.surrogate, observed_of(state), seed=state.terms.seed, gate=self.gate
        )

    def _levels(self, budget: int) -> list[float]:
        levels = [self.starts.share * budget]
        while 2 * levels[-1] < self.most * budget:
            levels.append(2 * levels[-1])
        return [*levels, self.most * budget]


def _options(state: SweepState, flops: float) -> tuple[tuple[Candidate, int], ...]:
    """Each candidate that is not out, at its end within `flops`."""
    return tuple(
        (candidate, max(candidate.tokens_per_step, candidate.tokens_within(flops)))
        for candidate in state.pool.candidates
        if candidate.id not in state.trials or not state.trials[candidate.id].out
    )
