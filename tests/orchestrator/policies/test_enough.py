"""The stop rule of each aim, on curves whose truth is known: it ends early, says why, and what it
ends with is as good as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.policies.base import Policy
from orchestrator.policies.frontier import Frontier
from orchestrator.policies.recommend import Recommend
from orchestrator.policies.searching import observed_of
from orchestrator.policies.target import MISFIT, Target
from orchestrator.state import SweepState
from orchestrator.surrogates.joint_law import JointLaw
from orchestrator.values import NO_MORE, Stop
from tests.orchestrator.policies.paced import paced
from tests.orchestrator.policies.test_money import ASKED, CURVES, POOL, by_flops
from tests.orchestrator.worlds import chinchilla

LAW = JointLaw(misfit=MISFIT)
DEPLOYED = 4e9


def ended(policy: Policy, budget: float) -> tuple[SweepState, str]:
    """How the sweep ended, and why; the same is said to every trial that was stopped for it."""
    found = paced(POOL, CURVES, policy, budget, start=0.0, rate=by_flops)
    assert found.outcome.kind == "done" and found.state.closed is not None
    last = [d for d in found.decisions if isinstance(d, Stop) and d.reason.startswith(NO_MORE)]
    if found.state.closed.startswith(NO_MORE):
        assert last and {stop.reason for stop in last} == {found.state.closed}
    return found.state, found.state.closed


def spent(state: SweepState) -> float:
    return state.ledger.spent / state.terms.budget


def target(**asked: float) -> Target:
    return Target(surrogate=LAW, targets=((ASKED, ASKED.end),), **asked)  # type: ignore[arg-type]


def recommend(**asked: float) -> Recommend:
    frontier = Frontier(surrogate=LAW, gate=False)
    return Recommend(
        surrogate=LAW,
        deployment_flops=DEPLOYED,
        then=frontier,
        gate=False,
        **asked,  # type: ignore[arg-type]
    )


def test_target_ends_where_the_law_is_as_sure_as_was_asked() -> None:
    state, why = ended(target(half_width=0.3), 0.5 * POOL.exhaustive_flops)
    assert "0.3000 was asked for" in why and spent(state) < 0.9
    found = LAW.fit(observed_of(state), seed=0).predict([ASKED], np.array([ASKED.end]))
    assert 1.645 * found.sd[0] <= 0.3
    error = found.mean[0] - math.log(chinchilla(ASKED.params, ASKED.end))
    assert abs(error) < 3 * found.sd[0]


def test_target_ends_where_nothing_is_worth_its_cost() -> None:
    all_of_it, _ = ended(target(), 0.5 * POOL.exhaustive_flops)
    state, why = ended(target(worth=3.0), 0.5 * POOL.exhaustive_flops)
    assert "of the half-width at the target" in why and "not worth its cost" in why
    assert spent(state) < 0.5 * spent(all_of_it)


@pytest.mark.parametrize("asked", [{"regret": 0.05}, {"worth": 0.3}])
def test_recommend_ends_where_the_choice_is_sure_enough(asked: dict[str, float]) -> None:
    policy = recommend(**asked)
    state, why = ended(policy, DEPLOYED / 2)
    assert "the expected regret of the recommendation" in why
    assert 0.01 < spent(state) < 0.5
    losses = {c.id: chinchilla(c.params, c.tokens_within(DEPLOYED)) for c in POOL}
    named = losses[policy.recommended(state).candidate.id]
    assert math.log(named / min(losses.values())) < 0.05


def test_frontier_ends_where_the_loss_falls_too_little_for_its_cost() -> None:
    budget = 0.5 * POOL.exhaustive_flops
    all_of_it, _ = ended(Frontier(surrogate=LAW, gate=False), budget)
    strict, why = ended(Frontier(surrogate=LAW, gate=False, worth=3.0), budget)
    assert spent(strict) < 0.5 < spent(all_of_it)
    assert "of the lowest loss" in why and "policy.worth 3" in why
    lax, why = ended(Frontier(surrogate=LAW, gate=False, worth=0.01), budget)
    assert spent(lax) > spent(strict)
