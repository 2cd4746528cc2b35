"""Checkpoints: whole or refused, and the newest whole one is found."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from trainers import checkpoint
from trainers.checkpoint import CheckpointError, Position
from trainers.config import TrainConfig
from trainers.device import Device
from trainers.learner import Learner

CONFIG = TrainConfig.model_validate(
    {
        "model": {"layers": 1, "width": 16, "context": 8},
        "batch_tokens": 16,
        "horizon": 1600,
        "evaluation": {"tokens": 8},
    }
)
DEVICE = Device(device=torch.device("cpu"), precision="fp32", threads=1)


def position(tokens: int, *, segment_end: bool = False) -> Position:
    return Position(
        tokens=tokens, recipe=CONFIG.recipe(), segment_end=segment_end, best_loss=2.5, rising=1
    )


def trained(steps: int = 1) -> Learner:
    learner = Learner(CONFIG, DEVICE)
    for _ in range(steps):
        learner.step(torch.arange(18).view(2, 9), 1e-2)
    return learner


def save(folder: Path, where: Position, learner: Learner | None = None) -> Path:
    return checkpoint.save(folder, where, (learner or trained()).tensors())


def test_round_trip(tmp_path: Path) -> None:
    learner = trained(3)
    torch.rand(5, generator=learner.generator)
    path = save(tmp_path / "deep" / "folder", position(48), learner)
    assert checkpoint.read_position(path) == position(48)
    other = Learner(CONFIG, DEVICE)
    other.load(path)
    window = torch.arange(18).view(2, 9)
    for _ in range(3):
        assert torch.equal(learner.step(window, 1e-2)[0], other.step(window, 1e-2)[0])
    assert torch.equal(
        torch.rand(3, generator=learner.generator), torch.rand(3, generator=other.generator)
    )


def test_an_untrained_model_can_be_saved(tmp_path: Path) -> None:
    path = save(tmp_path, position(0), trained(0))
    Learner(CONFIG, DEVICE).load(path)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["torn", "flipped", "absent"])
def test_damage_is_told_and_passed_over(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    older = save(tmp_path, position(16))
    path = save(tmp_path, position(32))
    file = path / name
    content = file.read_bytes()
    if damage == "absent":
        file.unlink()
    elif damage == "torn":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 0x20]))
    with pytest.raises(CheckpointError, match=rf"{name}.*resume from an earlier checkpoint"):
        checkpoint.read_position(path)
    assert checkpoint.newest(tmp_path) == older
    assert "passing over" in caplog.text


def test_newest_of_nothing(tmp_path: Path) -> None:
    assert checkpoint.newest(tmp_path) is None
    assert checkpoint.newest(tmp_path / "absent") is None


def test_a_writer_killed_half_way_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = save(tmp_path, position(16))

    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, position(32))
    assert checkpoint.newest(tmp_path) == older


def test_files_are_synced_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, rename = os.fsync, Path.rename

    def seen_sync(descriptor: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    def seen_rename(self: Path, target: Path) -> Path:
        done.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", seen_sync)
    monkeypatch.setattr(Path, "rename", seen_rename)
    save(tmp_path / "folder", position(16))
    assert done[:3] == ["model.safetensors", "optimizer.safetensors", "state.json"]
    assert done[3].startswith(".unfinished-")
    assert done[4:] == ["rename", "folder"]


def test_the_same_position_is_left_and_another_replaces_it(tmp_path: Path) -> None:
    path = save(tmp_path, position(16))
    before = path.stat().st_ino
    assert save(tmp_path, position(16)) == path
    assert path.stat().st_ino == before
    save(tmp_path, position(16, segment_end=True))
    assert checkpoint.read_position(path).segment_end
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_segment_ends_stay(tmp_path: Path) -> None:
    paths = [save(tmp_path, position(16 * i, segment_end=i in (1, 3))) for i in range(1, 7)]
    checkpoint.discard_old(tmp_path, keep=2)
    assert checkpoint.checkpoints(tmp_path) == [paths[0], paths[2], paths[4], paths[5]]


def test_a_damaged_one_is_no_reason_to_stop_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [save(tmp_path, position(16 * i)) for i in range(1, 5)]
    (paths[0] / "state.json").write_text("{torn")
    checkpoint.discard_old(tmp_path, keep=2)
    assert checkpoint.checkpoints(tmp_path) == [paths[0], paths[2], paths[3]]
    assert "is no JSON" in caplog.text


def test_another_format_and_another_model_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, position(16))
    wider = CONFIG.model_copy(update={"model": CONFIG.model.model_copy(update={"layers": 2})})
    with pytest.raises(CheckpointError, match="of another model"):
        Learner(wider, DEVICE).load(path)
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(state | {"version": 99}))
    with pytest.raises(CheckpointError, match="format 99, this release reads 1"):
        checkpoint.read_position(path)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    path = save(tmp_path, position(16))
    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json"}
