"""The checks of the chaos script see what they are there to see."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psutil
import pytest

from orchestrator.events import (
    AttemptLost,
    Decided,
    Event,
    Opened,
    PointReported,
    Record,
    SegmentEnded,
    Started,
)
from orchestrator.pool import Pool
from orchestrator.state import SweepState, Terms, fold
from orchestrator.values import Candidate, Checkpoint, Environment, Extend, Point
from scripts import chaos_checks

POOL = Pool(
    candidates=(
        Candidate(id="a", params=10, horizon=100, flops_per_token=60.0, tokens_per_step=10),
    )
)


@dataclass(frozen=True)
class Story:
    """What the checks read of a sweep."""

    events: tuple[Event, ...]
    pool: Pool = POOL

    def story(self) -> Iterator[Record]:
        return (Record(seq=i, time=float(i), event=e) for i, e in enumerate(self.events))

    @property
    def state(self) -> SweepState:
        terms = Terms(name="s", seed=0, budget=6000, lost_ceiling=6000)
        return fold(SweepState(pool=POOL, terms=terms), self.events)


def opened(session: int) -> Opened:
    return Opened(
        session=session,
        name="s",
        spec="{}",
        digest="0" * 64,
        owner="test",
        environment=Environment(slots=1),
    )


def saved(attempt: int, tokens: int) -> Checkpoint:
    return Checkpoint(tokens=tokens, path=f"trials/a/attempt-{attempt}/tokens-{tokens}")


def point(attempt: int, tokens: int, *, checkpoint: bool = False) -> PointReported:
    return PointReported(
        trial="a",
        attempt=attempt,
        point=Point(tokens=tokens, flops=60.0 * tokens, loss=5 - tokens / 100),
        checkpoint=saved(attempt, tokens) if checkpoint else None,
    )


def killed_once() -> tuple[Event, ...]:
    """A driver killed at 30 tokens, with a checkpoint at 20, and a session that finishes."""
    return (
        opened(1),
        Decided(policy="p", decisions=(Extend(trial="a", tokens=50, reason="all"),)),
        Started(trial="a", attempt=1, until=50),
        point(1, 10),
        point(1, 20, checkpoint=True),
        point(1, 30),
        opened(2),
        AttemptLost(trial="a", attempt=1, reached=30, cause="interrupted", reason="gone"),
        Started(trial="a", attempt=2, until=50, resume_from=saved(1, 20)),
        point(2, 30, checkpoint=True),
        point(2, 40),
        point(2, 50, checkpoint=True),
        SegmentEnded(trial="a", attempt=2, tokens=50, checkpoint=saved(2, 50)),
    )


def changed(place: int, event: Event) -> tuple[Event, ...]:
    events = list(killed_once())
    events[place] = event
    return tuple(events)


ALL: Sequence[Callable[[Any], Iterator[str]]] = (
    chaos_checks.unearned,
    chaos_checks.miscounted,
    chaos_checks.unlike,
    chaos_checks.missing,
    chaos_checks.unbalanced,
    chaos_checks.unjournalled,
    chaos_checks.reused,
)


@pytest.mark.parametrize("check", ALL)
def test_an_honest_story_passes(check: Callable[[Any], Iterator[str]]) -> None:
    story = Story(killed_once())
    assert story.state.ledger.lost == 600
    assert list(check(story)) == []


def test_a_point_twice_in_one_attempt_is_seen() -> None:
    events = killed_once()
    (told,) = chaos_checks.unearned(Story((*events[:12], events[11], *events[12:])))
    assert "attempt 2 reported it twice" in told


def test_a_repetition_by_an_earlier_attempt_is_seen() -> None:
    events = killed_once()
    late = (*events[:10], point(1, 30), *events[10:])
    (told,) = chaos_checks.unearned(Story(late))
    assert "attempt 1 repeats what attempt 2 reported" in told


def test_a_repetition_of_what_lies_before_the_resume_is_seen() -> None:
    events = killed_once()
    (told,) = chaos_checks.unearned(Story((*events[:9], point(2, 20), *events[9:])))
    assert "attempt 2 began at 20 tokens" in told


def test_what_a_superseded_attempt_says_late_repeats_nothing() -> None:
    """A worker outlives a killed driver by seconds; what it says is stale."""
    events = killed_once()
    assert list(chaos_checks.unearned(Story((*events[:9], point(1, 40), *events[9:])))) == []


@pytest.mark.parametrize("more", [1, -1])
def test_a_point_counted_twice_or_not_at_all_is_seen(
    more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = Story(killed_once()).state
    monkeypatch.setattr(Story, "state", replace(state, points=state.points + more))
    (told,) = chaos_checks.miscounted(Story(killed_once()))
    assert told == f"5 points were reported, {5 + more} are counted"


def test_a_point_of_two_places_in_a_curve_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A curve keeps one point for each number of tokens; another at the same is a point twice."""
    state = Story(killed_once()[:11]).state
    monkeypatch.setattr(Story, "state", replace(state, points=5))
    (told,) = chaos_checks.miscounted(Story(killed_once()))
    assert told == "a: 5 points were reported, its curve has 4"


def test_another_loss_at_a_repeated_step_is_seen() -> None:
    again = point(2, 30, checkpoint=True)
    other = replace(again, point=replace(again.point, loss=again.point.loss + 1e-12))
    (told,) = chaos_checks.unlike(Story(changed(9, other)))
    assert "('a', None, 30)" in told


def test_a_resume_from_nowhere_is_seen() -> None:
    started = Started(trial="a", attempt=2, until=50, resume_from=saved(1, 30))
    assert list(chaos_checks.unjournalled(Story(changed(8, started)))) == [
        "record 8: trials/a/attempt-1/tokens-30"
    ]


def test_an_attempt_numbered_twice_is_seen() -> None:
    events = killed_once()
    twice = (*events, Started(trial="a", attempt=2, until=60))
    assert list(chaos_checks.reused(Story(twice))) == ["('a', 2) 2 times"]


def test_a_ledger_that_is_off_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    state = Story(killed_once()).state
    for name in ("spent", "lost", "reserved"):
        ledger = replace(state.ledger, **{name: getattr(state.ledger, name) + 1})
        with monkeypatch.context() as patch:
            patch.setattr(Story, "state", replace(state, ledger=ledger))
            assert len(list(chaos_checks.unbalanced(Story(killed_once())))) == 1


def test_a_point_missing_from_its_curve_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    short = Story(killed_once()[:11]).state
    monkeypatch.setattr(Story, "state", short)
    assert list(chaos_checks.missing(Story(killed_once()))) == ["a at 50 tokens, attempt 2"]


def test_a_lost_record_is_seen_and_a_torn_line_is_not_one() -> None:
    final = b"1\n2\n3\n"
    assert list(chaos_checks.lost_records(final, [b"", b"1\n", b"1\n2\ntorn"])) == []
    assert len(list(chaos_checks.lost_records(final, [b"1\nx\n"]))) == 1


def test_a_process_that_stays_is_seen() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (told,) = chaos_checks.left([psutil.Process(child.pid)], wait_s=0.1)
        assert told.startswith(str(child.pid))
    finally:
        child.kill()
        child.wait()
