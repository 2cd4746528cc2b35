"""What happened and when, from the journal's records: segments, decisions, losses, sessions.

Touches nothing. Times are the journal's; a replay's are virtual.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.events import (
    AttemptLost,
    Closed,
    Decided,
    Diverged,
    Opened,
    PointReported,
    Record,
    SegmentEnded,
    Started,
    StopAsked,
)
from orchestrator.report import words
from orchestrator.values import Decision

Ending = Literal["ended", "stopped", "lost", "diverged", "running"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One attempt on the clock: from start to end in UNIX seconds, in a lane of its own."""

    trial: str
    attempt: int
    begun: float
    ended: float
    ending: Ending
    lane: int
    branch: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something to tell: `title` in one line, `details` one line a decision."""

    time: float
    kind: Literal["session", "decision", "loss", "pause", "end"]
    title: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The whole story. `clock_s` sums the sessions' length, without the pauses between them."""

    segments: tuple[Segment, ...]
    moments: tuple[Moment, ...]
    sessions: int
    clock_s: float
    recoveries: int


@dataclass(slots=True)
class _Reader:
    segments: list[Segment] = field(default_factory=list[Segment])
    moments: list[Moment] = field(default_factory=list[Moment])
    open: dict[tuple[str, int], tuple[Started, float]] = field(
        default_factory=dict[tuple[str, int], tuple[Started, float]]
    )
    lanes: list[float | None] = field(default_factory=list[float | None])
    lane_of: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    sessions: int = 0
    recoveries: int = 0
    clock_s: float = 0.0
    since: float = 0.0
    now: float = 0.0
    parted: float = 0.0

    def read(self, record: Record) -> None:
        event = record.event
        if isinstance(event, Opened):
            self.clock_s += self.now - self.since if self.sessions else 0.0
            self.since, self.parted = record.time, self.now
        self.now = record.time
        match event:
            case Opened():
                self.sessions += 1
                more = f", with more: {', '.join(event.raised)}" if event.raised else ""
                self._tell("session", f"session {event.session} opened by {event.owner}{more}")
            case Decided():
                self._decided(event)
            case Started():
                self._started(event)
            case SegmentEnded():
                self._ended(event.trial, event.attempt, "stopped" if event.stopped else "ended")
            case AttemptLost():
                self._ended(event.trial, event.attempt, "lost")
                self._tell(
                    "loss",
                    f"{event.trial}: attempt {event.attempt} lost at "
                    f"{words.amount(event.reached)} tokens ({event.cause})",
                    (words.plain(event.reason),),
                )
            case Diverged():
                self._ended(event.trial, event.attempt, "diverged")
                self._tell("loss", f"{event.trial} diverged", (words.plain(event.reason),))
            case StopAsked():
                self._tell("pause", f"paused: {words.plain(event.reason)}")
            case Closed():
                self._tell("end", f"closed: {words.plain(event.reason)}")
            case PointReported():
                pass

    def _tell(
        self,
        kind: Literal["session", "decision", "loss", "pause", "end"],
        title: str,
        details: tuple[str, ...] = (),
    ) -> None:
        self.moments.append(Moment(time=self.now, kind=kind, title=title, details=details))

    def _decided(self, event: Decided) -> None:
        details = tuple(_said(decision) for decision in event.decisions)
        counts = {
            kind: sum(decision.kind == kind for decision in event.decisions)
            for kind in ("extend", "stop", "anneal")
        }
        shown = ", ".join(f"{kind} {count}" for kind, count in counts.items() if count)
        self._tell("decision", f"{event.policy}: {shown or 'nothing'}", details)

    def _started(self, event: Started) -> None:
        key = (event.trial, event.attempt)
        self.open[key] = (event, self.now)
        self.recoveries += self._lost_before(event.trial)
        free = next((i for i, end in enumerate(self.lanes) if end is not None), None)
        if free is None:
            free = len(self.lanes)
            self.lanes.append(None)
        self.lanes[free] = None
        self.lane_of[key] = free

    def _lost_before(self, trial: str) -> bool:
        """Whether the trial's last segment was lost, so that this start is a recovery."""
        last = next((s for s in reversed(self.segments) if s.trial == trial), None)
        return last is not None and last.ending == "lost"

    def _ended(self, trial: str, attempt: int, ending: Ending) -> None:
        started, begun = self.open.pop((trial, attempt), (None, 0.0))
        if started is None:
            return
        lane = self.lane_of.pop((trial, attempt))
        self.lanes[lane] = self.now
        self.segments.append(
            Segment(
                trial=trial,
                attempt=attempt,
                begun=begun,
                # What a dead driver left running ended when that driver was last heard of.
                ended=self.parted if begun < self.since else self.now,
                ending=ending,
                lane=lane,
                branch=started.branch is not None,
            )
        )

    def finish(self) -> Timeline:
        for trial, attempt in list(self.open):
            self._ended(trial, attempt, "running")
        return Timeline(
            segments=tuple(self.segments),
            moments=tuple(self.moments),
            sessions=self.sessions,
            clock_s=self.clock_s + (self.now - self.since),
            recoveries=self.recoveries,
        )


def timeline_of(records: Iterable[Record]) -> Timeline:
    """The story that the records tell."""
    reader = _Reader()
    for record in records:
        reader.read(record)
    return reader.finish()


def _said(decision: Decision) -> str:
    reason = words.plain(decision.reason)
    expected = ""
    if decision.expected is not None:
        forecast = decision.expected
        expected = (
            f"; {forecast.by} expected loss {words.loss(forecast.loss)} after "
            f"{words.amount(forecast.tokens)} tokens (sd of log loss {forecast.sd:.3f})"
        )
    if decision.kind == "stop":
        return f"stop {decision.trial}: {reason}{expected}"
    verb = "extend" if decision.kind == "extend" else "anneal"
    return f"{verb} {decision.trial} to {words.amount(decision.tokens)} tokens: {reason}{expected}"


def lanes_used(segments: Sequence[Segment]) -> int:
    return max((segment.lane for segment in segments), default=-1) + 1
