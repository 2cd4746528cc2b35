"""`predict` as a stranger types it: after `fit --json` of a table, and without any engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.app import run
from tests.orchestrator.assembly import specs
from tests.orchestrator.report.ladders import truth

Streams = pytest.CaptureFixture[str]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def law(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `fit --json` prints of a table of curves."""
    folder = tmp_path_factory.mktemp("predict")
    specs.recorded(folder)
    fitted = subprocess.run(
        [sys.executable, "-m", "orchestrator", "fit", "curves.csv", "--json", "--draws", "30"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    path = folder / "law.json"
    path.write_text(fitted.stdout, encoding="utf-8")
    return path


def test_a_plan_in_words(law: Path, capsys: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    assert run(["predict", str(law), "params=5M", "tokens=200M"]) == 0
    out = capsys.readouterr()
    assert out.out == ""
    assert "At 5M params, 200M tokens the law says a loss of" in out.err
    assert "90 % interval" in out.err
    assert "0.5 decades beyond" in out.err
    assert "compute-optimal at 6.00e15 FLOPs" in out.err
    assert "chinchilla: L = E + A / N**alpha + B / D**beta; single runs" in out.err


def test_letters_of_the_law_are_the_same_question(law: Path, capsys: Streams) -> None:
    answers: list[str] = []
    for asked in (["params=1P", "tokens=2P"], ["N=1P", "D=2P"]):
        assert run(["predict", str(law), *asked, "--json"]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert "a long reach for any law" in answers[1]
    assert run(["predict", str(law), "N=1M", "params=1M", "D=1G"]) == 2
    assert "params is given twice" in capsys.readouterr().err


def test_a_plan_as_data(law: Path, capsys: Streams) -> None:
    assert run(["predict", str(law), "params=5M", "tokens=200M", "--level", "0.8", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["schema"] == "frontrunner.predict/1"
    assert record["law"] == "chinchilla" and record["level"] == 0.8
    assert record["loss"]["value"] == pytest.approx(truth(5e6, 2e8), rel=0.02)
    assert record["loss"]["low"] < record["loss"]["value"] < record["loss"]["high"]
    assert record["flops"]["value"] == pytest.approx(6e15)
    assert record["decades_beyond_the_data"]["params"] == pytest.approx(0.49, abs=0.02)
    assert record["compute_optimal"]["params"]["value"] > 0


def test_a_loss_and_a_compute_are_each_other_s_answer(law: Path, capsys: Streams) -> None:
    assert run(["predict", str(law), "loss=2.4", "--law", "chinchilla", "--json"]) == 0
    there = json.loads(capsys.readouterr().out)
    C = there["flops"]["value"]
    assert run(["predict", str(law), f"flops={C:.9e}", "--law", "chinchilla", "--json"]) == 0
    back = json.loads(capsys.readouterr().out)
    assert back["loss"]["value"] == pytest.approx(2.4, abs=1e-3)
    assert run(["predict", str(law), "loss=2.4", "--law", "chinchilla"]) == 0
    assert "A loss of 2.4 nats per token takes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.json", "flops=1e21"], "there is no such file"),
        (["LAW", "flops=lots"], "flops: 'lots' is not a quantity"),
        (["LAW", "speed=3"], "no law here takes speed"),
        (["LAW", "loss=0.1"], "no compute for a loss of 0.1"),
        (["LAW", "flops=1e18", "--law", "magic"], "--law magic"),
        (["LAW"], "Missing argument"),
    ],
)
def test_bad_questions_end_with_two(
    arguments: list[str], said: str, law: Path, capsys: Streams
) -> None:
    assert run(["predict", *(str(law) if word == "LAW" else word for word in arguments)]) == 2
    out = capsys.readouterr()
    assert said in out.err
    assert "Traceback" not in out.err and out.out == ""


def test_no_engine_is_loaded(law: Path) -> None:
    """Not even by way of a package's __init__: a law is asked where nothing else is installed."""
    code = (
        "import sys\nfrom orchestrator.cli.app import run\n"
        f"code = run(['predict', {str(law)!r}, 'flops=1e17'])\n"
        "heavy = {'torch', 'ray', 'mlflow', 'matplotlib', 'transformers', 'gpytorch'}\n"
        "print(code, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.stdout.strip() == "0 []", done.stderr


def test_fit_shows_the_other_ways(law: Path, capsys: Streams) -> None:
    table = str(law.parent / "curves.csv")
    assert run(["fit", table, "--forms", "chinchilla", "--draws", "20", "--choices"]) == 0
    said = capsys.readouterr().err
    assert "best size by" in said and "envelope" in said and "IsoFLOP" in said
    assert "chinchilla in 18 ways, asked for" in said
    largest = re.search(r"at (\S+) FLOPs, those of the largest run", said)
    asked = re.search(
        r"the best size at the compute of those, (\S+) FLOPs", " ".join(said.split())
    )
    assert largest is not None and asked is not None
    assert float(asked[1]) == pytest.approx(10 * float(largest[1]), rel=0.01)
    assert "over all ways" in said
