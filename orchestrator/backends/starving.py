"""Whether a worker died for want of memory, as far as its node's kernel tells.

Ray names a worker that its own monitor killed (`seats.starved`). Of one that the kernel killed it
sees a closed connection alone, neither signal nor exit code, as after any crash. But the kernel
counts its kills for each control group: `oom_kill` of `memory.events`, or of `memory.oom_control`
in version 1 (Linux, Documentation/admin-guide/cgroup-v2.rst). What was counted between a worker's
arrival and its death need not have been this worker, so it is told as what happened meanwhile.
Where the kernel kills a whole container, the node is gone and nobody is left to ask.

Touches the files of control groups.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TOGETHER_S = 60.0
REMEDY = (
    "let fewer trials run there (a larger resources.cpus_per_trial, fewer workers, fewer in "
    "lockstep), or use a smaller model"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kills:
    """How often the kernel has killed for want of memory, as the file `place` counts it."""

    place: str
    count: int


def kernel_kills(
    groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")
) -> Kills | None:
    """The count for the control group of this process; None where the kernel keeps none here (the
    root group of version 2, another system).

    A container sees its own group as the root, under whatever path the process reads of itself.
    """
    try:
        lines = groups.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root = mounted / controllers
        name = "memory.oom_control" if controllers else "memory.events"
        for place in (root / path.lstrip("/") / name, root / name):
            count = _counted(place)
            if count is not None:
                return Kills(place=str(place), count=count)
    return None


def _counted(place: Path) -> int | None:
    try:
        rows = [line.split() for line in place.read_text(encoding="ascii").splitlines()]
    except OSError:
        return None
    return next((int(count) for name, count in rows if name == "oom_kill"), None)


class KernelWatch:
    """What the kernels of a cluster's nodes killed, as `ask` reads it on the node of that id. A
    kill is told of the workers that die within `TOGETHER_S` of each other, not of one that dies
    later; and a node that said nothing is not asked again as long, since whoever asks waits.

    `begun` was counted before any worker came, where all of them sit on one node, and stands in
    for what a worker would have seen that died before its arrival.
    """

    def __init__(self, ask: Callable[[str], Kills | None], begun: Kills | None = None) -> None:
        self._ask = ask
        self._begun = begun
        self._read: dict[tuple[str, str], list[tuple[float, int]]] = {}
        self._silent: dict[str, float] = {}

    def meanwhile(self, node: str, before: Kills | None) -> str | None:
        """What to say beside the death of a worker on the node whose arrival saw `before`; None
        where no kill was counted since."""
        if self._begun is not None:
            node, before = "", before or self._begun
        kills = self._asked(node) if before is not None else None
        if before is None or kills is None or kills.place != before.place:
            return None
        now = time.monotonic()
        read = self._read.setdefault((node, kills.place), [])
        old = [count for at, count in read if now - at > TOGETHER_S]
        read.append((now, kills.count))
        killed = kills.count - max([before.count, *old])
        if killed <= 0:
            return None
        many = "a process" if killed == 1 else f"{killed} processes"
        return f"meanwhile the kernel of its node killed {many} for want of memory: {REMEDY}"

    def _asked(self, node: str) -> Kills | None:
        silent = self._silent.get(node)
        if silent is not None and time.monotonic() - silent <= TOGETHER_S:
            return None
        kills = self._ask(node)
        if kills is None:
            self._silent[node] = time.monotonic()
        return kills
