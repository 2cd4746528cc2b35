"""The aim `recommend`: spend the budget so as to name the right candidate for a deployment compute
that is usually too dear to run (ten times the budget and more).

After a few starts, buy what is expected to lower the regret of that choice most per FLOP: the
knowledge gradient with correlated beliefs (Frazier, Powell and Dayanik 2009), each trial in steps
of twice its compute. Where nothing tells any more, the candidate that would be recommended is
trained on itself. No trial takes more than `most` of the budget. Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.policies.choosing import Choice, Rule, chosen
from orchestrator.policies.searching import Ahead, first_starts, observed_of, telling
from orchestrator.policies.trust import Belief, Remembered, believed, fingerprint
from orchestrator.state import SweepState
from orchestrator.surrogates.base import Surrogate
from orchestrator.values import Candidate, Decision, Extend

WORTH_PURSUING = 0.01
"""Less than this share of the budget is not worth a segment of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommend:
    """`deployment_flops`: what the recommended candidate would be trained with. `starts` trials
    of share `start` of the budget each come first."""

    surrogate: Surrogate
    deployment_flops: float
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
            ) or self._pursued(state, Belief(forecaster=None, trusted=False, why="no starts"))
        if state.in_flight or state.remaining < WORTH_PURSUING * budget:
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
        )
        return [bought] if bought is not None else self._pursued(state, belief)

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

    def _pursued(self, state: SweepState, belief: Belief) -> list[Decision]:
        """The candidate that would be recommended, trained as far as it may; the next best where
        it is at its end."""
        cap = self.most * state.terms.budget
        options: list[tuple[Candidate, int]] = []
        reach: dict[str, int] = {}
        for candidate, tokens in _options(state, self.deployment_flops):
            trial = state.trials.get(candidate.id)
            done = trial.trunk.tokens if trial is not None else 0
            within = min(cap, candidate.flops(done) + state.remaining)
            if candidate.tokens_within(within) > done:
                options.append((candidate, tokens))
                reach[candidate.id] = candidate.tokens_within(within)
        if not options:
            return []
        found = chosen(
            state, options, self.deployment_flops, belief, self.rule, by=self.surrogate.name
        )
        return [
            Extend(
                trial=found.candidate.id,
                tokens=reach[found.candidate.id],
                reason=f"nothing tells more: this would be recommended for "
                f"{self.deployment_flops:.3g} FLOPs ({found.why})",
                expected=found.expected,
            )
        ]


def _options(state: SweepState, flops: float) -> tuple[tuple[Candidate, int], ...]:
    """Each candidate that is not out, at its end within `flops`."""
    return tuple(
        (candidate, max(candidate.tokens_per_step, candidate.tokens_within(flops)))
        for candidate in state.pool.candidates
        if candidate.id not in state.trials or not state.trials[candidate.id].out
    )
