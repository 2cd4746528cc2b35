"""The fold: the ledger adds up whatever happens, and what cannot be is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.demand import demand_of
from orchestrator.events import (
    AttemptLost,
    Closed,
    Decided,
    Diverged,
    Event,
    Opened,
    PointReported,
    SegmentEnded,
    Started,
    StopAsked,
)
from orchestrator.state import DecisionError, SweepState, apply, fold, is_stale, pending
from orchestrator.values import (
    Anneal,
    Checkpoint,
    Decision,
    Environment,
    Extend,
    Point,
    Stop,
)
from tests.orchestrator.worlds import fresh, small_pool

POOL, _ = small_pool(sizes=(1000, 2000), rates=(1,))
A, B = (candidate.id for candidate in POOL.candidates)
COST = 6000  # FLOPs a token of A


def decided(*decisions: Decision) -> Decided:
    return Decided(policy="test", decisions=decisions)


def extend(tokens: int, trial: str = A) -> Extend:
    return Extend(trial=trial, tokens=tokens, reason="because")


def point(tokens: int, attempt: int = 1, *, saved: bool = False, s: float | None = None):
    return PointReported(
        trial=A,
        attempt=attempt,
        point=Point(tokens=tokens, flops=COST * tokens, loss=3.0, elapsed_s=s),
        checkpoint=Checkpoint(tokens=tokens, path=f"at-{tokens}") if saved else None,
    )


def started(until: int, attempt: int = 1, resume: int = 0, branch: int | None = None) -> Started:
    at = Checkpoint(tokens=resume, path=f"at-{resume}") if resume else None
    return Started(trial=A, attempt=attempt, until=until, resume_from=at, branch=branch)


def after(*events: Event, budget: float = 1e9) -> SweepState:
    return fold(fresh(POOL, budget), events)


def ledger(state: SweepState) -> tuple[int, int, int]:
    """(spent, reserved, lost) in tokens of A."""
    values = (state.ledger.spent, state.ledger.reserved, state.ledger.lost)
    return tuple(value // COST for value in values)  # type: ignore[return-value]


def test_reserved_when_decided_charged_as_points_arrive_released_at_the_end() -> None:
    events: list[Event] = [
        decided(extend(100)),
        started(100),
        point(40),
        point(70),
        SegmentEnded(trial=A, attempt=1, tokens=90),
    ]
    told = [ledger(after(*events[:n])) for n in range(len(events) + 1)]
    assert told == [(0, 0, 0), (0, 100, 0), (0, 100, 0), (40, 60, 0), (70, 30, 0), (90, 0, 0)]
    assert after(*events).remaining == 1e9 - 90 * COST


def test_work_that_is_done_again_is_lost_and_never_charged_twice() -> None:
    state = after(
        decided(extend(100)),
        started(100),
        point(40, saved=True),
        point(70),
        AttemptLost(trial=A, attempt=1, reached=70, cause="died", reason="killed"),
        started(100, attempt=2, resume=40),
    )
    assert ledger(state) == (70, 30, 30)
    assert state.trials[A].trunk.resume_from == Checkpoint(tokens=40, path="at-40")
    state = fold(
        state,
        [
            point(60, attempt=2),
            AttemptLost(trial=A, attempt=2, reached=60, cause="died", reason="again"),
            started(100, attempt=3, resume=40),
            point(70, attempt=3),
            point(100, attempt=3, saved=True),
            SegmentEnded(trial=A, attempt=3, tokens=100),
        ],
    )
    assert ledger(state) == (100, 0, 50)
    assert state.trials[A].curve.tokens.tolist() == [40, 70, 100]
    assert state.points == 3


def test_a_superseded_attempt_is_counted_as_stale_and_changes_nothing_else() -> None:
    state = after(
        decided(extend(100)),
        started(100),
        AttemptLost(trial=A, attempt=1, reached=0, cause="interrupted", reason="gone"),
        started(100, attempt=2),
    )
    for late in (
        point(50),
        SegmentEnded(trial=A, attempt=1, tokens=100),
        Diverged(trial=A, attempt=1, tokens=50, reason="nan"),
    ):
        assert is_stale(state, late)
        late_state = apply(state, late)
        assert late_state.stale == 1 and late_state.trials == state.trials
    assert not is_stale(state, point(50, attempt=2))


def test_three_failures_in_a_row_fail_a_trial_and_release_its_reservation() -> None:
    state = after(decided(extend(100)))
    for attempt in (1, 2):
        state = fold(
            state,
            [
                started(100, attempt),
                AttemptLost(trial=A, attempt=attempt, reached=0, cause="error", reason="boom"),
            ],
        )
        assert state.trials[A].status == "waiting"
    state = fold(state, [started(100, 3), point(10, 3)])
    assert state.trials[A].failures == 0
    lost = AttemptLost(trial=A, attempt=3, reached=10, cause="error", reason="boom")
    state = apply(state, lost)
    for attempt in (4, 5):
        state = fold(
            state,
            [
                started(100, attempt),
                AttemptLost(trial=A, attempt=attempt, reached=0, cause="died", reason="boom"),
            ],
        )
    assert state.trials[A].status == "failed" and not state.in_flight
    assert ledger(state)[:2] == (10, 0)
    with pytest.raises(DecisionError, match="failed and cannot be trained"):
        apply(state, decided(extend(200)))


def test_an_interruption_is_no_failure() -> None:
    state = after(decided(extend(100)))
    for attempt in range(1, 9):
        state = fold(
            state,
            [
                started(100, attempt),
                AttemptLost(trial=A, attempt=attempt, reached=0, cause="interrupted", reason="x"),
            ],
        )
    assert state.trials[A].status == "waiting"


def test_divergence_releases_the_reservation_and_bars_the_trial() -> None:
    state = after(
        decided(extend(100)),
        started(100),
        point(40),
        Diverged(trial=A, attempt=1, tokens=50, reason="the loss is NaN"),
    )
    assert state.trials[A].status == "diverged" and ledger(state) == (50, 0, 0)


def test_a_branch_that_diverges_or_fails_ends_alone() -> None:
    trunk: list[Event] = [
        decided(extend(100)),
        started(100),
        point(100, saved=True),
        SegmentEnded(trial=A, attempt=1, tokens=100),
        decided(Anneal(trial=A, tokens=120, reason="law")),
        started(120, attempt=2, resume=100, branch=0),
    ]
    state = after(*trunk, Diverged(trial=A, attempt=2, tokens=110, reason="NaN"))
    assert state.trials[A].status == "idle" and ledger(state) == (110, 0, 0)
    state = after(*trunk)
    for attempt in (2, 3, 4):
        lost = AttemptLost(trial=A, attempt=attempt, reached=100, cause="died", reason="x")
        again = started(120, attempt=attempt + 1, resume=100, branch=0)
        state = fold(state, [lost, again] if attempt < 4 else [lost])
    assert state.trials[A].status == "idle" and ledger(state) == (100, 0, 0)
    assert not state.in_flight


def test_a_stop_of_a_running_trial_releases_when_its_segment_ends() -> None:
    state = after(
        decided(extend(100)), started(100), point(40), decided(Stop(trial=A, reason="worse"))
    )
    assert ledger(state) == (40, 60, 0) and state.trials[A].status == "running"
    state = apply(state, SegmentEnded(trial=A, attempt=1, tokens=60, stopped=True))
    assert ledger(state) == (60, 0, 0) and state.trials[A].status == "stopped"
    state = apply(state, decided(extend(100)))
    assert state.trials[A].status == "waiting" and state.trials[A].stop_reason is None


def test_a_paused_segment_keeps_its_target() -> None:
    state = after(
        decided(extend(100)),
        started(100),
        StopAsked(by="me", reason="lunch"),
        SegmentEnded(trial=A, attempt=1, tokens=60, stopped=True),
    )
    assert ledger(state) == (60, 40, 0) and state.stop_asked == "lunch"
    assert [(trial.id, index) for trial, index in pending(state)] == [(A, 0)]


def test_pending_keeps_the_order_of_decisions() -> None:
    state = after(decided(extend(20, B)), decided(extend(10, A)))
    assert [trial.id for trial, _ in pending(state)] == [B, A]


def test_an_annealing_branch_is_charged_for_its_own_tokens_and_spares_the_trunk() -> None:
    state = after(
        decided(extend(100)),
        started(100),
        point(100, saved=True),
        SegmentEnded(trial=A, attempt=1, tokens=100),
        decided(Anneal(trial=A, tokens=120, reason="law")),
    )
    assert ledger(state) == (100, 20, 0) and state.ledger.branches == 20 * COST
    state = fold(state, [started(120, attempt=2, resume=100, branch=0), point(120, attempt=2)])
    state = apply(state, SegmentEnded(trial=A, attempt=2, tokens=120))
    trial = state.trials[A]
    assert ledger(state) == (120, 0, 0)
    assert trial.trunk.tokens == 100 and trial.curve.tokens.tolist() == [100]
    assert trial.branches[0].curve.tokens.tolist() == [120]
    assert trial.trunk.checkpoint == Checkpoint(tokens=100, path="at-100")


def test_device_seconds_add_up_over_attempts() -> None:
    state = after(
        decided(extend(100)),
        started(100),
        point(40, s=2.0),
        point(70, s=5.0),
        AttemptLost(trial=A, attempt=1, reached=70, cause="died", reason="killed"),
        started(100, attempt=2),
        point(100, attempt=2, s=4.0),
    )
    assert state.ledger.device_s == 9.0


def test_gpu_seconds_count_what_each_start_took_and_of_old_journals_what_the_spec_says() -> None:
    events = [
        decided(extend(100)),
        replace(started(100), gpus=4.0, slots=(0, 1, 2, 3)),
        point(40, s=2.0),
        AttemptLost(trial=A, attempt=1, reached=40, cause="died", reason="killed"),
        started(100, attempt=2),
        point(100, attempt=2, s=3.0),
        SegmentEnded(trial=A, attempt=2, tokens=100),
    ]
    assert after(*events).ledger.gpu_s == 4 * 2.0 + 3.0
    state = fresh(POOL, 1e9)
    demand = demand_of(POOL.candidates, (), gpus=0.5)
    state = fold(replace(state, terms=replace(state.terms, demand=demand)), events)
    assert state.ledger.gpu_s == 4 * 2.0 + 0.5 * 3.0
    assert [timing.gpus for timing in state.trials[A].timings] == [0.5]


def test_a_start_on_several_slots_takes_them_until_it_ends() -> None:
    begun = after(decided(extend(100)), replace(started(100), slots=(4, 5)))
    assert begun.taken == 2
    assert apply(begun, SegmentEnded(trial=A, attempt=1, tokens=100)).taken == 0


@pytest.mark.parametrize(
    ("decision", "why"),
    [
        (extend(10, "nobody"), "no candidate 'nobody'"),
        (extend(15), "not whole steps of 10"),
        (extend(10**9), "past its horizon"),
        (Stop(trial=B, reason="x"), "never started"),
        (Anneal(trial=A, tokens=200, reason="x"), "no checkpoint"),
        (extend(100), "already seen 100"),
        (extend(20_000), "more than the budget"),
    ],
)
def test_decisions_that_cannot_be_are_refused(decision: Decision, why: str) -> None:
    state = after(
        decided(extend(100)),
        started(100),
        point(100),
        SegmentEnded(trial=A, attempt=1, tokens=100),
        budget=200 * COST,
    )
    with pytest.raises(DecisionError, match=why):
        apply(state, decided(decision))


def test_a_session_clears_what_the_last_one_was_asked() -> None:
    opened = Opened(
        session=2,
        name="n",
        spec="",
        digest="",
        owner="me",
        environment=Environment(slots=4),
    )
    state = after(StopAsked(by="me", reason="x"), Closed(reason="done"), opened)
    assert (state.stop_asked, state.closed, state.session) == (None, None, 2)
    assert state.environment is not None and state.environment.slots == 4
