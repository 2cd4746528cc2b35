"""Several processes for one trial: placed together, trained as one, lost as one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator import demand
from orchestrator.backends import sharing
from orchestrator.backends.base import BackendError, Report
from orchestrator.backends.bench import UnfitError
from orchestrator.backends.ray import RayBackend
from orchestrator.backends.seats import Follower, Seat, SharedSeat
from orchestrator.backends.sharing import Failure, Part, PartError
from orchestrator.events import AttemptLost, PointReported, SegmentEnded, Started
from orchestrator.pool import Pool
from orchestrator.values import Candidate, Checkpoint
from tests.orchestrator.backends import ray_nodes
from tests.orchestrator.backends.fakes import STEP, fake_train, pool
from trainers.config import TrainConfig
from trainers.loop import train

PATIENCE_S = 60.0
BATCH = 256
END = 50 * BATCH  # beyond, rounding grows with the training


@pytest.fixture(scope="module")
def nodes() -> Any:
    return ray_nodes.joined()


def tiny_config(tmp_path_factory: pytest.TempPathFactory, *, points: int) -> TrainConfig:
    """Eight sequences a batch, of a text that is made here."""
    text, cache = tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("cache")
    for i in range(40):
        (text / f"{i}.txt").write_text(f"{i} is a number and so is {i * i}. " * 40)
    return TrainConfig.model_validate(
        {
            "model": {"layers": 1, "width": 16, "context": 32},
            "data": {
                "source": str(text),
                "cache": str(cache),
                "max_epochs": 1000,
                "held_out": 0.3,
            },
            "evaluation": {"tokens": 512, "points": points},
            "checkpoint": {"every_s": 0.05},
            "schedule": {"warmup": 0.1},
            "batch_tokens": BATCH,
            "horizon": END,
            "device": "cpu",
            "precision": "fp32",
        }
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return tiny_config(tmp_path_factory, points=32)


def pool_of(*configs: TrainConfig) -> Pool:
    candidates = tuple(
        Candidate(
            id=f"tiny{i}",
            params=1000,
            horizon=config.horizon,
            flops_per_token=6e3,
            tokens_per_step=config.batch_tokens,
        )
        for i, config in enumerate(configs)
    )
    return Pool(candidates=candidates, configs=configs)


@pytest.fixture
def opened(nodes: Any, tmp_path: Path) -> Iterator[Callable[..., RayBackend]]:
    made: list[RayBackend] = []

    def open_(candidates: Pool, **options: Any) -> RayBackend:
        made.append(RayBackend(candidates, tmp_path, **options))
        return made[-1]

    yield open_
    for backend in made:
        backend.close()


def hear(
    backend: RayBackend, count: int = 1, at_point: Callable[[], None] = lambda: None
) -> list[Report]:
    """All reports up to so many ends; `at_point` is called once, at a point."""
    heard: list[Report] = []
    deadline = time.monotonic() + PATIENCE_S
    ends = 0
    while ends < count and time.monotonic() < deadline:
        new = backend.poll(0.5)
        if new and not heard:
            at_point()
        heard += new
        ends = sum(not isinstance(report, PointReported) for report in heard)
    assert ends == count, f"{count} ends were due within {PATIENCE_S} s, heard {heard}"
    return heard


def losses(reports: list[Report]) -> dict[int, float]:
    return {r.point.tokens: r.point.loss for r in reports if isinstance(r, PointReported)}


def newest(reports: list[Report]) -> Checkpoint:
    return [r.checkpoint for r in reports if isinstance(r, PointReported) and r.checkpoint][-1]


def followers() -> list[psutil.Process]:
    """Processes that train beside the first of a trial, below this one or its cluster."""
    found: list[psutil.Process] = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            ours = process.name().startswith("ray::Follower")
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@pytest.mark.timeout(240)
def test_two_processes_train_as_one_and_are_lost_as_one(
    opened: Callable[..., RayBackend], tiny: TrainConfig, tmp_path: Path
) -> None:
    backend = opened(pool_of(tiny), slots=1, gpus_per_trial=0, processes_per_trial=2)
    backend.start(Started(trial="tiny0", attempt=1, until=END))
    first = hear(backend, at_point=lambda: backend.stop("tiny0"))
    assert isinstance(first[-1], SegmentEnded)
    assert first[-1].stopped
    assert first[-1].tokens < END

    (victim,) = followers()
    backend.start(Started(trial="tiny0", attempt=2, until=END, resume_from=first[-1].checkpoint))
    second = hear(backend, at_point=victim.kill)
    lost = second[-1]
    assert isinstance(lost, AttemptLost)
    assert (lost.attempt, lost.cause) == (2, "died")
    assert "lost process 2 of 2, which died" in lost.reason
    assert lost.reached < END

    backend.start(
        Started(trial="tiny0", attempt=3, until=END, resume_from=newest([*first, *second]))
    )
    third = hear(backend)
    assert isinstance(third[-1], SegmentEnded)
    assert third[-1].tokens == END
    together = losses(first) | losses(second) | losses(third)

    folder = tmp_path / "alone"
    alone = {report.tokens: report.loss for report in train(tiny, until=END, folder=folder)}
    assert together.keys() == alone.keys()
    assert together == pytest.approx(alone, abs=1e-5)
    rest = train(tiny, until=END, folder=tmp_path / "rest", resume=tmp_path / newest(first).path)
    assert [r.loss for r in rest][-1] == pytest.approx(alone[END], abs=1e-5)


@pytest.mark.slow
def test_what_a_process_raises_is_told_and_the_seat_goes_on(
    opened: Callable[..., RayBackend], tiny: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demand, "_check_batch", lambda *_: None)
    odd = tiny.model_copy(update={"batch_tokens": 3 * 32, "horizon": 96 * 20})
    backend = opened(pool_of(tiny, odd), slots=1, gpus_per_trial=0, processes_per_trial=2)
    backend.start(Started(trial="tiny1", attempt=1, until=960))
    (lost,) = hear(backend)
    assert isinstance(lost, AttemptLost)
    assert lost.cause == "error"
    assert "3 sequences of a batch do not part evenly among 2 workers" in lost.reason
    backend.start(Started(trial="tiny0", attempt=1, until=16 * BATCH))
    assert isinstance(hear(backend)[-1], SegmentEnded)


def test_trials_of_two_gpus_are_placed_whole_and_given_back(
    opened: Callable[..., RayBackend], tmp_path: Path
) -> None:
    import ray

    backend = opened(pool(), gpus_per_trial=2, train=fake_train)
    assert backend.environment.slots == 2, "two on each of two nodes"
    assert ray.available_resources().get("GPU", 0.0) == 0.0
    trials = ("slow", "slow2")
    for trial in trials:
        backend.start(Started(trial=trial, attempt=1, until=6 * STEP))
    assert all(
        isinstance(r, PointReported | SegmentEnded) for r in hear(backend, count=len(trials))
    )
    for trial in trials:
        given = (tmp_path / f"trials/{trial}/attempt-1/gpus").read_text()
        assert given.isdigit(), "each process sees the one that is its own"
    backend.close()
    deadline, free = time.monotonic() + 20, {}
    while time.monotonic() < deadline:
        free = ray.available_resources()
        if (free.get("GPU"), free.get("CPU")) == (4.0, 8.0) and not followers():
            break
        time.sleep(0.2)
    assert (free.get("GPU"), free.get("CPU")) == (4.0, 8.0)
    assert followers() == []


def test_a_process_that_dies_while_nothing_runs_costs_no_attempt(
    opened: Callable[..., RayBackend],
) -> None:
    told: list[str] = []
    backend = opened(
        pool(),
        slots=1,
        gpus_per_trial=0,
        processes_per_trial=2,
        train=fake_train,
        progress=told.append,
    )
    (victim,) = followers()
    victim.kill()
    deadline = time.monotonic() + PATIENCE_S
    while not any("starting another" in line for line in told) and time.monotonic() < deadline:
        assert backend.poll(0.2) == []
    assert any("lost process 2 of 2" in line for line in told)
    backend.start(Started(trial="good", attempt=1, until=2 * STEP))
    assert isinstance(hear(backend)[-1], SegmentEnded)


def test_what_cannot_be_shared_is_refused_before_any_process_is_hired(
    nodes: Any, tmp_path: Path, tiny: TrainConfig
) -> None:
    odd = tiny.model_copy(update={"batch_tokens": 3 * 32})
    cases: tuple[tuple[Pool, dict[str, Any], str], ...] = (
        (pool_of(tiny, odd), {"processes_per_trial": 2}, "do not share 3 sequences, the batch of"),
        (pool_of(tiny), {"processes_per_trial": 3}, "do not share 8 sequences"),
        (pool_of(tiny), {"gpus_per_trial": 4}, "asks for 4 GPUs and 1 CPUs, and no node has them"),
        (pool_of(tiny), {"processes_per_trial": 0}, "must be at least 1"),
        (pool_of(tiny), {"processes_per_trial": 4, "gpus_per_trial": 2}, "each process takes one"),
        (pool_of(tiny), {"processes_per_trial": 1, "gpus_per_trial": 2}, "one process uses one"),
    )
    for candidates, options, words in cases:
        with pytest.raises(BackendError, match=words):
            RayBackend(candidates, tmp_path, **options)


@pytest.mark.parametrize(("gpus", "seen"), [(0.0, ""), (0.5, "3"), (1.0, "3")])
def test_an_actor_without_gpus_sees_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gpus: float, seen: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    Seat(str(tmp_path), None, gpus=gpus)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    Follower(gpus)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


def test_who_fails_for_good_gives_up_the_seat_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: TrainConfig
) -> None:
    """Over nccl the others wait for it until they are killed, and cannot tell."""

    def fails(part: Part, stop: Callable[[], bool]) -> Iterator[Any]:
        raise PartError(Failure(rank=0, at_s=0.0, reason="disk full", final=True), 2)
        yield

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(sharing, "take_part", fails)
    monkeypatch.setattr(SharedSeat, "_attend", lambda *_: None)
    monkeypatch.setattr(SharedSeat, "_settled", lambda *_: [])
    seat = SharedSeat(str(tmp_path), None, None, (0, 1), {"GPU": 1.0})
    seat.begin([Started(trial="tiny0", attempt=1, until=END)], [tiny])
    with pytest.raises(UnfitError, match="process 1 of 2: disk full"):
        seat.reports(0, 10.0)
