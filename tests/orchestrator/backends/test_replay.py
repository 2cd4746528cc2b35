"""The replay shows what was bought, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.backends.base import BackendError
from orchestrator.backends.replay import ReplayBackend, shown
from orchestrator.events import PointReported, SegmentEnded, Started
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve
from orchestrator.values import Candidate, Checkpoint

CURVE = RecordedCurve(
    curve_id="c",
    tokens=np.array([100, 1000, 10_000]),
    flops=np.array([600.0, 6000.0, 60_000.0]),
    loss=np.array([4.0, 2.0, 1.0]),
)
POOL = Pool(candidates=(CURVE.candidate("c"),))


def replay(until: int, resume: int = 0) -> list[PointReported | SegmentEnded]:
    backend = ReplayBackend({"c": CURVE}, POOL)
    at = Checkpoint(tokens=resume, path="x") if resume else None
    backend.start(Started(trial="c", attempt=1, until=until, resume_from=at))
    return [report for _ in range(20) for report in backend.poll(0)]  # type: ignore[misc]


def test_a_segment_shows_recorded_points_and_its_end_on_a_straight_line_in_logs() -> None:
    reports = replay(3163)
    points = [r.point for r in reports if isinstance(r, PointReported)]
    assert [p.tokens for p in points] == [100, 1000, 3163]
    assert points[-1].loss == pytest.approx(math.sqrt(2.0), rel=1e-4)
    assert points[-1].flops == 6 * 3163
    assert isinstance(reports[-1], SegmentEnded) and reports[-1].tokens == 3163


def test_a_resumed_segment_shows_only_what_lies_beyond_its_checkpoint() -> None:
    points = [r.point.tokens for r in replay(10_000, resume=1000) if isinstance(r, PointReported)]
    assert points == [10_000]


def test_nothing_is_shown_before_the_first_point() -> None:
    reports = replay(50)
    assert [type(r) for r in reports] == [SegmentEnded]


def test_showing_an_unbought_point_is_an_error() -> None:
    assert shown(CURVE, 1000, bought=1000) == pytest.approx(2.0)
    with pytest.raises(BackendError, match="never shows what was not paid for"):
        shown(CURVE, 1001, bought=1000)
    with pytest.raises(BackendError, match="10000 recorded"):
        shown(CURVE, 10_001, bought=20_000)


def test_a_candidate_without_a_curve_is_an_error_at_once() -> None:
    other = Candidate(id="d", params=1, horizon=10, flops_per_token=1.0)
    with pytest.raises(BackendError, match="no recorded curve for d"):
        ReplayBackend({"c": CURVE}, Pool(candidates=(other,)))


def test_the_virtual_clock_runs_by_compute() -> None:
    backend = ReplayBackend({"c": CURVE}, POOL, flops_per_s=6000.0)
    backend.start(Started(trial="c", attempt=1, until=10_000))
    while backend.poll(0):
        pass
    assert backend.clock() == pytest.approx(10.0)
