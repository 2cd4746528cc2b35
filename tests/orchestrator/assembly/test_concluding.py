from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.assembly import session
from orchestrator.assembly.concluding import (
    Written,
    conclude_sweep,
    figures_of,
    question_of,
    write_report,
)
from orchestrator.assembly.folders import SweepFolder
from orchestrator.assembly.lawfiles import read_laws
from orchestrator.assembly.predicting import predict
from orchestrator.assembly.reading import Sweep, read_sweep
from orchestrator.assembly.specs import read_spec
from orchestrator.laws.uncertainty import LawPosterior, bootstrap
from orchestrator.report.answers import interval
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


@pytest.mark.parametrize("target", [(7_000_000, 700_000_000), None], ids=["stated", "ten_times"])
def test_page_markdown_file_band_and_predict_say_one_interval(
    sweep: Sweep,
    target: tuple[int, int] | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Widened as those of a handful of noisy trials are, the draws would rise with compute."""

    def unsure(*args: Any, **options: Any) -> LawPosterior:
        return replace(bootstrap(*args, **options), widening=40.0)

    monkeypatch.setattr("orchestrator.report.concluding.bootstrap", unsure)
    shutil.copytree(sweep.folder.path, tmp_path / "ladder")
    sweep = replace(sweep, folder=SweepFolder(path=tmp_path / "ladder"))
    question = replace(question_of(sweep.spec), forms=("chinchilla",), target=target)
    found = conclude_sweep(sweep, question)
    answer, headline = found.target, found.headline
    assert answer is not None and headline is not None and headline.posterior is not None
    posterior, line = headline.posterior, headline.line
    assert line is not None
    end = posterior.law.end
    at_end = float(posterior.interval(end["N"], end["D"])[1])
    assert answer.loss.high == pytest.approx(at_end), "the cap must hold it, else this is no test"
    beyond = line.flops >= float(found.cost(np.array([end["N"]]))[0]) * end["D"]
    assert beyond.sum() > 5
    assert (line.high[beyond] <= at_end * (1 + 1e-9)).all()
    written = write_report(sweep, found)
    file = read_laws(str(written.law))
    asked = {"flops": answer.flops} if target is None else {"params": 7e6, "tokens": 7e8}
    said = predict(file, asked).loss
    assert said.value == pytest.approx(answer.loss.value, rel=1e-6)
    assert said.low == pytest.approx(answer.loss.low, rel=1e-6)
    assert said.high == pytest.approx(answer.loss.high, rel=1e-6)
    record = json.loads(written.law.read_text())["target"]["loss"]
    assert record == answer.loss.to_json()
    assert figures_of(found)["target_loss_high"] == answer.loss.high
    sentence = interval(answer.loss, 0.9)
    assert sentence in written.report.read_text() and sentence in written.summary.read_text()
