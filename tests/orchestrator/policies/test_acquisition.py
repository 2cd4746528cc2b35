"""What a purchase is worth, on cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.policies.acquisition import (
    decision_gains,
    different_sizes,
    frontier_gains,
    given,
    purchases,
)
from tests.orchestrator.worlds import fresh, small_pool


def test_purchases_cost_the_extra_tokens_alone_and_keep_within_every_limit() -> None:
    pool, _ = small_pool()
    candidate = pool.candidates[-1]
    state = fresh(pool, pool.exhaustive_flops)
    levels = np.geomspace(candidate.cost / 100, 2 * candidate.cost, 8)
    found = purchases(state, candidate, levels, affordable=candidate.cost / 2, most=1e18)
    assert [p.flops for p in found] == [candidate.flops(p.tokens) for p in found]
    assert found[-1].flops <= candidate.cost / 2 < 1.1 * found[-1].flops
    assert purchases(state, candidate, levels, affordable=1e18, most=0) == []


def test_the_fall_of_the_frontier_lasts_beyond_the_stop() -> None:
    frontier = np.array([1.0, 1.0, 1.0, 1.0])
    weights = np.full(4, 0.25)
    reached = np.array([1, 2])
    samples = np.array([[0.9, 0.7]])
    gains = frontier_gains(frontier, weights, reached, samples)
    assert gains == pytest.approx([0.25 * 3 * 0.1, 0.25 * (0.1 + 2 * 0.3)])


def test_a_curve_above_the_frontier_gains_nothing() -> None:
    gains = frontier_gains(np.zeros(3), np.ones(3), np.array([0, 1]), np.full((5, 2), 0.2))
    assert gains == pytest.approx([0.0, 0.0])


def test_an_observation_is_worth_what_it_tells_about_the_choice() -> None:
    """Two equal choices, one uncertain by sd s and seen exactly: E min falls by s/sqrt(2 pi)."""
    generator = np.random.default_rng(0)
    own = generator.standard_normal(20000)
    targets = np.column_stack([np.zeros_like(own), 0.1 * (own - own.mean()) / own.std()])
    queries = np.column_stack([targets[:, 1], generator.standard_normal(20000)])
    gains = decision_gains(targets, queries, 1e-9, nodes=41)
    assert gains[0] == pytest.approx(0.1 / np.sqrt(2 * np.pi), rel=0.03)
    assert gains[1] < 0.02 * gains[0]
    assert decision_gains(targets, queries, 10.0)[0] < 0.02 * gains[0]


def test_what_runs_on_their_way_will_tell_is_told_once() -> None:
    """Given an observation that shares all of a choice's doubt, another like it tells nothing."""
    generator = np.random.default_rng(2)
    own = 0.1 * generator.standard_normal((20000, 2))
    left = given(own, own[:, :1], 0.01)
    assert left[:, 0].std() == pytest.approx(0.01, rel=0.05)
    assert left[:, 1].std() == pytest.approx(own[:, 1].std(), rel=0.01)
    assert left.mean(axis=0) == pytest.approx(own.mean(axis=0), abs=1e-3)
    targets = np.column_stack([np.zeros(20000), own[:, 0]])
    before = decision_gains(targets, own, 1e-3)
    after = decision_gains(given(targets, own[:, :1], 1e-3), left, 1e-3)
    assert after[0] < 0.05 * before[0] and before[0] > 0.02
    assert given(own, own[:, :0], 0.01) is own


def test_sizes_within_a_per_cent_are_one() -> None:
    pool, _ = small_pool(sizes=(1000, 1005, 2000))
    assert different_sizes(pool.candidates) == 2
