"""What a sink is: a window that shows the journal elsewhere. Nothing reads it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.events import Record
from orchestrator.state import SweepState


class Sink(Protocol):
    """Shows records. Never raises into the driver, never blocks it for longer than a write."""

    def show(self, records: Sequence[Record], state: SweepState) -> None:
        """Records that were just made durable, and the state after the last of them."""
        ...

    def close(self) -> None:
        """Show what is still queued, within a bounded time."""
        ...


class NullSink:
    """Shows nothing."""

    def show(self, records: Sequence[Record], state: SweepState) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
