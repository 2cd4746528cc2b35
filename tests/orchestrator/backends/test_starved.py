"""A worker that Ray, or the kernel, killed because its node ran out of memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError, RayTaskError

from orchestrator.backends import starving
from orchestrator.backends.base import BackendError, UnavailableError
from orchestrator.backends.ray import RayBackend
from orchestrator.backends.starving import KernelWatch, Kills, kernel_kills
from orchestrator.events import AttemptLost, Started
from tests.orchestrator.backends.fakes import STEP
from tests.orchestrator.backends.ray_twin import backend_on
from tests.orchestrator.backends.test_seats import ends

# As Ray 2.60 tells it, of a node that ran over its threshold.
TOLD = """1 worker(s) were killed due to the node running low on memory. Memory on the node \
(IP: 192.0.2.2, ID: f21918) was 22.64GB used / 23.54GB limit (0.961767)
OOM kill reason: Memory usage 24309837209B exceeded threshold of 24012684984B (95.0%)
Ray killed 1 worker(s) based on the killing policy"""


def training(
    trials: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> tuple[RayBackend, Any]:
    """A backend whose one worker trains these, several as a stack, and has told of it."""
    backend, twin = backend_on(monkeypatch, folder, slots=1, patience_s=20.0)
    (worker,) = twin.workers
    stack = tuple((trial, 1) for trial in trials) if len(trials) > 1 else None
    for trial in trials:
        backend.start(Started(trial=trial, attempt=1, until=30 * STEP, stack=stack))
    while not backend.poll(0.05):
        pass
    return backend, worker


@pytest.mark.parametrize(
    ("trials", "cause"), [(("slow",), "died"), (("slow", "slow2"), "crowded")]
)
def test_it_is_told_with_a_remedy_and_a_stack_is_too_large(
    trials: tuple[str, ...], cause: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend, worker = training(trials, monkeypatch, tmp_path)
    worker.why, worker.dead = OutOfMemoryError(TOLD), True
    lost = ends(backend, len(trials))
    for report in lost:
        assert isinstance(report, AttemptLost)
        assert report.cause == cause
        assert "ran out of memory (22.64GB used / 23.54GB limit)" in report.reason
        assert "cpus_per_trial" in report.reason
    backend.close()


# As Ray 2.60 tells it, of a worker that something else killed.
UNTOLD = """The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR \
Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file. Some \
common causes include: (1) the process was killed by the OOM killer, ..."""


@dataclass
class Counter:
    """The kernel's count of kills, as a worker and the driver read it."""

    place: str = "/sys/fs/cgroup/memory.events"
    count: int = 3

    def read(self) -> Kills:
        return Kills(place=self.place, count=self.count)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    found = Counter()
    for module in ("bench", "staffing"):
        monkeypatch.setattr(f"orchestrator.backends.{module}.kernel_kills", found.read)
    return found


@pytest.mark.parametrize(
    ("trials", "killed", "cause"),
    [(("slow",), 1, "died"), (("slow", "slow2"), 1, "crowded"), (("slow", "slow2"), 0, "died")],
)
def test_what_the_kernel_killed_meanwhile_is_told(
    trials: tuple[str, ...],
    killed: int,
    cause: str,
    counter: Counter,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    backend, worker = training(trials, monkeypatch, tmp_path)
    counter.count += killed
    worker.why, worker.dead = RayActorError(error_msg=UNTOLD), True
    for report in ends(backend, len(trials)):
        assert isinstance(report, AttemptLost)
        assert report.cause == cause
        assert "connection error code 2. End of file" in report.reason
        said = "meanwhile the kernel of its node killed a process for want of memory: let fewer"
        assert (said in report.reason) == bool(killed)
    backend.close()


def test_a_kill_is_told_of_deaths_of_that_time_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(starving.time, "monotonic", lambda: now)
    counts = {"a": 0, "b": 0}
    watch = KernelWatch(lambda node: Kills(place="/events", count=counts[node]))
    before = Kills(place="/events", count=0)
    assert watch.meanwhile("a", before) is None
    counts["a"] = 2
    now += 5.0
    assert "killed 2 processes" in (watch.meanwhile("a", before) or "")
    now += 5.0
    assert "killed 2 processes" in (watch.meanwhile("a", before) or ""), "both died of it"
    now += starving.TOGETHER_S + 1
    assert watch.meanwhile("a", before) is None, "it was told before"
    counts["a"] = 3
    assert "killed a process" in (watch.meanwhile("a", before) or "")
    assert watch.meanwhile("b", before) is None
    assert watch.meanwhile("a", None) is None
    assert watch.meanwhile("a", Kills(place="/other", count=0)) is None


def test_a_node_that_says_nothing_is_not_asked_for_each_of_its_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, asked = 1000.0, list[str]()
    monkeypatch.setattr(starving.time, "monotonic", lambda: now)
    watch = KernelWatch(asked.append)
    before = Kills(place="/events", count=0)
    for node in ("a", "a", "b", "a"):
        assert watch.meanwhile(node, before) is None
    assert asked == ["a", "b"]
    now += starving.TOGETHER_S + 1
    assert watch.meanwhile("a", before) is None
    assert asked == ["a", "b", "a"]


def test_what_the_kernel_kills_before_it_arrives_is_told_too(
    counter: Counter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[str] = []
    backend, twin = backend_on(
        monkeypatch, tmp_path, slots=1, patience_s=20.0, progress=told.append
    )
    (first,) = twin.workers
    first.why, first.dead = RayActorError(error_msg=UNTOLD), True
    twin.room = 0
    backend.poll(0.05)
    second = twin.workers[-1]
    assert second is not first and not second.placed
    counter.count += 1
    second.why, second.dead = RayActorError(error_msg=UNTOLD), True
    backend.poll(0.05)
    first_death, second_death = (line for line in told if "starting another" in line)
    assert "kernel" not in first_death
    assert second_death.startswith("a worker died") and "for want of memory" in second_death
    backend.close()


def test_a_worker_that_cannot_even_be_made_is_no_cluster_that_is_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend, twin = backend_on(monkeypatch, tmp_path, slots=1, patience_s=20.0)
    (worker,) = twin.workers
    cause = ModuleNotFoundError("No module named 'orchestrator'")
    made = RayTaskError("Seat.__init__", str(cause), cause, proctitle="ray::Seat", pid=7, ip="::1")
    worker.why, worker.dead = ActorDiedError(made), True
    with pytest.raises(BackendError, match=r"cannot begin: .* No module named 'orch") as refusal:
        backend.poll(0.05)
    assert not isinstance(refusal.value, UnavailableError)
    backend.close()


@pytest.mark.parametrize(
    ("groups", "file", "count"),
    [
        ("0::/system.slice/ray.service\n", "system.slice/ray.service/memory.events", 4),
        ("0::/../../kubepods/pod7\n", "memory.events", 4),
        ("4:memory:/docker/f7\n1:cpu:/docker/f7\n0::/\n", "memory/memory.oom_control", 4),
        ("4:memory:/ray\n0::/\n", "memory/ray/memory.oom_control", 4),
        ("1:cpu:/\n0::/\n", "nothing", None),
    ],
)
def test_the_count_is_found_where_each_system_keeps_it(
    groups: str, file: str, count: int | None, tmp_path: Path
) -> None:
    (tmp_path / "groups").write_text(groups)
    place = tmp_path / "mounted" / file
    place.parent.mkdir(parents=True)
    place.write_text("low 0\noom 9\noom_kill 4\noom_group_kill 1\n")
    found = kernel_kills(tmp_path / "groups", tmp_path / "mounted")
    assert found == (None if count is None else Kills(place=str(place), count=count))
    assert kernel_kills(tmp_path / "absent", tmp_path / "mounted") is None
