"""What only a cluster can do: lose workers and nodes, run short of GPUs, share no storage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from orchestrator.backends.base import BackendError, Report
from orchestrator.backends.cluster import Cluster
from orchestrator.backends.ray import RayBackend
from orchestrator.events import AttemptLost, PointReported, SegmentEnded, Started
from tests.orchestrator.backends import ray_nodes
from tests.orchestrator.backends.fakes import STEP, fake_train, pool
from trainers.config import DataConfig
from trainers.corpus import prepare

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def nodes() -> Any:
    return ray_nodes.joined()


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def backend(nodes: Any, tmp_path: Path, told: list[str]) -> Iterator[RayBackend]:
    made = RayBackend(
        pool(),
        tmp_path,
        slots=1,
        gpus_per_trial=0,
        grace_s=0.5,
        train=fake_train,
        progress=told.append,
    )
    yield made
    made.close()


def hear(backend: RayBackend, until: type = SegmentEnded) -> list[Report]:
    """All reports up to the first of a kind."""
    heard: list[Report] = []
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        heard += backend.poll(0.5)
        if heard and isinstance(heard[-1], until):
            return heard
    raise AssertionError(f"no {until.__name__} within {PATIENCE_S} s among {heard}")


def test_a_killed_workers_trial_goes_on_as_a_new_attempt(
    backend: RayBackend, tmp_path: Path, told: list[str]
) -> None:
    backend.start(Started(trial="dies-once", attempt=1, until=9 * STEP))
    *points, lost = hear(backend, AttemptLost)
    assert isinstance(lost, AttemptLost)
    assert (lost.cause, lost.reached) == ("died", 5 * STEP)
    pid = (tmp_path / "trials/dies-once/attempt-1/pid").read_text()
    assert f"worker {pid}" in lost.reason
    assert any("starting another" in line for line in told)
    checkpoints = [p.checkpoint for p in points if isinstance(p, PointReported) and p.checkpoint]
    assert checkpoints[-1].tokens == 4 * STEP

    backend.start(
        Started(trial="dies-once", attempt=2, until=9 * STEP, resume_from=checkpoints[-1])
    )
    reports = hear(backend)
    assert [r.point.tokens // STEP for r in reports if isinstance(r, PointReported)] == [
        5,
        6,
        7,
        8,
        9,
    ]
    assert (tmp_path / "trials/dies-once/attempt-2/pid").read_text() != pid


def test_a_killed_workers_stack_is_lost_whole_and_each_of_it_goes_on(
    backend: RayBackend, tmp_path: Path
) -> None:
    trials = ("dies-once", "slow")
    for trial in trials:
        stack = tuple((each, 1) for each in trials)
        backend.start(Started(trial=trial, attempt=1, until=9 * STEP, stack=stack))
    heard: list[Report] = []
    while sum(isinstance(report, AttemptLost) for report in heard) < 2:
        heard += hear(backend, AttemptLost)
    lost = [report for report in heard if isinstance(report, AttemptLost)]
    assert {(end.trial, end.cause) for end in lost} == {(trial, "died") for trial in trials}
    for trial in trials:
        saved = [
            point.checkpoint
            for point in heard
            if isinstance(point, PointReported) and point.trial == trial and point.checkpoint
        ]
        assert saved[-1].tokens == 4 * STEP
        backend.start(Started(trial=trial, attempt=2, until=9 * STEP, resume_from=saved[-1]))
        points = [r.point.tokens for r in hear(backend) if isinstance(r, PointReported)]
        assert points == [k * STEP for k in range(5, 10)]


def test_a_segment_that_does_not_stop_is_killed_and_its_slot_used_again(
    backend: RayBackend, tmp_path: Path
) -> None:
    backend.start(Started(trial="stuck", attempt=1, until=9 * STEP))
    while not backend.poll(0.5):
        pass
    began = time.monotonic()
    backend.stop("stuck")
    lost = hear(backend, AttemptLost)[-1]
    assert isinstance(lost, AttemptLost)
    assert lost.cause == "interrupted"
    assert "did not stop" in lost.reason
    assert time.monotonic() - began < 15
    backend.start(Started(trial="good", attempt=1, until=2 * STEP))
    hear(backend)


def test_an_answer_that_is_lost_on_the_way_is_asked_for_again(
    backend: RayBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.exceptions import ActorUnavailableError

    get, lost = ray.get, 0

    def sometimes(call: Any) -> Any:
        nonlocal lost
        answer = get(call)
        if lost < 3:  # `begin`, then pulls
            lost += 1
            raise ActorUnavailableError("nobody knows", None)
        return answer

    monkeypatch.setattr(ray, "get", sometimes)
    backend.start(Started(trial="good", attempt=1, until=9 * STEP))
    reports = hear(backend)
    assert lost == 3
    assert [r.point.tokens // STEP for r in reports if isinstance(r, PointReported)] == list(
        range(1, 10)
    )


def test_a_request_that_no_node_can_meet_is_refused_at_once(nodes: Any, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(BackendError, match=r"asks for 4 GPUs and 1 CPUs, and no node has them"):
        RayBackend(pool(), tmp_path, gpus_per_trial=4, train=fake_train)
    with pytest.raises(BackendError, match=r"4 CPUs and 2 GPUs.*lower gpus_per_trial"):
        RayBackend(pool(), tmp_path, cpus_per_trial=5, gpus_per_trial=0, train=fake_train)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"slots": 0}, "slots must be at least 1"),
        ({"cpus_per_trial": -1}, "give 0 or more"),
        ({"gpus_per_trial": 1.5}, "whole ones only"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(
    tmp_path: Path, request_: dict[str, Any], words: str
) -> None:
    with pytest.raises(BackendError, match=words):
        RayBackend(pool(), tmp_path, train=fake_train, **request_)


def test_workers_that_find_no_room_are_done_without_after_a_while(
    nodes: Any, tmp_path: Path, told: list[str]
) -> None:
    backend = RayBackend(
        pool(),
        tmp_path,
        slots=3,
        cpus_per_trial=4,
        gpus_per_trial=0,
        patience_s=6,
        train=fake_train,
        progress=told.append,
    )
    try:
        assert backend.environment.slots == 2
        assert told[-1].startswith("going on with 2 slots: 1 workers did not come within 6 s")
    finally:
        backend.close()


def test_two_trials_share_a_gpu(nodes: Any, tmp_path: Path) -> None:
    backend = RayBackend(pool(), tmp_path, slots=2, gpus_per_trial=0.5, train=fake_train)
    try:
        assert ray.available_resources()["GPU"] == 3.0
        segments = [Started(trial=t, attempt=1, until=6 * STEP) for t in ("slow", "slow2")]
        for segment in segments:
            backend.start(segment)
        hear(backend)
        given = [(tmp_path / f"trials/{s.trial}/attempt-1/gpus").read_text() for s in segments]
        assert given[0] == given[1]
        assert given[0].isdigit()
    finally:
        backend.close()


def test_storage_that_a_node_does_not_share_is_refused(nodes: Any) -> None:
    # The same words, another place on each node: they stand in folders of their own.
    mine = Path(f"/proc/self/cwd/sweep-{os.getpid()}")
    try:
        with pytest.raises(BackendError) as refusal:
            RayBackend(pool(), mine, slots=1, gpus_per_trial=0, train=fake_train)
    finally:
        assert list(mine.iterdir()) == [], "the proof is cleared away"
        mine.rmdir()
    second = nodes.list_all_nodes()[-1].node_id
    assert f"{second[:6]}) does not reach the sweep's storage {mine}" in str(refusal.value)


def test_other_versions_on_a_node_are_refused(nodes: Any, tmp_path: Path) -> None:
    cluster = Cluster(own=False, connected=False, tell=lambda _: None)
    with pytest.raises(BackendError, match=r"node .* has torch .* and the driver has 0\.1"):
        cluster.prove(cluster.nodes, tmp_path, {"torch": "0.1"})
    assert list(tmp_path.iterdir()) == []


LOCAL = """
import json, os, signal, sys, time
from pathlib import Path

def handler(*_): pass
signal.signal(signal.SIGTERM, handler)

from orchestrator.backends.ray import RayBackend
from orchestrator.events import PointReported, SegmentEnded, Started
from orchestrator.pool import Pool
from orchestrator.values import Candidate
from trainers.config import TrainConfig
import psutil

storage, text = Path(sys.argv[1]), sys.argv[2]
config = TrainConfig.model_validate(dict(
    model=dict(layers=1, width=16, context=32),
    data=dict(source=text, cache=str(storage / "cache"), max_epochs=100, held_out=0.3),
    evaluation=dict(tokens=256, points=8), batch_tokens=256, horizon=2048, device="cpu"))
candidate = Candidate(
    id="tiny", params=1000, horizon=2048, flops_per_token=6e3, tokens_per_step=256)
backend = RayBackend(Pool(candidates=(candidate,), configs=(config,)), storage, slots=2)
below = psutil.Process().children(recursive=True)
listening = {c.laddr.ip for p in below for c in p.net_connections("tcp") if c.status == "LISTEN"}
backend.start(Started(trial="tiny", attempt=1, until=2048))
reports, deadline = [], time.monotonic() + 120
while not (reports and not isinstance(reports[-1], PointReported)) and time.monotonic() < deadline:
    reports += backend.poll(0.5)
assert isinstance(reports[-1], SegmentEnded), reports[-1]
next(p for p in below if p.cmdline()[0].startswith("ray::Seat")).kill()
deadline = time.monotonic() + 4
while time.monotonic() < deadline:
    assert backend.poll(0.5) == []
below += psutil.Process().children(recursive=True)
began = time.monotonic()
backend.close()
closing_s = time.monotonic() - began
_, alive = psutil.wait_procs(below, timeout=5)
print(json.dumps(dict(
    slots=backend.environment.slots, facts=dict(backend.environment.facts),
    tokens=[r.point.tokens for r in reports[:-1]], end=type(reports[-1]).__name__,
    checkpoint=(storage / reports[-1].checkpoint.path).is_dir(), listening=sorted(listening),
    processes=len(below), alive=[p.name() for p in alive], closing_s=closing_s,
    handler=signal.getsignal(signal.SIGTERM) is handler, torch="torch" in sys.modules)))
"""


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i}.txt").write_text(f"{i} is a number and so is {i * i}. " * 40)
    return folder


def local(storage: Path, text: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-c", LOCAL, str(storage), str(text)],
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=220,
    )


@pytest.mark.timeout(240)
def test_a_cluster_of_its_own_trains_quietly_on_loopback_and_leaves_nothing(
    tmp_path: Path, text: Path
) -> None:
    ran = local(tmp_path, text)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    found = json.loads(ran.stdout)  # that alone, though a worker was killed
    assert found["slots"] == 2
    assert found["facts"].keys() >= {
        "frontrunner",
        "torch",
        "ray",
        "python",
        "device",
        "precision",
    }
    digest = prepare(DataConfig(source=str(text), cache=tmp_path / "again", held_out=0.3)).digest
    assert found["facts"][f"data {text}"] == digest[:16]
    assert found["tokens"][-1] == 2048
    assert found["end"] == "SegmentEnded"
    assert found["checkpoint"]
    assert all(ip in ("127.0.0.1", "::1", "::ffff:127.0.0.1") for ip in found["listening"])
    assert found["processes"] > 4
    assert found["alive"] == []
    assert found["closing_s"] < 15
    assert found["handler"], "Ray's handler of SIGTERM is not left behind"
    assert not found["torch"], "the driver's process needs no torch"


def test_data_that_are_not_there_are_refused_before_anything_trains(
    tmp_path: Path, nodes: Any
) -> None:
    configs = [
        config.model_copy(
            update={"data": config.data.model_copy(update={"source": "/no/such/text"})}
        )
        for config in pool().configs
    ]
    absent = type(pool())(candidates=pool().candidates, configs=tuple(configs))
    with pytest.raises(BackendError, match=r"'/no/such/text' cannot be prepared on node"):
        RayBackend(absent, tmp_path, slots=1, gpus_per_trial=0)


@pytest.mark.slow
def test_a_cluster_that_refuses_the_token_says_so(nodes: Any, tmp_path: Path, text: Path) -> None:
    ran = local(tmp_path, text, RAY_ADDRESS=nodes.address, RAY_AUTH_TOKEN="c" * 64)
    assert "BackendError: cannot join the Ray cluster" in ran.stderr
    assert "RAY_AUTH_TOKEN" in ran.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_lost_node_is_a_lost_attempt_and_another_takes_over(nodes: Any, tmp_path: Path) -> None:
    big = {**ray_nodes.NODE, "num_gpus": 4}
    third = nodes.add_node(**big)
    backend = RayBackend(pool(), tmp_path, slots=1, gpus_per_trial=4, train=fake_train)
    fourth = None
    try:
        backend.start(Started(trial="slow", attempt=1, until=40 * STEP))
        while not backend.poll(0.5):
            pass
        nodes.remove_node(third, allow_graceful=False)
        fourth = nodes.add_node(**big)
        lost = hear(backend, AttemptLost)[-1]
        assert isinstance(lost, AttemptLost)
        assert lost.cause == "died"
        backend.start(Started(trial="slow", attempt=2, until=4 * STEP))
        hear(backend)
    finally:
        backend.close()
        if fourth is not None:
            nodes.remove_node(fourth)
