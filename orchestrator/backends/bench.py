"""A worker that lives on across segments: trains in a thread of its own and answers meanwhile.

Knows no engine. Every call may be repeated without harm, since whoever calls across a network does
not always know whether a call was executed. Touches what the worker touches.

It runs one job at a time: a segment, or several that train as one stack. All of them run in the
same thread, since what torch keeps by thread (CUDA graphs, handles of libraries) is then kept.

A segment writes no second checkpoint before the driver has acknowledged the one at hand: else the
trainer's clean-up, in a worker that outlives a killed driver by seconds, could remove the newest
checkpoint that is journalled.
"""

from __future__ import annotations

import os
import platform
import queue
import threading
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.backends import worker
from orchestrator.backends.base import Report
from orchestrator.backends.starving import Kills, kernel_kills
from orchestrator.backends.together import Key, key_of, run_job
from orchestrator.events import AttemptLost, PointReported, Started

if TYPE_CHECKING:
    from trainers.own import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A worker that is ready: its host and process, the facts of the place, what its kernel had
    killed there before, and the engine's name for it."""

    host: str
    pid: int
    facts: tuple[tuple[str, str], ...]
    kills: Kills | None = None
    node: str = ""


class UnfitError(RuntimeError):
    """This worker can train no more, though its process lives: another has to take its place."""


class Bench:
    """Runs one job at a time and keeps its reports, numbered from 1, until they are read."""

    def __init__(self, storage: str, train: worker.Train | None = None) -> None:
        self._storage = Path(storage)
        self._train = train
        self._changed = threading.Condition()
        self._unread: deque[tuple[int, Report]] = deque()
        self._newest = 0
        self._acknowledged = 0
        self._begun: frozenset[Key] = frozenset()
        self._ever_begun: set[Key] = set()
        self._stopping: set[Key] = set()
        self._unfit: str | None = None
        self._jobs: queue.SimpleQueue[tuple[Sequence[Started], Sequence[RunConfig]]] = (
            queue.SimpleQueue()
        )
        self._training_thread: threading.Thread | None = None

    def arrive(self, config: RunConfig) -> Arrival:
        """Load the trainer and say where this is.

        Raises trainers.device.DeviceError where the device asked for is not here.
        """
        if self._train is None:
            worker.trainer(config)
            facts = worker.facts(config)
        else:
            facts = worker.versions()
        return Arrival(host=platform.node(), pid=os.getpid(), facts=facts, kills=kernel_kills())

    def begin(self, segments: Sequence[Started], configs: Sequence[RunConfig]) -> None:
        """Run a job; returns at once, and does nothing for one that was begun before."""
        keys = frozenset(map(key_of, segments))
        with self._changed:
            if keys & self._ever_begun:
                return
            self._ever_begun |= keys
            self._begun, self._stopping = keys, set()
            self._jobs.put((segments, configs))
            if self._training_thread is None:
                self._training_thread = threading.Thread(
                    target=self._work_on, name="training", daemon=True
                )
                self._training_thread.start()

    def stop(self, trial: str, attempt: int) -> None:
        """End the segment at its next point; nothing where it does not run."""
        with self._changed:
            if (trial, attempt) in self._begun:
                self._stopping.add((trial, attempt))

    def reports(
        self, after: int, wait_s: float, stopped: Collection[Key] = ()
    ) -> list[tuple[int, Report]]:
        """The reports numbered beyond `after`, or none when none came within `wait_s`.

        Acknowledges those up to `after`: the caller has made them durable. `stopped` repeats
        calls of `stop` that may not have arrived. Raises UnfitError once there are none and `fail`
        was called.
        """
        for key in stopped:
            self.stop(*key)
        with self._changed:
            self._acknowledged = max(self._acknowledged, after)
            while self._unread and self._unread[0][0] <= self._acknowledged:
                self._unread.popleft()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._newest > after or self._unfit, wait_s)
            heard = [(number, report) for number, report in self._unread if number > after]
            if self._unfit is None:
                return heard
            # How a segment ends that goes down with its worker is the driver's to say.
            heard = [entry for entry in heard if isinstance(entry[1], PointReported)]
            if heard:
                return heard
            raise UnfitError(self._unfit)

    def fail(self, why: str) -> None:
        """Train no more: what was reported is still to be read, and then `reports` raises."""
        with self._changed:
            self._unfit = self._unfit or why
            self._changed.notify_all()

    def _trainer(self) -> worker.Train | None:
        """What trains here; None for what the configuration asks for."""
        return self._train

    def _stops(self, key: Key) -> bool:
        with self._changed:
            return key in self._stopping

    def _work_on(self) -> None:
        while True:
            self._work(*self._jobs.get())

    def _work(self, segments: Sequence[Started], configs: Sequence[RunConfig]) -> None:
        going = {key_of(segment): segment for segment in segments}
        try:
            for report in run_job(
                segments,
                configs,
                storage=self._storage,
                stopping=self._stops,
                train=self._trainer(),
            ):
                if not isinstance(report, PointReported):
                    del going[report.trial, report.attempt]
                if isinstance(report, AttemptLost):
                    self._look_at_the_device(report)
                self._say(report)
        except BaseException as error:  # SystemExit and its kind, which no segment makes an event
            for segment in going.values():
                self._say(
                    AttemptLost(
                        trial=segment.trial,
                        attempt=segment.attempt,
                        reached=segment.resume_from.tokens if segment.resume_from else 0,
                        cause="error",
                        reason=worker.reason_of(error),
                    )
                )

    def _look_at_the_device(self, lost: AttemptLost) -> None:
        """Some errors of a GPU (an assertion in a kernel, an uncorrectable bit) leave nothing of
        it to the process: all that came here next would fail at once."""
        fault = worker.device_fault()
        if fault is not None:
            self.fail(f"lost its GPU ({fault}) at {lost.reason}")

    def _say(self, report: Report) -> None:
        """Lay a report out for the driver; after a checkpoint, wait until it was taken."""
        with self._changed:
            self._newest += 1
            number = self._newest
            self._unread.append((number, report))
            self._changed.notify_all()
            if isinstance(report, PointReported) and report.checkpoint is not None:
                self._changed.wait_for(lambda: self._acknowledged >= number)
