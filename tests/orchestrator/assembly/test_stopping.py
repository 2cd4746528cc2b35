"""A request to pause: addressed to one driver, and to no later one of the same name."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.assembly.folders import SweepFolder
from orchestrator.assembly.stopping import StopRequests, ask_to_stop
from orchestrator.journal import FileJournal

ADA = "ada on node7, process 12"


def heard(folder: SweepFolder, driver: str) -> str | None:
    return StopRequests(folder, lambda: None, driver)()


def test_a_request_is_heard_by_whom_it_is_addressed_to(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "s")
    with FileJournal(folder.journal, owner=ADA):
        assert ask_to_stop(folder, "enough") == ADA
        assert "enough (asked by" in (heard(folder, ADA) or "")
        assert heard(folder, "bob on node8, process 3") is None


def test_the_terminal_is_asked_first(tmp_path: Path) -> None:
    assert StopRequests(SweepFolder(tmp_path), lambda: "Ctrl-C", ADA)() == "Ctrl-C"


def test_a_later_driver_of_the_same_name_is_not_stopped(tmp_path: Path) -> None:
    """In a container every driver may be process 7."""
    folder = SweepFolder(tmp_path / "s")
    with FileJournal(folder.journal, owner=ADA):
        ask_to_stop(folder, "enough")
    os.utime(folder.stop_request, (1e9, 1e9))  # long before the next one
    with FileJournal(folder.journal, owner=ADA):
        assert heard(folder, ADA) is None


def test_an_answer_takes_its_own_request_away_and_no_other(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "s")
    with FileJournal(folder.journal, owner=ADA):
        ask_to_stop(folder, "enough")
        StopRequests(folder, lambda: None, "bob on node8, process 3").answered()
        assert folder.stop_request.exists()
        StopRequests(folder, lambda: None, ADA).answered()
        assert not folder.stop_request.exists()


def test_what_cannot_be_read_asks_nothing(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "s")
    with FileJournal(folder.journal, owner=ADA):
        for text in ("", "asked to stop (by an older release)", "[1]", '{"to": 3}'):
            folder.write(folder.stop_request, text)
            assert heard(folder, ADA) is None
