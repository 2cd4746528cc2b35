"""Where several forms are stated and `active` bought the runs, all of them answer together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.assembly import session
from orchestrator.assembly.averaged import averaged_of
from orchestrator.assembly.concluding import conclude_sweep
from orchestrator.assembly.lawfiles import read_laws
from orchestrator.assembly.predicting import asked_of, predict
from orchestrator.assembly.reading import Sweep, read_sweep
from orchestrator.assembly.specs import read_spec
from orchestrator.report.evidence import evidence_of
from tests.orchestrator.assembly import specs
from tests.orchestrator.report.ladders import truth

TARGET = "target={params: 5M, tokens: 200M}"
FORMS = "law.forms=[chinchilla, 'E + A/N**a + B*log(D)']"


def swept(folder: Path, *overrides: str) -> Sweep:
    bought = ["policy={kind: active, lengths: 3}", TARGET, *overrides]
    spec, pool = read_spec(str(specs.recorded(folder)), bought)
    ended = session.drive(spec, pool, session.Wishes(say=lambda line: None, asked=lambda: None))
    return read_sweep(ended.folder)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return swept(tmp_path_factory.mktemp("averaged"), FORMS)


def test_all_forms_answer_together(sweep: Sweep) -> None:
    found = conclude_sweep(sweep)
    assert found.averaged is not None and found.target is not None
    shares = dict(found.averaged.forms)
    assert set(shares) == {"chinchilla", "E + A/N**a + B*log(D)"}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["chinchilla"] > 0.5
    assert found.target.loss == found.averaged.loss
    assert found.target.loss.value == pytest.approx(truth(5e6, 2e8), rel=0.03)
    low, high = found.target.loss.low, found.target.loss.high
    assert low is not None and high is not None and low < found.target.loss.value < high
    assert "the forms' average (chinchilla" in found.target.by
    assert f"{found.target.loss.value:.3f}" in found.sentence
    said = json.loads(sweep.folder.law.read_text())
    assert said["averaged"]["forms"] == shares


def test_a_law_file_gives_the_answer_of_all_forms_where_it_was_asked(sweep: Sweep) -> None:
    found = conclude_sweep(sweep)
    assert found.averaged is not None and found.target is not None
    assert "2 law forms together say a constant-rate loss" in found.sentence
    file = read_laws(str(sweep.folder.law))
    assert file.together is not None
    same = predict(file, asked_of(["params=5M", "tokens=200M"]))
    assert same.loss == found.averaged.loss and same.by == found.target.by
    alone = predict(file, asked_of(["params=5M", "tokens=200M"]), law="chinchilla")
    assert alone.by == "chinchilla" and alone.loss != same.loss
    assert f"chinchilla alone says {alone.loss.value:.3f}" in same.notes[0]
    elsewhere = predict(file, asked_of(["params=5M", "tokens=400M"]))
    assert elsewhere.by == "chinchilla"
    assert "all forms together were asked at 5M params and 200M tokens" in elsewhere.notes[0]
    narrow = predict(file, asked_of(["params=5M", "tokens=200M"]), level=0.5).loss
    assert same.loss.low is not None and same.loss.high is not None
    assert narrow.low is not None and narrow.high is not None
    assert same.loss.low < narrow.low < narrow.value < narrow.high < same.loss.high


def test_where_annealed_losses_were_asked_for_one_law_answers(
    sweep: Sweep, tmp_path: Path
) -> None:
    record = json.loads(sweep.folder.law.read_text())
    record["target"]["loss"]["value"] -= 0.1  # less the gain of annealing
    (tmp_path / "law.json").write_text(json.dumps(record))
    assert read_laws(str(tmp_path)).together is None


def test_one_form_answers_for_itself(sweep: Sweep) -> None:
    law = sweep.spec.law.model_copy(update={"forms": ("chinchilla",)})
    spec = sweep.spec.model_copy(update={"law": law})
    evidence = evidence_of(sweep.state, burn_in=0.1)
    assert averaged_of(spec, sweep.state, evidence) is None


def test_rows_of_badly_set_trials_have_no_say(sweep: Sweep) -> None:
    evidence = evidence_of(sweep.state, burn_in=0.1)
    kept = {trial.id for trial in evidence.near_best()}
    assert kept < {trial.id for trial in evidence.with_points()}
    whole = averaged_of(sweep.spec, sweep.state, evidence)
    assert whole is not None and conclude_sweep(sweep).averaged == whole
