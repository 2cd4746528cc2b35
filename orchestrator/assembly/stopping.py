"""Asking whoever drives a sweep to pause it: a file in the sweep's folder, addressed to them.

A request counts for the one driver that held the journal when it was made: another ignores it, and
so does a later one that happens to bear the same name (a container's processes count from 1 each
time). Touches one file of the sweep's folder.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.assembly.folders import SweepFolder
from orchestrator.journal import holder

STOP_CHECK_S = 0.5


def owner() -> str:
    """Who drives: user, machine and process."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = f"uid {os.getuid()}"
    return f"{user} on {socket.gethostname()}, process {os.getpid()}"


def ask_to_stop(folder: SweepFolder, reason: str) -> str | None:
    """Leave a request that the driver reads; returns who drives, None where nobody does.

    Nothing is left where nobody would read it.
    """
    held_by = holder(folder.journal)
    if held_by is not None:
        request = {"to": held_by, "reason": f"{reason} (asked by {owner()})"}
        folder.write(folder.stop_request, json.dumps(request) + "\n")
    return held_by


@dataclass(slots=True)
class StopRequests:
    """Asks the terminal, and every half second the sweep's folder, whether to pause.

    Made while `driver`, as the journal's lock names it, holds that lock.
    """

    folder: SweepFolder
    asked: Callable[[], str | None]
    driver: str
    _next: float = field(default=0.0)

    def __call__(self) -> str | None:
        """Why to pause; None while nobody asked."""
        reason = self.asked()
        if reason is not None:
            return reason
        now = time.monotonic()
        if now < self._next:
            return None
        self._next = now + STOP_CHECK_S
        return self._left()

    def answered(self) -> None:
        """The session is over: what was asked of it is done."""
        if self._left() is not None:
            self.folder.stop_request.unlink(missing_ok=True)

    def _left(self) -> str | None:
        """What was asked of this session in the folder. Files are replaced whole, so one that
        cannot be read is none of ours."""
        path = self.folder.stop_request
        try:
            request: Any = json.loads(path.read_text(encoding="utf-8"))
            if request["to"] != self.driver:
                return None
            # Both times are the disk's: the lock was written before anybody could ask its holder.
            if path.stat().st_mtime_ns < self.folder.lock.stat().st_mtime_ns:
                return None
            return str(request["reason"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
