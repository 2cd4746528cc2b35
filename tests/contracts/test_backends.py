"""What every backend promises, whatever runs behind it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from orchestrator.backends.base import Backend, BackendError, Report
from orchestrator.backends.inline import InlineBackend
from orchestrator.backends.replay import ReplayBackend
from orchestrator.events import AttemptLost, Diverged, PointReported, SegmentEnded, Started
from orchestrator.recorded import RecordedCurve
from orchestrator.values import Checkpoint
from tests.orchestrator.backends.fakes import BEHAVIOURS, STEP, fake_train, pool

ENDS = (SegmentEnded, AttemptLost, Diverged)
PATIENCE_S = 60.0


@dataclass
class Place:
    """A backend under test and the attempts that were made on it."""

    backend: Backend
    live: bool
    attempts: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def start(
        self,
        trial: str,
        *,
        steps: int = 6,
        resume_from: Checkpoint | None = None,
        branch: int | None = None,
    ) -> Started:
        segment = Started(
            trial=trial,
            attempt=next(self.attempts),
            until=steps * STEP,
            resume_from=resume_from,
            branch=branch,
        )
        self.backend.start(segment)
        return segment

    def start_stack(self, *trials: str, steps: int = 6) -> list[Started]:
        """Several segments as one, in one slot."""
        keys = tuple((trial, next(self.attempts)) for trial in trials)
        segments = [
            Started(trial=trial, attempt=attempt, until=steps * STEP, stack=keys)
            for trial, attempt in keys
        ]
        for segment in segments:
            self.backend.start(segment)
        return segments

    def hear(self, *segments: Started, stop_at_first: str | None = None) -> list[Report]:
        """All reports until each segment has ended; stops a trial at its first point."""
        waiting = {(segment.trial, segment.attempt) for segment in segments}
        heard: list[Report] = []
        deadline = time.monotonic() + PATIENCE_S
        while waiting and time.monotonic() < deadline:
            for report in self.backend.poll(0.5):
                heard.append(report)
                if isinstance(report, ENDS):
                    waiting.discard((report.trial, report.attempt))
                elif report.trial == stop_at_first:
                    self.backend.stop(report.trial)
                    stop_at_first = None
        assert not waiting, f"no end of {waiting} among {heard}"
        return heard


def opened(name: str, storage: Path) -> Place:
    candidates = pool()
    if name == "inline":
        backend = InlineBackend(candidates, storage, slots=2, train=fake_train)
        return Place(backend, live=True)
    if name == "replay":
        tokens = np.arange(1, 41) * STEP
        curves = {
            trial: RecordedCurve(
                curve_id=trial, tokens=tokens, flops=tokens * 600.0, loss=2 + 100 / tokens
            )
            for trial in BEHAVIOURS
        }
        return Place(ReplayBackend(curves, candidates, slots=2, batch=1), live=False)
    from orchestrator.backends.ray import RayBackend
    from tests.orchestrator.backends import ray_nodes

    ray_nodes.joined()
    backend = RayBackend(candidates, storage, slots=2, gpus_per_trial=0, train=fake_train)
    return Place(backend, live=True)


@pytest.fixture(scope="module", params=["inline", "replay", "ray"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    made = opened(request.param, tmp_path_factory.mktemp(request.param))
    yield made
    made.backend.close()


def of(segment: Started, reports: list[Report]) -> list[Report]:
    key = (segment.trial, segment.attempt)
    return [report for report in reports if (report.trial, report.attempt) == key]


def tokens(reports: list[Report]) -> list[int]:
    return [report.point.tokens for report in reports if isinstance(report, PointReported)]


def test_it_says_where_it_is(place: Place) -> None:
    assert place.backend.environment.slots == 2
    assert place.backend.environment.facts


def test_a_segment_is_its_points_in_order_and_then_one_end(place: Place) -> None:
    segment = place.start("good")
    *points, end = place.hear(segment)
    assert tokens(points) == [k * STEP for k in range(1, 7)]
    assert all(isinstance(report, PointReported) for report in points)
    assert isinstance(end, SegmentEnded)
    assert (end.trial, end.attempt, end.tokens, end.stopped) == (
        "good",
        segment.attempt,
        6 * STEP,
        False,
    )
    assert end.checkpoint is not None
    assert end.checkpoint.tokens == 6 * STEP
    assert not Path(end.checkpoint.path).is_absolute()


def test_nothing_is_said_when_nothing_runs(place: Place) -> None:
    began = time.monotonic()
    assert place.backend.poll(0.1) == []
    assert time.monotonic() - began < 2.0


def test_a_stopped_segment_ends_at_its_next_point_with_a_checkpoint(place: Place) -> None:
    segment = place.start("slow", steps=40)
    reports = place.hear(segment, stop_at_first="slow")
    end = reports[-1]
    assert isinstance(end, SegmentEnded)
    assert end.stopped
    assert end.tokens == tokens(reports)[-1] < 40 * STEP
    assert end.checkpoint is not None
    assert end.checkpoint.tokens == end.tokens


def test_a_checkpoint_is_gone_on_from(place: Place) -> None:
    first = place.hear(place.start("good2", steps=4))[-1]
    assert isinstance(first, SegmentEnded)
    reports = place.hear(place.start("good2", steps=7, resume_from=first.checkpoint))
    assert tokens(reports) == [5 * STEP, 6 * STEP, 7 * STEP]


def test_segments_run_side_by_side(place: Place) -> None:
    segments = [place.start("slow"), place.start("slow2")]
    reports = place.hear(*segments)
    for segment in segments:
        own = of(segment, reports)
        assert tokens(own) == [k * STEP for k in range(1, 7)]
        assert sum(isinstance(report, ENDS) for report in own) == 1
        assert isinstance(own[-1], SegmentEnded)
    first_end = next(i for i, report in enumerate(reports) if isinstance(report, ENDS))
    assert {report.trial for report in reports[:first_end]} == {"slow", "slow2"}


def test_stopping_what_does_not_run_is_harmless(place: Place) -> None:
    place.backend.stop("nan")
    assert place.backend.poll(0.1) == []


def test_a_branch_runs_beside_its_trunk(place: Place) -> None:
    if not place.live:
        pytest.skip("recorded curves have no branches")
    end = place.hear(place.start("slow", steps=2))[-1]
    assert isinstance(end, SegmentEnded)
    trunk = place.start("slow", steps=5, resume_from=end.checkpoint)
    branch = place.start("slow", steps=4, resume_from=end.checkpoint, branch=0)
    reports = place.hear(trunk, branch)
    assert tokens(of(trunk, reports)) == [3 * STEP, 4 * STEP, 5 * STEP]
    assert tokens(of(branch, reports)) == [3 * STEP, 4 * STEP]
    phases = {r.point.phase for r in of(branch, reports) if isinstance(r, PointReported)}
    assert phases == {"annealed"}


@pytest.mark.parametrize(
    ("trial", "kind", "points"),
    [("raises", AttemptLost, 2), ("nan", Diverged, 2), ("rises", Diverged, 3)],
)
def test_failures_are_told_once_and_the_slot_is_free_again(
    place: Place, trial: str, kind: type, points: int
) -> None:
    if not place.live:
        pytest.skip("recorded curves do not fail")
    reports = place.hear(place.start(trial))
    assert len(tokens(reports)) == points
    assert [type(report) for report in reports[points:]] == [kind]
    again = place.hear(place.start("good"), place.start("good2"))
    assert sum(isinstance(report, SegmentEnded) for report in again) == 2


def test_what_can_never_run_is_refused(place: Place) -> None:
    with pytest.raises(BackendError, match="nobody"):
        place.start("nobody")
    segments = [place.start("slow"), place.start("slow2")]
    with pytest.raises(BackendError, match="all 2 slots are taken"):
        place.start("good")
    place.hear(*segments)


def test_a_stack_takes_one_slot_and_each_of_it_is_told_for_itself(place: Place) -> None:
    if not place.live:
        pytest.skip("recorded curves are not stacked")
    stack = place.start_stack("slow", "good", "slow2")
    single = place.start("good2")  # in the other slot
    reports = place.hear(*stack, single)
    for segment in (*stack, single):
        *points, end = of(segment, reports)
        assert tokens(points) == [k * STEP for k in range(1, 7)]
        assert isinstance(end, SegmentEnded) and not end.stopped
        assert end.checkpoint is not None and segment.trial in end.checkpoint.path
    place.hear(place.start("good"), place.start("good2"))  # both slots are free again


def test_one_of_a_stack_stops_and_the_others_go_on(place: Place) -> None:
    if not place.live:
        pytest.skip("recorded curves are not stacked")
    stack = place.start_stack("slow", "good", "slow2", steps=20)
    reports = place.hear(*stack, stop_at_first="good")
    ends = [of(segment, reports)[-1] for segment in stack]
    assert all(isinstance(end, SegmentEnded) for end in ends)
    assert [end.stopped for end in ends if isinstance(end, SegmentEnded)] == [False, True, False]
    left = ends[1]
    assert isinstance(left, SegmentEnded) and left.checkpoint is not None
    again = place.hear(place.start("good", steps=20, resume_from=left.checkpoint))
    assert tokens(again)[0] == left.tokens + STEP


@pytest.mark.parametrize(("trial", "ends"), [("nan", "alone"), ("raises", "with all")])
def test_of_a_stack_one_diverges_alone_and_an_error_ends_all(
    place: Place, trial: str, ends: str
) -> None:
    if not place.live:
        pytest.skip("recorded curves do not fail")
    stack = place.start_stack("slow", trial, "slow2")
    reports = place.hear(*stack)
    kinds = [type(of(segment, reports)[-1]) for segment in stack]
    if ends == "alone":
        assert kinds == [SegmentEnded, Diverged, SegmentEnded]
    else:
        assert kinds == [AttemptLost, AttemptLost, AttemptLost]
    place.hear(place.start("good"), place.start("good2"))


@pytest.mark.parametrize("name", ["inline", "replay", "ray"])
def test_nothing_is_said_after_closing(name: str, tmp_path: Path) -> None:
    place = opened(name, tmp_path)
    place.start("slow", steps=40)
    assert place.backend.poll(10.0)
    place.backend.close()
    assert place.backend.poll(0.2) == []
    place.backend.close()
