"""The outbox: every record once and in order, from little memory, however slow the listener."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from orchestrator.events import Closed, Record
from orchestrator.sinks.outbox import Outbox

RECORDS = [Record(seq=seq, time=float(seq), event=Closed(reason="x")) for seq in range(200)]


class Journal:
    def __init__(self) -> None:
        self.written: list[Record] = []
        self.passes = 0

    def read_after(self, seq: int) -> Iterator[Record]:
        self.passes += 1
        return (record for record in list(self.written) if record.seq > seq)


@pytest.mark.parametrize("room", [1, 7, 500])
@pytest.mark.parametrize("seed", range(10))
def test_every_record_comes_once_and_in_order(room: int, seed: int) -> None:
    random, journal = Random(seed), Journal()
    outbox = Outbox(journal.read_after, room=room)
    told: list[int] = []
    while len(told) < len(RECORDS):
        if random.random() < 0.6 and len(journal.written) < len(RECORDS):
            start = len(journal.written)
            new = RECORDS[start : start + random.randint(1, 20)]
            journal.written += new
            outbox.put(new)
        batch = outbox.take(random.randint(1, 30))
        assert batch == outbox.take(5), "what was not told comes again"
        if random.random() < 0.7:
            told += [record.seq for record in batch]
            outbox.done()
            assert outbox.told == (told[-1] if told else -1)
    assert told == list(range(len(RECORDS))) and outbox.left == 0 and not outbox.take(9)


def test_a_listener_that_keeps_up_never_reads_the_file() -> None:
    journal = Journal()
    outbox = Outbox(journal.read_after, room=20)
    for record in RECORDS:
        outbox.put([record])
        assert outbox.take(100) == [record]
        outbox.done()
    assert journal.passes == 0


def test_one_pass_over_the_file_serves_many_batches() -> None:
    journal = Journal()
    journal.written = RECORDS
    outbox = Outbox(journal.read_after, room=3)
    outbox.put(RECORDS[-5:])
    while outbox.take(10):
        outbox.done()
    assert outbox.left == 0 and journal.passes == 1


def test_what_an_earlier_session_told_is_passed_over() -> None:
    journal = Journal()
    journal.written = RECORDS
    outbox = Outbox(journal.read_after)
    outbox.put(RECORDS[150:])
    assert outbox.take(5) == RECORDS[:5]
    assert list(outbox.passing(149)) == RECORDS[:150]
    assert outbox.told == 149 and outbox.take(500) == RECORDS[150:]
    assert journal.passes == 2
