"""One slot of the Ray backend as its driver sees it: a worker, the calls to it, its segment.

Knows no engine: handles and calls are whatever the engine gives. Touches the clock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from orchestrator.backends.bench import Arrival
from orchestrator.events import Started


@dataclass(slots=True, eq=False)
class Member:
    """`arrival`, `pull` and `begun` are calls under way, None where there is none;
    `begin_lost` says that nobody knows whether the last `begin` arrived, so it has to be repeated.
    `seen` is the number of its last report that a poll returned; `ground` the room that a worker
    of several processes has reserved. Times are monotonic seconds.
    """

    since: float
    handle: Any = None
    ground: Any = None
    arrival: Any = None
    arrived: Arrival | None = None
    pull: Any = None
    begun: Any = None
    begin_lost: bool = False
    seen: int = 0
    segment: Started | None = None
    reached: int = 0
    last_report: float = 0.0
    stop_asked: float | None = None
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
    def ready(self) -> bool:
        """Whether it can begin a segment now."""
        return self.arrived is not None and self.segment is None and self.out_of_touch is None

    def take(self, segment: Started) -> None:
        self.segment = segment
        self.reached = segment.resume_from.tokens if segment.resume_from else 0
        self.last_report = time.monotonic()
        self.stop_asked = None
