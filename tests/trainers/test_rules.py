"""The published rules: their figures as their sources print them, and where they act."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from trainers.architecture import ModelConfig
from trainers.config import OptimizerConfig, TrainConfig
from trainers.flops import model_cost
from trainers.rules import Rule, advice, batch_of, beta2_of, filled, rate_of, warmup_of


def shape(width: int, layers: int, **options: object) -> ModelConfig:
    base = {"width": width, "layers": layers, "context": 512, "vocab": 8192}
    return ModelConfig.model_validate(base | options)


ABOUT_10M = shape(320, 6)  # 10.0M with its head


@pytest.mark.parametrize(
    ("rule", "rate", "batch"),
    # The table of 10M at D = 20 N; steplaw's size leaves the head out, which is a quarter here.
    [
        ("porian_olmo", 5.2e-3, 67e3),
        ("steplaw", 6.5e-3 / 0.74**0.713, 32e3),
        ("deepseek", 3.1e-3, 53e3),
    ],
)
def test_figures(rule: Rule, rate: float, batch: float) -> None:
    params = model_cost(ABOUT_10M).params
    assert params == pytest.approx(10e6, rel=0.01)
    said = advice(rule, ABOUT_10M, 20 * params)
    assert said.rate == pytest.approx(rate, rel=0.03)
    assert said.batch == pytest.approx(batch, rel=0.03)


def test_rates_are_capped_and_follow_the_batch() -> None:
    tiny = shape(16, 1, vocab=256)
    assert rate_of("porian_olmo", tiny, 10**6, 512) == 0.01
    half = rate_of("porian_olmo", ABOUT_10M, 10**8, 33_000)
    assert half == pytest.approx(5.2e-3 * 0.7, rel=0.02)
    assert rate_of("deepseek", ABOUT_10M, 2 * 10**8, 512) == pytest.approx(3.1e-3, rel=0.02)


def test_batches_are_contexts_in_powers_of_two_and_leave_a_thousand_steps() -> None:
    assert batch_of("porian_olmo", ABOUT_10M, 10**9) == 65536
    assert batch_of("porian_olmo", ABOUT_10M, 10**7) == 8192
    assert batch_of("porian_olmo", ABOUT_10M, 1000) == 512
    odd = shape(320, 6, context=500)
    assert batch_of("porian_olmo", odd, 10**9) == 64_000


def test_beta2_and_warm_up() -> None:
    assert (beta2_of(65536), beta2_of(524_288)) == (0.99, 0.95)
    assert warmup_of(ABOUT_10M, 2 * 10**8) == model_cost(ABOUT_10M).params
    assert warmup_of(ABOUT_10M, 10**7) == 10**6


def config(**parts: object) -> TrainConfig:
    base = {"model": {"width": 320, "layers": 6, "context": 512, "vocab": 8192}, "horizon": "200M"}
    return TrainConfig.model_validate(base | parts)


def test_what_is_left_out_is_filled_in_and_what_is_said_stands() -> None:
    found = config()
    assert found.batch_tokens == 65536
    assert found.optimizer.learning_rate == pytest.approx(5.2e-3, rel=0.02)
    assert (found.optimizer.beta2, found.warmup_tokens) == (0.99, model_cost(found.model).params)
    auto = {"optimizer": {"learning_rate": "auto"}, "batch_tokens": "auto"}
    assert config(**auto) == found
    said = config(
        optimizer={"learning_rate": 1e-3}, batch_tokens="32Ki", schedule={"warmup": "1%"}
    )
    assert (said.optimizer.learning_rate, said.batch_tokens, said.schedule.warmup) == (
        1e-3, 32768, 0.01,
    )  # fmt: skip
    assert said.optimizer.beta2 == 0.99
    assert config(rule="deepseek").optimizer.learning_rate == pytest.approx(3.1e-3, rel=0.02)
    assert TrainConfig.model_validate(found.model_dump()) == found
    ready = config(optimizer=OptimizerConfig(learning_rate=0.5))
    assert ready.optimizer.learning_rate == 0.5


def test_the_data_given_are_left_alone() -> None:
    given = {
        "model": {"width": 320, "layers": 6, "context": 512},
        "optimizer": {},
        "horizon": 10**8,
    }
    filled(given)
    assert given["optimizer"] == {}
    assert "batch_tokens" not in given


def test_under_mup_all_sizes_have_the_rate_of_the_base() -> None:
    mup = {"parametrization": "mup", "base_width": 320, "vocab": 8192, "context": 512}

    def rate(**changes: object) -> float:
        model = {"width": 320, "layers": 6} | mup | changes
        return config(model=model, batch_tokens=65536).optimizer.learning_rate

    assert rate(width=640) == rate() == config(batch_tokens=65536).optimizer.learning_rate


def test_a_wrong_model_is_told_and_nothing_else() -> None:
    with pytest.raises(ValidationError) as caught:
        config(model={"width": 320, "layers": 0, "context": 512})
    told = [e["loc"] for e in caught.value.errors() if e["type"] != "default_factory_not_called"]
    assert told == [("model", "layers")]
    with pytest.raises(ValidationError, match="porian_olmo"):
        config(rule="chinchilla")
