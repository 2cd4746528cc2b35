"""The judge's scores on curves whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.judge import (
    bootstrap_mean,
    compare,
    frontier_regret,
    hindsight,
    judged,
    replayed,
    subsets,
)
from orchestrator.policies.exhaustive import Exhaustive
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.policies.uniform import Uniform
from tests.orchestrator.worlds import small_pool

POOL, CURVES = small_pool()


def test_training_everything_leaves_no_regret() -> None:
    budget = POOL.exhaustive_flops
    state = replayed(Exhaustive(), POOL, CURVES, budget)
    assert frontier_regret(state, CURVES, budget) == pytest.approx(0.0, abs=1e-12)
    score = judged(Exhaustive(), POOL, CURVES, budget)
    assert score.best_loss == min(curve.loss.min() for curve in CURVES.values())
    assert score.regret_to_hindsight == pytest.approx(0.0)
    assert score.spent_share == 1.0


def test_nobody_beats_hindsight_within_the_budget() -> None:
    for share in (0.02, 0.1, 0.4):
        budget = int(share * POOL.exhaustive_flops)
        for policy in (Uniform(), SuccessiveHalving(), SuccessiveHalving(spend_out=False)):
            score = judged(policy, POOL, CURVES, budget)
            assert score.best_loss >= score.hindsight_loss - 1e-12
            assert score.spent_share <= 1.0


def test_hindsight_is_the_whole_budget_on_the_best_single_candidate() -> None:
    budget = POOL.candidates[0].cost // 2
    by_hand = []
    for candidate in POOL.candidates:
        tokens = candidate.tokens_within(budget)
        curve = CURVES[candidate.id]
        if tokens >= curve.tokens[0]:
            by_hand.append(
                np.exp(np.interp(np.log(tokens), np.log(curve.tokens), np.log(curve.loss)))
            )
    assert hindsight(POOL, CURVES, budget) == pytest.approx(min(by_hand))


def test_a_policy_that_buys_nothing_early_is_held_to_the_worst_loss_there() -> None:
    budget = POOL.exhaustive_flops // 4
    everything = frontier_regret(replayed(Uniform(), POOL, CURVES, budget), CURVES, budget)
    nothing_yet = frontier_regret(replayed(Uniform(), POOL, CURVES, budget // 50), CURVES, budget)
    assert 0 < everything < nothing_yet


def test_subsets_are_drawn_alike_for_a_seed_and_policies_are_paired_on_them() -> None:
    first, again = subsets(POOL, 5, 4, seed=3), subsets(POOL, 5, 4, seed=3)
    assert [p.candidates for p in first] == [p.candidates for p in again]
    assert len({p.candidates for p in first}) > 1
    scores = compare({"a": Uniform(), "b": Uniform()}, first, CURVES, POOL.exhaustive_flops // 10)
    assert [s.best_loss for s in scores["a"]] == [s.best_loss for s in scores["b"]]
    with pytest.raises(ValueError, match="cannot be drawn"):
        subsets(POOL, 99, 1, seed=0)


def test_the_bootstrap_interval_covers_a_known_mean() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        interval = bootstrap_mean(list(generator.normal(1.0, 2.0, 30)), seed=seed, draws=500)
        covered += interval.low <= 1.0 <= interval.high
    assert 0.88 <= covered / 200 <= 0.98
