"""Prices in the unit that binds; FLOPs to the bit where nobody budgets in anything else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from orchestrator.events import AttemptLost, Decided, PointReported, SegmentEnded, Started
from orchestrator.policies.exhaustive import Exhaustive
from orchestrator.policies.pricing import IN_FLOPS, Purse, in_words
from orchestrator.policies.selection import market_of, offers_of
from orchestrator.policies.uniform import Uniform
from orchestrator.policies.within import within
from orchestrator.state import SweepState, fold
from orchestrator.values import Anneal, Checkpoint, Environment, Extend, Point, flops_in_words
from tests.orchestrator.worlds import fresh, small_pool

POOL, _ = small_pool()
FIRST = POOL.candidates[0]


def ran(
    state: SweepState,
    trial: str,
    tokens: int,
    seconds: float,
    *,
    lost: bool = False,
    gpus: float = 1.0,
) -> SweepState:
    """The state after one segment of a trial that was never started."""
    flops = float(state.pool[trial].flops(tokens))
    point = Point(tokens=tokens, flops=flops, loss=3.0, elapsed_s=seconds)
    ended = SegmentEnded(trial=trial, attempt=1, tokens=tokens)
    gone = AttemptLost(trial=trial, attempt=1, reached=tokens, cause="died", reason="gone")
    return fold(
        state,
        [
            Decided(policy="p", decisions=(Extend(trial=trial, tokens=tokens, reason="a test"),)),
            Started(trial=trial, attempt=1, until=tokens, gpus=gpus),
            PointReported(trial=trial, attempt=1, point=point),
            gone if lost else ended,
        ],
    )


def test_a_segment_that_ended_was_timed_and_one_that_was_lost_was_not() -> None:
    state = fresh(POOL, 1e9)
    (timing,) = ran(state, FIRST.id, 1000, 7.5).trials[FIRST.id].timings
    assert (timing.tokens, timing.seconds) == (1000, 7.5)
    assert ran(state, FIRST.id, 1000, 7.5, lost=True).trials[FIRST.id].timings == ()


def test_a_segment_that_goes_on_is_timed_from_where_it_began() -> None:
    state = ran(fresh(POOL, 1e9), FIRST.id, 1000, 7.5)
    trial = FIRST.id
    point = Point(tokens=3000, flops=float(FIRST.flops(3000)), loss=2.9, elapsed_s=4.0)
    at = Checkpoint(tokens=1000, path="c")
    state = fold(
        state,
        [
            Decided(policy="p", decisions=(Extend(trial=trial, tokens=3000, reason="a test"),)),
            Started(trial=trial, attempt=2, until=3000, resume_from=at),
            PointReported(trial=trial, attempt=2, point=point),
            SegmentEnded(trial=trial, attempt=2, tokens=3000),
        ],
    )
    assert [(t.tokens, t.seconds) for t in state.trials[trial].timings] == [
        (1000, 7.5),
        (2000, 4.0),
    ]


def test_who_budgets_in_flops_pays_exact_flops() -> None:
    state = ran(fresh(POOL, 1e9), FIRST.id, 1000, 7.5)
    prices = IN_FLOPS.prices(state)
    assert prices.unit == "FLOPs"
    assert prices.of(FIRST, 1000, 2500) == FIRST.flops(2500) - FIRST.flops(1000)
    assert prices.to(FIRST, 2500) == prices.of(FIRST, 1000, 2500)
    assert prices.told(FIRST, 2500) == (
        f"{flops_in_words(FIRST.flops(2500) - FIRST.flops(1000))} FLOPs"
    )
    assert (prices.left, prices.budget) == (state.remaining, state.terms.budget)
    assert prices.total == POOL.exhaustive_flops
    assert IN_FLOPS.affordable(state) is state
    policy = Uniform()
    assert within(policy, IN_FLOPS) is policy


def test_before_any_segment_flops_stand_in_unless_a_speed_is_known() -> None:
    state = fresh(POOL, POOL.exhaustive_flops)
    assert Purse(gpu_hours=1.0).prices(state).unit == "FLOPs"
    hours = FIRST.cost / 1e6 / 3600
    assert not Purse(gpu_hours=0.99 * hours, flops_per_s=1e6).prices(state).fits(FIRST, FIRST.end)
    stated = Purse(gpu_hours=hours, flops_per_s=1e6).prices(state)
    assert stated.unit == "GPU-hours"
    assert stated.of(FIRST, 0, FIRST.end) == pytest.approx(hours)
    assert stated.fits(FIRST, FIRST.end)


def test_a_known_device_is_guessed_from_its_peak() -> None:
    def peak(environment: Environment) -> float | None:
        return 1e7 if ("device_name", "known") in environment.facts else None

    state = fresh(POOL, POOL.exhaustive_flops)
    purse = Purse(gpu_hours=1e-6, peak=peak)
    known = replace(state, environment=Environment(slots=1, facts=(("device_name", "known"),)))
    other = replace(state, environment=Environment(slots=1))
    assert purse.prices(known).of(FIRST, 0, 1000) == pytest.approx(FIRST.flops(1000) / 3e6 / 3600)
    assert purse.prices(other).unit == "FLOPs"


def test_the_unit_is_the_one_that_runs_out_first() -> None:
    state = ran(fresh(POOL, POOL.exhaustive_flops), FIRST.id, 1000, 6.0)
    all_of_it = POOL.exhaustive_flops / 1e6 / 3600
    assert Purse(gpu_hours=20 * all_of_it).prices(state).unit == "FLOPs"
    assert Purse(gpu_hours=all_of_it / 20).prices(state).unit == "GPU-hours"
    both = Purse(gpu_hours=all_of_it / 20, dollars=all_of_it / 20, dollars_per_gpu_hour=2.0)
    prices = both.prices(state)
    assert prices.unit == "dollars"
    hours = Purse(gpu_hours=all_of_it / 20).prices(state)
    assert prices.of(FIRST, 1000, 2000) == pytest.approx(2 * hours.of(FIRST, 1000, 2000))
    assert prices.budget == pytest.approx(all_of_it / 20)


def test_what_is_spent_and_on_its_way_is_no_longer_left() -> None:
    state = ran(fresh(POOL, POOL.exhaustive_flops), FIRST.id, 1000, 6.0, gpus=2.0)
    purse = Purse(gpu_hours=0.01, gpus=2.0)
    before = purse.prices(state)
    assert before.pace is not None
    margin = math.exp(-1.2816 * before.pace.noise)
    assert before.left == pytest.approx(margin * (0.01 - 2 * 6.0 / 3600))
    other = POOL.candidates[1]
    order = Extend(trial=other.id, tokens=1000, reason="a test")
    after = purse.prices(fold(state, [Decided(policy="p", decisions=(order,))]))
    assert after.left == pytest.approx(before.left - margin * before.of(other, 0, 1000))


def test_hours_of_branches_are_paid_from_what_was_set_aside_as_far_as_it_goes() -> None:
    """Trunks that go on under a raised cap had paid for the decays, beside the share kept back."""
    trunk = ran(fresh(POOL, POOL.exhaustive_flops), FIRST.id, 1000, 6.0)
    trial = trunk.trials[FIRST.id]
    at = replace(trial, trunk=replace(trial.trunk, checkpoint=Checkpoint(tokens=1000, path="c")))
    trunk = replace(trunk, trials={FIRST.id: at})
    whole = Purse(gpu_hours=40 / 3600)
    purse = whole.part(0.75)  # 30 s, and 10 for annealing

    def left(state: SweepState, purse: Purse) -> float:
        prices = purse.prices(state)
        assert prices.pace is not None
        return 3600 * prices.hours_left * math.exp(1.2816 * prices.pace.noise)

    def annealed(seconds: float) -> SweepState:
        point = Point(tokens=1200, flops=float(FIRST.flops(1200)), loss=2.9, elapsed_s=seconds / 2)
        return fold(
            trunk,
            [
                Decided(policy="p", decisions=(Anneal(trial=FIRST.id, tokens=1200, reason=""),)),
                Started(trial=FIRST.id, attempt=2, until=1200, branch=0, gpus=2.0),
                PointReported(trial=FIRST.id, attempt=2, point=point),
                SegmentEnded(trial=FIRST.id, attempt=2, tokens=1200),
            ],
        )

    assert left(trunk, purse) == pytest.approx(24)
    assert annealed(8.0).ledger.branch_gpu_s == 8
    assert left(annealed(8.0), whole) == pytest.approx(26)
    assert left(annealed(8.0), purse) == pytest.approx(24)
    assert left(annealed(14.0), purse) == pytest.approx(20), "4 s more than were set aside"


def test_a_segment_on_four_gpus_counts_each_and_teaches_the_pace_of_one() -> None:
    few = ran(fresh(POOL, POOL.exhaustive_flops), FIRST.id, 1000, 6.0)
    four = ran(fresh(POOL, POOL.exhaustive_flops), FIRST.id, 1000, 1.5, gpus=4.0)
    assert four.ledger.device_s == few.ledger.device_s / 4
    assert four.ledger.gpu_s == few.ledger.gpu_s
    purse = Purse(gpu_hours=0.01)
    assert purse.spent_hours(four) == purse.spent_hours(few)
    last = POOL.candidates[-1]
    one, other = (purse.prices(state).of(last, 0, 1000) for state in (few, four))
    assert other == pytest.approx(one), "the same GPU-seconds a token, whoever took them"


def test_what_is_bought_together_has_to_fit_together() -> None:
    state = ran(fresh(POOL, POOL.exhaustive_flops), FIRST.id, 1000, 6.0)
    prices = Purse(gpu_hours=0.01).prices(state)
    goals = [(candidate, 2000) for candidate in POOL.candidates]
    assert all(prices.fits(*goal) for goal in goals[:2])
    assert 0 < prices.together(goals) < len(goals)
    few = replace(state, terms=replace(state.terms, budget=state.ledger.spent + 5))
    assert IN_FLOPS.prices(few).together(goals) == 0
    assert "GPU-seconds (6.00e6 FLOPs)" in prices.told(FIRST, 2000)


def test_the_margin_is_held_and_not_spent() -> None:
    state = ran(fresh(POOL, POOL.exhaustive_flops), FIRST.id, 1000, 6.0)
    prices = Purse(dollars=0.02, dollars_per_gpu_hour=2.0).prices(state)
    assert prices.unit == "dollars" and prices.held > 0
    assert prices.budget - prices.left - prices.held == pytest.approx(6.0 / 3600 * 2.0)
    offers, target = offers_of(state, lengths=1), {"N": (1e9,), "D": (2e10,)}
    market = market_of(state, offers, target, lengths=1, places=1, prices=prices)
    assert market.spent == pytest.approx(6.0 / 3600 * 2.0)
    assert IN_FLOPS.prices(state).held == 0.0


def test_a_policy_of_shares_gets_the_flops_that_the_hours_still_buy() -> None:
    state = ran(fresh(POOL, POOL.exhaustive_flops), FIRST.id, 1000, 6.0)
    hours = (POOL.exhaustive_flops / 1e6 + 6.0) / 3600
    seen = Purse(gpu_hours=hours / 10).affordable(state)
    assert 0.05 < seen.terms.budget / POOL.exhaustive_flops < 0.2
    assert seen.remaining >= 0
    spent = Purse(gpu_hours=1e-9)
    assert spent.affordable(state).remaining == 0
    assert within(Exhaustive(), spent).decide(state) == []


def test_small_amounts_are_said_in_seconds() -> None:
    assert in_words("GPU-hours", 0.4) == "0.4 GPU-hours"
    assert in_words("GPU-hours", 0.002) == "7.2 GPU-seconds"
    assert in_words("dollars", 1.234) == "1.23 dollars"
    assert in_words("FLOPs", 1.5e17) == "1.50e17 FLOPs"


def flying(state: SweepState, trials: list[str], *, together: bool, point: bool) -> SweepState:
    """The state with these trials on their way to 1000 tokens, each at its first point or none."""
    decided = tuple(Extend(trial=trial, tokens=1000, reason="a test") for trial in trials)
    stack = tuple((trial, 1) for trial in trials) if together else None
    state = fold(state, [Decided(policy="p", decisions=decided)])
    for trial in trials:
        started = Started(trial=trial, attempt=1, until=1000, stack=stack)
        first = Point(tokens=100, flops=1.0, loss=3.0, elapsed_s=1e-3)
        shown = [PointReported(trial=trial, attempt=1, point=first)] if point else []
        state = fold(state, [started, *shown])
    return state


def test_the_opening_of_a_segment_is_kept_and_a_lone_point_is_none() -> None:
    state = flying(fresh(POOL, POOL.exhaustive_flops), [FIRST.id], together=False, point=True)
    last = Point(tokens=1000, flops=2.0, loss=2.9, elapsed_s=5.0)
    ended = [
        PointReported(trial=FIRST.id, attempt=1, point=last),
        SegmentEnded(trial=FIRST.id, attempt=1, tokens=1000),
    ]
    (timing,) = fold(state, ended).trials[FIRST.id].timings
    assert (timing.tokens, timing.seconds, timing.opening) == (1000, 5.0, (100, 1e-3))
    (alone,) = ran(fresh(POOL, 1e9), FIRST.id, 1000, 7.5).trials[FIRST.id].timings
    assert alone.opening is None


def test_a_stack_on_its_way_takes_its_own_seconds_and_no_second_start_up() -> None:
    first, *others = (candidate.id for candidate in POOL.candidates[1:6])
    known = ran(fresh(POOL, POOL.exhaustive_flops), FIRST.id, 1000, 60.0)
    # Three that trained as one took a third of the seconds each: s is below none.
    trial = known.trials[FIRST.id]
    third = replace(trial.timings[0], seconds=20.0, members=3)
    trials = {**known.trials, FIRST.id: replace(trial, timings=(*trial.timings, *[third] * 6))}
    state = replace(known, trials=trials)
    purse = Purse(gpu_hours=1.0)
    left = {
        key: purse.prices(flying(state, [first, *others], together=key[0], point=key[1])).left
        for key in ((False, False), (True, False), (True, True))
    }
    free = purse.prices(state).left
    alone, stacked = free - left[False, False], free - left[True, False]
    assert 0 < stacked < 0.6 * alone
    assert left[True, True] > left[True, False], "a tenth is done, and the start-up behind it"
