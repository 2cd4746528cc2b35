"""What a segment takes of the place where it runs, and how much of that is a slot.

Where all take the same, a slot is what one takes. Where it depends on the trial (`Steps`), a slot
is what all of them are whole multiples of, the smallest in nearly every sweep, and a larger trial
takes several slots of one node. GPUs are counted where trials take any, else processes. Touches
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.resources import Steps
from orchestrator.values import Candidate
from trainers.config import TrainConfig
from trainers.findings import FieldError
from trainers.own import OwnConfig, RunConfig

_SLACK = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Takes:
    """What one segment takes in all, in equal parts for each of its processes. `gpus` is None
    where the cluster decides: one for each process, or none."""

    processes: int = 1
    gpus: float | None = None
    cpus: float = 1.0

    @property
    def size(self) -> float:
        """Its GPUs, or without any its processes (of which each may get one where GPUs are left
        open): as slots, hours and money count it."""
        return self.gpus or float(self.processes)

    @property
    def said(self) -> str:
        """In words: `4 GPUs`, `0.25 of a GPU`, `2 processes`."""
        if self.gpus:
            if self.gpus < 1:
                return f"{self.gpus:g} of a GPU"
            return f"{self.gpus:g} GPU{'' if self.gpus == 1 else 's'}"
        return f"{self.processes} process{'' if self.processes == 1 else 'es'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What each segment of a pool takes.

    `own`: of those with a trainer of the user's own, one process takes all GPUs. `kinds`: all that
    is ever taken, the smallest first. Built by `demand_of`.
    """

    processes: int | Steps | None = None
    gpus: float | Steps | None = None
    cpus: float | Steps = 1.0
    own: bool = False
    kinds: tuple[Takes, ...] = (Takes(),)

    @property
    def varies(self) -> bool:
        """Whether some take more than others."""
        return len(self.kinds) > 1

    @property
    def smallest(self) -> Takes:
        return self.kinds[0]

    @property
    def share(self) -> int:
        """Slots on one GPU."""
        return math.floor(1 / self.smallest.size + _SLACK) if self.smallest.size < 1 else 1

    @property
    def largest_slots(self) -> int:
        """Slots of the segment that takes the most, or of one GPU: no block is less."""
        if not self.varies:
            return 1
        return max(self.share, *(self.slots_of(kind) for kind in self.kinds))

    @property
    def slot(self) -> Takes:
        """What a slot must hold: `gpus` where those that take several whole ones share it out, an
        even part of one where several sit on it, used up by them or not."""
        if not self.varies:
            return self.smallest
        parts = [(kind, self.slots_of(kind)) for kind in self.kinds]
        first, slots = parts[0]
        gpus = first.gpus
        if gpus:
            gpus = gpus / slots if gpus >= 1 else 1 / self.share
        return Takes(gpus=gpus, cpus=max(kind.cpus / count for kind, count in parts))

    def takes(self, candidate: Candidate, tokens: int) -> Takes:
        """What a segment of the candidate that trains to `tokens` takes; past its end no more."""
        tokens = min(tokens, candidate.end)
        gpus = _at(self.gpus, candidate, tokens)
        processes = _at(self.processes, candidate, tokens)
        cpus = _at(self.cpus, candidate, tokens)
        return Takes(
            processes=1 if self.own else int(processes or max(1, int(gpus or 0))),
            gpus=gpus,
            cpus=1.0 if cpus is None else cpus,
        )

    def slots_of(self, takes: Takes) -> int:
        """How many slots that is."""
        if not self.varies:
            return 1
        return _parts(takes, self.share) // math.gcd(*(_parts(k, self.share) for k in self.kinds))

    def slots(self, candidate: Candidate, tokens: int) -> int:
        """How many slots a segment of the candidate that trains to `tokens` takes."""
        return self.slots_of(self.takes(candidate, tokens)) if self.varies else 1


def demand_of(
    candidates: Sequence[Candidate],
    configs: Sequence[RunConfig],
    *,
    gpus: float | Steps | None = None,
    cpus: float | Steps = 1.0,
    processes: int | Steps | None = None,
) -> Demand:
    """What the segments of these candidates take.

    Raises FieldError with the key of `resources` where processes and GPUs do not fit each other,
    or cannot share a candidate's batch.
    """
    own = next((c.trainer for c in configs if isinstance(c, OwnConfig)), None)
    rule = Demand(processes=processes, gpus=gpus, cpus=cpus, own=own is not None)
    kinds: dict[Takes, Candidate] = {}
    batches: dict[tuple[int, int], Candidate] = {}
    for place, candidate in enumerate(candidates):
        config = configs[place] if configs else None
        rows = config.sequences_per_step if isinstance(config, TrainConfig) else 0
        for tokens in _changes(candidate, gpus, cpus, processes):
            takes = rule.takes(candidate, tokens)
            kinds.setdefault(takes, candidate)
            batches.setdefault((rows, takes.processes), candidate)
    ordered = tuple(sorted(kinds, key=lambda kind: (kind.size, kind.processes, kind.cpus)))
    demand = replace(rule, kinds=ordered)
    _check_kinds(demand, own)
    for (rows, count), candidate in batches.items():
        _check_batch(
            candidate,
            rows,
            count,
            "gpus_per_trial" if processes is None else "processes_per_trial",
        )
    return demand


def _at(given: float | Steps | None, candidate: Candidate, tokens: int) -> float | None:
    return given.of(candidate, tokens) if isinstance(given, Steps) else given


def _parts(takes: Takes, share: int) -> int:
    return math.ceil(takes.size * share - _SLACK) if takes.size < 1 else int(takes.size) * share


def _changes(candidate: Candidate, *given: float | Steps | None) -> list[int]:
    """Tokens at which a segment can end, one on each side of every step."""
    step = candidate.tokens_per_step
    ends = {candidate.end}
    for steps in given:
        if not isinstance(steps, Steps) or steps.by == "params":
            continue
        per = candidate.flops_per_token if steps.by == "flops" else 1.0
        ends.add(step)
        ends |= {step * math.ceil(begin / per / step) for begin, _ in steps.levels}
    return [tokens for tokens in sorted(ends) if 0 < tokens <= candidate.end]


def _check_batch(candidate: Candidate, rows: int, processes: int, key: str) -> None:
    if rows % processes == 0:
        return
    raise FieldError(
        key,
        f"{processes} processes do not share {rows} sequences, the batch of {candidate.id}, "
        f"evenly: use a number that divides {rows}, or a batch_tokens that is a multiple of "
        f"{processes} contexts",
    )


def _check_kinds(demand: Demand, own: str | None) -> None:
    """That processes and GPUs fit each other, for whoever takes them."""
    stated = demand.processes
    most = max(n for _, n in stated.levels) if isinstance(stated, Steps) else stated or 1
    if own is not None and most > 1:
        raise FieldError(
            "processes_per_trial",
            f"{most:g} processes cannot share {own}: only the trainer that ships is shared; "
            "remove processes_per_trial",
        )
    for kind in demand.kinds:
        if own is None and kind.gpus and max(1.0, kind.gpus) != kind.processes:
            raise FieldError(
                "processes_per_trial",
                f"each process takes one GPU: one process uses one of {kind.gpus:g}, and "
                f"{kind.processes} are asked for; remove it, or give {max(1, int(kind.gpus))}",
            )
    if own is not None and demand.share > 1 and demand.kinds[-1].size > 1:
        raise FieldError(
            "gpus_per_trial",
            f"one process of {own} takes several GPUs, beside trials that take a part of one; "
            "give whole GPUs to all, or at most one",
        )
