"""A raised budget: a sweep that is done goes on with it, or the command says why it cannot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.assembly import concluding, parts, session
from orchestrator.assembly.concluding import Written
from orchestrator.assembly.folders import folder_of
from orchestrator.assembly.parts import Engine
from orchestrator.assembly.raising import check_flops, check_goes_on, lowered, more_of, raised
from orchestrator.assembly.reading import Sweep, read_sweep
from orchestrator.assembly.refusal import Refused
from orchestrator.assembly.specs import changed, read_spec
from orchestrator.cli.app import run
from orchestrator.events import Opened
from orchestrator.journal import read_records
from orchestrator.recorded import read_recorded
from orchestrator.report.conclusions import Conclusions
from orchestrator.state import fold
from orchestrator.values import NO_MORE
from tests.orchestrator.assembly import specs
from tests.orchestrator.policies.paced import Paced

CHEAPEST = "target: {params: 10M, tokens: 200M}\npolicy: {kind: cheapest}\n"
HALVING = "policy: {kind: successive_halving, eta: 2, group_by: params}\n"


def sweep_file(folder: Path, budget: str, policy: str = CHEAPEST) -> Path:
    path = specs.recorded(folder)
    text = path.read_text().replace("budget: {flops: 40%}\n", f"budget: {budget}\n")
    text = text.replace("law: {bootstrap: 20}", "law: {forms: [power], bootstrap: 0}")
    path.write_text(text.replace(HALVING, policy))
    return path


@pytest.fixture(autouse=True)
def unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fitted is not drawn: pages and pictures are others' tests."""

    def written(sweep: Sweep, conclusions: Conclusions) -> Written:
        path = sweep.folder.path / "report.html"
        places = dict.fromkeys(("report", "law", "summary", "plane", "journal"), path)
        return Written(conclusions=conclusions, **places)

    monkeypatch.setattr(concluding, "write_report", written)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Recorded curves whose tokens take a millisecond each, a second for every segment."""

    def engine(spec: Any, pool: Any, *_: object, **__: object) -> Engine:
        curves = read_recorded(spec.recorded.curves)
        backend = Paced(curves, pool, start=1.0, rate=lambda _: 1e-3, slots=2)
        return Engine(backend=backend, clock=backend.clock)

    monkeypatch.setattr(parts, "engine_of", engine)
    yield


def launched(path: Path, *overrides: str) -> Sweep:
    assert run(["launch", str(path), "-q", *overrides]) == 0
    return read_sweep(folder_of(read_spec(str(path), overrides)[0]))


def resumed(sweep: Sweep, *overrides: str) -> int:
    return run(["resume", str(sweep.folder.path), "-q", *overrides])


def openings(sweep: Sweep) -> list[Opened]:
    events = (record.event for record in read_records(sweep.folder.journal))
    return [event for event in events if isinstance(event, Opened)]


@pytest.mark.parametrize("key", ["gpu_hours", "dollars"])
@pytest.mark.usefixtures("timed")
def test_a_sweep_that_its_hours_or_money_ended_goes_on_with_more(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    price = ", dollars_per_gpu_hour: 2" if key == "dollars" else ""
    path = sweep_file(tmp_path, f"{{flops: 100%, {key}: 12{price}}}")
    first = launched(path)
    assert first.state.closed is not None
    assert first.state.terms.budget > 2 * first.state.ledger.spent, "FLOPs do not bind here"
    assert more_of(first.spec, first.state) == f"budget.{key}=24"
    assert resumed(first, f"budget.{key}=24") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"goes on: budget.{key} 12 -> 24" in said
    assert f" of 24 {'dollars' if key == 'dollars' else 'GPU-hours'}, " in said, "used of each"
    second = read_sweep(first.folder)
    assert second.state.session == 2
    assert second.state.closed is not None
    assert second.state.ledger.device_s > 1.5 * first.state.ledger.device_s
    assert second.state.ledger.device_s / 3600 * (2 if key == "dollars" else 1) < 24
    assert openings(second)[1].raised == (f"budget.{key} 12 -> 24",)
    # Folding the journal again is all that there is to know: the same state, decision by decision.
    assert read_sweep(first.folder).state == second.state


def test_flops_are_raised_in_the_same_way(tmp_path: Path) -> None:
    first = launched(sweep_file(tmp_path, "{flops: 10%}"))
    assert more_of(first.spec, first.state) == "budget.flops=20%"
    for share, said in (("70%", "budget.flops=100%"), ("100%", None)):
        budget = first.spec.budget.model_copy(update={"flops": share})
        assert more_of(first.spec.model_copy(update={"budget": budget}), first.state) == said
    assert resumed(first, "budget.flops=20%") == 0
    second = read_sweep(first.folder)
    assert second.state.terms.budget == pytest.approx(2 * first.state.terms.budget, rel=1e-6)
    assert first.state.terms.budget < second.state.ledger.spent <= second.state.terms.budget
    assert openings(second)[1].budget == second.state.terms.budget


def test_a_file_that_says_less_than_was_raised_still_names_the_done_sweep(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, "{flops: 10%}")
    first = launched(path)
    assert resumed(first, "budget.flops=20%") == 0
    assert run(["launch", str(path), "-q"]) == 0
    assert read_sweep(first.folder).state.session == 2


def test_what_laid_its_runs_out_by_flops_says_that_it_cannot_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = launched(sweep_file(tmp_path, "{flops: 40%}", HALVING))
    assert more_of(first.spec, first.state) is None
    assert resumed(first, "budget.flops=60%") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "policy successive_halving laid its runs out by" in said
    assert read_sweep(first.folder).records == first.records


def test_more_of_what_did_not_run_out_is_refused_with_what_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = launched(sweep_file(tmp_path, "{flops: 10%, gpu_hours: 100}"))
    assert resumed(first, "budget.gpu_hours=200") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "ladder is done, and budget.gpu_hours 100 -> 200 buys nothing more" in said
    assert "% of " in said and " FLOPs" in said
    assert resumed(first, "budget.gpu_hours=50") == 2
    assert "allows no more" in " ".join(capsys.readouterr().err.split())
    assert read_sweep(first.folder).records == first.records


@pytest.mark.usefixtures("timed")
def test_the_end_that_was_asked_for_is_no_matter_of_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep_file(
        tmp_path,
        "{gpu_hours: 1}",
        "target: {params: 10M, tokens: 200M}\npolicy: {kind: active, by: curves, half_width: 5}\n",
    )
    first = launched(path)
    assert first.state.closed is not None and "asked for" in first.state.closed
    assert more_of(first.spec, first.state) is None
    assert resumed(first, "budget.gpu_hours=2") == 2
    assert "asked for" in " ".join(capsys.readouterr().err.split())


def test_where_nothing_was_worth_its_share_more_budget_may_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = "target: {params: 10M, tokens: 200M}\npolicy: {kind: active, lengths: 3, worth: 4}\n"
    path = sweep_file(tmp_path, "{flops: 20%}", policy)
    path.write_text(path.read_text().replace("forms: [power]", "forms: [chinchilla]"))
    assert run(["launch", str(path)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "not worth its cost" in said
    assert "more budget may find something worth its cost: " in said
    command = re.search(r"worth its cost: \S+ (resume \S+ budget\.flops=40%)", said)
    assert command is not None
    # Followed to the letter it goes on, or says why it does not.
    assert run(command[1].split()) in (0, 2)


def test_flops_are_not_lowered_while_a_sweep_goes_on(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, "{flops: 20%}")
    spec, pool = read_spec(str(path), ())
    calls = iter(range(3))
    wishes = session.Wishes(
        say=lambda line: None, asked=lambda: None if next(calls, None) is not None else "enough"
    )
    sweep = read_sweep(session.drive(spec, pool, wishes).folder)
    assert sweep.state.closed is None
    with pytest.raises(Refused, match="raised, not lowered"):
        check_flops(sweep, changed(sweep, ["budget.flops=10%"]))
    more = changed(sweep, ["budget.flops=30%"])
    check_flops(sweep, more)
    assert len(raised(sweep, more)) == 1
    assert not lowered(sweep, more)


@pytest.mark.usefixtures("timed")
def test_only_the_end_of_all_buying_is_lifted(tmp_path: Path) -> None:
    first = launched(sweep_file(tmp_path, "{flops: 100%, gpu_hours: 12}"))
    reasons = [t.stop_reason for t in first.state.trials.values() if t.stop_reason is not None]
    assert any(reason.startswith(NO_MORE) for reason in reasons)
    spec = changed(first, ["budget.gpu_hours=24"])
    words = raised(first, spec)
    check_goes_on(first, spec, words)
    again = fold(first.state, [replace(first.opened, session=2, raised=words)])
    kept = [t.stop_reason for t in again.trials.values() if t.stop_reason]
    assert kept == [reason for reason in reasons if not reason.startswith(NO_MORE)]
