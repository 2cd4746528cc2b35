"""Who starts where, in sweeps whose trials take different numbers of slots.

Slots lie in blocks, each on one node, and a segment's slots lie in one block. Whoever waits is
taken in the order of decisions, and starts where it leaves the largest rooms whole. The first for
which there is no room keeps one block to itself, the one that can take it soonest: nobody who
comes later starts there, and everybody may start elsewhere. So it waits at most until the
segments that run in that block have ended, and at most the slots of one block idle for it; were
those behind it free to start anywhere, small ones would keep it out for ever, and were none of
them, a whole cluster would idle. A pure function of the state; touches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from orchestrator.lockstep import Waiting, jobs, stacks
from orchestrator.stacking import Wish
from orchestrator.state import DecisionError, SweepState
from orchestrator.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Those that begin as one, their slots (None: any, where all take one), and the GPUs of each
    as hours count them (None: as the spec has it)."""

    job: list[Waiting]
    slots: tuple[int, ...] | None = None
    gpus: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """All slots, numbered from 0: `blocks` holds how many each block has, `share` how many make
    one device, all of which a segment gets that takes one or more."""

    blocks: tuple[int, ...]
    share: int = 1

    def slots_of(self, block: int) -> range:
        begin = sum(self.blocks[:block])
        return range(begin, begin + self.blocks[block])

    def block_of(self, slot: int) -> int:
        """Raises LookupError for a slot that is in none."""
        for block in range(len(self.blocks)):
            if slot in self.slots_of(block):
                return block
        raise LookupError(f"no slot {slot} among {sum(self.blocks)}")

    def room(
        self, count: int, taken: Set[int], closed: Set[int] = frozenset()
    ) -> tuple[int, ...] | None:
        """Slots for a segment that takes so many: on the fullest device that can hold it, or whole
        devices of the fullest block; None where no block but the `closed` has room."""
        found: list[tuple[tuple[int, int, int], tuple[int, ...]]] = []
        for block in range(len(self.blocks)):
            if block not in closed:
                slots = self.slots_of(block)
                free = sum(slot not in taken for slot in slots)
                for left, place in self._rooms(count, slots, taken):
                    found.append(((left, free, place[0]), place))
        return min(found)[1] if found else None

    def soonest(
        self, count: int, left: Mapping[int, float], closed: Set[int] = frozenset()
    ) -> int | None:
        """The block that has room first, `left` being how long each taken slot still is; where two
        are even, the one with fewer taken. None where none but the `closed` is large enough."""
        found: list[tuple[float, int, int]] = []
        for block in set(range(len(self.blocks))) - closed:
            slots = self.slots_of(block)
            taken = sorted(left[slot] for slot in slots if slot in left)
            for time in (0.0, *taken):
                still = {slot for slot in slots if left.get(slot, 0.0) > time}
                if any(True for _ in self._rooms(count, slots, still)):
                    found.append((time, len(taken), block))
                    break
        return min(found)[2] if found else None

    def _rooms(
        self, count: int, slots: range, taken: Set[int]
    ) -> list[tuple[int, tuple[int, ...]]]:
        """In one block: (free slots that are left beside it on its devices, slots)."""
        devices = [
            [slot for slot in slots[at : at + self.share] if slot not in taken]
            for at in range(0, len(slots), self.share)
        ]
        if count < self.share:
            return [
                (len(free) - count, tuple(free[:count])) for free in devices if len(free) >= count
            ]
        whole = [free for free in devices if len(free) == self.share]
        wanted = count // self.share
        if len(whole) < wanted:
            return []
        return [(0, tuple(slot for free in whole[:wanted] for slot in free))]


def starts(state: SweepState, *, most: Wish) -> list[Start]:
    """What to start in the free slots, at most `most` of a shape as one."""
    demand, environment = state.terms.demand, state.environment
    if environment is None or not environment.blocks or demand is None or not demand.varies:
        return [Start(job=job, gpus=_gpus(state, job)) for job in jobs(state, most=most)]
    free = environment.slots - state.taken
    if free <= 0:
        return []
    floor = Floor(blocks=environment.blocks, share=environment.share)
    left = _left(state)
    closed: frozenset[int] = frozenset()
    too_many: set[int] = set()
    found: list[Start] = []
    for job in stacks(state, most=most):
        trial, index = job[0]
        count = demand.slots(trial.candidate, trial.tracks[index].target)
        slots = None if count in too_many else floor.room(count, left.keys(), closed)
        if slots is not None:
            gpus = _gpus(state, job)
            found.append(Start(job=job, slots=slots, gpus=gpus))
            left |= dict.fromkeys(
                slots, _flops_left(trial, trial.tracks[index].target, index, gpus)
            )
            free -= count
        elif not closed:
            block = floor.soonest(count, left)
            if block is None:
                raise DecisionError(
                    f"{trial.id} takes {count} slots and no node has more than "
                    f"{max(floor.blocks)}: resume where nodes are larger, or with a smaller "
                    "resources.gpus_per_trial"
                )
            closed = frozenset({block})
            free -= sum(slot not in left for slot in floor.slots_of(block))
        else:
            too_many.add(count)
        if free <= 0:
            break
    return found


def _gpus(state: SweepState, job: list[Waiting]) -> float | None:
    if state.terms.demand is None:
        return None
    trial, index = job[0]
    return state.terms.demand.takes(trial.candidate, trial.tracks[index].target).size


def _left(state: SweepState) -> dict[int, float]:
    """How long each slot is still taken: FLOPs that are left for each GPU."""
    found: dict[int, float] = {}
    for trial in state.trials.values():
        for index, track in enumerate(trial.tracks):
            if track.running:
                flops = _flops_left(trial, track.until, index, track.gpus)
                for slot in track.slots:
                    found[slot] = max(flops, found.get(slot, 0.0))
    return found


def _flops_left(trial: Trial, until: int, index: int, gpus: float | None) -> float:
    cost = trial.candidate.flops
    return max(1.0, cost(until) - cost(trial.tracks[index].position)) / (gpus or 1.0)
