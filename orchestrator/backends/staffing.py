"""What a cluster holds for a sweep, and what is made ready on it, before the first worker comes.

Touches what `cluster` and `seats` touch, and on each node the folder of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.backends import seats, worker
from orchestrator.backends.base import BackendError, TooLargeError
from orchestrator.backends.cluster import Cluster, Node, no_answer
from orchestrator.backends.grounds import Grounds, block_sizes
from orchestrator.backends.starving import KernelWatch, Kills, kernel_kills
from orchestrator.demand import Demand
from orchestrator.pool import Pool

if TYPE_CHECKING:
    from trainers.config import DataConfig

ANSWER_S = 10.0


def rooms_on(cluster: Cluster, demand: Demand, slots: int | None) -> list[tuple[Node, int]]:
    """The nodes on which trials can run, and how many slots each has when nothing else runs there.

    Raises TooLargeError where no node holds the largest trial, BackendError where the slots asked
    for do not fit on a cluster that cannot grow.
    """
    for kind in demand.kinds:
        cluster.nodes_for(kind.cpus, kind.gpus or 0.0)  # so that one trial's lack is told as such
    cpus, gpus = demand.slot.cpus, demand.slot.gpus or 0.0
    rooms = [(node, node.room(cpus, gpus)) for node in cluster.nodes_for(cpus, gpus)]
    largest = demand.largest_slots
    if max(room for _, room in rooms) < largest:
        raise TooLargeError(
            f"resources.{'gpus' if gpus else 'processes'}_per_trial",
            f"a trial of {demand.kinds[-1].said} takes {largest} slots of {gpus:g} GPUs and "
            f"{cpus:g} CPUs each, all on one node, and no node has so many: {cluster.told}; "
            "lower what the largest take, or cpus_per_trial",
        )
    room = sum(room for _, room in rooms)
    if cluster.own and slots is not None and slots > room:
        raise BackendError(
            f"{slots} slots of {gpus:g} GPUs and {cpus:g} CPUs do not fit: {cluster.told}; "
            f"use {room} slots, or a smaller gpus_per_trial"
        )
    return rooms


def grounds_on(rooms: Sequence[tuple[Node, int]], demand: Demand, slots: int | None) -> Grounds:
    """Blocks of slots reserved on the nodes, for trials that differ in what they take."""
    sizes = block_sizes(
        (room for _, room in rooms),
        smallest=demand.slots_of(demand.smallest),
        largest=demand.largest_slots,
        share=demand.share,
        slots=slots,
    )
    return Grounds.of(demand, sizes, lambda size: seats.hold(seats.block(size, demand)))


def kernel_watch(cluster: Cluster) -> KernelWatch:
    """Of the cluster's nodes; begins before the first worker comes, where that can be seen."""
    begun = kernel_kills() if cluster.own else None
    return KernelWatch(partial(_kills_on, cluster), begun)


def _kills_on(cluster: Cluster, node_id: str) -> Kills | None:
    """What the kernel of a node has killed; None where it does not say within `ANSWER_S`."""
    if cluster.own:
        return kernel_kills()
    nodes = [node for node in cluster.nodes if node.id == node_id]
    answers = cluster.on_each(nodes, kernel_kills, lambda _: (), timeout_s=ANSWER_S)
    return next((found for found in answers.values() if isinstance(found, Kills)), None)


def prepare_data(
    cluster: Cluster, pool: Pool, nodes: Sequence[Node]
) -> tuple[tuple[str, str], ...]:
    """The tokens, made on the first node, then found or made on the others; facts of them.

    Raises BackendError where a node cannot, or finds others, UnavailableError for one that is
    gone.
    """
    prepared: list[tuple[DataConfig, str]] = []
    for data in worker.sources(pool):
        digests: dict[str, object] = {}
        for some in (nodes[:1], nodes[1:]):
            digests |= cluster.on_each(some, worker.prepare_data, lambda _, d=data: (d,))
        for name, digest in digests.items():
            if isinstance(digest, Exception):
                raise no_answer(digest)(
                    f"the data {data.source!r} cannot be prepared on node {name}: {digest}"
                )
        if len(set(digests.values())) > 1:
            raise BackendError(
                f"the data {data.source!r} differ between nodes: "
                + ", ".join(f"{name} has {str(d)[:12]}" for name, d in digests.items())
                + "; give all nodes the same files and packages, or one shared data.cache"
            )
        prepared.append((data, str(next(iter(digests.values())))))
    return worker.data_facts(prepared)
