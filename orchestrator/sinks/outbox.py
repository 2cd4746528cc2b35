"""What is still to be told, in order: the newest records from memory, the rest from the journal.

A queue whose overflow is the journal, so it takes bounded memory however long nobody listens, and
loses nothing. One thread puts, another takes. Touches nothing but what `read_after` reads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from orchestrator.events import Record

ROOM = 20_000


class Outbox:
    """Records beyond `told`, up to `known`, both sequence numbers (-1 for none).

    `read_after(seq)` reads the journal's records beyond `seq`; it is asked only where the `room`
    newest records do not reach back far enough.
    """

    def __init__(self, read_after: Callable[[int], Iterable[Record]], *, room: int = ROOM) -> None:
        self.told = self.known = -1
        self._read_after = read_after
        self._recent: deque[Record] = deque(maxlen=room)
        self._lock = threading.Lock()
        self._journal: Iterator[Record] | None = None
        self._taken: list[Record] = []

    @property
    def left(self) -> int:
        return self.known - self.told

    def put(self, records: Sequence[Record]) -> None:
        """Records that were just made durable."""
        with self._lock:
            self._recent.extend(records)
            if records:
                self.known = records[-1].seq

    def take(self, limit: int) -> list[Record]:
        """The next records; the same ones again until `done` is called. Empty when all is told."""
        if not self._taken and self.left > 0:
            self._taken = self._from_memory(limit) or self._from_journal(limit)
        return self._taken

    def done(self) -> None:
        """What was taken last has been told."""
        if self._taken:
            self.told, self._taken = self._taken[-1].seq, []

    def passing(self, last: int) -> Iterator[Record]:
        """The journal's records up to `last`, each counted as told once it is passed."""
        self._taken, self._journal = [], None
        for record in self._read_after(self.told):
            if record.seq > last:
                return
            yield record
            self.told = record.seq

    def _from_memory(self, limit: int) -> list[Record]:
        with self._lock:
            while self._recent and self._recent[0].seq <= self.told:
                self._recent.popleft()
            if not self._recent or self._recent[0].seq != self.told + 1:
                return []
            self._journal = None
            return list(islice(self._recent, limit))

    def _from_journal(self, limit: int) -> list[Record]:
        """One pass over the file serves many batches: each pass reads it from its start."""
        passing, self._journal = self._journal, None
        batch = list(islice(passing, limit)) if passing is not None else []
        if not batch:  # a pass that was at its end does not see what was written since
            passing = iter(self._read_after(self.told))
            batch = list(islice(passing, limit))
        if len(batch) == limit:
            self._journal = passing
        return batch
