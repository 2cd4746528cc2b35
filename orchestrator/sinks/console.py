"""The terminal: a live view of the sweep, or one plain line for each thing worth telling.

On a terminal a block of a few lines is redrawn in place; elsewhere (a log file, a batch system)
lines are written for decisions, trouble, and progress every so often; while a pause waits, so is
who is awaited. A stream that nobody reads any more is written to no further: the sweep goes on.
Touches the stream it is given.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.events import (
    AttemptLost,
    Closed,
    Decided,
    Diverged,
    Event,
    Opened,
    Record,
    StopAsked,
)
from orchestrator.state import SweepState
from orchestrator.trial import Trial
from orchestrator.values import Anneal, Decision, Extend, Stop, Used

PROGRESS_S = 10.0
AWAITED_S = 15.0
NAMES_OF_AWAITED = 6
NAMES_OF_EXTENDED = 3
REPEATED = 40
"""Characters at the end of a reason from which on they are not told again after the same ones."""
SEEN_ENOUGH = 0.02
"""Of the budget, before what is left of it is foretold in seconds."""
REDRAWS_PER_S = 4
LINES_OF_TRIALS = 12
STATUSES = ("running", "waiting", "idle", "stopped", "finished", "diverged", "failed")


class _Console(Console):
    """Falls silent where rich would end the process: the reader of a pipe has left."""

    def on_broken_pipe(self) -> None:
        self.quiet = True

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError:  # the terminal is gone, or the disk of a log file is full
            self.quiet = True
            self._buffer.clear()


class ConsoleSink:
    """Shows a sweep to whoever watches the terminal. `verbose` tells each decision by itself;
    `awaited_s` is how often a pause says whom it waits for; `used` what of the budget runs out
    first, and how much of it is used."""

    def __init__(
        self,
        stream: TextIO,
        *,
        verbose: bool = False,
        awaited_s: float = AWAITED_S,
        used: Callable[[SweepState], Used] = SweepState.flops_used,
    ) -> None:
        self._console = _Console(file=stream, highlight=False, soft_wrap=not stream.isatty())
        self._verbose = verbose
        self._used = used
        self._awaited_s = awaited_s
        self._closed = threading.Event()
        self._waiting: threading.Thread | None = None
        self._began = self._last = time.monotonic()
        self._share_before: float | None = None
        self._state: SweepState | None = None
        self._reason = ""
        self._live: Live | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            # Drawn by a thread of its own: a thousand reports a second are not as many frames.
            self._live = Live(
                console=self._console,
                get_renderable=self._view,
                refresh_per_second=REDRAWS_PER_S,
                transient=True,
            )
            self._live.start()

    def show(self, records: Sequence[Record], state: SweepState) -> None:
        if self._share_before is None:
            self._share_before = self._used(state).share
        for record in records:
            for line in told(record.event, state, verbose=self._verbose):
                self._console.print(Text(plain(self._without_repeat(record.event, line))))
        self._state = state
        if self._waiting is None and state.stop_asked is not None and state.running:
            # Records may be minutes apart while a pause waits, so a thread of its own speaks.
            self._waiting = threading.Thread(target=self._say_awaited, daemon=True)
            self._waiting.start()
        now = time.monotonic()
        if self._live is None and now - self._last >= PROGRESS_S:
            self._last = now
            self._console.print(Text(plain(", ".join(self._progress(state)))))

    def close(self) -> None:
        self._closed.set()
        if self._waiting is not None:
            self._waiting.join()
            self._waiting = None
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _without_repeat(self, event: Event, line: str) -> str:
        """A decision without what the one before it ended in too; `verbose` tells all of it."""
        if self._verbose or not isinstance(event, Decided):
            return line
        before, self._reason = self._reason, line
        return anew(line, before)

    def _say_awaited(self) -> None:
        began = time.monotonic()
        while not self._closed.wait(self._awaited_s):
            state = self._state
            if state is None or not state.running:
                return
            self._console.print(Text(plain(awaited(state, time.monotonic() - began))))

    def _progress(self, state: SweepState) -> list[str]:
        """Such as `41 % of 4 GPU-hours`, `2 running`, `best loss 2.7`, `about 3 min left`."""
        used = self._used(state)
        parts = [used.said, counts(state)]
        best, left = best_of(state), self._left_s(used)
        if best is not None:
            parts.append(f"best loss {best.curve.loss.min():.4f} ({best.id})")
        if left is not None:
            parts.append(f"about {lasting(left)} left")
        return parts

    def _left_s(self, used: Used) -> float | None:
        """Seconds until the budget is spent at this session's pace; None before there is one."""
        elapsed = time.monotonic() - self._began
        here = used.share - (self._share_before or 0.0)
        if elapsed < PROGRESS_S or here < SEEN_ENOUGH:
            return None
        return max(0.0, 1.0 - used.share) / here * elapsed

    def _view(self) -> RenderableType:
        state = self._state
        if state is None:
            return ""
        spent, *rest = self._progress(state)
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(
            total=1.0, completed=min(1.0, self._used(state).share), width=self._console.width // 3
        )
        head.add_row(bar, Text(plain(spent)))
        running = [trial for trial in state.trials.values() if trial.running]
        room = max(1, min(LINES_OF_TRIALS, self._console.height - 6))
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in ("running", "tokens", "told to reach", "loss"):
            table.add_column(title, justify="left" if title == "running" else "right")
        for trial in running[:room]:
            track = next(track for track in trial.tracks if track.running)
            loss = track.curve.last_loss
            table.add_row(
                plain(trial.id) + (" (annealing)" if track is not trial.trunk else ""),
                f"{track.position:,}",
                f"{track.until:,}",
                f"{loss:.4f}" if len(track.curve) else "-",
            )
        if len(running) > room:
            table.add_row(f"and {len(running) - room} more")
        return Group(head, *(Text(plain(line), overflow="ellipsis") for line in rest), table)


def told(event: Event, state: SweepState, *, verbose: bool) -> list[str]:
    """Lines for an event, none for most."""
    match event:
        case Opened():
            again = f"session {event.session} of" if event.session > 1 else "started"
            slots = event.environment.slots
            more = f", with more: {', '.join(event.raised)}" if event.raised else ""
            return [f"{again} {event.name}: {len(state.pool)} candidates, {slots} at a time{more}"]
        case Decided():
            return _decided(event, verbose)
        case Diverged():
            return [f"{event.trial} diverged: {event.reason}"]
        case AttemptLost() if event.cause != "interrupted" or verbose:
            return [f"{event.trial}, attempt {event.attempt}, was lost: {event.reason}"]
        case StopAsked():
            return [f"pausing: {event.reason}"]
        case Closed():
            return [f"done: {event.reason}"]
        case _:
            return []


def _decided(event: Decided, verbose: bool) -> list[str]:
    """What was decided, by kind; with `verbose` each decision and its reason."""
    if verbose:
        return [f"{d.kind} {d.trial}: {d.reason}" for d in event.decisions]
    stops = [d for d in event.decisions if isinstance(d, Stop)]
    anneals = [d for d in event.decisions if isinstance(d, Anneal)]
    extends = [d for d in event.decisions if isinstance(d, Extend)]
    parts: tuple[tuple[str, Sequence[Decision]], ...] = (
        ("stopped", stops),
        ("extending", extends),
        ("annealing", anneals),
    )
    return [
        f"{what} {_whom(group)}: {group[0].reason}"
        for what, found in parts
        for group in _groups(found)
    ]


def _groups(decisions: Sequence[Decision]) -> list[Sequence[Decision]]:
    """Those told in one line: all, where they have one reason or are many; else each has its own
    price and reason, and a line."""
    if len(decisions) > NAMES_OF_EXTENDED or len({d.reason for d in decisions}) == 1:
        return [decisions]
    return [[decision] for decision in decisions]


def _whom(decisions: Sequence[Decision]) -> str:
    """`w16 to 499,712 tokens`, or `8 trials (w16, w24, w32, ...)`."""
    names = [decision.trial for decision in decisions]
    goals = {decision.tokens for decision in decisions if isinstance(decision, Extend)}
    to = f" to {goals.pop():,} tokens" if len(goals) == 1 else ""
    if len(names) == 1:
        return names[0] + to
    more = ", ..." if len(names) > NAMES_OF_EXTENDED else ""
    return f"{len(names)} trials ({', '.join(names[:NAMES_OF_EXTENDED])}{more}){to}"


def anew(line: str, before: str) -> str:
    """The line without the clauses at its end that the line before ended in too, where they are
    long: `... by 0.15 % ...`."""
    clauses, known = (re.split(r"(?= \(|; )", text) for text in (line, before))
    same = 0
    while same < min(len(clauses), len(known)) - 1 and clauses[-1 - same] == known[-1 - same]:
        same += 1
    kept = clauses[: len(clauses) - same]
    left_out = sum(map(len, clauses[len(kept) :]))
    return line if left_out < REPEATED else f"{''.join(kept)} ..."


def awaited(state: SweepState, waited_s: float) -> str:
    """Whom a pause still waits for, and how not to."""
    names = [trial.id for trial in state.trials.values() if trial.running]
    more = f" and {len(names) - NAMES_OF_AWAITED} more" if len(names) > NAMES_OF_AWAITED else ""
    return (
        f"pausing for {lasting(waited_s)}: waiting for {', '.join(names[:NAMES_OF_AWAITED])}{more}"
        " to checkpoint at the next point (Ctrl-C once more leaves at once)"
    )


def counts(state: SweepState) -> str:
    """`2 running, 12 stopped, 10 idle`, and how many were never started."""
    by_status = Counter(trial.status for trial in state.trials.values())
    said = [f"{by_status[status]} {status}" for status in STATUSES if by_status[status]]
    unstarted = len(state.pool) - len(state.trials)
    return ", ".join([*said, *([f"{unstarted} unstarted"] if unstarted else [])])


def best_of(state: SweepState) -> Trial | None:
    """The trial with the lowest loss so far."""
    shown = [trial for trial in state.trials.values() if len(trial.curve)]
    return min(shown, key=lambda trial: float(trial.curve.loss.min()), default=None)


def lasting(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def plain(text: str) -> str:
    """Without control characters, which a name could smuggle into a terminal."""
    return "".join(character for character in text if character.isprintable())
