"""A replay whose segments take other times than their FLOPs say, for the tests of prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from orchestrator.backends.base import Report
from orchestrator.backends.replay import ReplayBackend
from orchestrator.driver import Driver, Outcome
from orchestrator.events import Decided, PointReported, Started
from orchestrator.journal import MemoryJournal
from orchestrator.policies.base import Policy
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve
from orchestrator.state import SweepState, apply
from orchestrator.values import Candidate, Decision
from tests.orchestrator.worlds import fresh, opened


class Paced(ReplayBackend):
    """A segment takes `start` seconds, and those of `rate` for each token."""

    def __init__(
        self,
        curves: Mapping[str, RecordedCurve],
        pool: Pool,
        *,
        start: float,
        rate: Callable[[Candidate], float],
        slots: int,
    ) -> None:
        super().__init__(curves, pool, slots=slots, order="progress", batch=1)
        self._start, self._rate, self._candidates = start, rate, pool
        self._begun: dict[str, int] = {}

    def start(self, segment: Started) -> None:
        super().start(segment)
        self._begun[segment.trial] = segment.resume_from.tokens if segment.resume_from else 0

    def poll(self, timeout_s: float) -> list[Report]:
        return [self._timed(report) for report in super().poll(timeout_s)]

    def _timed(self, report: Report) -> Report:
        if not isinstance(report, PointReported):
            return report
        tokens = report.point.tokens - self._begun[report.trial]
        seconds = self._start + tokens * self._rate(self._candidates[report.trial])
        return replace(report, point=replace(report.point, elapsed_s=seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a paced sweep went: its outcome, all decisions, and the seconds of its workers."""

    outcome: Outcome
    decisions: tuple[Decision, ...]
    states: tuple[SweepState, ...] = ()

    @property
    def state(self) -> SweepState:
        return self.outcome.state

    @property
    def seconds(self) -> float:
        return self.state.ledger.device_s

    def within(self, seconds: float) -> SweepState:
        """What was known when these were spent: a pause waits for one more point."""
        return [state for state in self.states if state.ledger.device_s <= seconds][-1]


def paced(
    pool: Pool,
    curves: Mapping[str, RecordedCurve],
    policy: Policy,
    budget: float,
    *,
    start: float,
    rate: Callable[[Candidate], float],
    slots: int = 1,
    seconds: float | None = None,
) -> Run:
    """Drive a policy over recorded curves that take `start` and `rate`, until it is done or
    `seconds` are spent."""
    backend = Paced(curves, pool, start=start, rate=rate, slots=slots)
    journal = MemoryJournal()

    def cap(state: SweepState) -> str | None:
        over = seconds is not None and state.ledger.device_s >= seconds
        return "the seconds are spent" if over else None

    driver = Driver(
        state=fresh(pool, budget),
        policy=policy,
        backend=backend,
        journal=journal,
        clock=backend.clock,
        cap=cap,
    )
    outcome = driver.run(opened(1, backend))
    events = [record.event for record in journal.records]
    decided = [event.decisions for event in events if isinstance(event, Decided)]
    state, states = fresh(pool, budget), list[SweepState]()
    for event in events:
        state = apply(state, event)
        states.append(state)
    return Run(
        outcome=outcome,
        decisions=tuple(d for some in decided for d in some),
        states=tuple(states),
    )
