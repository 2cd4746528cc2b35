"""The command as a stranger types it: words on stderr, data on stdout, codes with a meaning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.assembly.folders import SweepFolder
from orchestrator.assembly.reading import read_sweep
from orchestrator.backends.base import Report
from orchestrator.backends.replay import ReplayBackend
from orchestrator.cli.app import run
from orchestrator.events import Diverged, Started
from orchestrator.journal import FileJournal
from tests.orchestrator.assembly import specs
from tests.orchestrator.report.ladders import SIZES

Streams = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    return tmp_path


def data(capsys: Streams) -> dict[str, object]:
    return json.loads(capsys.readouterr().out)


def test_plan_starts_nothing_and_creates_nothing(here: Path, capsys: Streams) -> None:
    path = specs.recorded(here)
    before = sorted(here.rglob("*"))
    assert run(["plan", str(path), "--workers", "4"]) == 0
    out = capsys.readouterr()
    assert out.out == ""
    assert "Nothing started." in out.err
    assert "longest path" in out.err
    assert sorted(here.rglob("*")) == before


def test_plan_as_data(here: Path, capsys: Streams) -> None:
    assert run(["plan", str(specs.recorded(here)), "policy.eta=3", "--json"]) == 0
    record = data(capsys)
    assert record["schema"] == "frontrunner.plan/1"
    assert record["candidates"] == 2 * len(SIZES)


def test_a_sweep_from_plan_to_report(here: Path, capsys: Streams) -> None:
    path = specs.recorded(here)
    assert run(["launch", str(path), "-q", "--json"]) == 0
    out = capsys.readouterr()
    launched = json.loads(out.out)
    assert launched["schema"] == "frontrunner.launch/1"
    assert launched["outcome"] == "done"
    assert Path(launched["report"]).is_file()
    assert "At 10 times the largest run" in out.err

    assert run(["status", "ladder", "--json"]) == 0
    status = data(capsys)
    assert status["schema"] == "frontrunner.status/1"
    assert status["condition"] == "done"
    assert status["law"] == launched["law"]["answer"]

    assert run(["status", "ladder"]) == 0
    assert "DONE" in capsys.readouterr().err

    assert run(["fit", "ladder", "--json"]) == 0
    fitted = data(capsys)
    assert fitted["schema"] == "frontrunner.fit/1"
    assert fitted["answer"] == launched["law"]["answer"]

    Path(launched["report"]).unlink()
    assert run(["report", "ladder", "--json"]) == 0
    assert data(capsys)["schema"] == "frontrunner.report/1"
    assert Path(launched["report"]).is_file()

    # What is done is not driven again.
    journal = (here / "sweeps" / "ladder" / "journal.jsonl").read_bytes()
    assert run(["launch", str(path), "-q"]) == 0
    assert "nothing is left to run" in capsys.readouterr().err
    assert (here / "sweeps" / "ladder" / "journal.jsonl").read_bytes() == journal


def test_progress_is_for_people(here: Path, capsys: Streams) -> None:
    assert run(["launch", str(specs.recorded(here))]) == 0
    out = capsys.readouterr()
    assert out.out == ""
    assert "started ladder" in out.err
    assert "\x1b[" not in out.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["launch", "ladder.yaml", "policy.etaa=3"], "--set policy.etaa"),
        (["launch", "missing.yaml"], "cannot be read"),
        (["plan", "ladder.yaml", "budget.flops=-1"], "budget.flops"),
        (["status", "nobody"], "no sweep in"),
        (["status", "../../etc"], "no sweep in"),
        (["resume", "A B"], "no name of a sweep"),
        (["fit", "missing.csv"], "cannot be read"),
        (["fit", "curves.csv", "--forms", "cubic"], "no law form 'cubic'"),
        (["replay", "curves.csv", "--policy", "magic"], "'magic' is no policy"),
        (["replay", "curves.csv", "--budget", "lots"], "--budget"),
        (["launch"], "Missing argument"),
        (["conquer"], "No such command"),
        (["launch", "ladder.yaml", "--fast"], "No such option"),
    ],
)
def test_bad_input_is_refused_with_its_remedy_and_nothing_begins(
    arguments: list[str], said: str, here: Path, capsys: Streams
) -> None:
    specs.recorded(here)
    assert run(arguments) == 2
    out = capsys.readouterr()
    assert said in out.err
    assert "Traceback" not in out.err
    assert out.out == ""
    assert not (here / "sweeps").exists()


def test_a_spec_is_refused_at_its_line(here: Path, capsys: Streams) -> None:
    path = specs.recorded(here)
    path.write_text(path.read_text().replace("eta: 2", "eta: 1"))
    assert run(["launch", str(path)]) == 2
    assert f"{path}:5:" in capsys.readouterr().err


def test_a_second_driver_is_told_who_holds_it(here: Path, capsys: Streams) -> None:
    path = specs.recorded(here)
    assert run(["launch", str(path), "-q", "budget.gpu_hours=0.0000001"]) == 75
    journal = here / "sweeps" / "ladder" / "journal.jsonl"
    with FileJournal(journal, owner="ada on node7, process 12"):
        assert run(["resume", "ladder"]) == 2
        assert "ada on node7, process 12" in capsys.readouterr().err
        assert run(["stop", "ladder", "--json"]) == 0
        assert data(capsys)["driver"] == "ada on node7, process 12"
        assert (here / "sweeps" / "ladder" / "stop-requested").is_file()


def test_a_pause_says_how_to_go_on(here: Path, capsys: Streams) -> None:
    path = specs.recorded(here)
    assert run(["launch", str(path), "-q", "budget.gpu_hours=0.0000001"]) == 75
    assert "go on with   frontrunner resume ladder" in capsys.readouterr().err
    assert run(["stop", "ladder"]) == 0
    assert "nobody drives ladder; it is paused" in capsys.readouterr().err
    # The cap may be raised: it is no part of what was asked.
    assert run(["launch", str(path), "-q"]) == 0


def test_a_spent_cap_is_told_with_a_command_that_works(here: Path, capsys: Streams) -> None:
    path = specs.recorded(here)
    assert run(["launch", str(path), "-q", "budget.gpu_hours=1e-9"]) == 75
    said = capsys.readouterr().err
    command = next(line for line in said.splitlines() if line.startswith("go on with"))
    words = command.removeprefix("go on with").split()
    assert words[:3] == ["frontrunner", "resume", "ladder"]
    assert run(["status", "ladder"]) == 0
    assert f"go on   {' '.join(words)}\n" in capsys.readouterr().err
    raised = float(words[3].removeprefix("budget.gpu_hours="))
    before = spent(here)
    assert run([*words[1:], "-q"]) in (0, 75)
    assert spent(here) > before
    assert run(["resume", "ladder", f"budget.gpu_hours={1e6 * raised}", "-q"]) == 0


def spent(here: Path) -> int:
    return read_sweep(SweepFolder(here / "sweeps" / "ladder")).state.ledger.spent


def test_what_was_asked_does_not_change_on_a_resume(here: Path, capsys: Streams) -> None:
    assert run(["launch", str(specs.recorded(here)), "-q", "budget.gpu_hours=1e-9"]) == 75
    assert run(["resume", "ladder", "--set", "policy.eta=4"]) == 2
    assert "policy.eta is settled" in capsys.readouterr().err


def test_a_sweep_that_is_done_answers_as_its_launch_did(here: Path, capsys: Streams) -> None:
    path = specs.recorded(here)
    assert run(["launch", str(path), "-q", "--json"]) == 0
    first = data(capsys)
    for again in (["launch", str(path)], ["resume", "ladder"]):
        assert run([*again, "-q", "--json"]) == 0
        assert data(capsys) == first


def test_a_sweep_with_nothing_usable_is_no_success(
    here: Path, capsys: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Started] = []

    def start(self: ReplayBackend, segment: Started) -> None:
        started.append(segment)

    def poll(self: ReplayBackend, timeout_s: float) -> list[Report]:
        begun, started[:] = started[:], []
        return [
            Diverged(trial=s.trial, attempt=s.attempt, tokens=1000, reason="the loss was nan")
            for s in begun
        ]

    monkeypatch.setattr(ReplayBackend, "start", start)
    monkeypatch.setattr(ReplayBackend, "poll", poll)
    path = specs.recorded(here)
    for _ in range(2):  # the second finds it done, and says so too
        assert run(["launch", str(path), "-q"]) == 2
        said = capsys.readouterr().err
        assert "nothing usable is left: 12 of 12 trials diverged or failed" in said
        assert "the loss was nan" in said


def test_words_to_a_stream_that_was_closed_are_dropped(here: Path) -> None:
    """`launch -v 2>&1 | head -1`: whoever read the words has left; the sweep goes on."""
    path = specs.recorded(here)
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-m", "orchestrator", "launch", str(path), "-v"]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        ended = subprocess.run(
            command,
            stderr=gone,
            stdout=subprocess.PIPE,
            cwd=here,
            env={**os.environ, "PYTHONPATH": str(root)},
            check=False,
        )
    assert ended.returncode == 0
    assert (here / "sweeps" / "ladder" / "report.html").is_file()


def test_resume_says_what_it_found(here: Path, capsys: Streams) -> None:
    path = specs.recorded(here)
    assert run(["launch", str(path), "-q", "budget.gpu_hours=0.0000001"]) == 75
    capsys.readouterr()
    assert run(["resume", "ladder", "-q"]) == 75
    said = capsys.readouterr().err
    assert "found   " in said
    assert "not started" in said


def test_a_cluster_that_is_away_is_waited_for_not_blamed_on_the_spec(
    here: Path, capsys: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # as other tests may have left it
    ray = ["resources.backend=ray", "resources.address=127.0.0.1:1"]
    path = str(specs.live(here))
    for _ in range(2):  # what the first left behind does not bar the second
        assert run(["launch", path, "-q", "-y", *ray]) == 75
        said = capsys.readouterr().err
        assert "nothing answers at 127.0.0.1:1" in said
        assert "the same command goes on" in " ".join(said.split())
    assert run(["launch", path, "-q", "-y", ray[0], "resources.address=127.0.0.1:99999"]) == 2
    assert "ports go from 1 to 65535" in capsys.readouterr().err


def test_a_damaged_journal_is_named_and_left_alone(here: Path, capsys: Streams) -> None:
    assert run(["launch", str(specs.recorded(here)), "-q"]) == 0
    journal = here / "sweeps" / "ladder" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"seq":2', b'"seq":7')
    journal.write_bytes(b"".join(lines))
    assert run(["status", "ladder"]) == 2
    assert "record 2 is damaged" in capsys.readouterr().err
    assert journal.read_bytes() == b"".join(lines)


def test_a_table_of_curves_is_fitted(here: Path, capsys: Streams) -> None:
    specs.recorded(here)
    assert run(["fit", "curves.csv", "--forms", "chinchilla", "--draws", "20", "--json"]) == 0
    record = data(capsys)
    assert record["headline"] == "chinchilla"


def test_no_law_is_an_answer(here: Path, capsys: Streams) -> None:
    specs.recorded(here)
    rows = (here / "curves.csv").read_text().splitlines()
    few = [rows[0], *(row for row in rows[1:] if row.split(",")[1] in ("20000", "50000"))]
    (here / "few.csv").write_text("\n".join(few) + "\n")
    assert run(["fit", "few.csv", "--forms", "chinchilla"]) == 0
    assert "No law yet" in capsys.readouterr().err


def test_policies_are_tried_on_recorded_curves(here: Path, capsys: Streams) -> None:
    specs.recorded(here)
    arguments = ["replay", "curves.csv", "--budget", "5%,20%", "--seeds", "2", "--json"]
    assert run(arguments) == 0
    record = data(capsys)
    assert record["schema"] == "frontrunner.replay/1"
    rows = record["rows"]
    assert isinstance(rows, list)
    assert [(row["policy"], row["budget"]) for row in rows] == [
        ("successive_halving", "5%"),
        ("uniform", "5%"),
        ("successive_halving", "20%"),
        ("uniform", "20%"),
    ]
    assert all(0 <= row["spent_share"] <= 1 for row in rows)


def test_a_fault_of_ours_is_short_and_kept(
    here: Path, capsys: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("two and two are five")

    monkeypatch.setattr("orchestrator.assembly.plan.plan_of", broken)
    monkeypatch.setattr("tempfile.tempdir", str(here))
    path = specs.recorded(here)
    assert run(["plan", str(path)]) == 1
    said = capsys.readouterr().err
    assert "fault of ours: RuntimeError: two and two are five" in said
    assert "Traceback" not in said
    kept = next(here.glob("frontrunner-trouble-*.txt"))
    assert "in broken" in kept.read_text()
    assert run(["--debug", "plan", str(path)]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_control_characters_in_a_table_are_not_printed(here: Path, capsys: Streams) -> None:
    specs.recorded(here)
    evil = (here / "curves.csv").read_text().replace("n20000-lr0.001", "n2\x1b[31m")
    (here / "curves.csv").write_text(evil)
    run(["launch", "ladder.yaml", "law.bootstrap=1"])
    run(["status", "ladder", "--all"])
    out = capsys.readouterr()
    assert "\x1b" not in out.err + out.out


HEAVY = ("torch", "ray", "mlflow", "matplotlib", "gpytorch", "scipy")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sweep `ladder`, done."""
    folder = tmp_path_factory.mktemp("done")
    assert run(["launch", str(specs.recorded(folder)), "-q"]) == 0
    return folder


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], set[str]()),
        (["plan", "ladder.yaml"], set[str]()),
        (["status", "ladder"], set[str]()),
        (["stop", "ladder"], set[str]()),
        (["fit", "ladder"], {"scipy"}),
        (["report", "ladder"], {"scipy", "matplotlib"}),
    ],
)
def test_looking_never_waits_for_an_engine(
    arguments: list[str], allowed: set[str], done: Path
) -> None:
    code = (
        "import sys\nfrom orchestrator.cli.app import run\n"
        f"run({arguments!r})\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[3]
    spoken = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=done,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=True,
    )
    assert set(spoken.stdout.splitlines()[-1].split()) <= allowed
