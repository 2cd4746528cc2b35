"""Blocks of slots on nodes: how large they are, who sits where, and what becomes of a lost one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.backends import grounds, seats
from orchestrator.backends.bench import Bench
from orchestrator.backends.cluster import Node
from orchestrator.backends.grounds import block_sizes
from orchestrator.backends.ray import RayBackend
from orchestrator.demand import Demand, Takes, demand_of
from orchestrator.events import PointReported, SegmentEnded, Started
from orchestrator.resources import Steps
from orchestrator.values import Candidate
from tests.orchestrator.backends.fakes import STEP
from tests.orchestrator.backends.ray_twin import Twin, Worker, backend_on
from tests.orchestrator.backends.test_seats import ends

LONG = 20 * STEP
TWO_IF_LONG = Steps.model_validate({"by": "tokens", "0": 1, str(LONG): 2})


@pytest.mark.parametrize(
    ("rooms", "slots", "sizes"),
    [
        ((8, 8), None, (4, 4, 4, 4)),
        ((6, 4), None, (4, 4, 2)),
        ((3, 5), None, (4, 3, 1)),
        ((8, 8), 6, (4, 2)),
        ((4,), 12, (4, 4, 4)),
        ((5,), 10, (4, 1, 4, 1)),
    ],
)
def test_blocks_are_as_large_as_the_largest_and_whole_ones_come_first(
    rooms: tuple[int, ...], slots: int | None, sizes: tuple[int, ...]
) -> None:
    found = block_sizes(rooms, smallest=1, largest=4, share=1, slots=slots)
    assert found == sizes


def test_blocks_are_whole_gpus_and_hold_the_smallest() -> None:
    assert block_sizes((7,), smallest=1, largest=4, share=2, slots=None) == (4, 2)
    assert block_sizes((8,), smallest=1, largest=4, share=2, slots=5) == (4,)
    assert block_sizes((5,), smallest=2, largest=4, share=1, slots=None) == (4,)


def of(**steps: float) -> Demand:
    candidates = [
        Candidate(id=f"n{size}", params=size, horizon=10, flops_per_token=6.0) for size in (10, 99)
    ]
    given = Steps.model_validate({"by": "params", "0": steps["small"], "99": steps["large"]})
    return demand_of(candidates, (), gpus=given, cpus=2.0)


@pytest.mark.parametrize(
    ("small", "large"), [(0.25, 0.5), (0.25, 0.75), (0.4, 1), (0.7, 2), (0.5, 4), (1, 4), (0.3, 2)]
)
def test_blocks_take_the_gpus_that_the_node_has(small: float, large: float) -> None:
    demand = of(small=small, large=large)
    slot = demand.slot
    room = Node(id="a", name="a", cpus=256.0, gpus=8.0).room(slot.cpus, slot.gpus or 0.0)
    sizes = block_sizes(
        (room,), smallest=1, largest=demand.largest_slots, share=demand.share, slots=None
    )
    bundles = [bundle["GPU"] for size in sizes for bundle in seats.block(size, demand)]
    assert sum(bundles) == 8
    assert all(gpus == int(gpus) for gpus in bundles), "Ray reserves whole ones above one"
    assert max(sizes) >= demand.slots_of(demand.kinds[-1])


def test_a_node_holds_no_more_parts_of_gpus_than_each_gpu_does() -> None:
    node = Node(id="a", name="a", cpus=64.0, gpus=4.0)
    assert [node.room(1.0, gpus) for gpus in (0.25, 0.4, 0.7, 1.0, 3.0)] == [16, 8, 4, 4, 1]


def test_a_block_is_one_bundle_or_one_a_gpu_where_gpus_are_shared() -> None:
    assert seats.block(4, of(small=1, large=4)) == [{"CPU": 8.0, "GPU": 4.0}]
    assert seats.block(2, of(small=2, large=4)) == [{"CPU": 4.0, "GPU": 4.0}]
    assert seats.block(4, of(small=0.5, large=2)) == [{"CPU": 4.0, "GPU": 1.0}] * 2
    thirds = of(small=0.3, large=1)
    assert thirds.share == 3
    assert seats.block(3, thirds) == [{"CPU": 6.0, "GPU": 1.0}]


@dataclass(eq=False)
class Ground:
    """A reserved block of a node, which may go and come back."""

    slots: int
    gone: bool = False


@dataclass
class Place:
    backend: RayBackend
    twin: Twin
    blocks: list[Ground]

    def start(self, trial: str, until: int, *slots: int, attempt: int = 1) -> None:
        segment = Started(trial=trial, attempt=attempt, until=until, slots=slots)
        self.backend.start(segment)

    def sizes(self) -> list[int]:
        return sorted(len(member.slots) for member in self.backend._crew.members)  # pyright: ignore[reportPrivateUsage]

    def lose(self, block: int) -> None:
        """Its node is gone, with whoever worked there."""
        self.blocks[block].gone = True
        for worker in self.twin.workers:
            if getattr(worker, "ground", None) is self.blocks[block]:
                worker.dead, worker.placed = True, False


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    """Two nodes of two slots; segments from 20 steps on take two."""
    blocks: list[Ground] = []

    def hold(bundles: Sequence[Any]) -> Ground:
        blocks.append(Ground(int(bundles[0]["CPU"])))
        return blocks[-1]

    def hire(storage: Path, train: Any, takes: Takes, ground: Ground, places: Any) -> Any:
        worker = Worker(Bench(storage, train), placed=not ground.gone)
        worker.ground = ground  # pyright: ignore[reportAttributeAccessIssue]
        twin_of[0].workers.append(worker)
        return worker, None

    def nodes_for(twin: Twin, cpus: float, gpus: float) -> list[Node]:
        return [Node(id=name, name=name, cpus=2.0, gpus=0.0) for name in ("a", "b")]

    twin_of: list[Twin] = []
    original = Twin.__init__

    def noted(self: Twin, *given: Any, **more: Any) -> None:
        original(self, *given, **more)
        twin_of.append(self)

    monkeypatch.setattr(Twin, "__init__", noted)
    monkeypatch.setattr(Twin, "nodes_for", nodes_for)
    monkeypatch.setattr(seats, "hold", hold)
    monkeypatch.setattr(seats, "hire", hire)
    monkeypatch.setattr(seats, "is_held", lambda ground: not ground.gone)
    monkeypatch.setattr(grounds, "LOOK_EVERY_S", 0.05)
    backend, twin = backend_on(
        monkeypatch,
        tmp_path,
        slots=4,
        patience_s=20.0,
        gpus_per_trial=0,
        processes_per_trial=TWO_IF_LONG,
    )
    return Place(backend, twin, blocks)


def test_workers_make_room_for_one_another(place: Place) -> None:
    environment = place.backend.environment
    assert (environment.slots, environment.blocks, environment.share) == (4, (2, 2), 1)
    assert place.sizes() == [1, 1, 1, 1]
    place.start("good", 2 * STEP, 0)
    place.start("slow", LONG, 2, 3)
    assert place.sizes() == [1, 1, 2]
    first = ends(place.backend, 2)
    assert {type(end) for end in first} == {SegmentEnded}
    place.start("good2", 2 * STEP, 3)
    assert place.sizes() == [1, 1, 1], "only as many as are needed"
    ends(place.backend, 1)
    workers = len(place.twin.workers)
    place.start("good", 4 * STEP, 0, attempt=2)
    ends(place.backend, 1)
    assert len(place.twin.workers) == workers, "one that is there goes on"
    assert sum(not worker.dead for worker in place.twin.workers) == 3


def test_what_was_to_begin_on_a_lost_node_goes_where_there_is_room_and_is_not_overtaken(
    place: Place,
) -> None:
    place.start("slow", 10 * STEP, 0)
    place.lose(1)
    place.start("slow2", LONG, 2, 3)
    place.start("good", 2 * STEP, 1)
    assert isinstance(ends(place.backend, 1)[0], SegmentEnded), "good goes by"
    deadline = time.monotonic() + 10
    while not place.backend._crew.waits:  # pyright: ignore[reportPrivateUsage]
        place.backend.poll(0.05)
        assert time.monotonic() < deadline
    place.start("good2", 2 * STEP, 1)
    heard: list[str] = []
    while len(heard) < 3:
        new = [r for r in place.backend.poll(0.05) if not isinstance(r, PointReported)]
        heard += [report.trial for report in new]
        assert all(isinstance(report, SegmentEnded) for report in new)
        assert time.monotonic() < deadline + 10
    assert heard == ["slow", "slow2", "good2"], "the block that is left was kept for slow2"


def test_a_node_that_comes_back_is_used_again(place: Place) -> None:
    place.lose(1)
    place.start("slow", 10 * STEP, 0)
    place.start("slow2", LONG, 2, 3)
    for _ in range(4):
        place.backend.poll(0.05)
    place.blocks[1].gone = False
    for worker in place.twin.workers:
        worker.placed = True
    assert {r.trial for r in ends(place.backend, 2)} == {"slow", "slow2"}


def test_a_stop_reaches_what_has_no_seat_yet(place: Place) -> None:
    place.start("slow", 10 * STEP, 0)
    place.start("far", 10 * STEP, 2)
    place.start("slow2", LONG, 0, 1)
    place.backend.stop("slow2")
    lost, *_ = ends(place.backend, 1)
    assert (lost.trial, lost.cause) == ("slow2", "interrupted")  # pyright: ignore[reportAttributeAccessIssue]
    assert "before there was room" in lost.reason  # pyright: ignore[reportAttributeAccessIssue]
