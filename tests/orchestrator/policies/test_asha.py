"""ASHA: promotes without a barrier, by what the order of reports says."""

from __future__ import annotations

from itertools import pairwise

from orchestrator.backends.base import Report
from orchestrator.backends.replay import ReplayBackend
from orchestrator.driver import Driver
from orchestrator.events import Decided, Diverged, SegmentEnded
from orchestrator.journal import MemoryJournal
from orchestrator.policies.asha import Asha
from orchestrator.values import Extend
from tests.orchestrator.worlds import drive, fresh, opened, small_pool

POOL, CURVES = small_pool()
BUDGET = 0.3 * POOL.exhaustive_flops


def decided(slots: int) -> list[Extend]:
    journal = MemoryJournal()
    drive(POOL, CURVES, Asha(), BUDGET, journal=journal, slots=slots)
    return [
        decision
        for record in journal.records
        if isinstance(record.event, Decided)
        for decision in record.event.decisions
        if isinstance(decision, Extend)
    ]


def test_a_promotion_does_not_wait_until_everyone_has_started() -> None:
    reasons = [decision.reason for decision in decided(slots=1)]
    first = next(place for place, reason in enumerate(reasons) if reason.startswith("rank"))
    last_start = max(place for place, reason in enumerate(reasons) if "next candidate" in reason)
    assert first < last_start


def test_only_the_best_of_a_rung_go_on() -> None:
    state = drive(POOL, CURVES, Asha(spend_out=False), BUDGET).state
    levels = Asha().levels(fresh(POOL, BUDGET))
    for lower, upper in pairwise(levels):
        there = [t for t in state.trials.values() if t.candidate.flops(t.trunk.tokens) > 0]
        reached = [t for t in there if t.trunk.tokens >= t.candidate.tokens_within(lower)]
        beyond = [t for t in there if t.trunk.tokens > t.candidate.tokens_within(lower)]
        assert len(beyond) <= max(1, len(reached) // 2)
        assert upper == 2 * lower


def test_as_many_run_as_there_are_slots() -> None:
    one, three = decided(slots=1), decided(slots=3)
    assert {d.trial for d in one} == {d.trial for d in three} == {c.id for c in POOL.candidates}


class Sole(ReplayBackend):
    """A replay in which every trial but the last of the pool diverges."""

    def poll(self, timeout_s: float) -> list[Report]:
        return [
            Diverged(trial=r.trial, attempt=r.attempt, tokens=r.tokens, reason="the loss is NaN")
            if isinstance(r, SegmentEnded) and r.trial != POOL.candidates[-1].id
            else r
            for r in super().poll(timeout_s)
        ]


def test_what_is_left_does_not_all_go_to_the_one_that_survives() -> None:
    backend = Sole(CURVES, POOL, batch=1)
    driver = Driver(
        state=fresh(POOL, BUDGET),
        policy=Asha(most=0.5),
        backend=backend,
        journal=MemoryJournal(),
        clock=backend.clock,
    )
    state = driver.run(opened(1, backend)).state
    survivor = state.trials[POOL.candidates[-1].id]
    spent = survivor.candidate.flops(survivor.trunk.tokens)
    assert 0.45 * BUDGET < spent <= 0.5 * BUDGET
