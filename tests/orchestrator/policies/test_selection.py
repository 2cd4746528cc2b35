"""From a sweep to a market and back: rows, lengths, slots, and the same purchases as on arrays."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.events import Decided
from orchestrator.journal import MemoryJournal
from orchestrator.laws.forms.chinchilla import CHINCHILLA
from orchestrator.policies.active import Active
from orchestrator.policies.cheapest import Cheapest
from orchestrator.policies.posterior import Learner
from orchestrator.policies.selection import (
    Selection,
    inputs_of,
    lengths_of,
    offers_of,
    rows_of,
)
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve
from orchestrator.values import Candidate, Extend, Stop
from tests.orchestrator.policies.markets import TARGET, inputs, market, truth
from tests.orchestrator.worlds import drive, fresh, small_pool

AIM = {name: tuple(float(value) for value in values) for name, values in TARGET.items()}
NEAR = {"N": (1e5,), "D": (2e6,)}


def finished_runs() -> tuple[Pool, dict[str, RecordedCurve]]:
    """The market's rows as candidates with one point, at their end."""
    pool, candidates, curves = inputs(), [], {}
    noise = np.exp(0.004 * np.random.default_rng(7).normal(size=36))
    for k, (N, D) in enumerate(zip(pool["N"], pool["D"], strict=True)):
        params, tokens = round(N), round(D)
        candidate = Candidate(
            id=f"c{k}", params=params, horizon=tokens, flops_per_token=6.0 * params
        )
        loss = truth({"N": np.array([N]), "D": np.array([D])}) * noise[k]
        candidates.append(candidate)
        curves[candidate.id] = RecordedCurve(
            curve_id=candidate.id,
            tokens=np.array([tokens]),
            flops=np.array([6.0 * params * tokens]),
            loss=loss,
        )
    return Pool(candidates=tuple(candidates)), curves


def test_a_replay_buys_what_the_rule_buys_on_arrays() -> None:
    pool, curves = finished_runs()
    journal = MemoryJournal()
    policy = Selection(rule=Active(learner=Learner(forms=(CHINCHILLA,))), target=AIM)
    drive(pool, curves, policy, 0.03 * pool.exhaustive_flops, journal=journal, slots=1)
    bought = [
        int(decision.trial[1:])
        for record in journal.records
        if isinstance(record.event, Decided)
        for decision in record.event.decisions
        if isinstance(decision, Extend)
    ]
    order: list[int] = []
    rule = Active(learner=Learner(forms=(CHINCHILLA,)))
    while True:
        now, free = market(order, 0.03, seed=7, places=1)
        picks = rule.choose(now).picks
        if not picks:
            break
        order.append(int(free[picks[0].offer]))
    assert bought == order and len(order) > 6


def test_reasons_in_the_journal_explain_each_purchase() -> None:
    pool, curves = finished_runs()
    journal = MemoryJournal()
    policy = Selection(rule=Active(learner=Learner(forms=(CHINCHILLA,))), target=AIM)
    drive(pool, curves, policy, 0.03 * pool.exhaustive_flops, journal=journal, slots=1)
    events = [record.event for record in journal.records]
    last = [d for e in events if isinstance(e, Decided) for d in e.decisions][-1]
    assert isinstance(last, Extend) and last.expected is not None
    assert "expected half-width at the target" in last.reason and "FLOPs" in last.reason
    assert "on offer by what it takes off its square for its cost^0.4" in last.reason
    assert last.expected.by == "active" and last.expected.tokens == last.tokens


def test_it_ends_when_the_interval_is_as_narrow_as_asked_and_says_so() -> None:
    pool, curves = finished_runs()
    rule = Active(learner=Learner(forms=(CHINCHILLA,)), half_width=0.5)
    outcome = drive(pool, curves, Selection(rule=rule, target=AIM), pool.exhaustive_flops)
    said = [t.stop_reason for t in outcome.state.trials.values() if t.stop_reason]
    assert outcome.state.ledger.spent < 0.2 * pool.exhaustive_flops
    assert said and "0.5 was asked for" in said[0]


def test_lengths_halve_in_whole_steps_and_are_offered_for_their_extra_tokens() -> None:
    pool, curves = small_pool()
    candidate = pool.candidates[0]
    assert lengths_of(candidate, 3) == [
        candidate.end // 40 * 10,
        candidate.end // 20 * 10,
        candidate.end,
    ]
    policy = Selection(rule=Cheapest(), target=NEAR, lengths=3)
    state = drive(pool, curves, policy, 0.2 * pool.exhaustive_flops).state
    longer = replace(state, terms=replace(state.terms, budget=10**15))
    for offer in offers_of(longer, 3):
        trial = longer.trials.get(offer.candidate.id)
        done = trial.trunk.tokens if trial else 0
        extra = offer.candidate.flops(offer.tokens) - offer.candidate.flops(done)
        assert offer.flops == extra > 0


def test_rows_of_a_curve_are_its_end_or_points_past_its_burn_in() -> None:
    pool, curves = small_pool()
    state = drive(pool, curves, Selection(rule=Cheapest(), target=NEAR), 1e12).state
    trial = next(iter(state.trials.values()))
    assert list(rows_of(trial, 1)) == [(trial.candidate.end, trial.curve.last_loss)]
    several = list(rows_of(trial, 3))
    assert several[-1][0] == trial.curve.last_tokens and 2 < len(several) <= 6
    assert several[0][0] >= 0.1 * trial.curve.last_tokens


def test_it_waits_for_a_slot() -> None:
    pool, _ = small_pool()
    state = fresh(pool, 1e12)
    policy = Selection(rule=Cheapest(), target=NEAR)
    assert len(policy.decide(state)) == 1, "one slot, where no session has opened"


def test_inputs_are_settings_of_that_name_before_sizes() -> None:
    pool, _ = small_pool()
    candidate = pool.candidates[1]
    found = inputs_of([(candidate, 100)], ("N", "D", "C", "rate"))
    assert [float(found[n][0]) for n in ("N", "D", "C", "rate")] == [1000, 100, 6e5, 3]
    with pytest.raises(ValueError, match="no number of that name"):
        inputs_of([(candidate, 100)], ("depth",))


def test_a_stop_is_said_once() -> None:
    pool, curves = finished_runs()
    journal = MemoryJournal()
    rule = Active(learner=Learner(forms=(CHINCHILLA,)), half_width=math.inf)
    drive(pool, curves, Selection(rule=rule, target=AIM), 1e30, journal=journal)
    decided = [r.event for r in journal.records if isinstance(r.event, Decided)]
    assert sum(isinstance(d, Stop) for e in decided for d in e.decisions) == 1
