"""The loop: segments add up bit for bit, ends are where asked for, divergence is told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainers.checkpoint import CheckpointError, checkpoints
from trainers.config import TrainConfig
from trainers.course import Course
from trainers.data import DataError
from trainers.device import DeviceError
from trainers.flops import model_cost
from trainers.loop import Report, SegmentError, train

Make = Callable[..., TrainConfig]
STEP = 64
END = 40 * STEP
SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": {"kind": "constant"},
    "cosine": {"kind": "cosine", "final": 0.1},
    "long warm-up": {"kind": "constant", "warmup": 25 * STEP},
}


def run(config: TrainConfig, folder: Path, **options: Any) -> list[Report]:
    return list(train(config, **({"until": END, "folder": folder} | options)))


def state(report: Report) -> dict[str, torch.Tensor]:
    assert report.checkpoint is not None
    return {
        f"{file.name}:{key}": tensor
        for file in sorted(report.checkpoint.glob("*.safetensors"))
        for key, tensor in load_file(file).items()
    }


def same_state(one: Report, other: Report) -> bool:
    a, b = state(one), state(other)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def said(report: Report) -> Report:
    """A report without what may differ between segmentations: time, place, training mean."""
    return replace(report, elapsed_s=0.0, checkpoint=None, train_loss=0.0)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("cut", [1, 17, 39])
def test_segments_equal_one_run(
    make_config: Make, tmp_path: Path, schedule: dict[str, Any], cut: int
) -> None:
    config = make_config(schedule=schedule)
    straight = run(config, tmp_path / "straight")
    first = run(config, tmp_path / "a", until=cut * STEP)
    second = run(config, tmp_path / "b", resume=first[-1].checkpoint)
    assert first[-1].tokens == cut * STEP
    assert same_state(straight[-1], second[-1])
    together = {report.tokens: said(report) for report in first + second}
    assert {report.tokens: said(report) for report in straight}.items() <= together.items()


def test_resume_at_every_checkpoint_is_bit_identical(make_config: Make, tmp_path: Path) -> None:
    config = make_config(checkpoint={"every_s": 1e-9, "keep": 100})
    straight = run(config, tmp_path / "straight")
    assert all(report.checkpoint for report in straight)
    for report in straight[:-1]:
        resumed = run(config, tmp_path / str(report.tokens), resume=report.checkpoint)
        assert same_state(straight[-1], resumed[-1])


def test_abandoned_run_goes_on_in_its_own_folder(make_config: Make, tmp_path: Path) -> None:
    config = make_config(checkpoint={"every_s": 1e-9, "keep": 100})
    straight = run(config, tmp_path / "straight")
    killed = train(config, until=END, folder=tmp_path / "a")
    seen = [next(killed), next(killed)]
    killed.close()
    (tmp_path / "a" / ".unfinished-tokens-7-1").mkdir()
    resumed = run(config, tmp_path / "a", resume=seen[-1].checkpoint)
    assert same_state(straight[-1], resumed[-1])
    assert not list((tmp_path / "a").glob(".*"))


def test_until_is_floored_evaluated_and_checkpointed(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    reports = run(config, tmp_path, until=7 * STEP + 63)
    assert reports[-1].tokens == 7 * STEP
    assert reports[-1].checkpoint is not None
    assert [report.tokens for report in reports] == sorted({r.tokens for r in reports})
    assert reports[-1].flops == model_cost(config.model).flops(7 * STEP)


def test_loss_falls_and_phases_are_told(make_config: Make, tmp_path: Path) -> None:
    config = make_config(schedule={"warmup": 9 * STEP}, optimizer={"learning_rate": 1e-2})
    reports = run(config, tmp_path)
    assert reports[-1].loss < reports[0].loss - 1
    assert {report.phase for report in reports} == {"warmup", "stable"}
    assert reports[-1].bits_per_byte == pytest.approx(reports[-1].loss / 0.6931472)
    assert reports[-1].train_loss == pytest.approx(reports[-1].loss, abs=0.5)


def test_a_call_with_nothing_left_to_do_reports_again(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    done = run(config, tmp_path / "a")[-1]
    again = run(config, tmp_path / "a", resume=done.checkpoint)
    assert [report.tokens for report in again] == [END]
    assert again[0].loss == done.loss
    assert again[0].checkpoint == done.checkpoint


def test_stop_ends_the_segment_at_the_next_report(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    straight = run(config, tmp_path / "straight")
    asked = iter([False, True])
    stopped = run(config, tmp_path / "a", stop=lambda: next(asked))
    assert len(stopped) == 2
    assert stopped[-1].checkpoint is not None
    resumed = run(config, tmp_path / "b", resume=stopped[-1].checkpoint)
    assert same_state(straight[-1], resumed[-1])


def test_anneal_is_a_branch_and_leaves_the_trunk(make_config: Make, tmp_path: Path) -> None:
    config = make_config(optimizer={"learning_rate": 1e-2})
    trunk = run(config, tmp_path / "trunk", until=20 * STEP)[-1]
    assert trunk.checkpoint is not None
    before = {p: p.read_bytes() for p in trunk.checkpoint.iterdir()}
    options = {"until": 28 * STEP, "resume": trunk.checkpoint, "anneal": True}
    reports = run(config, tmp_path / "branch", **options)
    assert [report.phase for report in reports] == ["decay", "decay", "decay", "annealed"]
    rates = [report.learning_rate for report in reports]
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < 0.1 * config.optimizer.learning_rate
    stable = run(config, tmp_path / "on", until=28 * STEP, resume=trunk.checkpoint)
    assert reports[-1].loss < stable[-1].loss
    assert {p: p.read_bytes() for p in trunk.checkpoint.iterdir()} == before


def test_anneal_resumes_bit_for_bit(make_config: Make, tmp_path: Path) -> None:
    config = make_config(checkpoint={"every_s": 1e-9, "keep": 100})
    trunk = run(config, tmp_path / "trunk", until=20 * STEP)[-1]
    options = {"until": 28 * STEP, "anneal": True}
    straight = run(config, tmp_path / "a", resume=trunk.checkpoint, **options)
    resumed = run(config, tmp_path / "b", resume=straight[1].checkpoint, **options)
    assert same_state(straight[-1], resumed[-1])
    assert [r.tokens for r in resumed] == [r.tokens for r in straight[2:]]


def test_an_anneal_may_pass_the_horizon(make_config: Make, tmp_path: Path) -> None:
    trunk = run(make_config(), tmp_path / "trunk")[-1]
    options = {"until": END + 8 * STEP, "resume": trunk.checkpoint, "anneal": True}
    assert run(make_config(), tmp_path / "b", **options)[-1].phase == "annealed"


def test_only_the_newest_passing_checkpoints_stay(make_config: Make, tmp_path: Path) -> None:
    config = make_config(checkpoint={"every_s": 1e-9, "keep": 2})
    reports = run(config, tmp_path)
    kept = [path for path in checkpoints(tmp_path)]
    assert kept == [report.checkpoint for report in reports[-3:]]


def test_non_finite_loss_ends_the_run_with_a_diverged_report(
    make_config: Make, tmp_path: Path
) -> None:
    config = make_config(optimizer={"learning_rate": 10, "clip": 0}, schedule={"warmup": 0})
    config = config.model_copy(
        update={"model": config.model.model_copy(update={"qk_norm": False})}
    )
    reports = run(_poisoned(config), tmp_path)
    assert [report.diverged for report in reports] == [False] * (len(reports) - 1) + [True]
    assert reports[-1].checkpoint is None


def _poisoned(config: TrainConfig) -> TrainConfig:
    """An eps so small and a decay so large that the weights overflow."""
    optimizer = config.optimizer.model_copy(update={"weight_decay": 1e30})
    return config.model_copy(update={"optimizer": optimizer})


def test_sustained_rise_counts_as_divergence(make_config: Make, tmp_path: Path) -> None:
    config = make_config(
        optimizer={"learning_rate": 3e-3},
        evaluation={"tokens": 256, "points": 20},
    )
    start = run(config, tmp_path / "a", until=4 * STEP)[-1]
    assert start.checkpoint is not None
    file = start.checkpoint / "state.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"best_loss": 0.1}))
    reports = run(config, tmp_path / "b", resume=start.checkpoint)
    assert len(reports) == 3
    assert [report.diverged for report in reports] == [False, False, True]


def test_a_run_that_never_comes_down_to_a_guess_has_diverged(
    make_config: Make, tmp_path: Path
) -> None:
    config = make_config()
    course = Course(config, until=config.horizon, folder=tmp_path)
    places = course.places[:3]
    assert [course.follow(place, 7.0, 7.0) for place in places] == [False, False, True]
    assert not any(Course(config, until=2560, folder=tmp_path).follow(p, 6.0, 6.0) for p in places)


def test_evaluation_and_training_touch_no_global_random_state(
    make_config: Make, tmp_path: Path
) -> None:
    import random

    import numpy as np

    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tobytes())  # type: ignore[index, union-attr]
    run(make_config(), tmp_path)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert before[2] == np.random.get_state()[1].tobytes()  # type: ignore[index, union-attr]


def test_evaluation_does_not_change_training(make_config: Make, tmp_path: Path) -> None:
    few = run(make_config(evaluation={"tokens": 64, "points": 1}), tmp_path / "few")
    many = run(make_config(evaluation={"tokens": 512, "points": 40}), tmp_path / "many")
    assert len(many) > len(few)
    assert same_state(few[-1], many[-1])


def test_seeds_differ_and_repeat(make_config: Make, tmp_path: Path) -> None:
    one = run(make_config(seed=1), tmp_path / "1", until=2 * STEP)[-1]
    again = run(make_config(seed=1), tmp_path / "1b", until=2 * STEP)[-1]
    two = run(make_config(seed=2), tmp_path / "2", until=2 * STEP)[-1]
    assert same_state(one, again)
    assert one.loss != two.loss


def test_refusals(make_config: Make, tmp_path: Path) -> None:
    config = make_config()
    done = run(config, tmp_path / "a", until=20 * STEP)[-1].checkpoint
    branch = run(config, tmp_path / "b", until=24 * STEP, resume=done, anneal=True)[-1].checkpoint

    def refused(error: type[Exception], match: str, **options: Any) -> None:
        changed = options.pop("config", config)
        with pytest.raises(error, match=match):
            train(changed, **({"until": END, "folder": tmp_path / "c"} | options))

    refused(SegmentError, "less than one step of 64", until=STEP - 1)
    refused(SegmentError, "passes the horizon's 2560", until=END + STEP)
    refused(CheckpointError, "past 640", until=10 * STEP, resume=done)
    refused(CheckpointError, "cannot be read", resume=tmp_path / "absent")
    refused(CheckpointError, "give resume", anneal=True)
    refused(CheckpointError, "needs steps", until=20 * STEP, resume=done, anneal=True)
    refused(CheckpointError, "ends at 1536 tokens, not 1600", until=25 * STEP, resume=branch,
            anneal=True)  # fmt: skip
    refused(CheckpointError, "lies on an anneal", resume=branch)
    refused(CheckpointError, "seed was 0, is 1", resume=done, config=make_config(seed=1))
    few = make_config(evaluation={"tokens": 10**9})
    refused(DataError, "lower evaluation.tokens to", config=few)
    small = config.model_copy(update={"data": config.data.model_copy(update={"max_epochs": 1})})
    large = small.model_copy(update={"horizon": 10**6})
    refused(DataError, "epochs of .* over data.max_epochs 1", config=large)
    if not torch.cuda.is_available():
        refused(DeviceError, "sees no CUDA device", config=make_config(device="cuda"))
    assert not (tmp_path / "c").exists()


def test_changed_data_are_noticed_on_resume(make_config: Make, tmp_path: Path) -> None:
    source = tmp_path / "words.txt"
    data = {"source": str(source), "held_out": 0.3, "max_epochs": 1000, "cache": str(tmp_path)}
    source.write_text("one two three four " * 100)
    done = run(make_config(data=data), tmp_path / "a", until=STEP)[-1].checkpoint
    source.write_text("one two three five " * 100)
    with pytest.raises(CheckpointError, match="trained differently: corpus was"):
        train(make_config(data=data), until=END, folder=tmp_path / "b", resume=done)


def test_repeated_data_are_warned_of(
    make_config: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(make_config(horizon=10**6), until=STEP, folder=tmp_path)
    assert "repeats the data" in caplog.text


def test_the_clock_stands_still_between_reports(make_config: Make, tmp_path: Path) -> None:
    """Several runs may take turns in one process: what the others took is not this one's."""
    began = time.monotonic()
    slept = 0.0
    for report in train(make_config(), until=END, folder=tmp_path):
        assert report.elapsed_s <= time.monotonic() - began - slept
        last = report.elapsed_s
        time.sleep(0.1)
        slept += 0.1
    assert slept >= 0.3
    assert last > 0
