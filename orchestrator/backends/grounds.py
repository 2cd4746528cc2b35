"""Where workers sit in a sweep whose trials take different amounts: blocks reserved on nodes.

A block is as large as the largest trial, or what is left of a node beside such blocks. It is
reserved for the whole session, so that a change from small workers to a large one and back never
depends on what else runs in the cluster. The state says which slots a segment takes
(`orchestrator.placing`); here they are followed, and where the node below them is gone, the
segments that had not begun go where there is room, by the same rules.
Knows no engine: grounds are whatever the engine gives. Touches the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from orchestrator.backends.member import Job, Member
from orchestrator.demand import Demand, Takes
from orchestrator.events import AttemptLost
from orchestrator.placing import Floor

LOOK_EVERY_S = 5.0

Entry: TypeAlias = tuple[Job, Takes]
"""A job, and what its segments take."""


def block_sizes(
    rooms: Iterable[int], *, smallest: int, largest: int, share: int, slots: int | None
) -> tuple[int, ...]:
    """Slots of each block on nodes that have room for so many, full blocks first.

    `slots` says how many there shall be in all (rounded down to whole GPUs): what the nodes do not
    hold yet stands at the end, for those that may join.
    """
    found: list[int] = []
    for room in rooms:
        full, rest = divmod(room - room % share, largest)
        found += [largest] * full + [rest]
    found.sort(key=lambda size: size < largest)
    if slots is not None:
        left, wished = slots - slots % share, found
        found = []
        while left > 0:
            found.append(min(wished.pop(0) if wished else largest, left))
            left -= found[-1]
            wished = [size for size in wished if size]
    return tuple(size for size in found if size >= smallest)


@dataclass(slots=True, eq=False)
class Grounds:
    """The blocks, what is reserved for each, and the jobs that have no seat yet, in the order in
    which they came. `gone` are blocks whose node is lost and that no other node has room for."""

    demand: Demand
    floor: Floor
    held: list[Any] = field(default_factory=list[Any])
    gone: frozenset[int] = frozenset()
    waiting: list[Entry] = field(default_factory=list[Entry])
    next_look: float = 0.0

    @classmethod
    def of(cls, demand: Demand, sizes: Sequence[int], hold: Callable[[int], Any]) -> Grounds:
        """Blocks of these sizes, each reserved by `hold`."""
        floor = Floor(blocks=tuple(sizes), share=demand.share)
        return cls(demand=demand, floor=floor, held=[hold(size) for size in sizes])

    def small_workers(self) -> list[tuple[int, ...]]:
        """Slots of as many of the smallest as there is room for, block by block."""
        count = self.demand.slots_of(self.demand.smallest)
        found: list[tuple[int, ...]] = []
        taken: set[int] = set()
        while (slots := self.floor.room(count, taken)) is not None:
            found.append(slots)
            taken |= set(slots)
        return sorted(found)

    @property
    def holds_the_largest(self) -> bool:
        return max(self.floor.blocks, default=0) >= self.demand.largest_slots

    def block_of(self, member: Member) -> int:
        return self.floor.block_of(member.slots[0])

    def beneath(self, slots: Sequence[int], processes: int) -> tuple[Any, list[int]]:
        """What is reserved there, and in which of its bundles each of so many processes sits."""
        block = self.floor.block_of(slots[0])
        if self.floor.share == 1:
            return self.held[block], [0] * processes
        begin = self.floor.slots_of(block).start
        return self.held[block], sorted({(slot - begin) // self.floor.share for slot in slots})

    def look(self, members: Sequence[Member], is_held: Callable[[Any], bool]) -> None:
        """Find out which blocks are gone, of those where somebody is late; what was to begin on
        one waits again, before all others."""
        now = time.monotonic()
        if now < self.next_look:
            return
        self.next_look = now + LOOK_EVERY_S
        late = [m for m in members if m.arrived is None and now - m.since > LOOK_EVERY_S]
        asked = {self.block_of(member) for member in late}
        self.gone = frozenset(block for block in asked if not is_held(self.held[block]))
        back: list[Entry] = []
        for member in late:
            if member.job is not None and self.block_of(member) in self.gone:
                back.append((member.job, member.takes))
                member.job = None
        self.waiting = sorted(back, key=lambda entry: entry[0].last_report) + self.waiting

    def without(
        self,
        lost: Collection[int],
        members: Sequence[Member],
        let_go: Callable[[None, Any], None],
    ) -> Grounds:
        """The grounds without some blocks, which are let go; slots of the `members` are numbered
        anew."""
        for block in lost:
            let_go(None, self.held[block])
        kept = [block for block in range(len(self.floor.blocks)) if block not in lost]
        anew: dict[int, int] = {}
        for block in kept:
            for slot in self.floor.slots_of(block):
                anew[slot] = len(anew)
        for member in members:
            member.slots = tuple(anew[slot] for slot in member.slots)
        blocks = tuple(self.floor.blocks[block] for block in kept)
        floor = Floor(blocks=blocks, share=self.floor.share)
        return Grounds(demand=self.demand, floor=floor, held=[self.held[b] for b in kept])

    def let_go(self, trial: str) -> list[AttemptLost]:
        """The ends of a trial's segments that have no seat yet."""
        why = "it was stopped before there was room for it"
        ends = [
            job.lost(key, "interrupted", why)
            for job, _ in self.waiting
            for key in job.of_trial(trial)
        ]
        self.waiting = [entry for entry in self.waiting if entry[0].going]
        return ends

    def seated(self, members: Sequence[Member]) -> list[tuple[Job, Takes, tuple[int, ...]]]:
        """Who of those that wait can sit down now, and where: on the slots that it was given, or
        where such a worker idles, or where there is room. The first that cannot keeps a block to
        itself, as in the state."""
        taken = {slot for member in members if member.job is not None for slot in member.slots}
        closed = self.gone
        found: list[tuple[Job, Takes, tuple[int, ...]]] = []
        for job, takes in list(self.waiting):
            slots = self._for(job, takes, members, taken, closed)
            if slots is not None:
                self.waiting.remove((job, takes))
                taken |= set(slots)
                found.append((job, takes, slots))
            elif closed == self.gone:
                count = self.demand.slots_of(takes)
                block = self.floor.soonest(count, dict.fromkeys(taken, 1.0), closed)
                closed = closed if block is None else closed | {block}
        return found

    def _for(
        self,
        job: Job,
        takes: Takes,
        members: Sequence[Member],
        taken: set[int],
        closed: frozenset[int],
    ) -> tuple[int, ...] | None:
        idle = [m.slots for m in members if m.ready and m.takes == takes]
        for slots in (job.slots, *idle):
            if slots and not taken & set(slots) and self.floor.block_of(slots[0]) not in closed:
                return slots
        return self.floor.room(self.demand.slots_of(takes), taken, closed)
