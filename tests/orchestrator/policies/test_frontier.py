"""The policies that leave the halving skeleton, with a surrogate whose forecasts are known."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.crossings import crossing_curves, rate_pool
from orchestrator.driver import Driver
from orchestrator.events import Decided, Diverged
from orchestrator.journal import MemoryJournal
from orchestrator.judge import frontier_regret, hindsight, replayed
from orchestrator.policies.choosing import Rule
from orchestrator.policies.frontier import Frontier
from orchestrator.policies.pricing import Purse
from orchestrator.policies.recommend import Recommend
from orchestrator.policies.static_ladder import StaticLadder
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.policies.within import within
from orchestrator.pool import Pool
from orchestrator.state import fold
from orchestrator.surrogates.joint_law import JointLaw
from tests.orchestrator.policies.forecasting import Seer
from tests.orchestrator.policies.test_successive_halving import Diverging
from tests.orchestrator.worlds import drive, fresh, opened, small_pool

POOL, CURVES = small_pool(sizes=(1000, 2000, 4000, 8000, 16000, 32000), rates=(1, 6))
BUDGET = 0.1 * POOL.exhaustive_flops


def test_foresight_beats_halving_and_the_textbook() -> None:
    seen = drive(POOL, CURVES, Frontier(surrogate=Seer()), BUDGET).state
    halved = drive(POOL, CURVES, SuccessiveHalving(), BUDGET).state
    ladder = drive(POOL, CURVES, StaticLadder(), BUDGET).state
    best = {
        name: min(float(t.curve.loss.min()) for t in state.trials.values() if len(t.curve))
        for name, state in (("seen", seen), ("halved", halved), ("ladder", ladder))
    }
    assert best["seen"] < best["halved"] and best["seen"] <= best["ladder"]
    assert best["seen"] < 1.06 * hindsight(POOL, CURVES, int(BUDGET))
    assert frontier_regret(seen, CURVES, int(BUDGET)) < frontier_regret(
        halved, CURVES, int(BUDGET)
    )


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_no_trial_takes_more_than_its_share_and_sizes_are_left_for_a_law(share: float) -> None:
    pool, curves = small_pool(sizes=(1000, 2000, 4000, 8000, 16000, 32000), rates=(1, 3, 6, 12))
    budget = share * pool.exhaustive_flops
    state = drive(pool, curves, Frontier(surrogate=Seer(), most=0.6), budget).state
    costs = [t.candidate.flops(t.trunk.tokens) for t in state.trials.values()]
    assert max(costs) <= 0.6 * budget
    assert len({t.candidate.params for t in state.trials.values() if len(t.curve)}) >= 4
    assert len(state.trials) < len(pool), "some candidates are never started"


def test_nobody_else_takes_more_than_the_share_where_the_finish_ends_early() -> None:
    """The textbook's size ends at a sixth of the budget; what is left must not go to one trial."""
    short, curves = small_pool(sizes=(2000,), rates=(1,))
    large, more = small_pool(sizes=(200_000, 240_000, 280_000, 320_000), rates=(1,))
    pool = Pool(candidates=(*short.candidates, *large.candidates))
    budget = short.candidates[0].cost / 0.16
    state = drive(pool, curves | more, Frontier(surrogate=Seer(sign=-1)), budget, slots=1).state
    assert state.trials["n2000-r1"].trunk.tokens == short.candidates[0].end
    costs = [t.candidate.flops(t.trunk.tokens) for t in state.trials.values()]
    assert 0.7 * budget < max(costs) <= 0.75 * budget


def test_within_hours_rungs_that_move_with_the_pace_take_nobody_up_again() -> None:
    """What hours buy is learned anew from each segment, and the rungs are shares of it."""
    curves = crossing_curves(12, 0.9, "ou", seed=0)
    pool = Pool(candidates=tuple(curve.candidate(name) for name, curve in curves.items()))
    budget = 0.1 * pool.exhaustive_flops
    purse = Purse(gpu_hours=budget / 1e14 / 3600, flops_per_s=0.8e14)
    policy = within(Frontier(surrogate=Seer(sign=-1), purse=purse), purse)
    told = MemoryJournal()
    state = drive(
        pool, curves, policy, 10 * budget, journal=told, order="clock", flops_per_s=1e14
    ).state
    rungs = [
        (d.trial, found[1])
        for record in told.records
        if isinstance(record.event, Decided)
        for d in record.event.decisions
        if (found := re.search(r"(rung . of .)", d.reason)) and d.kind == "extend"
    ]
    assert len({rung for _, rung in rungs}) > 2
    assert len(rungs) == len(set(rungs)), "no rung is climbed twice by one trial"
    assert 0.8 * budget < state.ledger.spent < 1.1 * budget


def test_free_workers_get_other_purchases_and_a_single_one_waits() -> None:
    """With four slots up to four different trials are on their way; the finish waits for all."""
    journal = MemoryJournal()
    drive(POOL, CURVES, Frontier(surrogate=Seer()), BUDGET, journal=journal, slots=4)
    state, most = fresh(POOL, BUDGET), 0
    for record in journal.records:
        if isinstance(record.event, Decided):
            finishing = [d for d in record.event.decisions if d.reason.startswith("the finish")]
            if finishing and not any("on its way" in d.reason for d in finishing):
                assert not state.in_flight
        state = fold(state, [record.event])
        most = max(most, sum(trial.in_flight for trial in state.trials.values()))
    assert most == 4
    alone = MemoryJournal()
    drive(POOL, CURVES, Frontier(surrogate=Seer()), BUDGET, journal=alone, slots=1)
    state = fresh(POOL, BUDGET)
    for record in alone.records:
        if isinstance(record.event, Decided) and state.trials:
            assert not state.in_flight
        state = fold(state, [record.event])


def test_where_no_law_can_be_given_it_says_so() -> None:
    pool, curves = small_pool(sizes=(1000, 2000), rates=(1, 3))
    journal = MemoryJournal()
    drive(pool, curves, Frontier(surrogate=Seer()), 0.3 * pool.exhaustive_flops, journal=journal)
    said = " ".join(str(record.event) for record in journal.records)
    assert "2 of the 4 sizes that a law needs have points: no law can be given" in said


def test_a_shy_or_a_wrong_surrogate_does_not_break_it() -> None:
    for seer in (Seer(shy=True), Seer(sign=-1)):
        state = drive(POOL, CURVES, Frontier(surrogate=seer), BUDGET).state
        assert state.ledger.spent > 0.7 * BUDGET


def test_recommend_names_the_best_for_a_deployment_that_it_cannot_run() -> None:
    policy = Recommend(
        surrogate=Seer(),
        deployment_flops=10 * BUDGET,
        then=Frontier(surrogate=Seer()),
        gate=False,
    )
    state = drive(POOL, CURVES, policy, BUDGET).state
    assert policy.recommended(state).candidate.id == "n32000-r1"


def test_the_textbook_stands_unless_forecasts_are_sure() -> None:
    unsure = Recommend(
        surrogate=Seer(sd=5.0),
        deployment_flops=6.0 * 4000 * 20 * 4000,
        then=Frontier(surrogate=Seer(sd=5.0)),
        rule=Rule(certainty=2.0),
        gate=False,
    )
    state = drive(POOL, CURVES, unsure, BUDGET).state
    assert unsure.recommended(state).candidate.params == 4000


def test_where_nothing_tells_candidates_apart_plain_halving_does() -> None:
    """Curves of one size that cross, and a surrogate that misleads: never worse than halving."""
    curves = crossing_curves(12, 0.9, "ou", seed=0)
    pool = Pool(candidates=tuple(curve.candidate(name) for name, curve in curves.items()))
    budget = 0.1 * pool.exhaustive_flops
    ours = drive(pool, curves, Frontier(surrogate=Seer(sign=-1)), budget).state
    plain = drive(pool, curves, SuccessiveHalving(), budget).state
    best = [
        min(float(t.curve.loss.min()) for t in state.trials.values() if len(t.curve))
        for state in (ours, plain)
    ]
    assert best[0] <= 1.003 * best[1]
    assert len(ours.trials) == len(pool)


def test_when_the_finish_diverges_another_is_chosen_for_what_is_left() -> None:
    whole = drive(POOL, CURVES, Frontier(surrogate=Seer(sign=-1)), BUDGET).state
    largest = max(whole.trials.values(), key=lambda t: t.candidate.flops(t.trunk.tokens))
    backend = Diverging(CURVES, POOL, batch=1)
    backend.victim, backend.beyond = largest.id, largest.trunk.tokens // 2
    journal = MemoryJournal()
    state = (
        Driver(
            state=fresh(POOL, BUDGET),
            policy=Frontier(surrogate=Seer(sign=-1)),
            backend=backend,
            journal=journal,
            clock=backend.clock,
        )
        .run(opened(1, backend))
        .state
    )
    assert state.trials[largest.id].status == "diverged"
    events = [record.event for record in journal.records]
    after = events[next(k for k, e in enumerate(events) if isinstance(e, Diverged)) :]
    said = [d.reason for e in after if isinstance(e, Decided) for d in e.decisions]
    left = [float(n) for reason in said for n in re.findall(r"finish, (\S+) FLOPs left", reason)]
    sizes = [float(n) for reason in said for n in re.findall(r"size for (\S+) FLOPs", reason)]
    assert left and sizes
    assert sizes[0] <= left[0] + 0.12 * BUDGET, "the textbook is asked for what can be reached"
    assert state.ledger.spent > 0.7 * BUDGET


def test_a_finish_whose_loss_rises_for_good_is_left_for_another() -> None:
    """It never becomes no number, so nothing but its curve says that it has gone bad."""
    curves = rate_pool(5, 3, seed=3, points=60)
    pool = Pool(candidates=tuple(curve.candidate(name) for name, curve in curves.items()))
    budget = int(0.05 * pool.exhaustive_flops)
    whole = replayed(Frontier(surrogate=JointLaw()), pool, curves, budget)
    finish = max(whole.trials.values(), key=lambda t: t.candidate.flops(t.trunk.tokens))
    curve = curves[finish.id]
    risen = np.where(curve.flops > 0.12 * budget, 1.5 * curve.loss, curve.loss)
    bad = curves | {finish.id: replace(curve, loss=risen)}
    state = replayed(Frontier(surrogate=JointLaw()), pool, bad, budget)
    costs = {t.id: t.candidate.flops(t.trunk.tokens) for t in state.trials.values()}
    assert 0.12 * budget < costs[finish.id] < 0.25 * budget
    assert max(costs.values()) > 0.4 * budget
    best, reached = (
        min(float(t.curve.loss.min()) for t in s.trials.values() if len(t.curve))
        for s in (whole, state)
    )
    assert reached < 1.05 * best


def test_untrusted_it_sees_every_rate_of_the_size_that_it_will_finish() -> None:
    """A bad rate must not win for being the only one that was started."""
    pool, curves = small_pool(sizes=(1000, 2000, 4000, 8000, 16000), rates=(1, 6, 12, 24))
    journal = MemoryJournal()
    budget = 0.02 * pool.exhaustive_flops
    state = drive(pool, curves, Frontier(surrogate=Seer(sign=-1)), budget, journal=journal).state
    said = [
        d.reason
        for r in journal.records
        if isinstance(r.event, Decided)
        for d in r.event.decisions
    ]
    assert any("so each is seen" in reason for reason in said)
    largest = max(state.trials.values(), key=lambda t: t.candidate.flops(t.trunk.tokens))
    assert dict(largest.candidate.settings)["rate"] == 1


def test_an_untrusted_surrogate_looks_around_and_says_that_it_may_not_choose() -> None:
    journal = MemoryJournal()
    drive(POOL, CURVES, Frontier(surrogate=Seer(sign=-1)), BUDGET, journal=journal)
    events = [record.event for record in journal.records]
    said = [d.reason for e in events if isinstance(e, Decided) for d in e.decisions]
    looks = [reason for reason in said if "tell most per FLOP" in reason]
    assert looks
    assert all("may not choose yet: the loss ranks" in reason for reason in looks)
