"""Ctrl-C, SIGTERM and a closed terminal: the first asks for a pause, the second leaves at once.

Touches the process's signal handlers, and puts back those that were there.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType, TracebackType

from orchestrator.cli import speech

_LEAVE = "\nleaving at once: work since the last checkpoints will be done again\n"
_PAUSE = "\npausing: running trials stop at a checkpoint. Once more to leave at once.\n"
_DONE = "\nleaving: all trials are done. `frontrunner report` writes the laws and the report.\n"
_CURSOR = "\x1b[?25h"


class Interrupts:
    """While it is entered, remembers the first signal as a reason to pause."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._leaving = _LEAVE
        self._at_once = False
        self._before: dict[int, object] = {}

    def asked(self) -> str | None:
        """Why to pause; None while nobody asked."""
        return self.reason

    def leave_at_once(self) -> None:
        """From now on no trial runs that a pause could save: the next signal is the last."""
        self._leaving, self._at_once = _DONE, True

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before = signal.getsignal(number)
            if number == signal.SIGHUP and before == signal.SIG_IGN:
                continue  # nohup: it is to go on without its terminal
            self._before[number] = before
            signal.signal(number, self._heard)
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
        if self.reason is not None or self._at_once:
            _write(self._leaving)
            os._exit(speech.LATER)
        self.reason = f"interrupted by {signal.Signals(number).name}"
        _write(_PAUSE)


def _write(text: str) -> None:
    """A handler may interrupt a print: only the raw stream is safe here. It may be gone."""
    with contextlib.suppress(OSError):
        shown = _CURSOR + text if os.isatty(2) else text
        os.write(2, shown.encode())
