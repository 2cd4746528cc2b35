"""Tiny corpora and runs that take a fraction of a second."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainers.config import TrainConfig

WORDS = ("the", "law", "of", "loss", "and", "compute", "says", "that", "a", "small", "model")


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty small text files of words in random order: learnable, and made in a moment."""
    folder = tmp_path_factory.mktemp("text")
    chance = random.Random(7)
    for i in range(40):
        text = " ".join(chance.choices(WORDS, k=200))
        (folder / f"part-{i:02d}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def make_config(
    text_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., TrainConfig]:
    """A configuration of a toy model on the text folder; keyword arguments replace parts."""
    cache = tmp_path_factory.mktemp("cache")

    def make(**parts: Any) -> TrainConfig:
        base: dict[str, Any] = {
            "model": {"layers": 1, "width": 16, "heads": 2, "context": 16},
            "data": {
                "source": str(text_folder),
                "held_out": 0.2,
                "max_epochs": 1000,
                "cache": str(cache),
            },
            "evaluation": {"tokens": 256, "points": 6},
            "batch_tokens": 64,
            "horizon": 64 * 40,
            "device": "cpu",
        }
        return TrainConfig.model_validate(base | parts)

    return make
