"""Real training through the command, in this process and across kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.assembly.folders import SweepFolder
from orchestrator.assembly.reading import read_sweep
from orchestrator.cli.app import run
from orchestrator.events import PointReported
from orchestrator.journal import read_records
from tests.orchestrator.assembly import specs

ROOT = Path(__file__).resolve().parents[3]


def test_models_are_trained_halved_annealed_and_end_in_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["launch", str(specs.live(tmp_path)), "-q", "--json"]) == 0
    launched = json.loads(capsys.readouterr().out)
    page = Path(launched["report"]).read_text()
    assert "annealed over" in page
    assert launched["spent"] <= launched["budget"]
    losses = [
        record.event.point.loss
        for record in read_records(tmp_path / "sweeps" / "tiny" / "journal.jsonl")
        if isinstance(record.event, PointReported)
    ]
    assert min(losses) < 0.8 * max(losses)


class Driver:
    """A launch in a process of its own."""

    def __init__(self, path: Path) -> None:
        self.journal = path.parent / "sweeps" / "tiny" / "journal.jsonl"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "launch", str(path), "-q"],
            cwd=path.parent,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_points(self, count: int) -> None:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if self.journal.exists() and self.journal.read_bytes().count(b'"point"') >= count:
                return
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.05)
        raise AssertionError(f"no {count} points within 90 s")

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        said = self.process.communicate(timeout=60)[1]
        return self.process.returncode, said


def points_counted_once(journal: Path) -> None:
    """However often work was done again, each point of a trial counts once."""
    seen = {
        (record.event.trial, record.event.point.phase == "annealed", record.event.point.tokens)
        for record in read_records(journal)
        if isinstance(record.event, PointReported)
    }
    state = read_sweep(SweepFolder(journal.parent)).state
    assert state.points == len(seen)
    tracks = [track for trial in state.trials.values() for track in trial.tracks]
    assert sum(len(track.curve) for track in tracks) == len(seen)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_pauses_and_launching_again_goes_on(number: int, tmp_path: Path) -> None:
    path = specs.live(tmp_path, horizon=65536)
    driver = Driver(path)
    driver.wait_for_points(10)
    code, said = driver.end(number)
    assert code == 75
    assert "pausing: running trials stop at a checkpoint" in said
    assert "resume tiny" in said
    assert "Traceback" not in said
    again = Driver(path)
    said = again.process.communicate(timeout=110)[1]
    assert again.process.returncode == 0, said
    assert "going on with it" in said
    points_counted_once(driver.journal)


@pytest.mark.slow
def test_a_killed_driver_is_found_and_gone_on_with(tmp_path: Path) -> None:
    path = specs.live(tmp_path, horizon=65536)
    driver = Driver(path)
    driver.wait_for_points(10)
    driver.end(signal.SIGKILL)
    before = list(read_records(driver.journal))
    again = Driver(path)
    said = again.process.communicate(timeout=110)[1]
    assert again.process.returncode == 0, said
    assert "were running (they go on from their checkpoints)" in said
    after = list(read_records(driver.journal))
    assert after[: len(before)] == before
    points_counted_once(driver.journal)


@pytest.mark.slow
def test_ctrl_c_while_the_laws_are_fitted_leaves_at_once(
    tmp_path: Path,
) -> None:
    path = specs.live(tmp_path)
    path.write_text(path.read_text().replace("bootstrap: 20", "bootstrap: 3000"))
    driver = Driver(path)
    deadline = time.monotonic() + 90
    while b'"closed"' not in (driver.journal.read_bytes() if driver.journal.exists() else b""):
        assert driver.process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    code, said = driver.end(signal.SIGINT)
    assert code == 75
    assert "`frontrunner report` writes" in said and "pausing" not in said
    page = driver.journal.parent / "report.html"
    assert not page.exists()
