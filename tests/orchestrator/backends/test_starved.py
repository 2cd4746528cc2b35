"""A worker that Ray killed because its node ran out of memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.exceptions import OutOfMemoryError

from orchestrator.events import AttemptLost, Started
from tests.orchestrator.backends.fakes import STEP
from tests.orchestrator.backends.ray_twin import backend_on
from tests.orchestrator.backends.test_seats import ends

# As Ray 2.60 tells it, of a node that ran over its threshold.
TOLD = """1 worker(s) were killed due to the node running low on memory. Memory on the node \
(IP: 192.0.2.2, ID: f21918) was 22.64GB used / 23.54GB limit (0.961767)
OOM kill reason: Memory usage 24309837209B exceeded threshold of 24012684984B (95.0%)
Ray killed 1 worker(s) based on the killing policy"""


@pytest.mark.parametrize(
    ("trials", "cause"), [(("slow",), "died"), (("slow", "slow2"), "crowded")]
)
def test_it_is_told_with_a_remedy_and_a_stack_is_too_large(
    trials: tuple[str, ...], cause: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend, twin = backend_on(monkeypatch, tmp_path, slots=1, patience_s=20.0)
    (worker,) = twin.workers
    stack = tuple((trial, 1) for trial in trials) if len(trials) > 1 else None
    for trial in trials:
        backend.start(Started(trial=trial, attempt=1, until=30 * STEP, stack=stack))
    while not backend.poll(0.05):
        pass
    worker.why, worker.dead = OutOfMemoryError(TOLD), True
    lost = ends(backend, len(trials))
    for report in lost:
        assert isinstance(report, AttemptLost)
        assert report.cause == cause
        assert "ran out of memory (22.64GB used / 23.54GB limit)" in report.reason
        assert "cpus_per_trial" in report.reason
    backend.close()
