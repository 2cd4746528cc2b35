"""Annealing: the best of each size first, then a sample of the stopped, within its own share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.events import Decided, Event, PointReported, SegmentEnded, Started
from orchestrator.policies.annealed import Annealed
from orchestrator.policies.base import Policy
from orchestrator.policies.ending import stops
from orchestrator.policies.pricing import Purse
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.state import SweepState, fold, pending
from orchestrator.values import Anneal, Checkpoint, Curve, Decision, Extend, Point
from tests.orchestrator.worlds import chinchilla, fresh, small_pool

POOL, _ = small_pool(sizes=(1000, 2000, 4000), rates=(1, 3, 9))
BUDGET = 0.3 * POOL.exhaustive_flops


def annealed(share: float = 0.2, stopped: int = 2) -> Annealed:
    inner = SuccessiveHalving(spend_out=False)
    return Annealed(policy=inner, share=share, decay=0.2, stopped=stopped)


def obeyed(state: SweepState, policy: Policy) -> tuple[SweepState, list[Event]]:
    """Everything the policy decides, done at once by an ideal worker."""
    made: list[Event] = []
    while decisions := policy.decide(state):
        state = fold(state, [event := Decided(policy="test", decisions=tuple(decisions))])
        made.append(event)
        for trial, index in list(pending(state)):
            state = fold(state, segment(state, trial.id, index))
    return state, made


def segment(state: SweepState, name: str, index: int) -> list[Event]:
    trial = state.trials[name]
    track, attempt = trial.tracks[index], trial.attempts + 1
    tokens = track.target
    rate = float(trial.candidate.setting("rate"))
    loss = chinchilla(trial.candidate.params, tokens, rate) - (0.1 if index else 0.0)
    return [
        Started(
            trial=name,
            attempt=attempt,
            until=tokens,
            resume_from=track.resume_from,
            branch=index - 1 if index else None,
        ),
        PointReported(
            trial=name,
            attempt=attempt,
            point=Point(
                tokens=tokens, flops=1.0 * tokens, loss=loss, elapsed_s=1e-3 * attempt * tokens
            ),
            checkpoint=Checkpoint(tokens=tokens, path=f"{name}/{attempt}"),
        ),
        SegmentEnded(trial=name, attempt=attempt, tokens=tokens),
    ]


def test_the_best_of_every_size_then_stopped_ones_each_once() -> None:
    state, made = obeyed(fresh(POOL, BUDGET), annealed())
    last = made[-1]
    assert isinstance(last, Decided)
    anneals = [d for d in last.decisions if isinstance(d, Anneal)]
    assert len(anneals) == len(last.decisions)
    leaders = anneals[:3]
    assert {state.pool[d.trial].params for d in leaders} == {1000, 2000, 4000}
    assert all("best trial with" in d.reason for d in leaders)
    drawn = [d for d in anneals if "drawn from the stopped" in d.reason]
    assert len(drawn) == 2
    assert all(state.trials[d.trial].stop_reason is not None for d in drawn)
    assert len({d.trial for d in anneals}) == len(anneals)
    assert annealed().decide(state) == []


def test_branches_stay_within_their_share_and_the_trunk_within_the_rest() -> None:
    for share in (0.02, 0.1, 0.3):
        state, _ = obeyed(fresh(POOL, BUDGET), annealed(share))
        assert state.ledger.branches <= share * BUDGET
        assert state.ledger.spent - state.ledger.branches <= (1 - share) * BUDGET + 1
        assert state.ledger.spent <= BUDGET


def test_a_branch_decays_over_a_fifth_of_what_its_trunk_saw() -> None:
    state, _ = obeyed(fresh(POOL, BUDGET), annealed())
    branched = [t for t in state.trials.values() if t.branches]
    assert branched
    for trial in branched:
        branch = trial.branches[0]
        assert branch.start == trial.trunk.tokens
        assert branch.tokens - branch.start == max(10, int(0.2 * branch.start) // 10 * 10)


def test_the_sample_depends_on_the_seed_alone() -> None:
    def drawn(seed: int) -> list[str]:
        _, made = obeyed(fresh(POOL, BUDGET, seed=seed), annealed(stopped=1))
        last = made[-1]
        assert isinstance(last, Decided)
        return [d.trial for d in last.decisions if "drawn" in d.reason]

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(12)}) > 1


def test_nothing_is_annealed_while_anything_is_in_flight() -> None:
    state = fresh(POOL, BUDGET)
    first = annealed().decide(state)
    state = fold(state, [Decided(policy="test", decisions=tuple(first))])
    assert not any(isinstance(d, Anneal) for d in annealed().decide(state))


@pytest.mark.parametrize("stopped", [0, 50])
def test_any_number_of_stopped_trials_may_be_asked_for(stopped: int) -> None:
    state, _ = obeyed(fresh(POOL, BUDGET), annealed(0.5, stopped))
    count = sum(bool(t.branches) for t in state.trials.values())
    assert count >= 3


class Enough:
    """Half of every candidate, and then it has enough."""

    name = "enough"
    watches_points = False

    def decide(self, state: SweepState) -> list[Decision]:
        if not state.trials:
            return [
                Extend(trial=c.id, tokens=c.end // 20 * 10, reason="half of it")
                for c in POOL.candidates
            ]
        ended = any(trial.stop_reason for trial in state.trials.values())
        return [] if ended or state.in_flight else stops(state, "the law is right")


def test_where_buying_ended_nobody_was_pruned() -> None:
    policy = Annealed(policy=Enough(), share=0.3, decay=0.2, stopped=2)
    _, made = obeyed(fresh(POOL, POOL.exhaustive_flops), policy)
    last = made[-1]
    assert isinstance(last, Decided)
    reasons = [d.reason for d in last.decisions if isinstance(d, Anneal)]
    assert len(reasons) == len(POOL), "there is room for all"
    assert sum("a survivor" in reason for reason in reasons) == len(POOL) - 3


def test_what_the_wrapped_policy_may_spend_does_not_move_with_the_pace() -> None:
    """Rungs are shares of it: while hours bind, each would be climbed again as it moves."""
    purse = Purse(gpu_hours=0.18, flops_per_s=BUDGET / 900)  # it takes 0.25 hours to spend all
    hours = replace(annealed(), purse=purse)
    state, made = obeyed(fresh(POOL, BUDGET), hours)
    assert (
        len({t.seconds / t.tokens for trial in state.trials.values() for t in trial.timings}) > 1
    )
    trunks, usual = (
        [d for event in events for d in event.decisions if not isinstance(d, Anneal)]
        for events in (made, obeyed(fresh(POOL, BUDGET), annealed())[1])
    )
    assert trunks == usual
    assert state.ledger.branches < 0.2 * purse.affordable(state).terms.budget


def test_a_trial_without_a_point_is_the_best_of_its_size_only_where_it_is_alone() -> None:
    state, _ = obeyed(fresh(POOL, BUDGET), annealed())
    first = POOL.candidates[0]
    blind = replace(
        state.trials[first.id],
        trunk=replace(state.trials[first.id].trunk, curve=Curve()),
        branches=(),
    )
    bare = {
        name: blind if name == first.id else replace(trial, branches=())
        for name, trial in state.trials.items()
    }
    state = replace(state, trials=bare, ledger=replace(state.ledger, branches=0))
    done = Annealed(policy=Nothing(), share=0.2, decay=0.2, stopped=0)
    best = [d.trial for d in done.decide(state) if "best trial" in d.reason]
    assert len(best) == 3 and first.id not in best


def test_longer_trunks_of_a_raised_budget_are_annealed_in_their_turn() -> None:
    state, _ = obeyed(fresh(POOL, BUDGET), annealed())
    before = {name: len(trial.branches) for name, trial in state.trials.items()}
    more = replace(state, terms=replace(state.terms, budget=2 * state.terms.budget))
    done = Annealed(policy=Nothing(), share=0.2, decay=0.2, stopped=2)
    assert done.decide(more) == [], "a trunk that did not grow is not annealed twice"
    grown = next(
        t for t in state.trials.values() if t.branches and t.trunk.tokens < t.candidate.end
    )
    longer = Extend(trial=grown.id, tokens=grown.candidate.end, reason="more budget")
    more = fold(more, [Decided(policy="test", decisions=(longer,))])
    more = fold(more, segment(more, grown.id, 0))
    again, made = obeyed(more, done)
    assert [d.trial for event in made for d in event.decisions] == [grown.id]
    assert again.ledger.branches <= 0.2 * again.terms.budget
    after = {name: len(trial.branches) for name, trial in again.trials.items()}
    assert after == before | {grown.id: before[grown.id] + 1}


def test_decays_stay_within_the_hours_that_are_left() -> None:
    state, _ = obeyed(fresh(POOL, BUDGET), SuccessiveHalving(spend_out=False))
    state = replace(state, terms=replace(state.terms, budget=10 * state.terms.budget))
    free = Annealed(policy=Nothing(), share=0.9, decay=0.2, stopped=2)

    prices = Purse(gpu_hours=10.0).prices(state)

    def takes(decisions: list[Decision]) -> float:
        found = [(d, state.trials[d.trial]) for d in decisions if isinstance(d, Anneal)]
        return sum(
            prices.hours_over(trial.candidate, d.tokens - trial.trunk.checkpoint.tokens)
            for d, trial in found
            if trial.trunk.checkpoint is not None
        )

    every = free.decide(state)
    left = 0.5 * takes(every)
    purse = Purse(gpu_hours=state.ledger.gpu_s / 3600 + left)
    some = replace(free, purse=purse).decide(state)
    assert 0 < len(some) < len(every)
    assert takes(some) <= left


class Nothing:
    """A policy that has nothing left to decide."""

    name = "nothing"
    watches_points = False

    def decide(self, _: SweepState) -> list[Decision]:
        return []
