"""What a backend is: it makes segments run and says what came of them.

Five implementations at most share this door: inline (same process), replay (recorded curves) and
ray. A backend keeps no truth: the journal does.
"""

from __future__ import annotations

from typing import Protocol

from orchestrator.events import AttemptLost, Diverged, PointReported, SegmentEnded, Started
from orchestrator.values import Environment

Report = PointReported | SegmentEnded | AttemptLost | Diverged


class BackendError(RuntimeError):
    """The backend cannot do what was asked: the message names the value, the rule and the fix."""


class UnavailableError(BackendError):
    """The place where it would run is not to be had now. Nothing is wrong with what was asked: the
    same may work later."""


class TooLargeError(BackendError):
    """One trial takes more than any node has; `key` of the spec, dotted, says how much."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class Backend(Protocol):
    """Runs segments in slots. Built open; `close` releases all that it holds.

    Of a stack each segment is reported for itself, and may be stopped by itself.

    A segment ends with exactly one of SegmentEnded, AttemptLost or Diverged, after all its points.
    """

    @property
    def environment(self) -> Environment:
        """Slots and facts of the place where segments run."""
        ...

    def start(self, segment: Started) -> None:
        """Run a journalled segment. The caller keeps to the number of slots.

        One with a `stack` begins, and takes a slot, with the last of its stack to be started; the
        caller starts them one after another. Raises BackendError where it can never run.
        """
        ...

    def stop(self, trial: str) -> None:
        """Ask the trial's running segments to end, with a checkpoint, at their next point."""
        ...

    def poll(self, timeout_s: float) -> list[Report]:
        """What was reported since the last call, in order; waits at most `timeout_s` for some."""
        ...

    def close(self) -> None:
        """Kill what still runs and release everything. Harmless when called twice."""
        ...
