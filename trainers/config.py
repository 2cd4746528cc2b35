"""What a training run is: frozen values, checked against each other when they are made.

Touches nothing and imports no torch, so that a plan can be priced before torch is loaded.
Token counts are tokens seen by the optimizer; one step sees `batch_tokens` of them. Defaults
follow the small-model practice of OLMo-core and nanochat: AdamW with weight decay 0.1 on matrices
alone, clipping at 1, a constant rate after warm-up; what depends on size follows `trainers.rules`.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, model_validator

from trainers.architecture import BYTES, Frozen, ModelConfig, PositiveCount
from trainers.families import FAMILIES
from trainers.findings import FieldError
from trainers.quantity import Count, Fraction, Number
from trainers.rules import Rule, filled

FEWEST_TRAINED, LARGEST_TRAINED = 300, 65536
HUB = "hub:"
OWN_IN_A_STACK: tuple[str, ...] = ("seed", "optimizer", "schedule", "checkpoint")


class DataConfig(Frozen):
    """Where tokens come from: a built-in corpus by name, a file, folder or glob, or `hub:NAME`.

    `tokenizer` is `bytes`, `bpe-4096` (trained on the corpus, to as many tokens as it says), a
    tokenizer.json or its folder, or a name that transformers finds. `subset`, `split` and
    `revision` are the hub's; `limit` ends the reading at so many training tokens.
    """

    source: Annotated[str, Field(min_length=1)] = "python-sources"
    format: Literal["auto", "text", "jsonl", "parquet"] = "auto"
    text_field: Annotated[str, Field(min_length=1)] = "text"
    tokenizer: Annotated[str, Field(min_length=1)] = "bytes"
    subset: Annotated[str, Field(min_length=1)] | None = None
    split: Annotated[str, Field(min_length=1)] = "train"
    revision: Annotated[str, Field(min_length=1)] | None = None
    limit: PositiveCount | None = None
    held_out: Annotated[Fraction, Field(gt=0, le=0.5)] = 0.02
    max_epochs: PositiveCount = 4
    cache: Path | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> DataConfig:
        trained = trained_vocab(self.tokenizer)
        if trained is not None and not FEWEST_TRAINED <= trained <= LARGEST_TRAINED:
            raise FieldError(
                "tokenizer",
                f"{self.tokenizer!r} is out of range; bpe-{FEWEST_TRAINED} to "
                f"bpe-{LARGEST_TRAINED}, and 4096 to 8192 suit models below 50M parameters",
            )
        if not self.source.startswith(HUB):
            for key, value in (("subset", self.subset), ("revision", self.revision)):
                if value is not None:
                    message = f"{value!r} is of the hub alone; write source: hub:OWNER/NAME"
                    raise FieldError(key, message)
        return self


def trained_vocab(tokenizer: str) -> int | None:
    """The vocabulary of `bpe-N`; None for every other tokenizer."""
    match = re.fullmatch(r"bpe-([0-9]{1,9})", tokenizer)
    return None if match is None else int(match[1])


class OptimizerConfig(Frozen):
    """AdamW; `clip` bounds the gradient's norm (0: no clipping)."""

    learning_rate: Annotated[Number, Field(gt=0, le=10)] = 3e-3
    beta1: Annotated[Number, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[Number, Field(ge=0, lt=1)] = 0.99
    eps: Annotated[Number, Field(gt=0)] = 1e-8
    weight_decay: Annotated[Number, Field(ge=0)] = 0.1
    clip: Annotated[Number, Field(ge=0)] = 1.0


class ScheduleConfig(Frozen):
    """Warm-up, then `constant`, `cosine` to the horizon, or `wsd`: constant, and over the last
    `decay` of the horizon down to zero in the shape of an `anneal`.

    `warmup` below 1 is a share of the horizon, from 1 on a number of tokens. `final` is the share
    of the peak rate at which a cosine ends. A sweep does better with `constant` and anneals that
    branch off it: every prefix is then a shorter run.
    """

    kind: Literal["constant", "cosine", "wsd"] = "constant"
    warmup: Annotated[Number, Field(ge=0)] = 0.05
    final: Fraction = 0.0
    decay: Annotated[Fraction, Field(gt=0, le=0.9)] = 0.2
    anneal: Literal["1-sqrt", "linear"] = "1-sqrt"


class EvaluationConfig(Frozen):
    """Held-out `tokens` read at each of `points` places along the horizon."""

    tokens: PositiveCount = 131072
    points: Annotated[Count, Field(ge=1, le=4096)] = 32


class CheckpointConfig(Frozen):
    """A checkpoint about every `every_s` seconds; the newest `keep` stay, and all segment ends."""

    every_s: Annotated[Number, Field(gt=0)] = 300.0
    keep: PositiveCount = 2


class TrainConfig(Frozen):
    """One training run, whole: what it is, how it is paid for, and where it may run.

    `batch_tokens`, `optimizer.learning_rate`, `optimizer.beta2` and `schedule.warmup` follow
    `rule` (`trainers.rules`) where they are left out or `auto`.
    """

    model: ModelConfig
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    batch_tokens: PositiveCount
    horizon: PositiveCount
    rule: Rule = "porian_olmo"
    seed: Annotated[Count, Field(lt=2**63)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    threads: Annotated[Count, Field(ge=1, le=1024)] = 1
    compile: Literal["auto", "always", "never", "graphs"] = "auto"

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: object) -> object:
        """With the vocabulary of the tokenizer, where it is known here, and by the rule what else
        is left out."""
        if not isinstance(data, dict):
            return data
        return filled(_with_vocabulary(cast("dict[str, Any]", data)))

    @model_validator(mode="after")
    def _parts_agree(self) -> TrainConfig:
        context = self.model.context
        if self.batch_tokens % context:
            near = max(context, self.batch_tokens // context * context)
            message = f"{self.batch_tokens} is no multiple of the context {context}; use {near}"
            raise FieldError("batch_tokens", message)
        if self.horizon < self.batch_tokens:
            message = f"{self.horizon} tokens are less than one batch; use {self.batch_tokens} up"
            raise FieldError("horizon", message)
        if self.warmup_tokens >= self.horizon:
            message = f"{self.warmup_tokens} tokens leave nothing of the horizon {self.horizon}"
            raise FieldError("schedule.warmup", f"{message}; 5% is usual")
        if self.evaluation.tokens < context:
            message = f"{self.evaluation.tokens} is less than one context; use {context} or more"
            raise FieldError("evaluation.tokens", message)
        tokens = BYTES if self.data.tokenizer == "bytes" else trained_vocab(self.data.tokenizer)
        if tokens is not None and self.model.vocab < tokens:
            told = f"the {tokens} {'bytes' if tokens == BYTES else 'tokens of the tokenizer'}"
            message = f"{self.model.vocab} does not hold {told}; use {tokens}"
            raise FieldError("model.vocab", message)
        return self

    @property
    def tokens_per_step(self) -> int:
        return self.batch_tokens

    @property
    def sequences_per_step(self) -> int:
        return self.batch_tokens // self.model.context

    @property
    def steps(self) -> int:
        """Whole steps in the horizon."""
        return self.horizon // self.batch_tokens

    @property
    def warmup_tokens(self) -> int:
        """Tokens of linear warm-up, a share of the horizon resolved."""
        warmup = self.schedule.warmup
        return int(warmup * self.horizon) if warmup < 1 else int(warmup)

    def floor_tokens(self, tokens: float) -> int:
        """The whole steps in `tokens`, as tokens."""
        return int(tokens // self.batch_tokens) * self.batch_tokens

    def canonical_json(self) -> str:
        """The same text for the same run: sorted keys, no spaces."""
        return _canonical(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """SHA-256 of `canonical_json`, in hex."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    @property
    def stack_key(self) -> str | None:
        """The same text for runs that `trainers.lockstep` can train as one: all but what a stack
        keeps apart for each member. None where the family cannot be stacked."""
        if not FAMILIES[self.model.family].stacks:
            return None
        return _canonical(self.model_dump(mode="json", exclude=set(OWN_IN_A_STACK)))

    def recipe(self) -> dict[str, Any]:
        """What decides the losses: all but where and how often things are computed and kept."""
        recipe = self.model_dump(
            mode="json",
            exclude={"checkpoint", "evaluation", "device", "threads", "rule", "compile"},
        )
        del recipe["data"]["cache"], recipe["data"]["max_epochs"]
        for part, past in _PAST.items():
            for key, value in past.items():
                if recipe[part][key] == value:
                    del recipe[part][key]
        return recipe


def _with_vocabulary(given: dict[str, Any]) -> dict[str, Any]:
    model, source = _mapping(given.get("model")), _mapping(given.get("data"))
    tokenizer = source.get("tokenizer", "bytes")
    if not model or "vocab" in model or not isinstance(tokenizer, str):
        return given
    trained = trained_vocab(tokenizer)
    if trained is not None:
        return {**given, "model": {**model, "vocab": trained}}
    if tokenizer != "bytes":
        raise FieldError(
            "model.vocab", f"is required beside {tokenizer!r}; give its number of tokens"
        )
    return given


def _mapping(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


_PAST: dict[str, dict[str, object]] = {
    "model": {
        "positions": "learned",
        "kv_heads": None,
        "mlp_width": None,
        "parametrization": "standard",
        "base_width": None,
        "base_layers": None,
    },
    "schedule": {"decay": 0.2},
    "data": {"subset": None, "split": "train", "revision": None, "limit": None},
}
"""What runs were before a key existed: left out of the recipe, so that checkpoints of earlier
releases go on."""


def _canonical(data: object) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
