"""`python -m trainers`: trains, resumes, tells on two streams, and refuses with exit code 2."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainers.__main__ import EXIT_BAD_INPUT, EXIT_INTERRUPTED, _Stopper, main
from trainers.compiling import CompilerError
from trainers.config import TrainConfig
from trainers.corpus import prepare
from trainers.documents import load_document, validate
from trainers.loop import Report

CONFIG = """\
model: {{layers: 1, width: 16, context: 16}}
data: {{source: {source}, held_out: 20%, max_epochs: 100K, cache: {cache}}}
evaluation: {{tokens: 256, points: 4}}
batch_tokens: 64
horizon: 2560
"""


@pytest.fixture
def config(text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "toy.yaml"
    path.write_text(CONFIG.format(source=text_folder, cache=tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    return str(path)


def test_reports_are_json_lines_and_the_second_call_resumes(
    config: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([config, "--json", "--until", "640"]) == 0
    first = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert first[-1]["tokens"] == 640
    assert Path(first[-1]["checkpoint"]).parent == Path("runs/toy")
    assert main([config, "--json"]) == 0
    streams = capsys.readouterr()
    second = [json.loads(line) for line in streams.out.splitlines()]
    assert second[0]["tokens"] > 640
    assert second[-1]["tokens"] == 2560
    assert "going on from" in streams.err
    assert "params" not in streams.out


def test_overrides_and_anneal(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([config, "optimizer.learning_rate=1e-2", "--until", "1280", "--folder", "t"]) == 0
    trunk = str(next(Path("t").iterdir()))
    arguments = ["optimizer.learning_rate=1e-2", "--until", "1600", "--folder", "a"]
    assert main([config, *arguments, "--resume", trunk, "--anneal", "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["phase"], last["tokens"]) == ("annealed", 1600)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["model.widht=3"], "did you mean 'width'?"),
        (["--until", "many"], "--until  'many' is not a quantity"),
        (["--until", "1"], "less than one step"),
        (["data.source=/absent"], "no file, folder or pattern"),
        (["--anneal"], "give resume"),
        (["--resume", "absent"], "cannot be read"),
        (["--folder", "toy.yaml/in"], "--folder toy.yaml/in cannot be written"),
    ],
)
def test_bad_input(
    config: str, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main([config, *arguments]) == EXIT_BAD_INPUT
    streams = capsys.readouterr()
    assert says in streams.err
    assert "Nothing was started." in streams.err
    assert streams.out == ""
    assert not Path("runs").exists()


def test_a_trunks_folder_takes_no_anneal_and_no_other_checkpoint(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for until in ("640", "1280"):
        assert main([config, "--until", until]) == 0
    before = sorted(Path("runs/toy").iterdir())
    older, newest = map(str, before)
    for arguments, says in (
        (["--anneal", "--until", "1600"], "give another --folder"),
        (["--anneal", "--until", "1600", "--resume", older], "give another --folder"),
        (["--resume", older], "leave --resume out"),
    ):
        assert main([config, *arguments]) == EXIT_BAD_INPUT
        assert says in capsys.readouterr().err
        assert sorted(Path("runs/toy").iterdir()) == before
    assert main([config, "--resume", newest, "--until", "1920"]) == 0


def test_a_stop_asked_for_at_the_end_interrupts_nothing(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stoppers: list[_Stopper] = []

    def remember(stopper: _Stopper) -> None:
        stopper.stopped = False
        stoppers.append(stopper)

    def ask(report: Report) -> str:
        stoppers[-1].stopped |= report.tokens == 640
        return ""

    monkeypatch.setattr(_Stopper, "__init__", remember)
    monkeypatch.setattr("trainers.__main__._row", ask)
    several = "evaluation.points=16"
    assert main([config, several, "--until", "640", "--folder", "ended"]) == 0
    assert main([config, several, "--folder", "midway"]) == EXIT_INTERRUPTED


def test_a_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["absent.yaml"]) == EXIT_BAD_INPUT
    assert "absent.yaml  cannot be read" in capsys.readouterr().err


def test_ctrl_c_ends_with_a_checkpoint_that_the_next_call_finds(
    config: str, tmp_path: Path
) -> None:
    prepare(validate(load_document(config), TrainConfig).data)
    command = [sys.executable, "-m", "trainers", config, "horizon=10M", "evaluation.points=4096"]
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [*command, "--json", "--folder", "run"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, err
    last = json.loads(out.splitlines()[-1])
    assert (tmp_path / last["checkpoint"]).is_dir()


def test_a_compiler_that_cannot_work_here_is_no_fault_of_ours(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: Any, **__: Any) -> Iterator[Report]:
        raise CompilerError("a path with a space: /of mine; train with compile: never")
        yield

    monkeypatch.setattr("trainers.loop.train", train)
    assert main([config, "compile=always"]) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "train with compile: never" in said and "Traceback" not in said
