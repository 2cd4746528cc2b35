"""Segments in this process, with the real trainer: what is told of the data and of the time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.backends.base import BackendError
from orchestrator.backends.inline import InlineBackend
from orchestrator.events import AttemptLost, PointReported, Started
from orchestrator.pool import Pool
from orchestrator.values import Candidate
from trainers.config import DataConfig, TrainConfig
from trainers.corpus import prepare

END = 32 * 256


def tiny(source: Path, cache: Path, horizon: int = END) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "model": {"layers": 1, "width": 16, "context": 32},
            "data": {
                "source": str(source),
                "cache": str(cache),
                "max_epochs": 1000,
                "held_out": 0.3,
            },
            "evaluation": {"tokens": 256, "points": 8},
            "batch_tokens": 256,
            "horizon": horizon,
            "device": "cpu",
        }
    )


def pool_of(*configs: TrainConfig) -> Pool:
    candidates = tuple(
        Candidate(
            id=f"tiny-{number}",
            params=1000,
            horizon=END,
            flops_per_token=6e3,
            tokens_per_step=256,
        )
        for number in range(len(configs))
    )
    return Pool(candidates=candidates, configs=configs)


def written(folder: Path, words: str) -> Path:
    folder.mkdir(exist_ok=True)
    for i in range(40):
        (folder / f"{i}.txt").write_text(f"{i} {words} {i * i}. " * 40)
    return folder


def test_the_facts_hold_a_digest_of_every_source(tmp_path: Path) -> None:
    """What a resume compares: other bytes at the same path are another environment."""
    one, two = written(tmp_path / "one", "and"), written(tmp_path / "two", "or")
    cache = tmp_path / "cache"
    pool = pool_of(tiny(one, cache), tiny(two, cache), tiny(two, cache))

    def facts() -> dict[str, str]:
        backend = InlineBackend(pool, tmp_path / "sweep")
        backend.close()
        told = backend.environment.facts
        assert len(dict(told)) == len(told), "each fact has one line"
        return {name: value for name, value in told if name.startswith("data ")}

    before = facts()
    assert before == {
        f"data {source}": prepare(
            DataConfig(source=str(source), cache=cache, held_out=0.3)
        ).digest[:16]
        for source in (one, two)
    }
    assert facts() == before
    written(two, "nor")
    after = facts()
    assert after[f"data {one}"] == before[f"data {one}"]
    assert after[f"data {two}"] != before[f"data {two}"]


def test_one_source_that_is_read_in_two_ways_has_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.jsonl").write_text(
        "".join(f'{{"text": "the number {i}", "code": "x = {i}"}}\n' for i in range(60))
    )
    config = tiny(tmp_path / "text.jsonl", tmp_path / "cache")
    other = config.model_copy(
        update={"data": config.data.model_copy(update={"text_field": "code"})}
    )
    backend = InlineBackend(pool_of(config, other), tmp_path / "sweep")
    backend.close()
    (value,) = (v for name, v in backend.environment.facts if name.startswith("data "))
    assert [len(digest) for digest in value.split(", ")] == [16, 16]


def test_data_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="training cannot begin"):
        InlineBackend(pool_of(tiny(tmp_path / "absent", tmp_path / "cache")), tmp_path / "sweep")


def test_segments_that_take_turns_share_the_time(tmp_path: Path) -> None:
    """Device hours are a cap: two slots of one process are not two devices."""
    config = tiny(written(tmp_path / "text", "and"), tmp_path / "cache")
    backend = InlineBackend(pool_of(config, config), tmp_path / "sweep", slots=2)
    began = time.monotonic()
    for trial in ("tiny-0", "tiny-1"):
        backend.start(Started(trial=trial, attempt=1, until=END))
    elapsed: dict[str, float] = {}
    while reports := backend.poll(0.0):
        for report in reports:
            assert not isinstance(report, AttemptLost), report.reason
            if isinstance(report, PointReported) and report.point.elapsed_s is not None:
                elapsed[report.trial] = report.point.elapsed_s
    wall_s = time.monotonic() - began
    assert elapsed.keys() == {"tiny-0", "tiny-1"}
    assert sum(elapsed.values()) <= wall_s
    backend.close()
