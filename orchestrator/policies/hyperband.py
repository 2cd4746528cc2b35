"""Hyperband (Li et al. 2017, arXiv 1603.06560): several brackets of halving, from brave to
cautious, in case early losses mislead.

Bracket s starts ceil((s_max + 1) / (s + 1) eta^s) candidates and halves them in s + 1 rounds. The
paper draws fresh configurations for each; a sweep has a finite pool, so the candidates are dealt
among the brackets at random (from the sweep's seed), s_max is the largest for which the pool
suffices, those left over join the bravest bracket, and every bracket may spend an equal share of
the budget. Touches nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from orchestrator.policies.bracket import Bracket, spent_out
from orchestrator.policies.ranking import ByLoss, Ranking
from orchestrator.state import SweepState
from orchestrator.values import Candidate, Decision


def bracket_sizes(candidates: int, eta: int) -> tuple[int, ...]:
    """How many candidates each bracket starts, the bravest first; they sum to `candidates`."""
    sizes = (candidates,)
    for most in range(1, candidates):
        wanted = [math.ceil((most + 1) / (s + 1) * eta**s) for s in range(most, -1, -1)]
        if sum(wanted) > candidates:
            break
        sizes = (wanted[0] + candidates - sum(wanted), *wanted[1:])
    return sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperband:
    """Brackets of halving side by side. `eta`: keep 1/eta; `spend_out`: what no bracket can use
    extends their best trials, none beyond a share `most` of the budget."""

    eta: int = 3
    spend_out: bool = True
    most: float = 0.75
    ranking: Ranking = field(default_factory=ByLoss)

    @property
    def name(self) -> str:
        return "hyperband"

    @property
    def watches_points(self) -> bool:
        return False

    def decide(self, state: SweepState) -> list[Decision]:
        progress = [bracket.next(state) for bracket in self._brackets(state)]
        decisions = [decision for each in progress for decision in each.decisions]
        if (
            decisions
            or not self.spend_out
            or state.in_flight
            or not all(each.order for each in progress)
        ):
            return decisions
        everyone = [candidate for each in progress for candidate in each.order]
        everyone.sort(key=lambda candidate: _lowest(state, candidate))
        return spent_out(state, everyone, self.most)

    def _brackets(self, state: SweepState) -> list[Bracket]:
        pool = state.pool.candidates
        sizes = bracket_sizes(len(pool), self.eta)
        dealt = np.random.default_rng(state.terms.seed).permutation(len(pool))
        brackets: list[Bracket] = []
        first = 0
        for number, size in enumerate(sizes, 1):
            places = sorted(int(place) for place in dealt[first : first + size])
            first += size
            brackets.append(
                Bracket(
                    candidates=tuple(pool[place] for place in places),
                    budget=state.terms.budget // len(sizes),
                    eta=self.eta,
                    ranking=self.ranking,
                    name=f"bracket {number} of {len(sizes)}, ",
                )
            )
        return brackets


def _lowest(state: SweepState, candidate: Candidate) -> float:
    trial = state.trials.get(candidate.id)
    return trial.curve.best_upto(trial.curve.last_tokens) if trial is not None else math.inf
