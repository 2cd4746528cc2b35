"""Designs on a belief whose covariance is known: what they bring, and that they stay within."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.policies.design import (
    REACHED,
    SHOWN,
    Ground,
    Standing,
    drawn_up,
    noises,
    planned,
    shows,
)
from orchestrator.values import Candidate, FloatArray

NOISE = 1e-4


def standing(name: str, per_token: float, *, done: int = 0) -> Standing:
    candidate = Candidate(id=name, params=100, horizon=800, flops_per_token=per_token)
    lengths = (100, 200, 400, 800)
    tokens = lengths[done - 1] if done else 0
    return Standing(candidate=candidate, lengths=lengths, done=done, tokens=tokens)


def ground(covariance: FloatArray, targets: int, standings: list[Standing]) -> Ground:
    counts = [len(s.lengths) for s in standings]
    first = (targets + np.cumsum([0, *counts[:-1]])).astype(np.int64)
    return Ground(covariance=covariance, targets=targets, first=first, noise=NOISE)


def some_covariance(size: int, seed: int = 0) -> FloatArray:
    root = np.random.default_rng(seed).standard_normal((size, size))
    return 0.01 * root @ root.T


def test_a_gain_is_what_conditioning_on_the_rows_takes_off_the_targets() -> None:
    standings = [standing("a", 1.0), standing("b", 2.0)]
    now = ground(some_covariance(2 + 8), 2, standings)
    rows = shows(standings[1], 2, 0, int(now.first[1]))
    noise = noises(standings[1], 2, NOISE)
    gain = now.gains(rows[None], noise[None], "target")[0]
    seen = rows[rows >= 0]
    assert seen.tolist() == [6, 7, 8]
    own = now.covariance[np.ix_(seen, seen)] + np.diag(noise[rows >= 0])
    left = now.covariance - now.covariance[:, seen] @ np.linalg.inv(own) @ now.covariance[seen]
    before = now.spread
    now.observe(rows, noise)
    assert now.covariance == pytest.approx(left, abs=1e-12)
    assert before - now.spread == pytest.approx(gain)


def test_early_rows_count_less_and_those_behind_it_not_at_all() -> None:
    begun = standing("a", 1.0, done=2)
    assert shows(begun, 3, 2, 10).tolist() == [-1, -1, 12, 13]
    assert noises(begun, 3, 1.0).tolist() == [8.0, 4.0, 2.0, 1.0]
    assert SHOWN == 4


def test_a_plan_stays_within_the_budget_and_goes_on_from_what_is_done() -> None:
    standings = [standing("a", 1.0), standing("b", 2.0, done=2), standing("c", 4.0)]
    now = ground(some_covariance(1 + 12, seed=1), 1, standings)
    for budget in (50.0, 100.0, 700.0, 1500.0, 1e6):
        plan = planned(now, standings, budget)
        assert sum(step.flops for step in plan.steps) <= budget
        assert plan.after <= plan.before == now.spread
        assert all(step.length >= standings[step.who].done for step in plan.steps)
    assert not planned(now, standings, 50.0).steps
    whole = planned(now, standings, 1e6).steps
    ends = {step.who: step.length for step in whole}
    assert ends == {0: 3, 1: 3, 2: 3}
    assert sum(step.flops for step in whole) == 800 + (800 - 200) * 2 + 800 * 4


def test_what_is_alike_to_the_target_is_bought_before_what_is_cheap_and_strange() -> None:
    standings = [standing("strange", 1.0), standing("alike", 2.0)]
    covariance = 0.01 * np.eye(1 + 8)
    covariance[0, 8] = covariance[8, 0] = 0.0095
    plan = planned(ground(covariance, 1, standings), standings, 1600.0)
    assert (plan.steps[0].who, plan.steps[0].length) == (1, 3)
    assert plan.after == pytest.approx(0.01 - 0.0095**2 / (0.01 + NOISE))


def test_knowledge_asks_for_what_is_least_known_whatever_the_target() -> None:
    standings = [standing("known", 1.0), standing("unknown", 1.0)]
    covariance = np.diag([0.01, *[1e-5] * 4, *[0.04] * 4])
    plan = planned(ground(covariance, 1, standings), standings, 800.0, aim="knowledge")
    assert plan.steps[0].who == 1


def line_of_sizes(short: float) -> tuple[Ground, list[Standing]]:
    """Loss is a level and a slope in size; the target lies beyond all, at size 2. Two small models
    of nearly one size, and a larger one whose usual lengths cost more than 800, at `short` of
    which a run deviates by an own amount (sd)."""
    small = [standing("a", 1.0), standing("b", 1.1)]
    large = Candidate(id="c", params=800, horizon=800, flops_per_token=20.0)
    standings = [
        *small,
        Standing(candidate=large, lengths=(30, 100, 200, 400, 800), done=0, tokens=0, reach=0),
    ]
    sizes = np.array([2.0, *[0.0] * 4, *[0.1] * 4, *[1.0] * 5])
    covariance = 0.04 + 0.04 * np.outer(sizes, sizes)
    covariance[9, 9] += short**2
    return ground(covariance, 1, standings), standings


def test_a_budget_that_pays_small_models_alone_reaches_for_a_larger_one() -> None:
    """By usual lengths the slope stays unknown, however much is left over."""
    now, standings = line_of_sizes(short=0.02)
    usual, found = planned(now, standings, 800.0), drawn_up(now, standings, 800.0)
    assert {step.who for step in usual.steps} <= {0, 1}
    assert (2, 0) in {(step.who, step.length) for step in found.steps}
    assert found.after < 0.3 * usual.after
    assert sum(step.flops for step in found.steps) <= 800.0


def test_where_reaching_promises_little_the_usual_lengths_are_kept() -> None:
    misleading, standings = line_of_sizes(short=1.0)
    assert drawn_up(misleading, standings, 800.0) == planned(misleading, standings, 800.0)
    rich, standings = line_of_sizes(short=0.02)
    assert drawn_up(rich, standings, 40000.0) == planned(rich, standings, 40000.0)
    assert all(
        step.length != 0 for step in drawn_up(rich, standings, 40000.0).steps if step.who == 2
    )


def test_clearly_more_is_a_share_of_the_sd_not_of_the_variance() -> None:
    followed: list[tuple[float, bool]] = []
    for short in np.linspace(0.06, 0.1, 41):
        now, standings = line_of_sizes(short=float(short))
        usual = planned(now, standings, 800.0)
        reaching = planned(now, standings, 800.0, reaching=True)
        share = float(np.sqrt(reaching.after / usual.after))
        followed.append((share, drawn_up(now, standings, 800.0) == reaching))
    assert all(chosen == (share <= REACHED) for share, chosen in followed)
    assert any(REACHED**2 < share < REACHED for share, _ in followed)
    assert any(REACHED < share < REACHED**0.5 for share, _ in followed)
