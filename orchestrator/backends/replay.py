"""The replay backend: recorded curves under a virtual clock.

The same driver and policies as a live sweep see exactly what they bought: nothing before a curve's
first recorded point, nothing past its last, and in between a straight line in log tokens and log
loss. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from orchestrator.backends.base import BackendError, Report
from orchestrator.events import PointReported, SegmentEnded, Started
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve
from orchestrator.values import Candidate, Checkpoint, Environment, Point

Order = Literal["clock", "progress"]


def shown(curve: RecordedCurve, tokens: int, *, bought: int) -> float | None:
    """Recorded loss after `tokens`, of which `bought` were paid for; None before the first point.

    Raises BackendError past what was bought or recorded.
    """
    if tokens > bought or tokens > curve.tokens[-1]:
        raise BackendError(
            f"asked to show {curve.curve_id} at {tokens} tokens with {bought} bought and "
            f"{curve.tokens[-1]} recorded: a replay never shows what was not paid for"
        )
    if tokens < curve.tokens[0]:
        return None
    return float(np.exp(np.interp(math.log(tokens), np.log(curve.tokens), np.log(curve.loss))))


@dataclass(slots=True)
class _Running:
    """A segment on its way, and the tokens at which it will report."""

    segment: Started
    candidate: Candidate
    stops: tuple[int, ...]
    begun_s: float
    position: int
    next_stop: int = 0
    stop_asked: bool = False

    def due_s(self, flops_per_s: float) -> float:
        at = self.stops[self.next_stop]
        start = self.segment.resume_from.tokens if self.segment.resume_from else 0
        cost = self.candidate.flops(at) - self.candidate.flops(start)
        return self.begun_s + cost / flops_per_s


class ReplayBackend:
    """Replays recorded curves in virtual slots.

    `order`: "clock" delivers reports as `slots` devices of `flops_per_s` each would; "progress"
    always advances the running trial that has used the least compute, so that the order of reports
    depends on the state of the sweep alone and survives a resume. The virtual clock starts at
    `start_s`, UNIX seconds.
    """

    def __init__(
        self,
        curves: Mapping[str, RecordedCurve],
        pool: Pool,
        *,
        slots: int = 8,
        order: Order = "clock",
        flops_per_s: float = 1e15,
        batch: int = 256,
        start_s: float = 0.0,
    ) -> None:
        missing = [c.id for c in pool.candidates if c.id not in curves]
        if missing:
            raise BackendError(f"no recorded curve for {', '.join(missing[:5])}")
        self._curves = curves
        self._pool = pool
        self._order: Order = order
        self._flops_per_s = flops_per_s
        self._batch = batch
        self._running: dict[tuple[str, int], _Running] = {}
        self.now_s = start_s
        self.environment = Environment(slots=slots, facts=(("device", "recorded curves"),))

    def clock(self) -> float:
        """Virtual seconds since the start; what a replay's driver takes for the time."""
        return self.now_s

    def start(self, segment: Started) -> None:
        if segment.branch is not None:
            raise BackendError(
                f"{segment.trial}: a recorded curve has no annealing branch; leave `anneal` out "
                "of a replay"
            )
        if segment.trial not in self._pool:
            raise BackendError(f"no candidate {segment.trial!r} in this pool")
        if len(self._running) >= self.environment.slots:
            raise BackendError(
                f"all {self.environment.slots} slots are taken: {segment.trial} has to wait"
            )
        candidate = self._pool[segment.trial]
        start = segment.resume_from.tokens if segment.resume_from else 0
        recorded = self._curves[segment.trial].tokens
        inside = recorded[(recorded > start) & (recorded < segment.until)]
        self._running[segment.trial, segment.attempt] = _Running(
            segment=segment,
            candidate=candidate,
            stops=(*(int(tokens) for tokens in inside), segment.until),
            begun_s=self.now_s,
            position=start,
        )

    def stop(self, trial: str) -> None:
        for running in self._running.values():
            if running.segment.trial == trial:
                running.stop_asked = True

    def poll(self, timeout_s: float) -> list[Report]:
        """Up to a batch of reports, cut after one that frees a slot. Never waits."""
        reports: list[Report] = []
        while self._running and len(reports) < self._batch:
            key = min(self._running, key=self._due)
            running = self._running[key]
            reports.extend(self._advanced(running))
            if isinstance(reports[-1], SegmentEnded):
                del self._running[key]
                break
        return reports

    def close(self) -> None:
        self._running.clear()

    def _due(self, key: tuple[str, int]) -> tuple[float, int]:
        running = self._running[key]
        place = self._pool.position(key[0])
        if self._order == "progress":
            return (running.candidate.flops(running.position), place)
        return (running.due_s(self._flops_per_s), place)

    def _advanced(self, running: _Running) -> Iterator[Report]:
        """The report at the segment's next stop, and its end where that is the last."""
        segment = running.segment
        tokens = running.stops[running.next_stop]
        self.now_s = max(self.now_s, running.due_s(self._flops_per_s))
        running.position = tokens
        running.next_stop += 1
        checkpoint = Checkpoint(tokens=tokens, path=f"recorded/{segment.trial}/{tokens}")
        loss = shown(self._curves[segment.trial], tokens, bought=segment.until)
        if loss is not None:
            point = Point(
                tokens=tokens,
                flops=float(running.candidate.flops(tokens)),
                loss=loss,
                elapsed_s=self.now_s - running.begun_s,
            )
            yield PointReported(
                trial=segment.trial, attempt=segment.attempt, point=point, checkpoint=checkpoint
            )
        last = running.next_stop == len(running.stops)
        if last or (running.stop_asked and loss is not None):
            yield SegmentEnded(
                trial=segment.trial,
                attempt=segment.attempt,
                tokens=tokens,
                checkpoint=checkpoint,
                stopped=not last,
            )
