"""The configuration that a sweep would recommend for a deployment compute, and its regret there.

A rule reads a sweep's final state and names a candidate; the regret compares the recorded loss of
that candidate at the deployment compute (or at its own end before that) with the pool's best.
Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

from orchestrator.judge.replays import loss_within
from orchestrator.policies.choosing import Rule, chosen, seen
from orchestrator.policies.searching import observed_of
from orchestrator.policies.textbook import by_ratio
from orchestrator.policies.trust import believed
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve
from orchestrator.state import SweepState
from orchestrator.surrogates.base import Surrogate

Recommender: TypeAlias = Callable[[SweepState, float], str]
"""The id of a candidate, from the final state and the deployment compute in FLOPs."""


def leader(state: SweepState, flops: float) -> str:
    """The trial with the lowest loss seen: what a halving sweep calls its winner."""
    return min(state.pool.candidates, key=lambda candidate: seen(state, candidate)).id


def by_textbook(tokens_per_param: float) -> Recommender:
    """The textbook's size for the deployment compute; of candidates alike, the lowest loss."""

    def named(state: SweepState, flops: float) -> str:
        order = by_ratio(state.pool.candidates, flops, tokens_per_param, seed=state.terms.seed)
        same = [c for c in order if c.params == order[0].params]
        return min(same, key=lambda candidate: seen(state, candidate)).id

    return named


def by_forecasts(surrogate: Surrogate, rule: Rule, *, gate: bool = True) -> Recommender:
    """What the policies `frontier` and `recommend` would choose, from whatever was bought."""

    def named(state: SweepState, flops: float) -> str:
        belief = believed(surrogate, observed_of(state), seed=state.terms.seed, gate=gate)
        options = [
            (c, max(c.tokens_per_step, c.tokens_within(flops))) for c in state.pool.candidates
        ]
        return chosen(state, options, flops, belief, rule, by=surrogate.name).candidate.id

    return named


def recommend_regret(
    named: str, pool: Pool, curves: Mapping[str, RecordedCurve], flops: float
) -> float:
    """How far, as a fraction, the named candidate's loss at `flops` lies above the least.

    One of which no loss is recorded there yet is held to the pool's worst: an infinite regret
    would fall out of every mean. NaN where the pool shows nothing.
    """
    losses = {c.id: loss_within(c, curves[c.id], flops) for c in pool.candidates}
    shown = [loss for loss in losses.values() if math.isfinite(loss)]
    if not shown:
        return math.nan
    return min(losses[named], max(shown)) / min(shown) - 1


def reaches(pool: Pool, curves: Mapping[str, RecordedCurve], flops: float) -> bool:
    """Whether any recorded curve of the pool goes that far."""
    return any(candidate.cost >= flops for candidate in pool.candidates)
