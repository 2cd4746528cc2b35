"""One segment: reports become events, exceptions a lost attempt, and only dead files go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.backends import attempts, worker
from orchestrator.backends.base import Report
from orchestrator.events import AttemptLost, Diverged, PointReported, SegmentEnded, Started
from orchestrator.values import Checkpoint
from tests.orchestrator.backends.fakes import STEP, fake_train, pool


def run(segment: Started, storage: Path, stop_after: int | None = None) -> list[Report]:
    heard: list[Report] = []

    def stop() -> bool:
        return stop_after is not None and len(heard) >= stop_after

    reports = worker.run_segment(
        segment,
        config=pool().train_config(segment.trial),
        storage=storage,
        stop=stop,
        train=fake_train,
    )
    for report in reports:
        heard.append(report)
    return heard


def started(
    trial: str = "good", attempt: int = 1, until: int = 5 * STEP, **more: object
) -> Started:
    return Started(trial=trial, attempt=attempt, until=until, **more)  # type: ignore[arg-type]


def at(attempt: int, steps: int, suffix: str = "") -> Checkpoint:
    tokens = steps * STEP
    path = f"trials/good/attempt-{attempt}{suffix}/tokens-{tokens:015d}"
    return Checkpoint(tokens=tokens, path=path)


def test_a_segment_is_its_points_and_one_end(tmp_path: Path) -> None:
    *points, end = run(started(), tmp_path)
    assert [p.point.tokens for p in points if isinstance(p, PointReported)] == [
        STEP * k for k in (1, 2, 3, 4, 5)
    ]
    assert [p.checkpoint for p in points if isinstance(p, PointReported)] == [
        None,
        at(1, 2),
        None,
        at(1, 4),
        at(1, 5),
    ]
    assert end == SegmentEnded(trial="good", attempt=1, tokens=5 * STEP, checkpoint=at(1, 5))
    assert isinstance(points[0], PointReported)
    assert points[0].point.train_loss is None, "a figure that is no number is not reported"


def test_a_stop_ends_at_the_next_point_with_a_checkpoint(tmp_path: Path) -> None:
    reports = run(started(), tmp_path, stop_after=2)
    assert reports[-1] == SegmentEnded(
        trial="good", attempt=1, tokens=3 * STEP, checkpoint=at(1, 3), stopped=True
    )


def test_a_stop_heard_at_the_target_was_not_needed(tmp_path: Path) -> None:
    end = run(started(), tmp_path, stop_after=4)[-1]
    assert isinstance(end, SegmentEnded)
    assert not end.stopped


def test_an_attempt_goes_on_from_its_checkpoint_in_a_folder_of_its_own(tmp_path: Path) -> None:
    run(started(), tmp_path)
    reports = run(started(attempt=2, until=7 * STEP, resume_from=at(1, 4)), tmp_path)
    assert isinstance(reports[0], PointReported)
    assert reports[0].point.tokens == 5 * STEP
    assert isinstance(reports[-1], SegmentEnded)
    assert reports[-1].checkpoint == at(2, 7)


def test_an_annealing_branch_says_so_and_leaves_the_trunk(tmp_path: Path) -> None:
    run(started(), tmp_path)
    before = sorted(tmp_path.rglob("tokens-*"))
    reports = run(started(attempt=2, until=7 * STEP, resume_from=at(1, 5), branch=0), tmp_path)
    assert isinstance(reports[0], PointReported)
    assert reports[0].point.phase == "annealed"
    assert isinstance(reports[-1], SegmentEnded)
    assert reports[-1].checkpoint == at(2, 7, "-branch-0")
    assert set(before) <= set(tmp_path.rglob("tokens-*"))


def test_a_raise_is_a_lost_attempt_with_its_place(tmp_path: Path) -> None:
    *points, end = run(started("raises"), tmp_path)
    assert len(points) == 2
    assert isinstance(end, AttemptLost)
    assert (end.cause, end.reached) == ("error", 2 * STEP)
    assert end.reason.startswith("RuntimeError: the loss fell off the table (backends/fakes.py:")


def test_a_long_message_is_cut(tmp_path: Path) -> None:
    assert len(worker.reason_of(ValueError("x" * 10_000))) < 500


@pytest.mark.parametrize(
    ("trial", "points", "words"),
    [
        ("nan", 2, "the loss was nan after 192"),
        ("rises", 3, "the loss rose to 9 after 192 tokens and stayed up"),
        ("bursts", 3, "the training loss was inf on the way to 192 tokens"),
    ],
)
def test_divergence_is_told_after_the_points(
    tmp_path: Path, trial: str, points: int, words: str
) -> None:
    *before, end = run(started(trial), tmp_path)
    assert len(before) == points
    assert isinstance(end, Diverged)
    assert end.tokens == 3 * STEP
    assert words in end.reason


def test_an_attempt_folder_is_never_shared(tmp_path: Path) -> None:
    run(started(), tmp_path)
    (end,) = run(started(), tmp_path)
    assert isinstance(end, AttemptLost)
    assert "attempt 1 was started before" in end.reason


@pytest.mark.parametrize(
    "path", ["../elsewhere/tokens-1", "/etc", "trials/good/attempt-1/tokens-absent", ""]
)
def test_a_checkpoint_that_is_not_there_is_a_lost_attempt(tmp_path: Path, path: str) -> None:
    (end,) = run(started(attempt=2, resume_from=Checkpoint(tokens=STEP, path=path)), tmp_path)
    assert isinstance(end, AttemptLost)
    assert end.reached == STEP
    assert "checkpoint" in end.reason


def test_a_trial_cannot_leave_the_storage(tmp_path: Path) -> None:
    segment = Started(trial="..", attempt=1, until=STEP)
    with pytest.raises(ValueError, match="no name for a folder"):
        attempts.attempt_folder(segment, tmp_path)


def left(storage: Path, attempt: str) -> list[int]:
    folder = storage / "trials/good" / attempt
    return [int(p.name.removeprefix("tokens-")) // STEP for p in sorted(folder.glob("tokens-*"))]


def test_only_what_nothing_needs_is_removed(tmp_path: Path) -> None:
    run(started(until=9 * STEP), tmp_path)
    assert left(tmp_path, "attempt-1") == [2, 4, 6, 8, 9]
    run(started(attempt=2, until=12 * STEP, resume_from=at(1, 4), branch=0), tmp_path)
    run(started(attempt=3, until=20 * STEP, resume_from=at(1, 9)), tmp_path)
    assert left(tmp_path, "attempt-1") == [2, 4, 6, 8, 9], "attempt 1 wrote what 3 began at"
    run(started(attempt=4, until=22 * STEP, resume_from=at(3, 20)), tmp_path)
    assert left(tmp_path, "attempt-1") == [4, 9], "a branch's origin and the last of the attempt"
    assert left(tmp_path, "attempt-2-branch-0") == [6, 8, 10, 12]
    assert left(tmp_path, "attempt-3") == [11, 13, 15, 17, 19, 20]


def test_links_and_strangers_are_left_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "tokens-000000000000001").mkdir(parents=True)
    storage = tmp_path / "sweep"
    run(started(until=9 * STEP), storage)
    trial = storage / "trials/good"
    (trial / "attempt-0").symlink_to(elsewhere)
    (trial / "attempt-1" / "tokens-000000000000000").symlink_to(elsewhere)
    (trial / "notes").mkdir()
    run(started(attempt=2, until=12 * STEP, resume_from=at(1, 9)), storage)
    run(started(attempt=3, until=14 * STEP, resume_from=at(2, 12)), storage)
    assert (elsewhere / "tokens-000000000000001").is_dir()
    assert (trial / "attempt-1" / "tokens-000000000000000").is_symlink()
    assert left(storage, "attempt-1") == [0, 9]


def test_an_origin_that_cannot_be_read_keeps_everything(tmp_path: Path) -> None:
    run(started(until=9 * STEP), tmp_path)
    run(started(attempt=2, until=12 * STEP, resume_from=at(1, 9)), tmp_path)
    origin = tmp_path / "trials/good/attempt-2/origin.json"
    assert json.loads(origin.read_text()) == {"checkpoint": at(1, 9).path, "tokens": 9 * STEP}
    origin.write_text("{")
    run(started(attempt=3, until=14 * STEP, resume_from=at(2, 12)), tmp_path)
    assert left(tmp_path, "attempt-1") == [2, 4, 6, 8, 9]
