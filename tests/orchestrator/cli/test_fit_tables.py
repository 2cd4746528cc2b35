"""`fit` on tables from elsewhere: finished runs, laws in one line, no engine loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.assembly.tables import evidence_in_table
from orchestrator.cli.app import run
from tests.orchestrator.assembly import specs
from tests.orchestrator.laws.sweeps import runs_of_truth, true_loss

Streams = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parents[3]
CURVES = "curve_id,params,tokens,flops,loss,phase"
LINE = "E + A/N**alpha + B/D**beta"
_ASK = """
import sys
from orchestrator.cli.app import run
assert run(["fit", "runs.csv", "--form", "chinchilla", "--form", {line!r}, "--draws", "20"]) == 0
loaded = sorted(set(sys.modules) & {{"ray", "torch", "mlflow", "gpytorch", "matplotlib"}})
assert not loaded, loaded
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Finished runs, without curve_id and without flops."""
    monkeypatch.chdir(tmp_path)
    runs = runs_of_truth(count=24, noise=0.003)
    rows = [
        f"{round(n)},{round(d)},{loss!r}"
        for n, d, loss in zip(runs.N, runs.D, map(float, runs.loss), strict=True)
    ]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(["params,tokens,loss", *rows]) + "\n", encoding="utf-8")
    return path


def test_finished_runs_and_a_law_in_one_line(table: Path, capsys: Streams) -> None:
    asked = ["fit", "runs.csv", "--form", LINE, "--draws", "20", "--json"]
    assert run(asked) == 0
    printed = capsys.readouterr().out
    record = json.loads(printed)
    (law,) = record["laws"]
    beside = record["curves"]
    truth = float(true_loss(beside["params"], beside["tokens"]))
    assert beside["loss"]["value"] == pytest.approx(truth, rel=0.02)
    assert beside["loss"]["low"] < beside["loss"]["value"] < beside["loss"]["high"]
    assert law["form"] == LINE
    Path("law.json").write_text(printed, encoding="utf-8")
    assert run(["predict", "law.json", "params=3G", "tokens=200G", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    loss = answer["loss"]
    assert any("law of curves" in note for note in answer["notes"])
    assert loss["value"] == pytest.approx(float(true_loss(3e9, 2e11)), rel=0.03)


def test_a_table_is_not_said_to_be_of_a_constant_rate(
    table: Path, capsys: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished runs have mostly decayed; nobody has said so, nor the contrary."""
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["fit", "runs.csv", "--form", "chinchilla", "--draws", "20"]) == 0
    said = capsys.readouterr().err
    assert "the law says a loss of" in said and "24 rows of 24 trials" in said
    assert "constant" not in said and "stable" not in said
    rows = ["curve_id,params,tokens,flops,loss"]
    for size in (1e7, 3e7, 1e8, 3e8):
        for tokens in (1e9, 2e9, 4e9, 8e9):
            loss = float(true_loss(size, tokens))
            rows.append(f"{size:.0f},{size:.0f},{tokens:.0f},{6 * size * tokens!r},{loss!r}")
    Path("curves.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert run(["fit", "curves.csv", "--form", "chinchilla", "--draws", "20"]) == 0
    assert "does not say at which rate its points were taken" in capsys.readouterr().err
    known = [rows[0] + ",phase", *(f"{row},stable" for row in rows[1:])]
    Path("curves.csv").write_text("\n".join(known) + "\n", encoding="utf-8")
    assert run(["fit", "curves.csv", "--form", "chinchilla", "--draws", "20"]) == 0
    said = capsys.readouterr().err
    assert "does not say" not in said and "the law says a constant-rate loss of" in said


def test_annealed_ends_beside_stable_points_give_a_law_of_annealed_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Streams
) -> None:
    """Trunks of a known law and three cooldowns that gain 3 % at equal tokens."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{CURVES},decay_start"]
    for place, size in enumerate((1e7, 2e7, 4e7, 8e7, 1.6e8, 3.2e8)):
        about = f"m{place},{size:.0f}"
        for tokens in (1e9, 2e9, 4e9, 6e9, 8e9, 9e9, 1e10):
            loss = float(true_loss(size, tokens))
            rows.append(f"{about},{tokens:.0f},{6 * size * tokens!r},{loss!r},stable,")
        if place in (0, 2, 4):
            end = 1.1e10
            loss = float(true_loss(size, end)) * 0.97
            rows.append(f"{about},{end:.0f},{6 * size * end!r},{loss!r},annealed,1e10")
    Path("runs.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert run(["fit", "runs.csv", "--form", "chinchilla", "--draws", "40", "--json"]) == 0
    printed = capsys.readouterr().out
    record = json.loads(printed)
    assert record["headline"] == "chinchilla_less_gain (annealed)"
    law = next(law for law in record["laws"] if law["form"] == "chinchilla_less_gain")
    assert law["gain"]["cooldowns"] == 3
    assert law["gain"]["decay"] == pytest.approx(1 / 11)
    assert "stable law of 6 trials, less a gain of" in law["basis"]
    Path("law.json").write_text(printed, encoding="utf-8")
    assert run(["predict", "law.json", "params=400M", "tokens=20G", "--json"]) == 0
    loss = json.loads(capsys.readouterr().out)["loss"]
    assert loss["value"] == pytest.approx(0.97 * float(true_loss(4e8, 2e10)), rel=0.01)
    assert loss["low"] < loss["value"] < loss["high"] < float(true_loss(4e8, 2e10)) * 1.1
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["fit", "runs.csv", "--form", "chinchilla", "--draws", "20"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "the law says an annealed loss of" in said
    beside = said[said.index("law of curves (") :]
    assert beside.endswith("tokens, before annealing")
    assert " (90 %: " in beside


def test_an_annealed_end_belongs_to_the_trunk_of_its_own_curve_id(tmp_path: Path) -> None:
    """Two curves that have one path-safe name, and the second alone was annealed."""
    rows = [f"{CURVES},decay_start"]
    rows += [f"Run {mark},1000,{t},{t},3,stable," for mark in "?!" for t in (100, 200)]
    rows.append("Run !,1000,210,210,2.9, annealed ,200")
    (tmp_path / "runs.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    first, second = evidence_in_table(str(tmp_path / "runs.csv"), 0.1).trials
    assert (first.id, second.id) == ("run", "run-2")
    assert [branch.start for branch in first.annealed] == []
    assert [branch.start for branch in second.annealed] == [200]


def test_runs_that_do_not_count_are_told(
    table: Path, capsys: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same runs once more, at a rate that costs each a tenth."""
    monkeypatch.setenv("COLUMNS", "200")
    rows = table.read_text(encoding="utf-8").splitlines()
    for row in rows[1:]:
        params, tokens, loss = row.split(",")
        rows.append(f"{params},{tokens},{1.1 * float(loss)!r}")
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert run(["fit", "runs.csv", "--form", "chinchilla", "--draws", "20"]) == 0
    assert "24 rows of 24 of 48 trials" in capsys.readouterr().err


def test_no_engine_is_loaded(table: Path) -> None:
    spoken = subprocess.run(
        [sys.executable, "-c", _ASK.format(line=LINE)],
        cwd=table.parent,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert spoken.returncode == 0, spoken.stderr


def test_a_form_of_ones_own_is_fitted_to_a_sweep_too(tmp_path: Path, capsys: Streams) -> None:
    assert run(["launch", str(specs.recorded(tmp_path)), "-q"]) == 0
    sweep = str(tmp_path / "sweeps" / "ladder")
    capsys.readouterr()
    assert run(["fit", sweep, "--form", LINE, "--level", "0.5", "--burn-in", "0", "--json"]) == 0
    asked = json.loads(capsys.readouterr().out)
    assert [law["form"] for law in asked["laws"]] == [LINE] and asked["level"] == 0.5
    assert run(["fit", sweep, "--json"]) == 0
    own = json.loads(capsys.readouterr().out)
    assert [law["form"] for law in own["laws"]] == ["power_irreducible", "chinchilla"]
    rows = [record["laws"][-1]["posterior"]["law"]["rows"] for record in (asked, own)]
    assert own["level"] == 0.9 and rows[0] > rows[1], "the sweep drops the first part of a curve"
    assert run(["fit", sweep, "--form", "chinchila"]) == 2
    assert "there is no law form 'chinchila'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("chinchila", "there is no law form 'chinchila'"),
        ("E + A/N**alpha", "takes N; one of sweeps and tables takes N and D"),
        ("data_constrained", "takes N and D and U"),
        ("E + A/(N", "--form"),
        ("__import__('os').system('true')", "--form"),
        (" ", "names no law form"),
    ],
)
def test_a_form_that_cannot_be_is_refused(
    form: str, said: str, table: Path, capsys: Streams
) -> None:
    assert run(["fit", "runs.csv", "--form", form]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("size,tokens,loss\n1,2,3\n", "lacks the column 'params'"),
        ("params,tokens,loss\n1e6,1e8,nan\n", "line 2: loss is 'nan'"),
        ("params,tokens,loss\n1e6,,3\n", "line 2: tokens is empty"),
        ("params,tokens,loss\n", "holds no runs"),
        ("params,tokens,loss,loss\n1,2,3,4\n", "names a column twice"),
        ("curve_id,tokens,flops,loss\na,1,1,3\n", "has no params column"),
        ("params,tokens,loss\n1,5,3e9,3,2\n", "line 2 has more cells than the header"),
        ("params,tokens,loss\n0.125,2000000000,3.1\n", "line 2: params 0.125 is no whole number"),
        ("params,tokens,loss,phase\n1,2,3,stable\n2,4,2,annealed\n", "without a curve_id"),
        (f"{CURVES}\na,1,1,1,3,stable\na,1,2,2,3,tail\n", "'tail' of line 3 is none of"),
        (
            f"{CURVES},decay_start\na,1,1,1,3,stable,\na,1,2,2,3,annealed,x\n",
            "line 3: decay_start is 'x'; write the",
        ),
        (f"{CURVES}\na,1,1,1,3,stable\na,2,2,2,3,annealed\n", "1 params on its stable rows and 2"),
        (f"{CURVES}\na,1,1,1,3,decay\na,1,2,2,3,annealed\n", "no row is stable"),
        (f"{CURVES},decay_start\na,1,1,1,3,stable,\na,1,2,2,3,annealed,2\n", "does not lie befo"),
        ("curve_id,params,tokens,flops,loss\na,1.3,1,1,3\n", "params 1.3 is no whole number"),
    ],
)
def test_a_table_that_cannot_be_is_refused(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Streams
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.csv").write_text(text, encoding="utf-8")
    assert run(["fit", "bad.csv", "--form", "chinchilla"]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
