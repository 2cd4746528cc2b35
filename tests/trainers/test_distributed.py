"""Two processes train as one: the same losses, the same checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainers.checkpoint import read_position
from trainers.config import TrainConfig
from trainers.distributed import ALONE, Group, GroupError, joined, launched
from trainers.loop import train

Make = Callable[..., TrainConfig]
STEP = 64
END = 50 * STEP

# What each process runs; whoever starts a group has a script like it.
WORKER = """
import dataclasses, glob, json, sys
from pathlib import Path
from trainers.config import TrainConfig
from trainers.distributed import joined
from trainers.loop import train

rank, rendezvous, config, options = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
options = json.loads(options)
stop_after = options.pop("stop_after")
folder, resume = Path(options.pop("folder")), options.pop("resume")
asked = 0
def stop():
    global asked
    asked += 1
    return rank == 0 and asked == stop_after
with joined(rank, 2, rendezvous) as group:
    for report in train(TrainConfig.model_validate_json(config), folder=folder, group=group,
                        resume=Path(resume) if resume else None, stop=stop, **options):
        print(json.dumps(dataclasses.asdict(report), default=str), flush=True)
threads = [Path(place).read_text().strip() for place in glob.glob("/proc/self/task/*/comm")]
assert not [name for name in threads if "gloo" in name], "a thread of the group outlives it"
"""


def two_workers(
    config: TrainConfig,
    folder: Path,
    *,
    until: int = END,
    resume: Path | None = None,
    stop_after: int = 0,
) -> list[list[dict[str, Any]]]:
    """The reports of each of two processes that train together."""
    rendezvous = f"file://{folder.with_suffix('.meeting')}"
    options = json.dumps(
        {
            "until": until,
            "folder": str(folder),
            "resume": str(resume) if resume else None,
            "stop_after": stop_after,
        }
    )
    command = [sys.executable, "-c", WORKER]
    started = [
        subprocess.Popen(
            [*command, str(rank), rendezvous, config.canonical_json(), options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told: list[list[dict[str, Any]]] = []
    for process in started:
        output, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
        told.append([json.loads(line) for line in output.splitlines()])
    return told


def test_two_workers_match_one_and_checkpoints_know_no_workers(
    make_config: Make, tmp_path: Path
) -> None:
    config = make_config(precision="fp32", horizon=END, optimizer={"learning_rate": 1e-2})
    alone = list(train(config, until=END, folder=tmp_path / "one"))
    first, second = two_workers(config, tmp_path / "two", until=END, stop_after=4)
    keys = ("tokens", "loss", "train_loss", "grad_norm", "checkpoint")
    assert [[r[k] for k in keys] for r in first] == [[r[k] for k in keys] for r in second]
    assert len(first) == 4
    checkpoint = Path(first[-1]["checkpoint"])
    assert read_position(checkpoint).tokens == first[-1]["tokens"]
    rest = list(train(config, until=END, folder=tmp_path / "three", resume=checkpoint))
    for ours, theirs in zip(alone, [*first, *map(_fields, rest)], strict=True):
        assert ours.tokens == theirs["tokens"]
        assert ours.loss == pytest.approx(theirs["loss"], abs=1e-5)
    assert alone[-1].checkpoint is not None and rest[-1].checkpoint is not None
    one, three = (load_file(r[-1].checkpoint / "model.safetensors") for r in (alone, rest))  # type: ignore[operator]
    for name in one:
        torch.testing.assert_close(one[name], three[name], atol=2e-4, rtol=1e-3)


@pytest.mark.slow
def test_fifty_steps_on_two_workers_match_one(make_config: Make, tmp_path: Path) -> None:
    config = make_config(precision="fp32", horizon=END, optimizer={"learning_rate": 1e-2})
    alone = list(train(config, until=END, folder=tmp_path / "one"))
    together, _ = two_workers(config, tmp_path / "two", until=END)
    for ours, theirs in zip(alone, together, strict=True):
        assert ours.loss == pytest.approx(theirs["loss"], abs=1e-5)
        assert ours.train_loss == pytest.approx(theirs["train_loss"], abs=1e-5)
    half = list(train(config, until=25 * STEP, folder=tmp_path / "half"))[-1].checkpoint
    resumed, _ = two_workers(config, tmp_path / "four", until=END, resume=half)
    assert resumed[-1]["loss"] == pytest.approx(alone[-1].loss, abs=1e-5)


def _fields(report: Any) -> dict[str, Any]:
    return {"tokens": report.tokens, "loss": report.loss}


def test_shares_part_evenly_or_are_refused() -> None:
    parts = [Group(rank=rank, workers=4).share(8, "sequences") for rank in range(4)]
    assert [list(range(8))[part] for part in parts] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert ALONE.share(7, "sequences") == slice(0, 7)
    with pytest.raises(GroupError, match="9 sequences do not part evenly among 4 workers"):
        Group(rank=0, workers=4).share(9, "sequences")


@pytest.mark.slow
def test_the_command_under_torchrun(make_config: Make, tmp_path: Path) -> None:
    config = make_config(precision="fp32", horizon=8 * STEP)
    file = tmp_path / "one.yaml"
    file.write_text(config.canonical_json())
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    told = subprocess.run(
        [sys.executable, *command, "-m", "trainers", str(file), "--json",
         "--folder", str(tmp_path / "run")],
        capture_output=True, text=True, timeout=110, check=True,
    )  # fmt: skip
    reports = [json.loads(line) for line in told.stdout.splitlines()]
    alone = list(train(config, until=8 * STEP, folder=tmp_path / "alone"))
    assert [r["tokens"] for r in reports] == [r.tokens for r in alone]
    assert reports[-1]["loss"] == pytest.approx(alone[-1].loss, abs=1e-5)


def test_without_a_launcher_one_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with launched("auto") as group:
        assert group == ALONE


class Recorded:
    """What is asked of torch.distributed and of CUDA, on a machine of four GPUs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken: list[torch.device] = []
        self.groups: list[dict[str, Any]] = []
        self.destroyed = 0
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        monkeypatch.setattr(torch.cuda, "set_device", self.taken.append)
        monkeypatch.setattr(torch.distributed, "init_process_group", self.init)
        monkeypatch.setattr(torch.distributed, "destroy_process_group", self.destroy)

    def init(self, backend: str, **options: Any) -> None:
        self.groups.append({"backend": backend, **options})

    def destroy(self) -> None:
        self.destroyed += 1


@pytest.mark.parametrize(("local_rank", "place"), [(None, 1), (2, 2)])
def test_a_process_takes_its_gpu_before_it_joins(
    monkeypatch: pytest.MonkeyPatch, local_rank: int | None, place: int
) -> None:
    seen = Recorded(monkeypatch)
    with joined(5, 8, "file:///x", "cuda", local_rank=local_rank) as group:
        assert group == Group(rank=5, workers=8)
    device = torch.device("cuda", place)
    assert seen.taken == [device]
    assert [(g["backend"], g["device_id"]) for g in seen.groups] == [("nccl", device)]
    assert seen.destroyed == 1


@pytest.mark.parametrize(("device", "destroyed"), [("cpu", 1), ("cuda", 0)])
def test_who_fails_waits_for_nobody(
    monkeypatch: pytest.MonkeyPatch, device: str, destroyed: int
) -> None:
    """Destroying an nccl group is collective, and the others are in the middle of a sum."""
    seen = Recorded(monkeypatch)
    with pytest.raises(ZeroDivisionError), joined(0, 2, "file:///x", device):
        raise ZeroDivisionError
    assert seen.destroyed == destroyed


def test_who_is_closed_takes_its_group_down(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Recorded(monkeypatch)

    def reports() -> Generator[int]:
        with joined(0, 2, "file:///x", "cuda"):
            yield from range(2)

    told = reports()
    next(told)
    told.close()
    assert seen.destroyed == 1
