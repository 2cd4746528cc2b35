"""Configurations: valid from birth, priced in whole steps, the same text for the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from trainers.config import ModelConfig, TrainConfig
from trainers.documents import SpecError, load_document, parse_document, validate

GOOD: dict[str, Any] = {
    "model": {"layers": 2, "width": 64, "context": 128},
    "batch_tokens": 2048,
    "horizon": "1M",
}


def test_steps_and_tokens() -> None:
    config = TrainConfig.model_validate(GOOD)
    assert (config.horizon, config.steps, config.tokens_per_step) == (10**6, 488, 2048)
    assert config.floor_tokens(5000) == 4096
    assert config.floor_tokens(4096) == 4096
    assert config.warmup_tokens == 100_000  # a tenth; it has 115 thousand parameters
    assert config.sequences_per_step == 16


def test_warmup_may_be_tokens() -> None:
    config = TrainConfig.model_validate(GOOD | {"schedule": {"warmup": "64Ki"}})
    assert config.warmup_tokens == 65536


@pytest.mark.parametrize(
    ("width", "heads"),
    [(16, 1), (32, 1), (64, 2), (96, 3), (128, 4), (256, 4), (512, 8), (200, 1)],
)
def test_default_heads_divide(width: int, heads: int) -> None:
    assert ModelConfig(layers=1, width=width, context=8).heads == heads


def test_padding() -> None:
    padded = [ModelConfig(layers=1, width=8, context=8, vocab=v).padded_vocab for v in (256, 257)]
    assert padded == [256, 320]


def test_digest_is_of_the_values_not_the_writing() -> None:
    written = TrainConfig.model_validate(GOOD | {"horizon": 1000000, "seed": "0"})
    same = TrainConfig.model_validate(GOOD)
    assert written.digest == same.digest
    assert TrainConfig.model_validate_json(same.canonical_json()) == same
    assert TrainConfig.model_validate(GOOD | {"seed": 1}).digest != same.digest


def test_the_recipe_leaves_out_where_and_how_often() -> None:
    config = TrainConfig.model_validate(GOOD)
    elsewhere = GOOD | {
        "device": "cpu", "threads": 2, "data": {"cache": "/elsewhere"},
        "checkpoint": {"every_s": 1}, "evaluation": {"points": 3},
    }  # fmt: skip
    assert TrainConfig.model_validate(elsewhere).recipe() == config.recipe()
    assert TrainConfig.model_validate(GOOD | {"seed": 5}).recipe() != config.recipe()


def test_values_are_frozen() -> None:
    config = TrainConfig.model_validate(GOOD)
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "key", "says"),
    [
        ("model.heads=3", "model.heads", "3 heads do not divide width 64"),
        ("model.width=0", "model.width", "must be greater than or equal to 1"),
        ("model.vocab=100", "model.vocab", "does not hold the 256 bytes"),
        ("model.vocab=2M", "model.vocab", "less than or equal to 1048576"),
        ("batch_tokens=2000", "batch_tokens", "no multiple of the context 128; use 1920"),
        ("horizon=2047", "horizon", "less than one batch"),
        ("optimizer.learning_rate=0", "optimizer.learning_rate", "greater than 0"),
        ("optimizer.beta2=1", "optimizer.beta2", "less than 1"),
        ("schedule.warmup=1M", "schedule.warmup", "leave nothing of the horizon"),
        ("schedule.kind=cosin", "schedule.kind", "did you mean 'cosine'?"),
        ("evaluation.tokens=100", "evaluation.tokens", "use 128 or more"),
        ("data.held_out=0", "data.held_out", "greater than 0"),
        ("data.source=", "data.source", "valid string"),
        ("threads=0", "threads", "greater than or equal to 1"),
        ("seed=-1", "seed", "negative"),
        ("model.famly=gpt", "model.famly", "did you mean 'family'?"),
    ],
)
def test_refusals_name_the_key(override: str, key: str, says: str) -> None:
    text = "model: {layers: 2, width: 64, context: 128}\nbatch_tokens: 2048\nhorizon: 1M\n"
    document = parse_document(text, name="t.yaml").with_overrides([override])
    with pytest.raises(SpecError) as caught:
        validate(document, TrainConfig)
    (problem,) = caught.value.problems
    assert problem.key == key
    assert problem.place == f"--set {key}"
    assert says in problem.message


def test_valid_keys_are_told_beside_a_wrong_word() -> None:
    text = "model: {layers: 2, width: 64, context: 128}\nhorizon: 1M\ndevice: gpu\n"
    document = parse_document(text, name="t.yaml").with_overrides(["optimizer.beta=0.9"])
    with pytest.raises(SpecError) as caught:
        validate(document, TrainConfig)
    told = {problem.key: problem.message for problem in caught.value.problems}
    assert "did you mean 'beta2'?" in told["optimizer.beta"]
    assert "clip, eps, learning_rate" in told["optimizer.beta"]
    assert "One of: auto, cpu, cuda" in told["device"]


def test_the_shipped_example_is_valid() -> None:
    path = Path(__file__).parents[2] / "configs" / "train-one.yaml"
    assert validate(load_document(path), TrainConfig).horizon == 2 * 10**6
