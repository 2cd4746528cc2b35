"""The Ray backend where workers do not come back and calls go astray, on a cluster in memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.backends.base import BackendError, Report, UnavailableError
from orchestrator.backends.ray import RayBackend
from orchestrator.backends.seats import check_precision
from orchestrator.events import AttemptLost, PointReported, SegmentEnded, Started
from tests.orchestrator.backends.fakes import STEP
from tests.orchestrator.backends.ray_twin import Twin, backend_on

PATIENCE_S = 0.4


def segment(trial: str, attempt: int = 1, steps: int = 6) -> Started:
    return Started(trial=trial, attempt=attempt, until=steps * STEP)


def ends(backend: RayBackend, count: int, limit_s: float = 20.0) -> list[Report]:
    """The next `count` ends of segments."""
    heard: list[Report] = []
    deadline = time.monotonic() + limit_s
    while len(heard) < count and time.monotonic() < deadline:
        heard += [r for r in backend.poll(0.05) if not isinstance(r, PointReported)]
    assert len(heard) == count, f"{count} ends were due, heard {heard}"
    return heard


@pytest.fixture
def crippled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[RayBackend, Twin]:
    """Two slots; the worker of one is gone, with its node, and none comes in its place."""
    backend, twin = backend_on(monkeypatch, tmp_path, slots=2, patience_s=PATIENCE_S)
    backend.start(segment("slow", steps=40))
    backend.start(segment("good"))
    ends(backend, 1)
    twin.lose(twin.workers[1])
    while len(twin.workers) < 3:  # until another is asked for
        backend.poll(0.05)
    assert not twin.workers[2].placed
    return backend, twin


def test_a_segment_in_a_seat_that_never_comes_back_waits_for_a_worker(
    crippled: tuple[RayBackend, Twin],
) -> None:
    backend, _ = crippled
    backend.start(segment("good2"))
    deadline = time.monotonic() + 3 * PATIENCE_S
    while time.monotonic() < deadline:  # past the patience, with the other worker at work
        assert all(isinstance(report, PointReported) for report in backend.poll(0.05))
    first, second = ends(backend, 2)
    assert [(type(e), e.trial, e.attempt) for e in (first, second)] == [
        (SegmentEnded, "slow", 1),
        (SegmentEnded, "good2", 1),
    ]


@pytest.mark.parametrize(("slots", "came"), [(2, 1), (4, 2), (4, 1), (3, 2)])
def test_a_session_begins_with_the_workers_that_came(
    slots: int, came: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Half of them too."""
    backend, _ = backend_on(monkeypatch, tmp_path, slots=slots, room=came, patience_s=PATIENCE_S)
    assert backend.environment.slots == came
    backend.close()


def test_who_waits_longest_for_a_worker_is_next(crippled: tuple[RayBackend, Twin]) -> None:
    """The driver starts another at every end: it must not overtake the one in the dead seat."""
    backend, _ = crippled
    backend.start(segment("slow2"))
    order: list[str] = []
    for following in ("good", "good2", None, None):
        (end,) = ends(backend, 1)
        assert isinstance(end, SegmentEnded)
        order.append(end.trial)
        if following is not None:
            backend.start(segment(following, attempt=2))
    assert order == ["slow", "slow2", "good", "good2"]


def test_a_segment_that_waits_for_a_worker_can_be_stopped(
    crippled: tuple[RayBackend, Twin],
) -> None:
    backend, _ = crippled
    backend.start(segment("good2"))
    backend.stop("good2")
    (end,) = ends(backend, 1)
    assert isinstance(end, AttemptLost)
    assert (end.trial, end.cause, end.reached) == ("good2", "interrupted", 0)


def test_without_any_worker_left_the_backend_gives_up(crippled: tuple[RayBackend, Twin]) -> None:
    backend, twin = crippled
    backend.start(segment("good2"))
    twin.lose(twin.workers[0])
    (end,) = ends(backend, 1)
    assert isinstance(end, AttemptLost)
    assert (end.trial, end.cause) == ("slow", "died")
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="no worker could be placed"):
        ends(backend, 1)
    assert time.monotonic() - began >= 0.5 * PATIENCE_S


def test_a_begin_that_is_lost_beside_a_pull_is_sent_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both come back `unavailable` at once, the pull first; nothing was executed."""
    backend, twin = backend_on(monkeypatch, tmp_path, slots=1, patience_s=20.0)
    (worker,) = twin.workers
    backend.poll(0.05)
    (pull,) = twin.sent("reports")
    backend.start(segment("good"))
    worker.cut()
    backend.poll(0.3)
    assert pull.lost
    assert len(twin.sent("begin")) < 3, "it is not hammered"
    worker.restored()
    (end,) = ends(backend, 1)
    assert isinstance(end, SegmentEnded)


def test_a_begin_whose_answer_alone_was_lost_begins_nothing_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend, twin = backend_on(monkeypatch, tmp_path, slots=1, patience_s=20.0)
    backend.start(segment("good"))
    (begin,) = twin.sent("begin")
    begin.work()
    begin.lost = True
    (end,) = ends(backend, 1)
    assert isinstance(end, SegmentEnded)
    assert len(twin.sent("begin")) == 2
    assert backend.poll(0.3) == []


def test_who_is_awaited_after_a_stop_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[str] = []
    monkeypatch.setattr("orchestrator.backends.ray.TELL_EVERY_S", 0.1)
    backend, _ = backend_on(
        monkeypatch, tmp_path, slots=1, patience_s=20.0, grace_s=0.5, progress=told.append
    )
    backend.start(segment("stuck"))
    backend.poll(1.0)
    backend.stop("stuck")
    (end,) = ends(backend, 1)
    assert isinstance(end, AttemptLost)
    awaited = [line for line in told if line.startswith("waiting for stuck to come to a point")]
    assert 1 <= len(awaited) <= 6
    backend.close()


def test_a_stop_waits_for_a_point_as_long_as_the_trial_has_ever_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second segment is stopped before its own first point, which is far away."""
    backend, _ = backend_on(monkeypatch, tmp_path, slots=1, patience_s=20.0, grace_s=0.05)
    backend.start(segment("far", steps=2))
    (end,) = ends(backend, 1)
    assert isinstance(end, SegmentEnded)
    backend.start(Started(trial="far", attempt=2, until=6 * STEP, resume_from=end.checkpoint))
    backend.poll(0.05)
    backend.stop("far")
    (end,) = ends(backend, 1)
    assert isinstance(end, SegmentEnded), end
    assert end.stopped
    backend.close()


def stack(backend: RayBackend, *trials: str, attempt: int = 1, steps: int = 6) -> None:
    keys = tuple((trial, attempt) for trial in trials)
    for trial in trials:
        backend.start(
            Started(trial=trial, attempt=attempt, until=steps * STEP, stack=keys),
        )


def kinds(reports: list[Report]) -> dict[str, str]:
    told = {AttemptLost: "lost", SegmentEnded: "ended"}
    return {r.trial: getattr(r, "cause", told.get(type(r), "?")) for r in reports}


def test_a_stack_waits_for_a_worker_and_who_is_stopped_meanwhile_leaves_it(
    crippled: tuple[RayBackend, Twin],
) -> None:
    backend, _ = crippled
    stack(backend, "good", "good2", "bursts", attempt=2)
    backend.stop("good2")
    reports = ends(backend, 4)
    assert kinds(reports[:1]) == {"good2": "interrupted"}
    assert {r.trial for r in reports} == {"slow", "good", "good2", "bursts"}
    assert kinds(reports)["good"] == "ended"


def test_of_a_stack_that_does_not_come_to_a_point_all_are_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those that were not told to stop have not failed: the worker was killed under them."""
    backend, _ = backend_on(monkeypatch, tmp_path, slots=1, patience_s=20.0, grace_s=0.3)
    stack(backend, "stuck", "good", steps=9)
    points = 0
    while points < 4:  # the third step of the first of them never ends
        points += len(backend.poll(0.05))
    backend.poll(0.3)
    backend.stop("good")
    reports = ends(backend, 2)
    assert kinds(reports) == {"good": "interrupted", "stuck": "interrupted"}
    assert all("good did not stop within" in getattr(r, "reason", "") for r in reports)
    backend.start(segment("good2"))
    assert kinds(ends(backend, 1)) == {"good2": "ended"}
    backend.close()


def test_a_begin_and_a_stop_of_a_stack_that_are_lost_are_sent_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend, twin = backend_on(monkeypatch, tmp_path, slots=1, patience_s=20.0)
    (worker,) = twin.workers
    worker.cut()
    stack(backend, "slow", "slow2", steps=30)
    backend.poll(0.05)
    worker.restored()
    while not backend.poll(0.05):
        pass
    worker.cut()
    backend.stop("slow2")
    backend.poll(0.05)
    worker.restored()
    reports = {r.trial: r for r in ends(backend, 2)}
    slow, slow2 = reports["slow"], reports["slow2"]
    assert isinstance(slow, SegmentEnded) and isinstance(slow2, SegmentEnded)
    assert (slow.stopped, slow2.stopped) == (False, True)
    assert slow.tokens == 30 * STEP > slow2.tokens
    backend.close()


def test_a_worker_that_dies_loses_its_whole_stack_where_each_stood(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend, twin = backend_on(monkeypatch, tmp_path, slots=1, patience_s=20.0)
    (worker,) = twin.workers
    stack(backend, "slow", "slow2", steps=30)
    reached: dict[str, int] = {}
    while len(reached) < 2:
        reached |= {r.trial: r.point.tokens for r in backend.poll(0.05)}  # pyright: ignore[reportAttributeAccessIssue]
    worker.dead = True
    lost = ends(backend, 2)
    assert kinds(lost) == {"slow": "died", "slow2": "died"}
    assert {r.trial: r.reached for r in lost if isinstance(r, AttemptLost)} == reached
    stack(backend, "slow", "slow2", attempt=2)
    assert kinds(ends(backend, 2)) == {"slow": "ended", "slow2": "ended"}
    backend.close()


def test_workers_of_several_precisions_are_refused() -> None:
    check_precision([])
    check_precision(["bf16", "bf16"])
    with pytest.raises(BackendError, match=r"in bf16 and fp32.*state trial.precision"):
        check_precision(["bf16", "fp32", "bf16"])
