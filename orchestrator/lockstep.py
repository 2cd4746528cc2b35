"""Which of the waiting segments start together, several of them as one stack in one slot.

Policies decide trials; how trials are packed into slots is settled here, from the state alone: the
same state gives the same stacks. A stack are trials of one shape that stand at the same tokens and
go to the same ones (`Pool.stack_key` says which shapes are one). Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from itertools import islice

from orchestrator.stacking import Wish, most_of
from orchestrator.state import SweepState, pending
from orchestrator.trial import Trial

Waiting = tuple[Trial, int]


def jobs(state: SweepState, *, most: Wish) -> list[list[Waiting]]:
    """What to start in the free slots: tracks (trial, index), those of one list as one.

    In the order of decisions, where others of a trial's kind move up to it. No stack is larger
    than `most` (`auto`: than pays for its shape, `stacking`), nor than leaves something for every
    slot: a slot that idles costs more than a stack saves. A trial that failed, or whose stack was
    lost, trains alone; where a stack of a shape did not fit into memory, half as many are tried.
    """
    slots = state.environment.slots if state.environment else 1
    free = slots - state.taken
    return list(islice(stacks(state, most=most), free)) if free > 0 else []


def stacks(state: SweepState, *, most: Wish) -> Iterator[list[Waiting]]:
    """All that waits, part by part, as `jobs` says."""
    waiting: list[Waiting] = list(pending(state))
    if most == 1:
        yield from ([entry] for entry in waiting)
        return
    fit = _fitting(state)
    share = math.ceil(len(waiting) / (state.environment.slots if state.environment else 1))
    while waiting:
        together = _together(state, waiting, min(_most(state, waiting[0], most), share), fit)
        yield together
        started = {(trial.id, index) for trial, index in together}
        waiting = [entry for entry in waiting if (entry[0].id, entry[1]) not in started]


def _together(
    state: SweepState, waiting: Sequence[Waiting], most: int, fit: dict[str, int]
) -> list[Waiting]:
    """The first that waits, and up to `most` in all of those that can train as one with it."""
    first = waiting[0]
    kind = _kind(state, first) if most > 1 else None
    if kind is None:
        return [first]
    most = min(most, fit.get(state.pool.stack_key(first[0].id) or "", most))
    found: dict[str, Waiting] = {}
    for entry in waiting:
        if len(found) < most and _kind(state, entry) == kind:
            found.setdefault(entry[0].id, entry)
    return list(found.values()) or [first]


def _most(state: SweepState, first: Waiting, wish: Wish) -> int:
    """How large a stack of this shape may be."""
    trial, _ = first
    if wish != "auto" or not state.pool.configs:
        return 1 if wish == "auto" else wish
    facts = dict(state.environment.facts) if state.environment else {}
    return most_of(wish, state.pool.train_config(trial.id), facts.get("device", ""))


def _kind(state: SweepState, entry: Waiting) -> Hashable | None:
    """What those that train as one have in common; None for what trains alone."""
    trial, index = entry
    shape = state.pool.stack_key(trial.id)
    if shape is None or trial.failures or trial.alone:
        return None
    track = trial.tracks[index]
    demand = state.terms.demand
    takes = demand.takes(trial.candidate, track.target) if demand is not None else None
    if takes is not None and takes.size > 1:  # several processes train one alone
        return None
    begins = track.resume_from.tokens if track.resume_from else 0
    return shape, index > 0, track.start, begins, track.target, takes


def _fitting(state: SweepState) -> dict[str, int]:
    """How many of a shape are tried at most, by its key, where more did not fit into memory."""
    fit: dict[str, int] = {}
    for trial in state.trials.values():
        key = state.pool.stack_key(trial.id) if trial.crowd is not None else None
        if trial.crowd is not None and key is not None:
            fit[key] = min(fit.get(key, trial.crowd), max(1, trial.crowd // 2))
    return fit
