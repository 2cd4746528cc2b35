"""Learning rate, batch, beta2 and warm-up as published functions of size, where nothing is said.

For N parameters (body and head), D tokens, C = 6 N D FLOPs and batches B in tokens:

    porian_olmo  rate 0.5 * 0.0047 (N / 108M)^(-1/3), batch 160 * 2048 (N / 108M)^(2/3)
                 (Porian et al. 2024, arXiv 2406.19146, as OLMo-core's ladder encodes it)
    steplaw      rate 1.79 n^(-0.713) D^0.307, batch 0.58 D^0.571, n without embedding and head
                 (Li et al. 2025, arXiv 2503.04715)
    deepseek     rate 0.3118 C^(-0.125), batch 0.2920 C^0.3271 (DeepSeek LLM 2024, arXiv
                 2401.02954)

All were fitted above 5M parameters, most above 60M; below, they are extrapolated, and no rate
exceeds 1e-2. A batch is a context times a power of two, at D = 20 N whatever the horizon (a size
has one batch), and leaves the horizon a thousand steps. A batch that is given moves porian_olmo's
rate by the root of its ratio to the rule's (nanochat). beta2 is 0.99 below 524,288 tokens a batch,
else 0.95, and warm-up takes N tokens, at most a tenth of the horizon (OLMo-core). Under muP and
CompleteP the rate is that of the base, for all sizes of one horizon and batch: neither carries a
rate over these, so porian_olmo's moves by the root of the batch's ratio to the base's there too.

Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import ValidationError

from trainers.architecture import ModelConfig
from trainers.flops import model_cost
from trainers.quantity import parse_count

Rule = Literal["porian_olmo", "steplaw", "deepseek"]

RULES: tuple[Rule, ...] = ("porian_olmo", "steplaw", "deepseek")
AUTO = "auto"
KEYS = ("batch_tokens", "optimizer.learning_rate", "optimizer.beta2", "schedule.warmup")
LARGEST_RATE = 1e-2
TOKENS_PER_PARAM = 20
FEWEST_STEPS = 1000
SMALL_BATCH = 524_288


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What a rule says of a model: a learning rate, and a batch in tokens, not yet rounded."""

    rate: float
    batch: float


def advice(rule: Rule, model: ModelConfig, tokens: float) -> Advice:
    """The rule's own figures for a model and a horizon, before caps."""
    cost = model_cost(model)
    if rule == "porian_olmo":
        size = cost.params / 108e6
        return Advice(rate=0.5 * 0.0047 * size ** (-1 / 3), batch=160 * 2048 * size ** (2 / 3))
    if rule == "steplaw":
        rate = 1.79 * cost.body_params**-0.713 * tokens**0.307
        return Advice(rate=rate, batch=0.58 * tokens**0.571)
    flops = 6.0 * cost.params * tokens
    return Advice(rate=0.3118 * flops**-0.125, batch=0.2920 * flops**0.3271)


def batch_of(rule: Rule, model: ModelConfig, horizon: int) -> int:
    """Tokens a batch: a context times a power of two, at the rule's D = 20 N."""
    usual = TOKENS_PER_PARAM * model_cost(model).params
    wanted = advice(rule, model, usual).batch / model.context
    longest = horizon / FEWEST_STEPS / model.context
    doublings = min(round(math.log2(max(1.0, wanted))), math.floor(math.log2(max(1.0, longest))))
    return int(model.context * 2**doublings)


def rate_of(rule: Rule, model: ModelConfig, horizon: int, batch: int) -> float:
    """The peak learning rate, to three digits."""
    base = _base(model)
    said = advice(rule, base, horizon)
    rate = said.rate * (math.sqrt(batch / said.batch) if rule == "porian_olmo" else 1.0)
    return float(f"{min(rate, LARGEST_RATE):.3g}")


def beta2_of(batch: int) -> float:
    return 0.99 if batch < SMALL_BATCH else 0.95


def warmup_of(model: ModelConfig, horizon: int) -> int:
    """Tokens."""
    return min(model_cost(model).params, horizon // 10)


def left_out(stated: Collection[str]) -> tuple[str, ...]:
    """Of the keys that a rule fills in, those that are not among the stated ones."""
    return tuple(key for key in KEYS if key not in stated)


def filled(given: Mapping[str, Any]) -> dict[str, Any]:
    """A run's data with what it leaves out, or leaves to `auto`, filled in by its rule.

    Data that are not in order are left to those who check them.
    """
    data = dict(given)
    optimizer, schedule = _part(data, "optimizer"), _part(data, "schedule")
    holders = {"batch_tokens": data, "optimizer.learning_rate": optimizer}
    holders |= {"optimizer.beta2": optimizer, "schedule.warmup": schedule}
    open_keys: list[str] = []
    for key, holder in holders.items():
        if holder is not None and holder.get(_last(key), AUTO) == AUTO:
            holder.pop(_last(key), None)
            open_keys.append(key)
    sized = _sized(data)
    rule = data.get("rule", RULES[0])
    if sized is None or rule not in RULES:
        if "batch_tokens" in open_keys:
            data["batch_tokens"] = 1  # what is wrong with the model is told, not this
        return data
    model, horizon = sized
    if "batch_tokens" in open_keys:
        data["batch_tokens"] = batch_of(rule, model, horizon)
    try:
        batch = parse_count(data["batch_tokens"])
    except ValueError:
        return data
    values = {
        "optimizer.learning_rate": lambda: rate_of(rule, model, horizon, batch),
        "optimizer.beta2": lambda: beta2_of(batch),
        "schedule.warmup": lambda: warmup_of(model, horizon),
    }
    for key in open_keys:
        holder = holders[key]
        if key in values and holder is not None:
            holder[_last(key)] = values[key]()
    return data


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _part(data: dict[str, Any], key: str) -> dict[str, Any] | None:
    """A block of the data, copied so that it may be filled; None where it is a finished value."""
    block = data.get(key, {})
    if not isinstance(block, Mapping):
        return None
    data[key] = dict(cast("Mapping[str, Any]", block))
    return data[key]


def _sized(data: Mapping[str, Any]) -> tuple[ModelConfig, int] | None:
    try:
        model = ModelConfig.model_validate(data.get("model"))
        return model, parse_count(data.get("horizon"))
    except (ValidationError, ValueError):
        return None


def _base(model: ModelConfig) -> ModelConfig:
    """The model whose rate is that of all its family's sizes, under muP and CompleteP."""
    if model.parametrization == "standard" or model.base_width is None:
        return model
    heads = max(1, model.base_width // model.channels)
    return ModelConfig(
        family=model.family,
        layers=model.base_layers or model.layers,
        width=model.base_width,
        heads=heads if model.base_width % heads == 0 else 1,
        context=model.context,
        vocab=model.vocab,
        qk_norm=model.qk_norm,
    )
