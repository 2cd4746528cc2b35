"""Resuming at any checkpoint changes no bit: every family, schedule and source of data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from safetensors.torch import load_file

from trainers.config import TrainConfig
from trainers.families import FAMILIES
from trainers.loop import train

Make = Callable[..., TrainConfig]

SHAPE: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "context": 16}
MUP = {"parametrization": "completep", "base_width": 8, "base_layers": 2}
MODELS: list[dict[str, Any]] = [
    *({"family": family} for family in FAMILIES),
    {"positions": "rotary", "tied": False},
    MUP,
    {"family": "llama", "kv_heads": 1, "mlp_width": 24},
]
SCHEDULES: list[dict[str, Any]] = [
    {"kind": "constant", "warmup": 0.3},
    {"kind": "cosine", "final": 0.1},
    {"kind": "wsd", "decay": 0.5},
    {"kind": "wsd", "anneal": "linear"},
]


def check(config: TrainConfig, folder: Path) -> None:
    """A whole run with a checkpoint at every report, and the rest of it from each of them."""
    often = {"every_s": 1e-9, "keep": 1000}
    config = TrainConfig.model_validate(config.model_dump() | {"checkpoint": often})
    whole = list(train(config, until=config.horizon, folder=folder / "whole"))
    kept = [report.checkpoint for report in whole]
    assert len(kept) >= 4
    assert kept[-1] is not None
    wanted = [load_file(kept[-1] / name) for name in TENSORS]
    for number, path in enumerate(kept[:-1]):
        assert path is not None
        rest = train(config, until=config.horizon, folder=folder / str(number), resume=path)
        told = [(report.tokens, report.loss, report.phase) for report in rest]
        assert told == [(r.tokens, r.loss, r.phase) for r in whole[number + 1 :]]
    (*_, last) = sorted((folder / "0").glob("tokens-*"))
    for name, tensors in zip(TENSORS, wanted, strict=True):
        again = load_file(last / name)
        assert again.keys() == tensors.keys()
        assert all(again[key].equal(tensors[key]) for key in tensors)


TENSORS = ("model.safetensors", "optimizer.safetensors")
BRIEF: dict[str, Any] = {"horizon": 64 * 8, "evaluation": {"tokens": 64, "points": 8}}


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_models(make_config: Make, tmp_path: Path, model: dict[str, Any]) -> None:
    check(make_config(model=SHAPE | model, **BRIEF), tmp_path)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_schedules(make_config: Make, tmp_path: Path, schedule: dict[str, Any]) -> None:
    check(make_config(model=SHAPE, schedule=schedule, **BRIEF), tmp_path)


@pytest.mark.parametrize("source", ["text", "jsonl", "parquet", "hub", "one file"])
@pytest.mark.parametrize("tokenizer", ["bytes", "bpe-300"])
def test_sources(
    make_config: Make, tmp_path: Path, text_folder: Path, source: str, tokenizer: str
) -> None:
    texts = [path.read_text(encoding="utf-8") for path in sorted(text_folder.iterdir())]
    match source:
        case "jsonl":
            place = tmp_path / "texts.jsonl"
            place.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        case "parquet":
            place = tmp_path / "texts.parquet"
            pyarrow.parquet.write_table(pyarrow.table({"text": texts}), place)
        case "one file":
            place = tmp_path / "all.txt"
            place.write_text("\n".join(texts))
        case _:
            place = text_folder
    data = {
        "source": f"hub:{place}" if source == "hub" else str(place),
        "tokenizer": tokenizer,
        "held_out": 0.2,
        "max_epochs": 1000,
        "cache": str(tmp_path / "cache"),
    }
    vocab = 300 if tokenizer == "bpe-300" else 256
    check(make_config(model=SHAPE | {"vocab": vocab}, data=data, **BRIEF), tmp_path)
