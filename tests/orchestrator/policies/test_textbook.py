"""The textbook rules: the size whose compute gives twenty tokens a parameter."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from orchestrator.policies.one_shot import OneShot
from orchestrator.policies.static_ladder import StaticLadder
from orchestrator.policies.textbook import alike, by_ratio, misses
from orchestrator.values import Candidate
from tests.orchestrator.worlds import drive, small_pool

POOL, CURVES = small_pool(sizes=(1000, 2000, 4000, 8000))


def exact(params: int) -> float:
    """FLOPs that train this size on 20 tokens a parameter."""
    return 6.0 * params * 20 * params


@pytest.mark.parametrize("params", [1000, 2000, 4000, 8000])
def test_the_nearest_size_comes_first(params: int) -> None:
    assert by_ratio(POOL.candidates, exact(params), 20, seed=0)[0].params == params
    endless = [replace(c, horizon=10 * c.horizon) for c in POOL.candidates]
    assert by_ratio(endless, 1.3 * exact(params), 20, seed=0)[0].params == params


def test_the_rule_speaks_of_sizes_whatever_their_horizons() -> None:
    """A candidate that ends early is not nearer for it."""
    long = Candidate(id="long", params=8000, horizon=10**6, flops_per_token=48000.0)
    short = Candidate(id="short", params=1000, horizon=20000, flops_per_token=6000.0)
    assert by_ratio([short, long], exact(8000), 20, seed=0)[0] is long


def test_a_candidate_misses_by_what_its_horizon_leaves_unused() -> None:
    """Under N^-a + (D / r)^-a, a run that ends at half of its D / N = 20 loses to one of twice
    its size that spends all; nothing changes for one that can use everything."""
    flops = exact(4000)
    right = Candidate(id="right", params=4000, horizon=10**6, flops_per_token=24000.0)
    assert misses(right, flops, 20) == pytest.approx(0.0, abs=1e-9)
    half = replace(right, id="half", horizon=40000)
    large = replace(right, id="large", params=8000, flops_per_token=48000.0)
    assert misses(large, flops, 20) == pytest.approx(math.log(4))
    assert misses(half, flops, 20) > misses(large, flops, 20)
    nearly = replace(right, id="nearly", horizon=79_999)
    assert misses(nearly, flops, 20) < 0.05


def test_among_candidates_alike_the_seed_draws() -> None:
    drawn = {by_ratio(POOL.candidates, exact(2000), 20, seed=seed)[0].id for seed in range(20)}
    assert drawn == {"n2000-r1", "n2000-r3"}
    assert [c.id for c in alike(POOL.candidates, exact(2000), 20)] == ["n2000-r1", "n2000-r3"]


def test_one_shot_puts_everything_on_one_run() -> None:
    state = drive(POOL, CURVES, OneShot(), exact(4000)).state
    (trial,) = state.trials.values()
    assert trial.candidate.params == 4000
    assert state.ledger.spent == pytest.approx(exact(4000), rel=1e-3)


def test_the_ladder_takes_three_quarters_of_what_is_left_each_time() -> None:
    budget = exact(8000)
    state = drive(POOL, CURVES, StaticLadder(), budget).state
    costs = sorted(
        (t.candidate.flops(t.trunk.tokens) for t in state.trials.values()), reverse=True
    )
    assert costs[0] == pytest.approx(0.75 * budget, rel=0.01)
    assert costs[1] == pytest.approx(0.75 * 0.25 * budget, rel=0.01)
    assert len(costs) == 5
