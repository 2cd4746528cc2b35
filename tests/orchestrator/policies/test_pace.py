"""Learned seconds: right where the truth is known, and unsure where little was seen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.policies.pace import Speed, learned
from orchestrator.trial import Timing
from orchestrator.values import Candidate, FloatArray

POOL = [
    Candidate(
        id=f"c{i}",
        params=100_000 * 2**i,
        horizon=10**9,
        flops_per_token=6.5e5 * 2**i * (1 + 0.2 / (i + 1)),
        tokens_per_step=1024 if i % 2 else 4096,
    )
    for i in range(10)
]
FLOPS = np.array([candidate.flops_per_token for candidate in POOL])


def rates(slope: float) -> FloatArray:
    """Seconds per token at 1e11 FLOP/s for the middle, larger models faster by FLOPs^slope."""
    return FLOPS / 1e11 * (FLOPS / np.median(FLOPS)) ** -slope


def timings(
    rate: FloatArray, count: int, *, start: float, noise: float, seed: int
) -> list[tuple[int, Timing]]:
    """Segments of the six smallest candidates, of many lengths."""
    rng = np.random.default_rng(seed)
    found: list[tuple[int, Timing]] = []
    for _ in range(count):
        place, tokens = int(rng.integers(6)), int(1e6 * 2 ** rng.integers(0, 6))
        seconds = (start + tokens * rate[place]) * math.exp(noise * rng.standard_normal())
        found.append((place, Timing(tokens=tokens, seconds=float(seconds))))
    return found


def test_start_up_slope_and_candidates_never_run_are_learned() -> None:
    rate = rates(0.4)
    pace = learned(POOL, timings(rate, 40, start=20.0, noise=0.02, seed=1))
    assert pace is not None and pace.segments == 40
    assert 10 < pace.start < 30
    for place in range(10):
        for tokens in (2_000_000, 50_000_000):
            truth = 20.0 + tokens * rate[place]
            seconds, _ = pace.seconds(place, tokens)
            assert abs(math.log(seconds / truth)) < (0.1 if place < 6 else 0.35)


def test_intervals_hold_what_they_say_on_worlds_of_many_kinds() -> None:
    inside: list[bool] = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rate = rates(rng.normal(0.2, 0.2)) * np.exp(0.1 * rng.standard_normal(10))
        start = float(rng.choice([0.0, 2.0, 10.0]))
        for count in (2, 5, 15):
            pace = learned(POOL, timings(rate, count, start=start, noise=0.05, seed=seed))
            assert pace is not None
            for place in (0, 5, 9):
                seconds, spread = pace.seconds(place, 10_000_000)
                truth = start + 1e7 * rate[place]
                inside.append(abs(math.log(seconds / truth)) < 1.645 * spread)
    assert np.mean(inside) > 0.9


def test_segments_are_believed_more_than_what_was_stated() -> None:
    rate = rates(0.0)
    wrong = Speed(flops_per_s=3e10)
    before = learned(POOL, [], wrong)
    after = learned(POOL, timings(rate, 20, start=0.0, noise=0.02, seed=0), wrong)
    assert before is not None and after is not None
    truth = 1e7 * rate[9]
    assert before.seconds(9, 10**7)[0] == pytest.approx(1e7 * FLOPS[9] / 3e10)
    assert after.seconds(9, 10**7)[0] == pytest.approx(truth, rel=0.2)
    assert after.seconds(9, 10**7)[1] < before.seconds(9, 10**7)[1]


def test_without_segments_and_speed_nothing_is_made_up() -> None:
    assert learned(POOL, []) is None


def test_the_order_of_segments_tells_nothing() -> None:
    seen = timings(rates(0.3), 12, start=3.0, noise=0.1, seed=2)
    first, second = learned(POOL, seen), learned(POOL, seen[::-1])
    assert first is not None and second is not None
    assert first.seconds(9, 10**7) == pytest.approx(second.seconds(9, 10**7), rel=1e-9)


def test_an_old_segment_is_forgotten_before_a_new_one() -> None:
    slow = [(0, Timing(tokens=10**6, seconds=1000.0))] * 120
    quick = [(0, Timing(tokens=10**6, seconds=10.0))] * 120
    pace = learned(POOL, [*slow, *quick])
    assert pace is not None and pace.segments == 120
    assert pace.seconds(0, 10**6)[0] == pytest.approx(10.0, rel=0.05)


def test_what_trained_in_a_stack_is_not_the_pace_of_a_trial_alone() -> None:
    rate = rates(0.0)
    alone = timings(rate, 12, start=0.0, noise=0.02, seed=3)
    stacked = [  # twice as fast for each
        (place, Timing(tokens=timing.tokens, seconds=timing.seconds / 2, members=4))
        for place, timing in timings(rate, 30, start=0.0, noise=0.02, seed=4)
    ]
    both = learned(POOL, [*alone, *stacked])
    assert both is not None
    assert both.seconds(5, 10**7)[0] == pytest.approx(1e7 * rate[5], rel=0.08)
    # Where all trained in stacks, theirs is the best guess, and its doubt is told.
    only = learned(POOL, stacked)
    assert only is not None
    seconds, spread = only.seconds(5, 10**7)
    assert seconds == pytest.approx(1e7 * rate[5] / 2, rel=0.1)
    assert abs(math.log(seconds / (1e7 * rate[5]))) < 1.645 * spread


def test_one_segment_of_several_points_tells_start_up_from_pace() -> None:
    rate = rates(0.0)
    tokens, start = 2_000_000, 60.0
    whole = Timing(tokens=tokens, seconds=start + tokens * float(rate[0]))
    opening = (tokens // 10, start + tokens // 10 * float(rate[0]))
    blind = learned(POOL, [(0, whole)])
    seeing = learned(POOL, [(0, replace(whole, opening=opening))])
    assert blind is not None and seeing is not None
    truth = start + 10 * tokens * float(rate[0])
    assert abs(math.log(seeing.seconds(0, 10 * tokens)[0] / truth)) < 0.1
    assert seeing.start == pytest.approx(start, rel=0.1)
    # As one piece it might be all pace: ten times the tokens in most of ten times as long.
    assert blind.seconds(0, 10 * tokens)[0] > 2 * truth


def test_a_member_of_a_stack_and_a_segment_that_runs_have_their_own_seconds() -> None:
    rate = rates(0.0)
    seen = [
        *timings(rate, 12, start=0.0, noise=0.02, seed=3),
        *(
            (place, Timing(tokens=t.tokens, seconds=t.seconds / 2, members=4))
            for place, t in timings(rate, 30, start=0.0, noise=0.02, seed=4)
        ),
    ]
    pace = learned(POOL, seen)
    assert pace is not None
    alone, _ = pace.seconds(5, 10**7)
    assert pace.seconds(5, 10**7, members=4)[0] == pytest.approx(alone / 2, rel=0.1)
    slow = learned(POOL, timings(rate, 40, start=20.0, noise=0.02, seed=1))
    assert slow is not None
    left = slow.seconds(5, 10**6)[0] - slow.seconds(5, 10**6, begun=True)[0]
    assert left == pytest.approx(slow.start, rel=1e-6)
