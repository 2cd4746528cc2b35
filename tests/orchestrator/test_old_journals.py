"""Journals of earlier releases keep loading, and fold to what they meant.

The files under tests/data/journals are never written again: a new schema adds a file.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.events import Event
from orchestrator.journal import FileJournal, read_records
from orchestrator.state import fold
from tests.orchestrator.worlds import fresh, small_pool

JOURNALS = sorted((Path(__file__).parents[1] / "data" / "journals").glob("schema-*.jsonl"))
POOL, _ = small_pool(sizes=(1000,), rates=(1, 3))


def test_there_is_a_journal_of_every_schema() -> None:
    assert [path.stem for path in JOURNALS] == ["schema-1"]


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: path.stem)
def test_it_folds_to_what_it_meant(path: Path) -> None:
    records = list(read_records(path))
    assert len(records) == 20 and records[0].time == 1763776800.25
    state = fold(fresh(POOL, 1e7), (record.event for record in records))
    trial = state.trials["n1000-r1"]
    assert trial.curve.tokens.tolist() == [50, 100] and trial.curve.loss.tolist() == [4.25, 3.5]
    assert trial.curve.phases == ("warmup", "stable")
    assert trial.branches[0].curve.loss.tolist() == [3.25]
    assert (trial.status, trial.attempts, trial.stop_reason) == ("stopped", 3, "rank 2 of 2")
    assert state.trials["n1000-r3"].status == "diverged"
    assert state.ledger.spent == (120 + 60) * 6000
    assert (state.ledger.reserved, state.ledger.lost) == (0, 20 * 6000)
    assert (state.session, state.stale, state.points) == (2, 1, 4)
    assert state.closed is not None and state.stop_asked is None


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: path.stem)
def test_it_holds_every_kind_of_event_and_can_be_gone_on_with(path: Path, tmp_path: Path) -> None:
    kinds = {record.event.kind for record in read_records(path)}
    assert kinds == {kind.__dataclass_fields__["kind"].default for kind in Event.__args__}
    copy = tmp_path / "journal.jsonl"
    copy.write_bytes(path.read_bytes())
    with FileJournal(copy, owner="me") as journal:
        journal.append(next(read_records(path)).event, 2.0)
        journal.sync()
    assert len(list(read_records(copy))) == 21
