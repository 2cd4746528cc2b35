"""A trainer of your own: a class of five methods, trained, checkpointed and priced like ours.

    class MyTrainer:
        @staticmethod
        def cost(settings) -> Cost: ...          # what a plan must know; imports nothing heavy
        def __init__(self, settings, seed): ...  # a fresh model
        def train(self, until): ...              # yields (tokens, loss), rising, the last at until
        def save(self, folder): ...              # writes files into an empty folder
        def load(self, folder): ...              # goes on from what save wrote

A spec names it by `trial: {trainer: "my_package.my_module:MyTrainer", settings: {...}}`, and
varies `settings.NAME`. A token is whatever a step sees some of: examples, pixels, episodes. `loss`
is held out and above zero, lower is better. The same settings, seed and tokens must give the same
losses, whether or not a checkpoint lay between. With a method `anneal(start, until)` that yields
as `train` does while the rate falls to zero from `start`, the sweep may branch.
`trainers/power_law.py` is a whole example.

Touches the folder it is given, and whatever the class touches. Imports no torch.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from trainers.architecture import Frozen, PositiveCount
from trainers.config import CheckpointConfig, TrainConfig
from trainers.flops import model_cost
from trainers.quantity import Count

Setting = bool | int | float | str
Settings = Mapping[str, Setting]

_STATE = "own.json"
_CONTRACT = ("cost", "train", "save", "load")


class OwnTrainerError(ValueError):
    """A class that is not there, or does not keep the contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a plan must know: parameters, FLOPs a token, tokens a step."""

    params: int
    flops_per_token: float
    tokens_per_step: int = 1


class OwnTrainer(Protocol):
    """The contract; see above."""

    def __init__(self, settings: Settings, seed: int) -> None: ...
    @staticmethod
    def cost(settings: Settings) -> Cost: ...
    def train(self, until: int) -> Iterator[tuple[int, float]]: ...
    def save(self, folder: Path) -> None: ...
    def load(self, folder: Path) -> None: ...


class OwnConfig(Frozen):
    """One run of a trainer of your own."""

    trainer: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    settings: dict[str, Setting] = Field(default_factory=dict)
    horizon: PositiveCount
    seed: Annotated[Count, Field(lt=2**63)] = 0
    checkpoint: CheckpointConfig = CheckpointConfig()
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @property
    def tokens_per_step(self) -> int:
        return cost_of(self).tokens_per_step

    def floor_tokens(self, tokens: float) -> int:
        """The whole steps in `tokens`, as tokens."""
        step = self.tokens_per_step
        return int(tokens // step) * step


RunConfig = TrainConfig | OwnConfig
"""What a backend is given to train."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnReport:
    """What is known after `tokens`; the fields of `trainers.course.Report`, None where a trainer
    of one's own has no such thing."""

    tokens: int
    flops: float
    loss: float
    phase: Literal["stable", "decay", "annealed"]
    elapsed_s: float
    checkpoint: Path | None
    diverged: bool
    bits_per_byte: None = None
    train_loss: None = None
    learning_rate: None = None
    grad_norm: None = None


def find(name: str) -> type[OwnTrainer]:
    """The class that `package.module:Name` names. Raises OwnTrainerError."""
    module, _, attribute = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise OwnTrainerError(
            f"{name!r} cannot be imported ({error}); install its package, or put its folder into "
            "PYTHONPATH on every node"
        ) from error
    except AttributeError:
        raise OwnTrainerError(f"{name!r}: the module has no {attribute}; check the name") from None
    missing = [word for word in _CONTRACT if not callable(getattr(found, word, None))]
    if missing:
        raise OwnTrainerError(f"{name!r} lacks {', '.join(missing)}; see trainers/own.py")
    return found


def anneals(name: str) -> bool:
    """Whether the class of this name can branch off and decay."""
    return callable(getattr(find(name), "anneal", None))


def cost_of(config: RunConfig) -> Cost:
    """What a run's model holds and costs, ours or yours. Raises OwnTrainerError."""
    if isinstance(config, TrainConfig):
        cost = model_cost(config.model)
        return Cost(
            params=cost.params,
            flops_per_token=float(cost.flops_per_token),
            tokens_per_step=config.tokens_per_step,
        )
    try:
        found = find(config.trainer).cost(config.settings)
    except (KeyError, TypeError) as error:
        raise OwnTrainerError(
            f"{config.trainer} has no cost for these settings: {error!r}"
        ) from error
    if min(found.params, found.flops_per_token, found.tokens_per_step) <= 0:
        raise OwnTrainerError(f"{config.trainer} says {found}; all must be above zero")
    return found


def identity(config: OwnConfig) -> str:
    """Its name and the SHA-256 of its source file, as far as there is one."""
    try:
        source = Path(inspect.getfile(find(config.trainer))).read_bytes()
    except (OSError, TypeError):
        return config.trainer
    return f"{config.trainer} of digest {hashlib.sha256(source).hexdigest()[:16]}"


def train(
    config: OwnConfig,
    *,
    until: int,
    folder: Path,
    resume: Path | None = None,
    anneal: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[OwnReport]:
    """A segment of your trainer, as `trainers.loop.train` runs one of ours. Raises OwnTrainerError
    where the class breaks the contract."""
    target = config.floor_tokens(until)
    trainer = find(config.trainer)(config.settings, config.seed)
    recipe = {"trainer": config.trainer, "settings": config.settings, "seed": config.seed}
    start, loss, branched = 0, None, None
    if resume is not None:
        start, loss, branched = _load(resume, trainer, recipe)
    points = trainer.train(target)
    if branched is not None and not anneal:
        raise OwnTrainerError(f"{resume} lies on an anneal; resume the trunk it branched from")
    if anneal:
        branch: Any = getattr(trainer, "anneal", None)
        if branch is None:
            raise OwnTrainerError(
                f"{config.trainer} has no method anneal; remove the anneal block"
            )
        if branched is None:
            branched = start
        points = branch(branched, target)
    if loss is not None and start == target:  # it ended here before, and nobody heard of it
        start, points = 0, iter([(target, loss)])
    saver = _Saver(config, folder, trainer, recipe | {"branched": branched})
    return _reports(config, points, start, target, saver, anneal=anneal, stop=stop)


def _reports(
    config: OwnConfig,
    points: Iterator[tuple[int, float]],
    start: int,
    target: int,
    saver: _Saver,
    *,
    anneal: bool,
    stop: Callable[[], bool],
) -> Iterator[OwnReport]:
    flops = cost_of(config).flops_per_token
    began, before, last = time.monotonic(), start, False
    for tokens, value in points:
        loss = float(value)
        if not before < tokens <= target:
            raise OwnTrainerError(
                f"{config.trainer} told of {tokens} tokens after {before}, on the way to "
                f"{target}; they must rise, and end there"
            )
        before, diverged = tokens, not math.isfinite(loss)
        last = not diverged and (tokens == target or stop())
        kept = saver.save(tokens, loss) if not diverged and (last or saver.due) else None
        told = time.monotonic()
        yield OwnReport(
            tokens=tokens,
            flops=flops * tokens,
            loss=loss,
            phase="stable" if not anneal else "annealed" if tokens == target else "decay",
            elapsed_s=told - began,
            checkpoint=kept,
            diverged=diverged,
        )
        began += time.monotonic() - told
        if last or diverged:
            return
    raise OwnTrainerError(f"{config.trainer} ended at {before} tokens, before {target}")


class _Saver:
    """Checkpoints of one attempt: whole or absent, the newest kept."""

    def __init__(
        self, config: OwnConfig, folder: Path, trainer: OwnTrainer, recipe: Mapping[str, object]
    ) -> None:
        self._folder = folder
        self._trainer = trainer
        self._recipe = recipe
        self._every_s = config.checkpoint.every_s
        self._keep = config.checkpoint.keep
        self._passing: list[Path] = []
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self._saved >= self._every_s

    def save(self, tokens: int, loss: float) -> Path:
        final = self._folder / f"tokens-{tokens:015d}"
        growing = self._folder / f".unfinished-{final.name}"
        shutil.rmtree(growing, ignore_errors=True)
        growing.mkdir(parents=True)
        self._trainer.save(growing)
        state = {
            "tokens": tokens,
            "loss": loss,
            "recipe": self._recipe,
            "sha256": {path.name: _digest(path) for path in sorted(growing.iterdir())},
        }
        (growing / _STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
        for path in (*growing.iterdir(), growing):
            _sync(path)
        growing.rename(final)
        _sync(self._folder)
        self._saved = time.monotonic()
        self._passing.append(final)
        for path in self._passing[: -max(2, self._keep)]:
            shutil.rmtree(path, ignore_errors=True)
        self._passing = self._passing[-max(2, self._keep) :]
        return final


def _load(
    path: Path, trainer: OwnTrainer, recipe: Mapping[str, object]
) -> tuple[int, float | None, int | None]:
    """Continue from a checkpoint: its tokens, its loss (None in those of earlier releases), and
    where its branch began, if it lies on one."""
    try:
        state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        damaged = [name for name, sha in state["sha256"].items() if _digest(path / name) != sha]
        theirs = dict(state["recipe"])
        branched = theirs.pop("branched")
    except (OSError, ValueError, KeyError) as error:
        raise OwnTrainerError(f"{path} cannot be read ({error}); resume from another") from error
    if damaged:
        raise OwnTrainerError(
            f"{path / damaged[0]} does not match its SHA-256; resume from another"
        )
    if theirs != json.loads(json.dumps(recipe)):
        raise OwnTrainerError(f"{path} was trained as {theirs}, not as {dict(recipe)}")
    trainer.load(path)
    return int(state["tokens"]), state.get("loss"), branched


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
