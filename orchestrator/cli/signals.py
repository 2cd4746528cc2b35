"""Ctrl-C and SIGTERM: the first asks for a pause, the second leaves at once.

Touches the process's signal handlers, and puts back those that were there.
"""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

from orchestrator.cli import speech

_LEAVE = "\nleaving at once: work since the last checkpoints will be done again\n"
_PAUSE = "\npausing: running trials stop at a checkpoint. Once more to leave at once.\n"


class Interrupts:
    """While it is entered, remembers the first signal as a reason to pause."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._before: dict[int, object] = {}

    def asked(self) -> str | None:
        """Why to pause; None while nobody asked."""
        return self.reason

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]

    def _heard(self, number: int, frame: FrameType | None) -> None:
        # A handler may interrupt a print: only the raw stream is safe here.
        if self.reason is not None:
            os.write(2, _LEAVE.encode())
            os._exit(speech.LATER)
        self.reason = f"interrupted by {signal.Signals(number).name}"
        os.write(2, _PAUSE.encode())
