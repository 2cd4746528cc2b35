"""The aim `recommend`: spend the budget so as to name the right candidate for a deployment compute
that is usually too dear to run (ten times the budget and more).

After a few starts, buy what is expected to lower the regret of that choice most per FLOP: the
knowledge gradient with correlated beliefs (Frazier, Powell and Dayanik 2009), each trial in steps
of twice its compute. Where nothing is worth its price any more, another policy spends the rest, so
that a frontier and a law are left too. No trial takes more than `most` of the budget. Touches
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.policies.base import Policy
from orchestrator.policies.choosing import Choice, Rule, chosen
from orchestrator.policies.searching import Ahead, first_starts, observed_of, telling
from orchestrator.policies.trust import Belief, Remembered, believed, fingerprint
from orchestrator.state import SweepState
from orchestrator.surrogates.base import Surrogate
from orchestrator.values import Candidate, Decision

WORTH = 5e-4
"""An expected fall of the choice's log loss below this tells nothing: seeds differ by more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommend:
    """`deployment_flops`: what the recommended candidate would be trained with. `starts` trials
    of share `start` of the budget each come first; `then` decides once nothing tells more."""

    surrogate: Surrogate
    deployment_flops: float
    then: Policy
    most: float = 0.75
    starts: int = 4
    start: float = 0.01
    rule: Rule = field(default_factory=Rule)
    gate: bool = True
    _beliefs: Remembered[Belief] = field(
        default_factory=lambda: Remembered[Belief](), repr=False, compare=False
    )

    @property
    def name(self) -> str:
        return "recommend"

    @property
    def watches_points(self) -> bool:
        return False

    def decide(self, state: SweepState) -> list[Decision]:
        budget = state.terms.budget
        if not state.trials:
            return list(
                first_starts(
                    state,
                    flops=self.start * budget,
                    count=self.starts,
                    tokens_per_param=self.rule.tokens_per_param,
                )
            ) or self.then.decide(state)
        if state.in_flight:
            return []
        belief = self._belief(state)
        bought = telling(
            state,
            belief,
            Ahead(
                options=_options(state, self.deployment_flops),
                what=f"the best candidate for {self.deployment_flops:.3g} FLOPs",
            ),
            self._levels(budget),
            affordable=state.remaining,
            most=self.most * budget,
            by=self.surrogate.name,
            worth=WORTH,
        )
        return [bought] if bought is not None else self.then.decide(state)

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
        observed, seed = observed_of(state), state.terms.seed
        return self._beliefs.get(
            (seed, fingerprint(observed)),
            lambda: believed(self.surrogate, observed, seed=seed, gate=self.gate),
        )

    def _levels(self, budget: int) -> list[float]:
        levels = [self.start * budget]
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
