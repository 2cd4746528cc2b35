"""Ray as its backend calls it, in this process: workers to place, to lose and to cut off at will.

The seats are real benches; what a network and a cluster do to calls is what a test says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError

from orchestrator.backends.bench import Bench
from orchestrator.backends.cluster import Cluster, Node
from orchestrator.backends.ray import RayBackend
from tests.orchestrator.backends.fakes import fake_train, pool

TICK_S = 0.01


@dataclass(eq=False)
class Call:
    """A call under way: what it will do on its worker, done when its answer is asked for."""

    worker: Worker
    method: str
    work: Callable[[], Any]
    lost: bool = False

    @property
    def ready(self) -> bool:
        if self.lost or self.worker.dead:
            return True
        return self.worker.placed and (self.method != "reports" or bool(self.work()))

    def answer(self) -> Any:
        if self.worker.dead:
            raise self.worker.why or ActorDiedError
        if self.lost:
            raise ActorUnavailableError("nobody knows", None)
        return self.work()


@dataclass(eq=False)
class Worker:
    """An actor's handle. `placed` once the cluster had room for it."""

    bench: Bench
    placed: bool
    dead: bool = False
    cut_off: bool = False
    why: Exception | None = None
    calls: list[Call] = field(default_factory=list[Call])

    def cut(self) -> None:
        """What is under way, and all that follows until `restored`, goes astray."""
        self.cut_off = True
        for call in self.calls:
            call.lost = True

    def restored(self) -> None:
        self.cut_off = False

    def __getattr__(self, method: str) -> Any:
        return Method(self, method)


@dataclass
class Method:
    worker: Worker
    name: str

    def remote(self, *arguments: Any) -> Call:
        if self.name == "reports":
            after, _, stopped = arguments
            arguments = (after, 0.0, stopped)
        work = getattr(self.worker.bench, self.name)
        call = Call(self.worker, self.name, lambda: work(*arguments), lost=self.worker.cut_off)
        self.worker.calls.append(call)
        return call


@dataclass
class Twin:
    """The cluster: `room` for so many workers, of `cpus` where others have taken some."""

    storage: Path
    room: int
    cpus: int = 0
    workers: list[Worker] = field(default_factory=list[Worker])
    own: bool = True
    has_gpus: bool = False
    told: str = "the cluster has what a test gave it"

    def lose(self, worker: Worker) -> None:
        """Its node is gone, for good."""
        worker.dead = True
        self.room -= 1

    def sent(self, method: str) -> list[Call]:
        return [call for worker in self.workers for call in worker.calls if call.method == method]

    # what the backend asks of `ray`

    def remote(self, _: type) -> Twin:
        return self

    def options(self, **_: Any) -> HiredFrom:
        return HiredFrom(self)

    def get(self, call: Call) -> Any:
        return call.answer()

    def wait(
        self, calls: Sequence[Call], *, num_returns: int, timeout: float
    ) -> tuple[list[Call], list[Call]]:
        time.sleep(min(TICK_S, timeout))
        ready = [call for call in calls if call.ready]
        return ready, [call for call in calls if not call.ready]

    # what it asks of its cluster

    def nodes_for(self, cpus: float, gpus: float) -> list[Node]:
        return [Node(id="0" * 6, name="here", cpus=float(self.cpus or self.room), gpus=0.0)]

    def admit(self, *_: Any) -> None: ...

    def kill(self, worker: Worker | None, ground: None = None) -> None:
        if worker is not None:
            worker.dead = True

    def close(self, seats: Sequence[tuple[Worker | None, None]]) -> None:
        for worker, _ in seats:
            self.kill(worker)


@dataclass
class HiredFrom:
    twin: Twin

    def remote(self, storage: str, train: Any, *, gpus: float) -> Worker:
        placed = sum(not worker.dead for worker in self.twin.workers) < self.twin.room
        worker = Worker(Bench(storage, train), placed=placed)
        self.twin.workers.append(worker)
        return worker


def backend_on(
    monkeypatch: pytest.MonkeyPatch,
    storage: Path,
    *,
    slots: int,
    patience_s: float,
    room: int | None = None,
    **more: Any,
) -> tuple[RayBackend, Twin]:
    """A backend whose workers all came, or of whom as many came as there was `room` for; and the
    cluster below it."""
    twin = Twin(storage, room=slots if room is None else room, cpus=slots)
    monkeypatch.setattr(Cluster, "open", lambda *_: twin)
    for name in ("remote", "get", "wait"):
        monkeypatch.setattr(ray, name, getattr(twin, name))
    backend = RayBackend(
        pool(), storage, slots=slots, patience_s=patience_s, train=fake_train, **more
    )
    return backend, twin
