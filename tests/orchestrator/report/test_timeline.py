from dataclasses import replace

from orchestrator.events import (
    AttemptLost,
    Closed,
    Decided,
    Event,
    Opened,
    Record,
    SegmentEnded,
    Started,
    StopAsked,
)
from orchestrator.report.timeline import timeline_of
from orchestrator.values import Environment, Expectation, Extend, Stop


def told(*events: tuple[float, Event]) -> list[Record]:
    return [Record(seq=i, time=time, event=event) for i, (time, event) in enumerate(events)]


def opened(session: int) -> Opened:
    return Opened(
        session=session,
        name="s",
        spec="{}",
        digest="0",
        owner=f"me {session}",
        environment=Environment(slots=2),
    )


def started(trial: str, attempt: int) -> Started:
    return Started(trial=trial, attempt=attempt, until=100)


STORY = told(
    (0.0, opened(1)),
    (1.0, Decided(policy="p", decisions=(Extend(trial="a", tokens=100, reason="first"),))),
    (2.0, started("a", 1)),
    (2.0, started("b", 1)),
    (6.0, SegmentEnded(trial="a", attempt=1, tokens=100, checkpoint=None)),
    (7.0, started("c", 1)),
    (9.0, StopAsked(by="driver", reason="asked")),
    # An hour later another driver takes over; b was left running.
    (3609.0, opened(2)),
    (
        3609.0,
        AttemptLost(
            trial="b", attempt=1, reached=50, cause="interrupted", reason="the driver went away"
        ),
    ),
    (3610.0, started("b", 2)),
    (3615.0, SegmentEnded(trial="b", attempt=2, tokens=100, checkpoint=None, stopped=True)),
    (
        3616.0,
        Decided(
            policy="p",
            decisions=(
                Stop(
                    trial="b",
                    reason="rank 2 of 2",
                    expected=Expectation(tokens=200, loss=2.5, sd=0.01, by="law"),
                ),
            ),
        ),
    ),
    (3620.0, Closed(reason="nothing left")),
)


def test_pauses_between_sessions_are_not_working_time() -> None:
    story = timeline_of(STORY)
    assert story.sessions == 2
    assert story.clock_s == 9.0 + 11.0


def test_a_start_after_a_loss_is_a_recovery() -> None:
    assert timeline_of(STORY).recoveries == 1


def test_a_slot_is_taken_again_when_it_is_free() -> None:
    lanes = {(s.trial, s.attempt): s.lane for s in timeline_of(STORY).segments}
    assert lanes["a", 1] == 0
    assert lanes["b", 1] == 1
    assert lanes["c", 1] == 0


def test_what_never_ended_is_told_as_running() -> None:
    endings = {(s.trial, s.attempt): s.ending for s in timeline_of(STORY).segments}
    assert endings == {
        ("a", 1): "ended",
        ("b", 1): "lost",
        ("b", 2): "stopped",
        ("c", 1): "running",
    }


def test_a_decision_is_told_with_its_reason_and_its_forecast() -> None:
    decisions = [m for m in timeline_of(STORY).moments if m.kind == "decision"]
    assert decisions[0].details == ("extend a to 100 tokens: first",)
    assert "rank 2 of 2; law expected loss 2.500 after 200 tokens" in decisions[1].details[0]


def test_an_attempt_that_a_dead_driver_left_ends_when_it_was_last_heard_of() -> None:
    lost = next(s for s in timeline_of(STORY).segments if s.ending == "lost")
    assert lost.ended == 9.0


def test_a_raised_budget_is_told_with_its_session() -> None:
    again = replace(opened(2), raised=("budget.gpu_hours 4 -> 8",))
    titles = [moment.title for moment in timeline_of(told((0.0, opened(1)), (9.0, again))).moments]
    assert titles[-1].endswith("opened by me 2, with more: budget.gpu_hours 4 -> 8")
