from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from orchestrator.assembly import session
from orchestrator.assembly.concluding import (
    Written,
    conclude_sweep,
    figures_of,
    question_of,
    write_report,
)
from orchestrator.assembly.reading import Sweep, read_sweep
from orchestrator.assembly.specs import read_spec
from tests.orchestrator.assembly import specs


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    spec, pool = read_spec(str(specs.recorded(tmp_path_factory.mktemp("sweep"))), [])
    ended = session.drive(spec, pool, session.Wishes(say=lambda line: None, asked=lambda: None))
    return read_sweep(ended.folder)


def test_the_question_is_the_specs(tmp_path: Path) -> None:
    overrides = ["target={params: 7M, tokens: 140M}", "aim=target", "law.level=80%", "seed=4"]
    spec, _ = read_spec(str(specs.recorded(tmp_path)), overrides)
    question = question_of(spec)
    assert question.target == (7_000_000, 140_000_000)
    assert (question.aim, question.level, question.seed, question.draws) == ("target", 0.8, 4, 20)


def test_a_report_written_again_says_the_same(sweep: Sweep) -> None:
    first = json.loads(sweep.folder.law.read_text())
    write_report(sweep, conclude_sweep(sweep))
    again = json.loads(sweep.folder.law.read_text())
    assert {**first, "written_s": 0} == {**again, "written_s": 0}


def test_the_markdown_shows_the_picture_beside_it(sweep: Sweep) -> None:
    text = sweep.folder.summary.read_text()
    assert "![loss against compute](plots/loss-compute.png)" in text
    assert (sweep.folder.path / "plots" / "loss-compute.png").is_file()


def test_the_markdown_asks_each_question_once(sweep: Sweep) -> None:
    text = sweep.folder.summary.read_text()
    assert text.count("| 10 times the largest run |") == 1


def test_a_replay_says_that_nothing_was_trained(sweep: Sweep) -> None:
    page = sweep.folder.report.read_text()
    assert "Replayed from recorded curves: nothing was trained." in page
    assert sweep.opened.digest in page


def test_a_disk_that_is_full_keeps_the_last_report(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sweep.folder.report.read_text()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(sweep, conclude_sweep(sweep))
    assert sweep.folder.report.read_text() == before
    assert not [path for path in sweep.folder.path.rglob(".*") if path.is_file()]


def test_figures_are_plain_finite_numbers_with_their_bounds(sweep: Sweep) -> None:
    figures = figures_of(conclude_sweep(sweep))
    assert {"target_loss", "target_loss_low", "target_loss_high", "held_out_error"} <= set(figures)
    assert figures["target_loss_low"] <= figures["target_loss"] <= figures["target_loss_high"]
    assert all(math.isfinite(value) for value in figures.values())


def test_the_window_is_handed_law_answer_and_files(sweep: Sweep) -> None:
    told: dict[str, Any] = {}

    class Window:
        def publish(self, **what: object) -> None:
            told.update(what)

    conclusions = conclude_sweep(sweep)
    folder = sweep.folder
    written = Written(
        conclusions=conclusions,
        report=folder.report,
        law=folder.law,
        summary=folder.summary,
        plane=folder.plane,
        journal=folder.journal,
    )
    written.publish(Window())  # type: ignore[arg-type]
    assert told["answer"] == conclusions.sentence
    assert told["law"] == figures_of(conclusions)
    assert folder.report in told["artifacts"]
