"""The courier: carries a journal to an experiment tracker, in a thread of its own.

Off the decision path: a tracker that fails, hangs or is absent stops nothing, and what it missed
is told when it answers again, or by a later session. Trouble is told once, in plain words, and so
is its end. The thread calls the tracker it is given; nothing else is touched.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator.events import Opened, Record
from orchestrator.sinks.outbox import Outbox
from orchestrator.sinks.telling import Teller, Telling, UsedOf
from orchestrator.state import SweepState

BATCH_RECORDS = 20_000
LINGER_S = 1.0
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
_CREDENTIALS = re.compile(r"//[^/@\s]+@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What is told of a sweep that is done: law figures, one sentence, and files."""

    law: Mapping[str, float]
    answer: str | None
    artifacts: tuple[Path, ...]


class Tracker(Protocol):
    """What a courier calls, from one thread. Each call may raise anything and be repeated."""

    def open(self, opened: Opened, time: float) -> int:
        """Find or make the sweep's record; the sequence number up to which it was told, or -1."""
        ...

    def tell(self, told: Mapping[str | None, Telling], state: SweepState, seq: int) -> None:
        """Tell what changed, and last of all up to which sequence number."""
        ...

    def conclude(self, conclusion: Conclusion, state: SweepState, time_ms: int) -> None:
        """Tell the law; its files come with `attach`."""
        ...

    def attach(self, file: Path | str, name: str) -> None:
        """Keep a file, or a text, under a name."""
        ...


class Courier:
    """Tells `tracker` what is put, starting at once; see MlflowSink for the rest."""

    def __init__(
        self,
        tracker: Tracker,
        *,
        initial: SweepState,
        read_after: Callable[[int], Iterable[Record]],
        name: str,
        storage: Path,
        spec_text: str | None,
        grace_s: float,
        say: Callable[[str], None],
        used: UsedOf = SweepState.flops_used,
    ) -> None:
        self._tracker = tracker
        self._name = name
        self._storage = storage
        self._grace_s = grace_s
        self._say = say
        self._teller = Teller(initial, used)
        self._outbox = Outbox(read_after)
        self._last_ms = 0
        self._conclusion: Conclusion | None = None
        self._files: list[tuple[Path | str, str]] = []
        if spec_text is not None:
            self._files.append((spec_text, "spec.json"))
        self._files_refused = False
        self._in_trouble = False
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="courier", daemon=True)
        self._thread.start()

    def put(self, records: Sequence[Record]) -> None:
        """Records that were just made durable."""
        self._outbox.put(records)
        self._wake.set()

    def conclude(self, conclusion: Conclusion) -> None:
        """Tell this after all records that were put."""
        self._conclusion = conclusion
        self._wake.set()

    def close(self) -> None:
        """Tell what is left, within the grace, and say what could not be told."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake.set()
        self._thread.join(self._grace_s)
        if self._outbox.left > 0 or self._conclusion is not None or self._files:
            self._say(
                f"{self._name} has not been told everything ({self._outbox.left} records are "
                f"left). All of it is in {self._storage}: resuming the sweep tells it"
            )

    def _work(self) -> None:
        """Tell, wait for more, tell again; after `close` to the end, or to the second failure: the
        first may come of what a new look at the tracker sets right."""
        retry_s, chances = FIRST_RETRY_S, 2
        while chances:
            last = self._closing.is_set()
            try:
                self._tell_all()
            except ImportError as error:
                self._trouble(f"cannot be loaded ({error}); the sweep goes on without it")
                return
            except Exception as error:  # whatever a tracker raises must not reach the sweep
                self._trouble(
                    f"does not answer ({_brief(error)}); the sweep goes on, and the journal is "
                    "told again later"
                )
                if last:
                    chances -= 1
                else:
                    self._closing.wait(retry_s)
                    retry_s = min(2 * retry_s, LONGEST_RETRY_S)
            else:
                if self._in_trouble:
                    self._say(f"{self._name} answers again; it has been told everything so far")
                self._in_trouble, retry_s = False, FIRST_RETRY_S
                self._attach(last)
                if last:
                    return
                self._wake.wait()
                self._wake.clear()
                self._closing.wait(LINGER_S)  # let points gather: one call tells many

    def _trouble(self, what: str) -> None:
        if not self._in_trouble:
            self._say(f"{self._name} {what}")
        self._in_trouble = True

    def _tell_all(self) -> None:
        """Everything in the journal beyond what was told, batch by batch, and then the law."""
        while batch := self._outbox.take(BATCH_RECORDS):
            first = batch[0]
            if first.seq == 0 and isinstance(first.event, Opened):
                sent = self._tracker.open(first.event, first.time)
                if sent >= 0:
                    self._catch_up(sent)
                    continue
            teller = Teller(self._teller.state, self._teller.used)
            self._tracker.tell(teller.take(batch), teller.state, batch[-1].seq)
            self._teller, self._last_ms = teller, round(1000 * batch[-1].time)
            self._outbox.done()
        conclusion = self._conclusion
        if conclusion is not None and self._outbox.told >= 0:
            self._tracker.conclude(conclusion, self._teller.state, self._last_ms)
            self._files.extend((path, path.name) for path in conclusion.artifacts)
            self._files_refused = False
            self._conclusion = None

    def _catch_up(self, sent: int) -> None:
        """Fold what an earlier session told."""
        teller = Teller(self._teller.state, self._teller.used)
        for record in self._outbox.passing(sent):
            teller.skip([record])
            self._last_ms = round(1000 * record.time)
        self._teller = teller

    def _attach(self, last: bool) -> None:
        """Hand over files. A store that takes none must not keep the curves from being told."""
        if self._outbox.told < 0 or (self._files_refused and not last):
            return
        try:
            while self._files:
                self._tracker.attach(*self._files[0])
                del self._files[0]
        except Exception as error:  # as above: told, and the sweep goes on
            if not self._files_refused:
                self._say(
                    f"{self._name} takes no files ({_brief(error)}): they stay in "
                    f"{self._storage}; curves and figures are told all the same"
                )
            self._files_refused = True


def without_password(address: str) -> str:
    """The address as it may be shown: user and password, if any, left out."""
    return _CREDENTIALS.sub("//", address).rstrip("/")


def to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


def _brief(error: Exception) -> str:
    """Kind and first line, or what a chain of wrapped errors names as its cause."""
    first = next(iter(str(error).strip().splitlines()), "").rpartition("Caused by ")[2]
    return _CREDENTIALS.sub("//", f"{type(error).__name__}: {first}")[:200]
