"""Segments in this very process: `slots` jobs advanced in turn, one report a poll.

For tests, the debugger and laptops. No threads, no processes, no clock: the same calls give the
same reports in the same order. Touches what the worker touches.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator
from pathlib import Path

from orchestrator.backends import worker
from orchestrator.backends.base import BackendError, Report
from orchestrator.backends.gathering import Gathering
from orchestrator.backends.together import Key, key_of, run_job
from orchestrator.events import AttemptLost, PointReported, Started
from orchestrator.pool import Pool
from orchestrator.values import Environment


class InlineBackend:
    """The backend without an engine.

    `blocks`: of slots, for sweeps whose trials take several; a segment runs in one process all the
    same, so they are for tests of what starts when. `train` stands in for `trainers.loop.train`;
    data are then nobody's concern.
    """

    def __init__(
        self,
        pool: Pool,
        storage: Path,
        *,
        slots: int = 1,
        blocks: tuple[int, ...] = (),
        train: worker.Train | None = None,
    ) -> None:
        """Prepares the data. Raises BackendError where they, or the device, are not to be had."""
        self._pool = pool
        self._storage = Path(os.path.abspath(storage))
        self._train = train
        self._gathering = Gathering()
        self._running: deque[tuple[tuple[Started, ...], Generator[Report]]] = deque()
        self._reached: dict[Key, int] = {}
        self._stopping: set[Key] = set()
        self._closed = False
        try:
            if train is None:
                prepared = [(data, worker.prepare_data(data)) for data in worker.sources(pool)]
                facts = (*worker.facts(pool.configs[0]), *worker.data_facts(prepared))
            else:
                facts = worker.versions()
        except (ValueError, OSError) as error:
            raise BackendError(f"training cannot begin: {error}") from error
        self._environment = Environment(slots=sum(blocks) or slots, facts=facts, blocks=blocks)

    @property
    def environment(self) -> Environment:
        return self._environment

    def start(self, segment: Started) -> None:
        """Take the segment up. Raises BackendError for an unknown trial or with no slot free."""
        if self._closed:
            raise BackendError("this backend is closed")
        taken = [slot for segments, _ in self._running for slot in segments[0].slots or (None,)]
        full = len(taken) + len(segment.slots or (0,)) > self._environment.slots
        if full or any(slot in taken for slot in segment.slots or ()):
            raise BackendError(
                f"all {self._environment.slots} slots are taken: {segment.trial} has to wait"
            )
        segments = self._gathering.add(segment)
        if not segments:
            return
        try:
            configs = [self._pool.train_config(each.trial) for each in segments]
        except LookupError as error:
            raise BackendError(f"{segment.trial} cannot be trained: {error}") from error
        for each in segments:
            self._reached[key_of(each)] = each.resume_from.tokens if each.resume_from else 0
        reports = run_job(
            segments,
            configs,
            storage=self._storage,
            stopping=self._stopping.__contains__,
            train=self._train,
        )
        self._running.append((segments, reports))

    def stop(self, trial: str) -> None:
        self._stopping |= {key for key in self._reached if key[0] == trial}

    def poll(self, timeout_s: float) -> list[Report]:
        """The next report of the job whose turn it is; trains until there is one."""
        if not self._running:
            return []
        segments, reports = self._running[0]
        report = next(reports, None)
        if isinstance(report, PointReported):
            self._reached[report.trial, report.attempt] = report.point.tokens
            self._running.rotate(-1)
            return [report]
        if report is not None:
            self._forget((report.trial, report.attempt))
        left = [segment for segment in segments if key_of(segment) in self._reached]
        if report is not None and left:
            return [report]
        self._running.popleft()
        if report is not None:
            return [report]
        # An interruption (Ctrl-C) passed through an earlier poll.
        return [
            AttemptLost(
                trial=segment.trial,
                attempt=segment.attempt,
                reached=self._forget(key_of(segment)),
                cause="interrupted",
                reason="training was interrupted",
            )
            for segment in left
        ]

    def _forget(self, key: Key) -> int:
        """Take leave of a segment that has ended; the tokens it had reached."""
        self._stopping.discard(key)
        return self._reached.pop(key)

    def close(self) -> None:
        self._closed = True
        self._reached.clear()
        while self._running:
            self._running.pop()[1].close()
