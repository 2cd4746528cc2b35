"""The workers of the Ray backend, and who of them has which job.

Where all trials take the same, each slot has a worker, and any free one takes any job. Where they
differ, workers sit on `grounds` and make room for workers of other sizes. Touches the clock, and
through `kill` processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.backends.bench import Arrival
from orchestrator.backends.grounds import Grounds
from orchestrator.backends.member import Job, Member
from orchestrator.demand import Demand, Takes
from orchestrator.events import AttemptLost
from orchestrator.values import Environment


class Crew:
    """Starts with the smallest workers in every slot: all of `slots`, or what the grounds hold.

    `kill` ends a worker and what was reserved for it; `is_held` says whether a block of the
    grounds stands on a node now.
    """

    def __init__(
        self,
        demand: Demand,
        grounds: Grounds | None,
        slots: int,
        *,
        kill: Callable[[Any, Any], None],
        is_held: Callable[[Any], bool],
    ) -> None:
        self.grounds = grounds
        self._kill = kill
        self._is_held = is_held
        places = grounds.small_workers() if grounds is not None else [()] * slots
        self.members = [self._member(demand.smallest, place) for place in places]

    @property
    def slots(self) -> int:
        """How many there are, of whatever workers."""
        return len(self.members) if self.grounds is None else sum(self.grounds.floor.blocks)

    @property
    def full(self) -> bool:
        """Whether no worker is free, where each has the one slot that it will ever have."""
        return self.grounds is None and all(member.job is not None for member in self.members)

    @property
    def waits(self) -> bool:
        """Whether a job waits for a seat."""
        return self.grounds is not None and bool(self.grounds.waiting)

    def environment(self, *more: tuple[str, str]) -> Environment:
        """The slots, and what the workers told of the places where they sit."""
        told: dict[str, list[str]] = {}
        arrivals: list[Arrival] = [m.arrived for m in self.members if m.arrived is not None]
        for name, value in (fact for arrival in arrivals for fact in arrival.facts):
            told.setdefault(name, []).append(value)
        facts = [(name, ", ".join(sorted(set(values)))) for name, values in told.items()]
        if self.grounds is None:
            return Environment(slots=self.slots, facts=(*facts, *more))
        floor = self.grounds.floor
        return Environment(
            slots=self.slots, facts=(*facts, *more), blocks=floor.blocks, share=floor.share
        )

    def take_on(self, job: Job, takes: Takes) -> list[Member]:
        """The workers that may begin a job now, which need not be this one: others may wait."""
        if self.grounds is not None:
            self.grounds.waiting.append((job, takes))
            return self.seated()
        free = [member for member in self.members if member.job is None]
        member = min(free, key=lambda member: not member.ready)
        member.take(job)
        return [member] if member.arrived is not None else []

    def seated(self) -> list[Member]:
        """The workers that got a job that waited, and may begin it.

        Segments whose worker is not there go to workers that are, the longest waiting first. A
        seat whose node is gone may stay empty for days; its segment has not begun, so it is not
        lost, and none that comes later overtakes it.
        """
        if self.grounds is not None:
            return self._seated_on(self.grounds)
        late = [(m.job.last_report, m) for m in self.members if m.job and m.arrived is None]
        ready = [m for m in self.members if m.ready]
        late.sort(key=lambda entry: entry[0])
        begins: list[Member] = []
        for (_, waiting), member in zip(late, ready, strict=False):
            job, waiting.job = waiting.job, None
            if job is not None:
                member.take(job)
                begins.append(member)
        return begins

    def another(self, member: Member) -> Member:
        """One that is still to be hired, in the place of this one, which is ended."""
        self._kill(member.handle, member.ground)
        new = self._member(member.takes, member.slots)
        self.members[self.members.index(member)] = new
        return new

    def let_go(self, trial: str) -> list[AttemptLost]:
        """The ends of a trial's segments that have no seat yet."""
        return [] if self.grounds is None else self.grounds.let_go(trial)

    def without_late(self) -> None:
        """Do without the workers that have not come; of blocks, without all that sit there."""
        grounds = self.grounds
        late = [member for member in self.members if member.arrived is None]
        blocks = set() if grounds is None else {grounds.block_of(member) for member in late}
        for member in list(self.members):
            if member in late or (grounds is not None and grounds.block_of(member) in blocks):
                self._kill(member.handle, member.ground)
                self.members.remove(member)
        if grounds is not None:
            self.grounds = grounds.without(blocks, self.members, self._kill)

    @property
    def holds_the_largest(self) -> bool:
        """Whether every segment of the sweep can run here."""
        return self.grounds is None or self.grounds.holds_the_largest

    def beneath(self, member: Member) -> tuple[Any, list[int]]:
        """What is reserved where it sits, and in which bundles its processes do."""
        if self.grounds is None:
            return None, []
        return self.grounds.beneath(member.slots, member.takes.processes)

    def held(self) -> list[tuple[Any, Any]]:
        """(worker, what is reserved for it) of all, and what is reserved for none."""
        blocks = [] if self.grounds is None else [(None, held) for held in self.grounds.held]
        return [*((member.handle, member.ground) for member in self.members), *blocks]

    def _seated_on(self, grounds: Grounds) -> list[Member]:
        grounds.look(self.members, self._is_held)
        begins: list[Member] = []
        for job, takes, slots in grounds.seated(self.members):
            member = self._made_room(takes, slots)
            member.take(job)
            begins += [member] if member.arrived is not None else []
        return begins

    def _made_room(self, takes: Takes, slots: Sequence[int]) -> Member:
        """The worker that sits there, where it is of this size, or a new one for those there."""
        there = [member for member in self.members if set(member.slots) & set(slots)]
        for member in there:
            if member.slots == slots and member.takes == takes:
                return member
        for member in there:
            self._kill(member.handle, member.ground)
            self.members.remove(member)
        self.members.append(self._member(takes, tuple(slots)))
        return self.members[-1]

    @staticmethod
    def _member(takes: Takes, slots: tuple[int, ...]) -> Member:
        return Member(since=time.monotonic(), takes=takes, slots=slots)
