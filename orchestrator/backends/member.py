"""One slot of the Ray backend as its driver sees it: a worker, the calls to it, its job.

Knows no engine: handles and calls are whatever the engine gives. Touches the clock.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.backends.base import Report
from orchestrator.backends.bench import Arrival
from orchestrator.backends.starving import Kills
from orchestrator.backends.together import Key, key_of
from orchestrator.demand import Takes
from orchestrator.events import AttemptLost, Cause, PointReported, Started


@dataclass(slots=True, eq=False)
class Job:
    """Segments that hold a slot together, and of those that have not ended what is known: the
    tokens `reached`, and since when those of `stops` were asked to stop. Times are monotonic
    seconds; `last_report` is of any of them; `slots` those that they were given, where it matters.
    """

    going: dict[Key, Started]
    reached: dict[Key, int]
    last_report: float
    stops: dict[Key, float] = field(default_factory=dict[Key, float])
    slots: tuple[int, ...] = ()

    @classmethod
    def of(cls, segments: Sequence[Started]) -> Job:
        return cls(
            going={key_of(segment): segment for segment in segments},
            reached={key_of(s): s.resume_from.tokens if s.resume_from else 0 for s in segments},
            last_report=time.monotonic(),
            slots=segments[0].slots or (),
        )

    @property
    def stacked(self) -> bool:
        """Whether its segments train as one."""
        return any(segment.stack is not None for segment in self.going.values())

    def of_trial(self, trial: str) -> list[Key]:
        """Its segments that go on and were not asked to stop."""
        return [key for key in self.going if key[0] == trial and key not in self.stops]

    def heard(self, report: Report) -> float:
        """Take a report in; the seconds since the one before."""
        key, now = (report.trial, report.attempt), time.monotonic()
        if isinstance(report, PointReported):
            self.reached[key] = report.point.tokens
        else:
            self.over(key)
        gap_s, self.last_report = now - self.last_report, now
        return gap_s

    def over(self, key: Key) -> None:
        """A segment has ended."""
        self.going.pop(key, None)
        self.stops.pop(key, None)

    def lost(self, key: Key, cause: Cause, reason: str) -> AttemptLost:
        """The end of a segment that will report no more."""
        self.over(key)
        trial, attempt = key
        reached = self.reached[key]
        return AttemptLost(
            trial=trial, attempt=attempt, reached=reached, cause=cause, reason=reason
        )


@dataclass(slots=True, eq=False)
class Member:
    """`arrival`, `pull` and `begun` are calls under way, None where there is none;
    `begin_lost` says that nobody knows whether the last `begin` arrived, so it has to be repeated.
    `seen` is the number of its last report that a poll returned; `ground` the room that a worker
    of several processes has reserved for itself. `takes` is what it holds, and `slots` where it
    sits in a sweep whose trials differ in that. Times are monotonic seconds.
    """

    since: float
    takes: Takes
    slots: tuple[int, ...] = ()
    handle: Any = None
    ground: Any = None
    arrival: Any = None
    arrived: Arrival | None = None
    pull: Any = None
    begun: Any = None
    begin_lost: bool = False
    seen: int = 0
    job: Job | None = None
    out_of_touch: float | None = None
    retry_at: float = 0.0

    @property
    def calls(self) -> list[Any]:
        return [call for call in (self.arrival, self.pull, self.begun) if call is not None]

    @property
    def who(self) -> str:
        if self.arrived is None:
            return "a worker"
        return f"worker {self.arrived.pid} on {self.arrived.host}"

    @property
    def origin(self) -> tuple[str, Kills | None]:
        """Its node, and what had been killed there before it came, as far as it came to tell."""
        came = self.arrived
        return ("", None) if came is None else (came.node, came.kills)

    @property
    def ready(self) -> bool:
        """Whether it can begin a job now."""
        return self.arrived is not None and self.job is None and self.out_of_touch is None

    def take(self, job: Job) -> None:
        self.job = job
        job.last_report = time.monotonic()
        job.stops.clear()
