"""The journal: the one durable truth of a sweep.

JSON Lines, append-only, one writer. Each line is a record: sequence number, time, schema version,
event, and a CRC-32 of all that stands before it. A torn last line is cut off and said; damage
anywhere else refuses to open and names the record. Touches one file, and a lock beside it.

    {"seq":7,"time":1763776801.25,"version":1,"event":{...},"crc32":"9ae0daaf"}
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol

from orchestrator.events import SCHEMA, Event, Record, event_from_data, event_to_json

LOOKERS_S = 1.0
_SEAL = re.compile(rb',"crc32":"([0-9a-f]{8})"}\n?$')


class JournalError(RuntimeError):
    """The journal cannot be trusted or written; the message names file, record and remedy."""


class JournalHeld(JournalError):
    """Another driver writes this journal."""


class Journal(Protocol):
    """Somewhere to append events. What was appended is durable after `sync`."""

    def append(self, event: Event, time_s: float) -> Record: ...

    def sync(self) -> None: ...


class MemoryJournal:
    """The journal without a disk: keeps records in a list. For replays and experiments."""

    def __init__(self, records: list[Record] | None = None) -> None:
        self.records: list[Record] = list(records or [])

    def append(self, event: Event, time_s: float) -> Record:
        record = Record(seq=len(self.records), time=time_s, event=event)
        self.records.append(record)
        return record

    def sync(self) -> None:
        """Nothing to make durable."""


class DiscardingJournal:
    """Numbers records and keeps none: for replays of which only the final state matters."""

    def __init__(self) -> None:
        self._next = 0

    def append(self, event: Event, time_s: float) -> Record:
        record = Record(seq=self._next, time=time_s, event=event)
        self._next += 1
        return record

    def sync(self) -> None:
        """Nothing to make durable."""


class FileJournal:
    """The journal in a file, held by an exclusive lock for as long as it is open.

    `repaired` says what was cut off when the last line was torn, and is None otherwise.
    """

    def __init__(self, path: Path, *, owner: str) -> None:
        """Open or create. Raises JournalHeld where another driver holds it, JournalError where it
        is damaged."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.repaired: str | None = None
        self._lock = _locked(path.with_suffix(".lock"), owner)
        try:
            self._next, end = self._checked()
            self._file = _appending(path, end)
        except BaseException:
            self._lock.close()
            raise

    def _checked(self) -> tuple[int, int]:
        """(next sequence number, bytes to keep) after reading the file through."""
        if not self.path.exists():
            return 0, 0
        next_seq, end = 0, 0
        for record, after in _read(self.path):
            next_seq, end = record.seq + 1, after
        size = self.path.stat().st_size
        if end < size:
            self.repaired = (
                f"{self.path}: cut off {size - end} bytes of a torn last line after record "
                f"{next_seq - 1}"
            )
        return next_seq, end

    def append(self, event: Event, time_s: float) -> Record:
        """Write a record. It is durable only after `sync`. Raises JournalError when the disk is
        full or gone; what was written before stays."""
        record = Record(seq=self._next, time=time_s, event=event)
        try:
            self._file.write(_line(record))
        except OSError as error:
            raise self._unwritable(error) from error
        self._next += 1
        return record

    def sync(self) -> None:
        """Make all that was appended durable. Raises JournalError when that fails."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> JournalError:
        return JournalError(
            f"{self.path}: cannot write ({error.strerror}): nothing further was started; free the "
            "disk or mount it again, then resume the sweep"
        )

    def records(self) -> Iterator[Record]:
        """All records from the first, as they are on disk."""
        self._file.flush()
        return read_records(self.path)

    def close(self) -> None:
        """Release the lock. What could not be flushed was never durable."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._lock.close()

    def __enter__(self) -> FileJournal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_records(path: Path, after: int = -1) -> Iterator[Record]:
    """Records with a sequence number above `after`, without a lock; a torn last line is left out.

    Raises JournalError for damage in the middle.
    """
    return (record for record, _ in _read(path) if record.seq > after)


class JournalTail:
    """Reads a journal that is being written, each time from where the last reading ended.

    `after(seq)` gives the records beyond `seq`; asking for what was read before starts over.
    Raises JournalError for damage in the middle.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seq, self._offset = -1, 0

    def after(self, seq: int) -> Iterator[Record]:
        if seq < self._seq:
            self._seq, self._offset = -1, 0
        if not self._path.exists():
            return
        for record, end in _read(self._path, self._offset, self._seq + 1):
            self._seq, self._offset = record.seq, end
            if record.seq > seq:
                yield record


def holder(path: Path) -> str | None:
    """Who holds the journal at `path`; None when nobody does."""
    lock = path.with_suffix(".lock")
    if not lock.exists():
        return None
    with lock.open("r") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return handle.read().strip() or "another driver"
    return None


def _locked(path: Path, owner: str) -> IO[str]:
    handle = path.open("a+")
    if not _gained(handle):
        handle.seek(0)
        by = handle.read().strip() or "another driver"
        handle.close()
        raise JournalHeld(
            f"{path.parent}: the sweep is being driven by {by}; wait for it, or ask it to stop "
            f"with `frontrunner stop {path.parent.name}`"
        )
    handle.truncate(0)
    handle.write(owner + "\n")
    handle.flush()
    return handle


def _gained(handle: IO[str]) -> bool:
    """Whether the lock was had within a second: whoever looks at it holds it for an instant."""
    deadline = time.monotonic() + LOOKERS_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOKERS_S / 50)
        else:
            return True


def _appending(path: Path, end: int) -> IO[bytes]:
    """The file open for writing at `end`, with anything behind it cut off durably."""
    created = not path.exists()
    handle = path.open("ab")
    if handle.tell() > end:
        handle.truncate(end)
        handle.seek(end)
        os.fsync(handle.fileno())
    if created:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return handle


def _line(record: Record) -> bytes:
    head = b'{"seq":%d,"time":%.6f,"version":%d,"event":%b' % (
        record.seq,
        record.time,
        record.version,
        event_to_json(record.event),
    )
    return b'%b,"crc32":"%08x"}\n' % (head, zlib.crc32(head))


def _read(path: Path, offset: int = 0, expected: int = 0) -> Iterator[tuple[Record, int]]:
    """Records with the byte offset after each; ends before a torn last line.

    Begins at `offset`, where the record numbered `expected` must stand.
    """
    with path.open("rb") as file:
        file.seek(offset)
        for raw in file:
            offset += len(raw)
            try:
                record = _parsed(raw, expected)
            except ValueError as error:
                if not raw.endswith(b"\n") and not file.read(1):
                    return
                raise JournalError(
                    f"{path}: record {expected} is damaged ({error}); the journal is not touched. "
                    "Restore it from a copy, or move the folder away to start the sweep anew"
                ) from error
            yield record, offset
            expected += 1


def _parsed(raw: bytes, expected: int) -> Record:
    """The record of one line. Raises ValueError naming what is wrong."""
    if not raw.endswith(b"\n"):
        raise ValueError("the line does not end")
    seal = _SEAL.search(raw)
    if seal is None:
        raise ValueError("no checksum")
    if zlib.crc32(raw[: seal.start()]) != int(seal[1], 16):
        raise ValueError("the checksum does not match")
    data = json.loads(raw)
    if data["seq"] != expected:
        raise ValueError(f"its sequence number is {data['seq']}")
    version = int(data.get("version", SCHEMA))
    event = event_from_data(data["event"], version)
    return Record(seq=data["seq"], time=data["time"], event=event, version=version)
