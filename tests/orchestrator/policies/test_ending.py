"""When there is enough, and the words for it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.events import Closed, Decided, SegmentEnded, Started
from orchestrator.journal import MemoryJournal
from orchestrator.policies.base import ended
from orchestrator.policies.ending import Until, expected_regret, stops
from orchestrator.policies.exhaustive import Exhaustive
from orchestrator.policies.pricing import IN_FLOPS
from orchestrator.state import SweepState, apply, fold
from orchestrator.values import Decision, Extend, flops_in_words
from tests.orchestrator.worlds import drive, fresh, small_pool

POOL, CURVES = small_pool()


class OneRunIsEnough:
    """Buys whole runs until one has ended, and says that it has enough."""

    name = "one_run_is_enough"
    watches_points = False

    def decide(self, state: SweepState) -> list[Decision]:
        done = [t for t in state.trials.values() if t.trunk.tokens >= t.candidate.end]
        if not done:
            return Exhaustive().decide(state)[:1] if not state.in_flight else []
        return [] if ended(state) else stops(state, "one run tells it all")


def test_why_it_ended_is_in_the_journal_and_in_the_state() -> None:
    journal = MemoryJournal()
    outcome = drive(POOL, CURVES, OneRunIsEnough(), POOL.exhaustive_flops, journal=journal)
    events = [record.event for record in journal.records]
    said = "no more is bought: one run tells it all"
    assert [d.reason for e in events if isinstance(e, Decided) for d in e.decisions][-1] == said
    assert [e.reason for e in events if isinstance(e, Closed)] == [said]
    assert outcome.state.closed == ended(outcome.state) == said


def test_that_nothing_fits_the_rest_of_the_flops_is_said_at_the_end() -> None:
    """As it is of hours and dollars: a sweep that ends at 60 % has not spent badly."""
    cheapest = min(candidate.cost for candidate in POOL)
    left = cheapest // 2

    class First(OneRunIsEnough):
        def decide(self, state: SweepState) -> list[Decision]:
            return Exhaustive().decide(state)[:1] if not state.trials else []

    first = POOL.candidates[0].cost
    short = drive(POOL, CURVES, First(), first + left).state.closed
    spent = f"with {100 * first / (first + left):.1f} % of its FLOPs spent"
    assert short == (
        f"the policy has nothing left to decide, {spent}: the {flops_in_words(left)} that are "
        f"left pay for no run to its end, of which the cheapest takes {flops_in_words(cheapest)}"
    )
    enough = drive(POOL, CURVES, First(), 4 * POOL.exhaustive_flops).state.closed
    assert enough is not None and enough.endswith("of its FLOPs spent")


def test_what_is_on_its_way_when_buying_ends_is_not_cut_off() -> None:
    first, second = POOL.candidates[:2]
    orders = [Extend(trial=c.id, tokens=c.end // 20 * 10, reason="") for c in (first, second)]
    state = fold(
        fresh(POOL, POOL.exhaustive_flops),
        [
            Decided(policy="test", decisions=tuple(orders)),
            Started(trial=first.id, attempt=1, until=orders[0].tokens),
        ],
    )
    assert stops(state, "enough") == []
    over = apply(state, SegmentEnded(trial=first.id, attempt=1, tokens=orders[0].tokens))
    assert [stop.trial for stop in stops(over, "enough")] == [first.id], "the second waits"


def test_a_figure_is_met_where_one_was_asked_for() -> None:
    until = Until(what="half-width at the target", enough=0.02)
    assert until.met(0.021) is None
    assert until.met(0.02) == (
        "the half-width at the target is 0.0200 of log loss, and 0.02 was asked for"
    )
    assert Until(what="regret").met(0.0) is None


def test_a_purchase_is_weighed_against_its_share_of_the_budget() -> None:
    prices = IN_FLOPS.prices(fresh(POOL, 1e9))
    until = Until(what="half-width at the target", worth=0.5)
    assert until.worthless(0.06, 1e8, prices) is None
    told = until.worthless(0.04, 1e8, prices) or ""
    assert "for 1.00e8 FLOPs" in told and "save 4 %" in told and "costs 10 % of the budget" in told
    assert replace(until, worth=0.0).worthless(0.0, 1e8, prices) is None


@pytest.mark.parametrize("apart", [0.0, 0.5, 3.0])
def test_expected_regret_is_that_of_two_normals(apart: float) -> None:
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((200_000, 2)) + np.array([0.0, apart])
    # E max(d, 0) for d normal with mean -apart and variance 2.
    z = apart / math.sqrt(2)
    density, tail = math.exp(-z * z / 2) / math.sqrt(2 * math.pi), math.erfc(z / math.sqrt(2)) / 2
    truth = math.sqrt(2) * (density - z * tail)
    assert expected_regret(samples) == pytest.approx(truth, abs=0.005)
