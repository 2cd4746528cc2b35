"""The worker that lives on: calls may be repeated, and nothing is written ahead of the journal."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.backends import worker
from orchestrator.backends.base import Report
from orchestrator.backends.bench import Bench, UnfitError
from orchestrator.events import AttemptLost, PointReported, SegmentEnded, Started
from tests.orchestrator.backends.fakes import STEP, fake_train, pool

CONFIG = pool().train_config("good")


def segment(attempt: int = 1, steps: int = 6) -> Started:
    return Started(trial="good", attempt=attempt, until=steps * STEP)


def read(bench: Bench, after: int = 0) -> list[Report]:
    """Everything until the segment's end, acknowledged as it comes."""
    heard: list[Report] = []
    while not heard or isinstance(heard[-1], PointReported):
        for number, report in bench.reports(after, 10.0):
            after = number
            heard.append(report)
    return heard


def test_a_segment_is_read_to_its_end(tmp_path: Path) -> None:
    bench = Bench(str(tmp_path), fake_train)
    assert dict(bench.arrive(CONFIG).facts)["torch"]
    bench.begin([segment()], [CONFIG])
    *points, end = read(bench)
    assert len(points) == 6
    assert isinstance(end, SegmentEnded)


def test_no_checkpoint_is_written_ahead_of_an_acknowledgement(tmp_path: Path) -> None:
    bench = Bench(str(tmp_path), fake_train)
    bench.begin([segment()], [CONFIG])
    folder = tmp_path / "trials/good/attempt-1"
    numbers: list[int] = []
    while len(numbers) < 2:
        numbers = [number for number, _ in bench.reports(0, 10.0)]
    time.sleep(0.3)
    assert numbers == [1, 2]
    assert len(list(folder.glob("tokens-*"))) == 1, "the checkpoint of report 2, and no other"
    assert [number for number, _ in bench.reports(1, 10.0)] == [2], "still not acknowledged"
    assert len(list(folder.glob("tokens-*"))) == 1
    read(bench, after=2)
    assert len(list(folder.glob("tokens-*"))) == 3


def test_calls_may_be_repeated(tmp_path: Path) -> None:
    bench = Bench(str(tmp_path), fake_train)
    for _ in range(3):
        bench.begin([segment()], [CONFIG])
    first = bench.reports(0, 10.0)
    assert bench.reports(0, 0.0)[: len(first)] == first
    bench.stop("good", 7)
    bench.stop("good", 1)
    bench.stop("good", 1)
    end = read(bench)[-1]
    assert isinstance(end, SegmentEnded)
    assert end.stopped


def test_a_lost_call_to_stop_is_made_up_for_by_the_next_pull(tmp_path: Path) -> None:
    bench = Bench(str(tmp_path), fake_train)
    bench.begin([segment(steps=40)], [CONFIG])
    bench.reports(0, 10.0, [("good", 1)])
    end = read(bench)[-1]
    assert isinstance(end, SegmentEnded)
    assert end.tokens < 40 * STEP


def test_a_second_segment_is_numbered_on(tmp_path: Path) -> None:
    bench = Bench(str(tmp_path), fake_train)
    bench.begin([segment(1)], [CONFIG])
    read(bench)
    bench.begin([segment(2)], [CONFIG])
    reports = bench.reports(7, 10.0)
    assert reports[0][0] == 8
    assert reports[0][1].attempt == 2


def test_a_begin_that_arrives_late_begins_nothing_again(tmp_path: Path) -> None:
    """The network may deliver a call after its repetition, and after what followed."""
    bench = Bench(str(tmp_path), fake_train)
    bench.begin([segment(1)], [CONFIG])
    read(bench)
    bench.begin([segment(2, steps=40)], [CONFIG])
    bench.begin([segment(1)], [CONFIG])
    reports = read(bench, after=7)
    assert {report.attempt for report in reports} == {2}
    assert isinstance(reports[-1], SegmentEnded)


def test_an_exit_in_the_trainer_is_told(tmp_path: Path) -> None:
    def exits(*_: Any, **__: Any) -> Iterator[Any]:
        raise SystemExit("the library meant well")
        yield

    bench = Bench(str(tmp_path), exits)
    bench.begin([segment()], [CONFIG])
    (report,) = read(bench)
    assert isinstance(report, AttemptLost)
    assert report.cause == "error"


def test_a_worker_that_is_unfit_tells_its_points_and_no_end(tmp_path: Path) -> None:
    """What befell the segment is then the driver's to say, as for a worker that died."""
    bench = Bench(str(tmp_path), fake_train)
    bench.begin([segment(steps=1)], [CONFIG])
    while not bench.reports(0, 10.0):
        pass
    bench.fail("lost a hand")
    assert [type(report) for _, report in bench.reports(0, 0.0)] == [PointReported]
    with pytest.raises(UnfitError, match="lost a hand"):
        bench.reports(1, 0.0)
    time.sleep(0.2)  # the end is laid out meanwhile
    with pytest.raises(UnfitError, match="lost a hand"):
        bench.reports(1, 0.0)


def stack(*trials: str, attempt: int = 1, steps: int = 6) -> list[Started]:
    keys = tuple((trial, attempt) for trial in trials)
    return [
        Started(trial=trial, attempt=attempt, until=steps * STEP, stack=keys) for trial in trials
    ]


def read_all(bench: Bench, count: int, after: int = 0) -> list[Report]:
    """Everything until so many segments have ended, acknowledged as it comes."""
    heard: list[Report] = []
    while sum(not isinstance(report, PointReported) for report in heard) < count:
        for number, report in bench.reports(after, 10.0):
            after = number
            heard.append(report)
    return heard


def test_of_a_stack_each_is_told_stopped_and_ended_for_itself(tmp_path: Path) -> None:
    bench = Bench(str(tmp_path), fake_train)
    both = stack("good", "good2", steps=40)
    for _ in range(2):
        bench.begin(both, [CONFIG, CONFIG])
    bench.reports(0, 10.0)
    bench.stop("good2", 1)
    heard = read_all(bench, 2)
    ends = {report.trial: report for report in heard if isinstance(report, SegmentEnded)}
    assert ends["good"].tokens == 40 * STEP and not ends["good"].stopped
    assert ends["good2"].tokens < 40 * STEP and ends["good2"].stopped
    assert ends["good2"].checkpoint is not None
    points = [r.point.tokens for r in heard if isinstance(r, PointReported) and r.trial == "good"]
    assert points == [k * STEP for k in range(1, 41)]


def test_no_member_of_a_stack_writes_ahead_of_an_acknowledgement(tmp_path: Path) -> None:
    bench = Bench(str(tmp_path), fake_train)
    bench.begin(stack("good", "good2"), [CONFIG, CONFIG])
    numbers: list[int] = []
    while len(numbers) < 3:
        numbers = [number for number, _ in bench.reports(0, 10.0)]
    time.sleep(0.3)
    assert len(bench.reports(0, 0.0)) == 3, "two first points, and one with a checkpoint"
    assert len(list(tmp_path.glob("trials/*/attempt-1/tokens-*"))) == 1
    read_all(bench, 2)


def test_an_exit_in_a_stack_is_told_of_each(tmp_path: Path) -> None:
    def exits(*_: Any, **__: Any) -> Iterator[Any]:
        raise SystemExit("the library meant well")
        yield

    bench = Bench(str(tmp_path), exits)
    bench.begin(stack("good", "good2"), [CONFIG, CONFIG])
    reports = read_all(bench, 2)
    assert [(type(r), r.trial) for r in reports] == [(AttemptLost, "good"), (AttemptLost, "good2")]


def test_all_jobs_run_in_one_thread(tmp_path: Path) -> None:
    """torch keeps CUDA graphs by thread."""
    threads: set[int] = set()

    def noting(*arguments: Any, **options: Any) -> Iterator[Any]:
        threads.add(threading.get_ident())
        yield from fake_train(*arguments, **options)

    bench = Bench(str(tmp_path), noting)
    for attempt in (1, 2, 3):
        bench.begin([segment(attempt)], [CONFIG])
        read(bench, after=7 * (attempt - 1))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("fault", [None, "CUDA error: device-side assert triggered"])
def test_a_worker_whose_gpu_is_gone_begins_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str | None
) -> None:
    """Else every segment that comes to it would fail at once, whoever's it is."""

    def fails(*_: Any, **__: Any) -> Iterator[Any]:
        raise RuntimeError("index out of bounds")
        yield

    monkeypatch.setattr(worker, "device_fault", lambda: fault)
    bench = Bench(str(tmp_path), fails)
    bench.begin([segment()], [CONFIG])
    if fault is None:
        (report,) = read(bench)
        assert isinstance(report, AttemptLost)
        return
    with pytest.raises(UnfitError, match=r"lost its GPU \(CUDA error: device-side.*of bounds"):
        read(bench)


def test_a_gpu_is_asked_only_where_torch_has_used_one() -> None:
    assert worker.device_fault() is None
