"""One segment on several processes of one machine: what each of them is told, and does.

The other caller of `trainers.loop.train` beside `worker`: the same call on every process, and the
first one's reports are the segment's. Touches what the trainer touches, and the machine's loopback
device, on which alone the processes meet.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from orchestrator.backends import worker

if TYPE_CHECKING:
    from trainers.own import RunConfig

_LOOPBACK = ("lo", "lo0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One process's share of a segment. `meeting` is a file that only this segment's know."""

    config: RunConfig
    until: int
    folder: Path
    resume: Path | None
    anneal: bool
    meeting: Path
    rank: int
    processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a process raised, and when, on the machine's monotonic clock: where one fails, the
    others do too, and the first is the cause. After a `final` one it can join no other group
    (`trainers.distributed.joined`), and the others may wait for it in vain."""

    rank: int
    at_s: float
    reason: str
    final: bool = False


class PartError(RuntimeError):
    """A process of several could not do its part."""

    def __init__(self, failure: Failure, processes: int) -> None:
        super().__init__(f"process {failure.rank + 1} of {processes}: {failure.reason}")
        self.failure = failure


def never() -> bool:
    """The stop that the leading process alone is asked for."""
    return False


def take_part(part: Part, stop: Callable[[], bool] = never) -> Iterator[worker.TrainReport]:
    """Train this process's share, together with the others. Raises PartError."""
    from trainers.config import TrainConfig
    from trainers.device import choose_device
    from trainers.distributed import joined
    from trainers.loop import train

    config = cast("TrainConfig", part.config)
    device = choose_device(config).device.type
    keep_to_this_machine()
    with joined(part.rank, part.processes, f"file://{part.meeting}", device) as group:
        try:
            yield from train(
                config,
                until=part.until,
                folder=part.folder,
                resume=part.resume,
                anneal=part.anneal,
                stop=stop,
                group=group,
            )
        except Exception as error:  # told before the others see their connection closed
            reason = worker.reason_of(error)
            failure = Failure(
                rank=part.rank, at_s=time.monotonic(), reason=reason, final=device == "cuda"
            )
            raise PartError(failure, part.processes) from error


def keep_to_this_machine() -> None:
    """Have gloo and nccl meet on the loopback device, unless the environment says otherwise."""
    names = {name for _, name in socket.if_nameindex()}
    loopback = next((name for name in _LOOPBACK if name in names), None)
    if loopback is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
