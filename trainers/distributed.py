"""Several processes training one network: each takes its share of every batch.

Gradients are added up over the processes before clipping, so that the update is that of one
process with the whole batch; the networks start equal and stay so. A checkpoint is written by the
first process alone and says nothing of the others: any number of workers resumes it. Touches the
network between the processes (gloo on CPUs, nccl on GPUs), through torch.distributed.

One flattened sum after the backward pass rather than DistributedDataParallel: at the sizes of a
sweep there is little to overlap, and the graph stays the one that a single process runs
(Li et al. 2020, PyTorch Distributed, has the other way).
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

TIMEOUT = timedelta(minutes=10)


class GroupError(ValueError):
    """A run cannot be shared between the processes as asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """This process's place among those that train one network. Alone, all of it does nothing."""

    rank: int = 0
    workers: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def share(self, count: int, of: str) -> slice:
        """This process's part of `count` equal things. Raises GroupError where some are left."""
        if count % self.workers:
            raise GroupError(
                f"{count} {of} do not part evenly among {self.workers} workers; "
                "use a multiple, or a number of workers that divides it"
            )
        size = count // self.workers
        return slice(self.rank * size, (self.rank + 1) * size)

    def add_up(self, parameters: Sequence[Tensor]) -> None:
        """Replace each process's gradients by their sum over all."""
        if self.workers == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        sums = flat.split([gradient.numel() for gradient in gradients])
        for gradient, total in zip(gradients, sums, strict=True):
            gradient.copy_(total.view_as(gradient))

    def summed(self, values: Tensor) -> Tensor:
        """The sum of each process's `values`."""
        if self.workers > 1:
            distributed.all_reduce(values)
        return values

    def agreed(self, wish: bool, device: torch.device) -> bool:
        """What the leading process wishes."""
        if self.workers == 1:
            return wish
        told = torch.tensor(int(wish), device=device)
        distributed.broadcast(told, src=0)
        return bool(told.item())


ALONE = Group()


@contextmanager
def joined(
    rank: int,
    workers: int,
    rendezvous: str,
    device: str = "cpu",
    *,
    local_rank: int | None = None,
) -> Generator[Group]:
    """Meet the other processes at `rendezvous` (`tcp://host:port` or `file:///path`).

    Every process calls it with its own rank, from 0. On `cuda` each takes one of the devices that
    it sees, by its `local_rank` among those of its machine (else by its rank); where each sees but
    one, that one. A process that fails inside leaves its nccl group as it is, and can join no
    other: taking it down is a call that all make, and the others may wait in a sum that never
    comes.
    """
    cuda = torch.device("cuda", _place(rank, local_rank)) if device == "cuda" else None
    if cuda is not None:
        torch.cuda.set_device(cuda)
    # Its functions take the group of the moment of its import as their default, and the first step
    # of an optimizer imports it: the group would outlive its end, and so would gloo's threads,
    # which may abort the process when Python shuts down under them.
    importlib.import_module("torch.distributed.nn.functional")
    distributed.init_process_group(
        "gloo" if cuda is None else "nccl",
        init_method=rendezvous,
        rank=rank,
        world_size=workers,
        timeout=TIMEOUT,
        device_id=cuda,
    )
    failed = False
    try:
        yield Group(rank=rank, workers=workers)
    except BaseException as error:
        failed = not isinstance(error, GeneratorExit)
        raise
    finally:
        if cuda is None or not failed:  # those of gloo see the connection closed
            distributed.destroy_process_group()


def _place(rank: int, local_rank: int | None) -> int:
    return (rank if local_rank is None else local_rank) % torch.cuda.device_count()


@contextmanager
def launched(device: str) -> Generator[Group]:
    """The group that a launcher (torchrun) told of in the environment; alone where none did.

    `device` is a configuration's: auto, cpu or cuda.
    """
    workers = int(os.environ.get("WORLD_SIZE", "1"))
    if workers == 1:
        yield ALONE
        return
    cuda = device != "cpu" and torch.cuda.is_available()
    rank, local_rank = int(os.environ["RANK"]), os.environ.get("LOCAL_RANK")
    with joined(
        rank,
        workers,
        "env://",
        "cuda" if cuda else "cpu",
        local_rank=None if local_rank is None else int(local_rank),
    ) as group:
        yield group
