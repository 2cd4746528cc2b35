"""The facts that a sweep's journal holds, and their JSON.

Nine kinds, each a frozen value. The journal writes them; `state.apply` folds them. Touches
nothing. Adding a field with a default keeps old journals loading; anything else needs a new
`SCHEMA` and a step in `upgraded`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from orchestrator.values import Checkpoint, Decision, Environment, Phase, Point

SCHEMA = 1

Cause = Literal["interrupted", "died", "error", "crowded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A driver took the sweep up. `spec` is its canonical JSON, `digest` the spec's SHA-256.

    `budget`: FLOPs from here on, None where they are as before. `raised`: in words, which parts of
    the budget are more than the session before had; what was stopped because nothing more could be
    bought is for sale again.
    """

    session: int
    name: str
    spec: str
    digest: str
    owner: str
    environment: Environment
    budget: int | None = None
    raised: tuple[str, ...] = ()
    kind: Literal["opened"] = "opened"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """All that one call of the policy decided: one record, so that a crash never splits it."""

    policy: str
    decisions: tuple[Annotated[Decision, Field(discriminator="kind")], ...]
    kind: Literal["decided"] = "decided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """An attempt is about to run a segment up to `until` tokens. Journalled before it starts.

    `branch` is None on the trunk, else the index of the annealing branch. `stack` holds (trial,
    attempt) of all, this one included, that train as one and take one slot together; None alone.
    `slots` are the numbers of those that it takes, None where every segment takes one, and any;
    `gpus` what it counts for in hours and money, None in journals that left that to the spec.
    """

    trial: str
    attempt: int
    until: int
    resume_from: Checkpoint | None = None
    branch: int | None = None
    stack: tuple[tuple[str, int], ...] | None = None
    slots: tuple[int, ...] | None = None
    gpus: float | None = None
    kind: Literal["started"] = "started"


@dataclass(frozen=True, slots=True, kw_only=True)
class PointReported:
    """A loss arrived; where a checkpoint was taken with it, the trial may resume from there."""

    trial: str
    attempt: int
    point: Point
    checkpoint: Checkpoint | None = None
    kind: Literal["point"] = "point"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEnded:
    """An attempt reached its target, or was told to stop and did (`stopped`)."""

    trial: str
    attempt: int
    tokens: int
    checkpoint: Checkpoint | None = None
    stopped: bool = False
    kind: Literal["segment_ended"] = "segment_ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLost:
    """An attempt will report no more; it had `reached` this many tokens.

    `interrupted`: the driver went away or was stopped. `died`: the worker did. `error`: the
    trainer raised. These two count as failures of the trial, unless it was one of a stack: whose
    fault it was is then unknown. `crowded`: the stack did not fit into memory.
    """

    trial: str
    attempt: int
    reached: int
    cause: Cause
    reason: str
    kind: Literal["attempt_lost"] = "attempt_lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diverged:
    """The loss became non-finite, or rose and stayed up, after `tokens` tokens."""

    trial: str
    attempt: int
    tokens: int
    reason: str
    kind: Literal["diverged"] = "diverged"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAsked:
    """Somebody asked the sweep to pause."""

    by: str
    reason: str
    kind: Literal["stop_asked"] = "stop_asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Nothing is left to decide: every stop is final."""

    reason: str
    kind: Literal["closed"] = "closed"


Event: TypeAlias = (
    Opened
    | Decided
    | Started
    | PointReported
    | SegmentEnded
    | AttemptLost
    | Diverged
    | StopAsked
    | Closed
)

_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An event with its place in the journal: sequence number from 0, time in UNIX seconds."""

    seq: int
    time: float
    event: Event
    version: int = field(default=SCHEMA)


def event_to_json(event: Event) -> bytes:
    """Compact JSON; fields that hold nothing are left out."""
    return _ADAPTER.dump_json(event, exclude_none=True)


def event_from_data(data: dict[str, Any], version: int) -> Event:
    """The event in parsed JSON of schema `version`. Raises ValueError where it is none."""
    try:
        return _ADAPTER.validate_python(upgraded(data, version))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"no event this release knows: {place}: {first['msg']}") from None


def upgraded(data: dict[str, Any], version: int) -> dict[str, Any]:
    """Parsed JSON of an older schema in today's shape. Raises ValueError for a newer one."""
    if version > SCHEMA:
        raise ValueError(
            f"written by a newer release (schema {version}, this one reads up to {SCHEMA}): "
            "upgrade frontrunner"
        )
    return data


__all__ = [
    "SCHEMA",
    "AttemptLost",
    "Cause",
    "Closed",
    "Decided",
    "Diverged",
    "Event",
    "Opened",
    "Phase",
    "PointReported",
    "Record",
    "SegmentEnded",
    "Started",
    "StopAsked",
    "event_from_data",
    "event_to_json",
    "upgraded",
]
