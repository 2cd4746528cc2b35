"""A law file asked: answers against the truth behind it, and everything that is no question."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orchestrator.assembly.lawfiles import LawFile, read_laws
from orchestrator.assembly.predicting import asked_of, predict
from orchestrator.assembly.refusal import Refused
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import CHINCHILLA, POWER_IRREDUCIBLE
from orchestrator.laws.law import LawFit
from orchestrator.laws.runs import finished_runs
from orchestrator.laws.uncertainty import LawPosterior, bootstrap
from tests.orchestrator.laws.sweeps import best_size, runs_of_truth, true_loss

COST = 2.0  # times 6 N: what a token costs in these files
LARGEST = 1e20


def of_size() -> LawPosterior:
    runs = runs_of_truth(noise=0.003)
    return bootstrap(fit(CHINCHILLA, runs, starts=16), runs, draws=40)


def of_compute() -> LawFit:
    C = np.geomspace(1e17, LARGEST, 30)
    N = best_size(C)
    return fit(POWER_IRREDUCIBLE, finished_runs(N, C / 6 / N, 1.7 + 900.0 * C**-0.16, C=C))


def entry(law: LawFit | LawPosterior, phases: tuple[str, ...] = ("stable",)) -> dict[str, object]:
    drawn = isinstance(law, LawPosterior)
    fitted = law.law if isinstance(law, LawPosterior) else law
    return {
        "form": fitted.form.name,
        "phases": list(phases),
        "doubts": ["the smallest size leans"] if drawn else [],
        "posterior": law.to_json() if drawn else None,
        "fit": None if drawn else law.to_json(),
    }


@pytest.fixture(scope="module")
def record() -> dict[str, object]:
    nothing = {"form": "power", "phases": ["stable"], "posterior": None, "fit": None}
    return {
        "schema": "frontrunner.law/1",
        "headline": "power_irreducible",
        "laws": [nothing, entry(of_size()), entry(of_compute())],
        "largest_flops": LARGEST,
        "flops_per_token": [[1e7, COST * 6e7], [1e9, COST * 6e9]],
    }


def written(folder: Path, record: object) -> str:
    path = folder / "law.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    return str(path)


@pytest.fixture
def file(tmp_path: Path, record: dict[str, object]) -> LawFile:
    return read_laws(written(tmp_path, record))


def test_the_headline_answers_first(file: LawFile) -> None:
    assert [law.key for law in file.laws] == ["power_irreducible", "chinchilla"]
    answer = predict(file, asked_of(["flops=1e21"]))
    assert answer.by == "power_irreducible"
    assert answer.loss.value == pytest.approx(1.7 + 900 * 1e21**-0.16, rel=1e-3)
    assert answer.level is None and answer.loss.low is None
    assert any("no interval" in note for note in answer.notes)
    assert answer.params is None
    assert answer.optimum is not None and answer.optimum.by == "chinchilla"
    assert any("size and tokens are by chinchilla" in note for note in answer.notes)


def test_a_plan_is_answered_by_a_law_of_size_at_the_file_s_own_cost(file: LawFile) -> None:
    answer = predict(file, asked_of(["params=7B", "tokens=140B"]))
    assert answer.by == "chinchilla"
    assert answer.loss.value == pytest.approx(float(true_loss(7e9, 1.4e11)), rel=0.02)
    assert answer.loss.low is not None and answer.loss.high is not None
    assert answer.loss.low < answer.loss.value < answer.loss.high
    assert answer.flops is not None
    assert answer.flops.value == pytest.approx(COST * 6 * 7e9 * 1.4e11)
    assert answer.optimum is not None
    C = answer.optimum.flops / COST
    assert answer.optimum.params.value == pytest.approx(float(best_size(C)), rel=0.2)
    assert answer.optimum.loss.value <= answer.loss.value
    assert "the smallest size leans" in answer.notes


def test_params_with_flops_give_the_tokens(file: LawFile) -> None:
    answer = predict(file, asked_of(["params=1B", "flops=1e20"]))
    assert answer.tokens is not None
    assert answer.tokens.value == pytest.approx(1e20 / COST / 6e9)


def test_a_loss_is_answered_with_the_compute_that_has_it(file: LawFile) -> None:
    there = predict(file, {"loss": 2.4}, law="chinchilla")
    assert there.flops is not None and there.flops.low is not None
    assert there.params is not None
    back = predict(file, {"flops": there.flops.value}, law="chinchilla")
    assert back.loss.value == pytest.approx(2.4, abs=1e-4)
    quoted = predict(file, {"loss": 2.4})
    assert quoted.by == "power_irreducible" and quoted.flops is not None
    assert quoted.flops.value == pytest.approx((900 / 0.7) ** (1 / 0.16), rel=0.02)


def test_how_far_beyond_the_data(file: LawFile) -> None:
    answer = predict(file, {"params": 1e8, "tokens": 1e13})
    decades = dict(answer.decades)
    assert decades["params"] == 0.0
    assert decades["tokens"] == pytest.approx(2.0, abs=0.1)
    assert decades["flops"] == pytest.approx(math.log10(COST * 6e21 / LARGEST))
    assert any("tokens lie" in note and "a long reach" in note for note in answer.notes)
    assert dict(predict(file, {"params": 1e8, "tokens": 1e10}).decades)["flops"] == 0.0


def test_a_single_law_is_a_file_too(tmp_path: Path) -> None:
    answer = predict(read_laws(written(tmp_path, of_size().to_json())), {"flops": 1e21})
    assert answer.by == "chinchilla"
    assert answer.params is not None
    assert answer.params.value == pytest.approx(float(best_size(1e21)), rel=0.2)
    assert dict(answer.decades)["flops"] is None
    assert any("counted as 6 N D" in note for note in answer.notes)


def test_annealed_laws_have_their_own_key(tmp_path: Path, record: dict[str, object]) -> None:
    laws = [entry(of_size(), ("annealed",)), entry(of_compute())]
    file = read_laws(written(tmp_path, {**record, "laws": laws}))
    assert file.laws[1].key == "chinchilla (annealed)"
    answer = predict(file, {"flops": 1e21})
    # Annealed losses never say what to train for a loss at the constant rate.
    assert answer.optimum is None
    assert any("the best size is not known" in note for note in answer.notes)


def test_a_best_size_that_the_draws_put_anywhere_is_told(
    tmp_path: Path, record: dict[str, object]
) -> None:
    sure = of_size()
    for rescaling, told in ((1.0, False), (200.0, True)):
        laws = [entry(replace(sure, rescaling=rescaling))]
        answer = predict(read_laws(written(tmp_path, {**record, "laws": laws})), {"flops": 1e21})
        assert any("the best size is not known" in note for note in answer.notes) == told


def test_the_record_is_plain(file: LawFile) -> None:
    for asked in ({"flops": 1e21}, {"loss": 1.9}, {"params": 1e9, "tokens": 1e10}):
        text = json.dumps(predict(file, asked, law=None).to_json(), allow_nan=False)
        assert json.loads(text)["asked"] == asked


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["7B"], "'7B' is no NAME=VALUE; write params=7B tokens=140B"),
        (["params=many"], "params: 'many' is not a quantity"),
        (["params=1B", "params=2B"], "params is given twice"),
        (["loss=-1"], "loss is -1; it must be above zero"),
        ([], "nothing is asked"),
    ],
)
def test_what_is_no_question(asked: list[str], said: str) -> None:
    with pytest.raises(Refused, match=said):
        asked_of(asked)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"tokens": 1e9}, "no law here takes tokens: power_irreducible takes flops; chinchilla"),
        ({"tokens": 1e9, "flops": 1e20}, "give params with tokens or with flops"),
        ({"params": 1e9, "tokens": 1e9, "flops": 1e20}, "the third follows"),
        ({"params": 1e9, "tokens": 1e9, "lr": 1e-3}, "no law here takes params, tokens, lr"),
        ({"loss": 2.4, "params": 1e9}, "leave the others out"),
        ({"loss": 1.5}, "no compute for a loss of 1.5"),
    ],
)
def test_what_no_law_answers(asked: dict[str, float], said: str, file: LawFile) -> None:
    with pytest.raises(Refused, match=said):
        predict(file, asked)


def test_an_unknown_law_is_refused_with_those_there_are(file: LawFile) -> None:
    with pytest.raises(Refused, match=r"--law cubic: .* holds power_irreducible, chinchilla"):
        predict(file, {"flops": 1e20}, law="cubic")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[1]", "holds no object"),
        ('{"schema": "frontrunner.law/9"}', "has the schema 'frontrunner.law/9'"),
        ('{"schema": "frontrunner.law/1"}', "holds no law that this release reads: KeyError"),
        ('{"schema": "frontrunner.law/1", "laws": [], "why_not": "too few"}', "too few"),
        ('{"schema": "frontrunner.law/1", "laws": [{"form": "x", "fit": {}}]}', "no law that"),
        ('{"schema": "frontrunner.law/1", "laws": 3}', "no law that this release reads"),
        ('{"working": [1]}', "this release reads 1"),
    ],
)
def test_files_that_are_no_laws(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "law.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(Refused, match=said):
        read_laws(str(path))


def test_numbers_that_are_none_are_refused(tmp_path: Path, record: dict[str, object]) -> None:
    broken = json.loads(json.dumps(record))
    broken["laws"][1]["posterior"]["law"]["working"][0] = None
    with pytest.raises(Refused, match="no law that this release reads"):
        read_laws(written(tmp_path, broken))
    broken = json.loads(json.dumps(record))
    broken["flops_per_token"] = [[1e9, -1.0]]
    with pytest.raises(Refused, match="not above zero"):
        read_laws(written(tmp_path, broken))


def test_folders_and_names(
    tmp_path: Path, record: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, record)
    assert read_laws(str(tmp_path)).path == Path(path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match="no sweep in"):
        read_laws("nobody")
    with pytest.raises(Refused, match="there is no such file"):
        read_laws("missing.json")
    (tmp_path / "sweeps" / "new").mkdir(parents=True)
    (tmp_path / "sweeps" / "new" / "journal.jsonl").write_text("x")
    with pytest.raises(Refused, match=r"no law\.json yet; write it with   frontrunner report new"):
        read_laws("new")
