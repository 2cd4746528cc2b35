"""Segments in this very process: `slots` generators advanced in turn, one report a poll.

For tests, the debugger and laptops. No threads, no processes, no clock: the same calls give the
same reports in the same order. Touches what the worker touches.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator
from functools import partial
from pathlib import Path

from orchestrator.backends import worker
from orchestrator.backends.base import BackendError, Report
from orchestrator.events import AttemptLost, PointReported, Started
from orchestrator.pool import Pool
from orchestrator.values import Environment


class InlineBackend:
    """The backend without an engine.

    `train` stands in for `trainers.loop.train`; data are then nobody's concern.
    """

    def __init__(
        self, pool: Pool, storage: Path, *, slots: int = 1, train: worker.Train | None = None
    ) -> None:
        """Prepares the data. Raises BackendError where they, or the device, are not to be had."""
        self._pool = pool
        self._storage = Path(os.path.abspath(storage))
        self._train = train
        self._running: deque[tuple[Started, Generator[Report]]] = deque()
        self._reached: dict[tuple[str, int], int] = {}
        self._stopping: set[tuple[str, int]] = set()
        self._closed = False
        try:
            if train is None:
                prepared = [(data, worker.prepare_data(data)) for data in worker.sources(pool)]
                facts = (*worker.facts(pool.configs[0]), *worker.data_facts(prepared))
            else:
                facts = worker.versions()
        except (ValueError, OSError) as error:
            raise BackendError(f"training cannot begin: {error}") from error
        self._environment = Environment(slots=slots, facts=facts)

    @property
    def environment(self) -> Environment:
        return self._environment

    def start(self, segment: Started) -> None:
        """Take the segment up. Raises BackendError for an unknown trial or with no slot free."""
        if self._closed:
            raise BackendError("this backend is closed")
        if len(self._running) >= self._environment.slots:
            raise BackendError(
                f"all {self._environment.slots} slots are taken: {segment.trial} has to wait"
            )
        try:
            config = self._pool.train_config(segment.trial)
        except LookupError as error:
            raise BackendError(f"{segment.trial} cannot be trained: {error}") from error
        key = (segment.trial, segment.attempt)
        self._reached[key] = segment.resume_from.tokens if segment.resume_from else 0
        reports = worker.run_segment(
            segment,
            config=config,
            storage=self._storage,
            stop=partial(self._stopping.__contains__, key),
            train=self._train,
        )
        self._running.append((segment, reports))

    def stop(self, trial: str) -> None:
        self._stopping |= {key for key in self._reached if key[0] == trial}

    def poll(self, timeout_s: float) -> list[Report]:
        """The next report of the segment whose turn it is; trains until there is one."""
        if not self._running:
            return []
        segment, reports = self._running[0]
        key = (segment.trial, segment.attempt)
        report = next(reports, None)
        if isinstance(report, PointReported):
            self._reached[key] = report.point.tokens
            self._running.rotate(-1)
            return [report]
        self._running.popleft()
        reached = self._reached.pop(key)
        self._stopping.discard(key)
        if report is None:  # an interruption (Ctrl-C) passed through an earlier poll
            report = AttemptLost(
                trial=segment.trial,
                attempt=segment.attempt,
                reached=reached,
                cause="interrupted",
                reason="training was interrupted",
            )
        return [report]

    def close(self) -> None:
        self._closed = True
        self._reached.clear()
        while self._running:
            self._running.pop()[1].close()
