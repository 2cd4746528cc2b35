"""The journal: what is written comes back; torn tails are cut; damage is refused."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from orchestrator.events import (
    Closed,
    Decided,
    Event,
    PointReported,
    SegmentEnded,
    Started,
    StopAsked,
    event_from_data,
)
from orchestrator.journal import (
    FileJournal,
    JournalError,
    JournalHeld,
    holder,
    read_records,
)
from orchestrator.values import Anneal, Checkpoint, Expectation, Extend, Point, Stop

EVENTS: list[Event] = [
    Decided(
        policy="p",
        decisions=(
            Extend(
                trial="a",
                tokens=10,
                reason="why",
                expected=Expectation(tokens=20, loss=2.0, sd=0.1, by="joint"),
            ),
            Stop(trial="b", reason="rank 2"),
            Anneal(trial="c", tokens=12, reason="law"),
        ),
    ),
    Started(trial="a", attempt=1, until=10, resume_from=Checkpoint(tokens=4, path="x")),
    PointReported(trial="a", attempt=1, point=Point(tokens=10, flops=6e18, loss=0.1 + 0.2)),
    SegmentEnded(trial="a", attempt=1, tokens=10, checkpoint=None),
    StopAsked(by="me", reason='lunch; "quoted" and ünïcode \u2028'),
    Closed(reason="done"),
]


def write(path: Path, events: list[Event] = EVENTS) -> None:
    with FileJournal(path, owner="me") as journal:
        for number, event in enumerate(events):
            journal.append(event, 1000.5 + number)
        journal.sync()


def test_events_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path)
    records = list(read_records(path))
    assert [record.event for record in records] == EVENTS
    assert [record.seq for record in records] == list(range(len(EVENTS)))
    assert records[1].time == 1001.5
    assert [record.seq for record in read_records(path, after=3)] == [4, 5]


def test_a_second_session_goes_on_numbering(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path)
    write(path)
    assert [record.seq for record in read_records(path)] == list(range(2 * len(EVENTS)))


def test_a_torn_last_line_is_cut_off_and_said_at_every_byte(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    write(whole)
    data = whole.read_bytes()
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(last + 1, len(data)):
        path = tmp_path / "journal.jsonl"
        path.write_bytes(data[:cut])
        assert len(list(read_records(path))) == len(EVENTS) - 1
        with FileJournal(path, owner="me") as journal:
            assert journal.repaired is not None and f"{cut - last} bytes" in journal.repaired
            journal.append(EVENTS[-1], 2000.0)
            journal.sync()
        assert [record.event for record in read_records(path)] == EVENTS


def test_every_flipped_byte_in_the_middle_is_refused_and_the_file_left_alone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.jsonl"
    write(path)
    good = path.read_bytes()
    first = good.find(b"\n")
    for position in range(0, first, 7):
        bad = bytearray(good)
        bad[position] ^= 1
        path.write_bytes(bad)
        with pytest.raises(JournalError, match="record 0"):
            FileJournal(path, owner="me")
        assert path.read_bytes() == bad
    path.write_bytes(good[: first + 1] + good[first + 1 :].split(b"\n", 1)[1])
    with pytest.raises(JournalError, match=r"record 1 is damaged .*sequence number is 2"):
        list(read_records(path))


def test_a_damaged_whole_last_line_is_damage_not_a_torn_tail(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path)
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    with pytest.raises(JournalError, match=f"record {len(EVENTS) - 1}"):
        FileJournal(path, owner="me")


def test_a_second_driver_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "sweep" / "journal.jsonl"
    with FileJournal(path, owner="ada@host, pid 12"):
        assert holder(path) == "ada@host, pid 12"
        with pytest.raises(JournalHeld, match=r"ada@host, pid 12.*frontrunner stop sweep"):
            FileJournal(path, owner="bob")
    assert holder(path) is None
    FileJournal(path, owner="bob").close()


def test_whoever_only_looks_keeps_no_driver_out(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    FileJournal(path, owner="me").close()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            holder(path)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(200):
            FileJournal(path, owner="me").close()
    finally:
        done.set()
        looker.join()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full for a full disk")
def test_a_full_disk_is_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = FileJournal(path, owner="me")
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._file.fileno())  # pyright: ignore[reportPrivateUsage]
    os.close(full)
    journal.append(EVENTS[0], 1.0)
    with pytest.raises(JournalError, match=r"No space left.*free the disk"):
        journal.sync()
    journal.close()


def test_a_newer_schema_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"newer release.*upgrade frontrunner"):
        event_from_data({"kind": "closed", "reason": "x"}, version=99)
