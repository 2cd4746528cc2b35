"""The course of one run: where it stands, what its schedule asks next, and what is told of it.

Touches the folder of the run, and no device: who computes the losses is `trainers.loop`'s concern
for one run and `trainers.lockstep`'s for several.

A run counts as diverged when a loss is not finite, or when the held-out loss stands more than
`DIVERGENCE_MARGIN` nats above its lowest, or above a guess among the vocabulary, at
`DIVERGENCE_REPORTS` scheduled evaluations in a row.
"""

from __future__ import annotations

import logging
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainers import checkpoint
from trainers.checkpoint import CheckpointError, Position, Tensors
from trainers.config import TrainConfig
from trainers.corpus import Corpus, prepare
from trainers.data import Batches, DataError, Windows, held_out_windows
from trainers.evaluate import bits_per_byte
from trainers.flops import model_cost
from trainers.schedule import Anneal, Phase, Schedule, anneal_points, evaluation_points

DIVERGENCE_MARGIN = 1.0
DIVERGENCE_REPORTS = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is known of a run after `tokens` (all its tokens, not this call's alone).

    `loss` is held-out nats per token; `train_loss` the mean since the report before;
    `learning_rate` and `grad_norm` are of the last step; `train_loss` and `grad_norm` are NaN
    where a call had no step left to do. `elapsed_s` counts this call's own seconds from its first
    step, without what the caller did between reports; `flops` follow the exact convention of
    `trainers.flops`.
    """

    tokens: int
    flops: float
    loss: float
    bits_per_byte: float
    train_loss: float
    phase: Phase
    learning_rate: float
    grad_norm: float
    elapsed_s: float
    checkpoint: Path | None
    diverged: bool


class SegmentError(ValueError):
    """A call of `train` that cannot be as asked."""


class Course:
    """One call's way from where the run stands to `until` tokens in whole steps.

    `corpus` is the configuration's, where the caller has it at hand. Raises ValueError (of the
    module concerned) when the run cannot be as asked; writes nothing before `begin`.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        until: int,
        folder: Path,
        resume: Path | None = None,
        anneal: bool = False,
        corpus: Corpus | None = None,
    ) -> None:
        self.config = config
        self.folder = folder
        self.resume = resume
        self.target = config.floor_tokens(until)
        self.position = _BEGINNING if resume is None else checkpoint.read_position(resume)
        self.schedule = _schedule(config, self.position, self.target, resume, anneal)
        self.corpus = prepare(config.data) if corpus is None else corpus
        self._recipe = config.recipe() | {"corpus": self.corpus.digest}
        _check_recipe(self._recipe, self.position, resume)
        self._cost = model_cost(config.model)
        self._scheduled = set(
            evaluation_points(config)
            if self.schedule.anneal is None
            else anneal_points(config, self.schedule.anneal)
        )

    @property
    def places(self) -> list[int]:
        """Tokens at which the run is evaluated from here on, the target last."""
        here = self.position.tokens
        return [*sorted(t for t in self._scheduled if here < t < self.target), self.target]

    @property
    def flops_left(self) -> float:
        return self._cost.flops(max(0, self.target - self.position.tokens))

    def rate(self, k: int) -> float:
        """The learning rate of step k."""
        return self.schedule.rate_at(k * self.config.batch_tokens)

    def steps_to(self, place: int) -> tuple[int, int]:
        """The first step from here, and the one past the last before `place` tokens."""
        size = self.config.batch_tokens
        return self.position.tokens // size, place // size

    def batches(self) -> Batches:
        return _batches(self.config, self.corpus)

    def held_out(self) -> Windows:
        """The fixed slice, int64 [n, T + 1]."""
        context = self.config.model.context
        count = self.config.evaluation.tokens // context
        return held_out_windows(self.corpus.held_out(), context=context, count=count)

    def begin(self) -> None:
        """Remove what a killed writer left half done; the folder belongs to one attempt alone."""
        for path in self.folder.glob(".unfinished-*"):
            shutil.rmtree(path, ignore_errors=True)

    def follow(self, place: int, loss: float, train_loss: float) -> bool:
        """Move the position to `place`; whether the run has diverged."""
        scheduled = place in self._scheduled
        trained = place > self.position.tokens
        best, rising = self.position.best_loss, self.position.rising
        finite = math.isfinite(loss) and (math.isfinite(train_loss) or not trained)
        if finite and scheduled and trained:
            lowest = math.log(self.config.model.vocab) if best is None else best
            above = loss > min(lowest, math.log(self.config.model.vocab)) + DIVERGENCE_MARGIN
            rising = rising + 1 if above else 0
            best = loss if best is None else min(best, loss)
        anneal = self.schedule.anneal
        self.position = Position(
            tokens=place,
            recipe=self._recipe,
            segment_end=False,
            best_loss=best,
            rising=rising,
            annealing=None if anneal is None else (anneal.start, anneal.end),
        )
        return not finite or rising >= DIVERGENCE_REPORTS

    def save(self, tensors: Tensors, *, segment_end: bool) -> None:
        """Write the checkpoint of this position, and let go of old ones."""
        position = replace(self.position, segment_end=segment_end)
        checkpoint.save(self.folder, position, tensors)
        checkpoint.discard_old(self.folder, self.config.checkpoint.keep)

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint of this position stands once it is saved."""
        return checkpoint.place(self.folder, self.position.tokens)

    def report(
        self,
        *,
        loss: float,
        train_loss: float,
        grad_norm: float,
        elapsed_s: float,
        saved: bool,
        diverged: bool,
    ) -> Report:
        """What is known at this position."""
        tokens = self.position.tokens
        last_step = max(0, tokens - self.config.batch_tokens)
        return Report(
            tokens=tokens,
            flops=self._cost.flops(tokens),
            loss=loss,
            bits_per_byte=bits_per_byte(loss, self.corpus.bytes_per_token),
            train_loss=train_loss,
            phase=self.schedule.phase_at(tokens),
            learning_rate=self.schedule.rate_at(last_step),
            grad_norm=grad_norm,
            elapsed_s=elapsed_s,
            checkpoint=self.checkpoint if saved else None,
            diverged=diverged,
        )


_BEGINNING = Position(tokens=0, recipe={}, segment_end=False, best_loss=None, rising=0)


def _schedule(
    config: TrainConfig, position: Position, target: int, resume: Path | None, anneal: bool
) -> Schedule:
    """The schedule of this call, once it is sure that the call makes sense."""
    if target < 1:
        raise SegmentError(
            f"until is less than one step of {config.batch_tokens} tokens; raise it"
        )
    if position.tokens > target:
        raise CheckpointError(f"{resume} stands at {position.tokens} tokens, past {target}")
    if not anneal:
        return _trunk_schedule(config, position, target, resume)
    if resume is None:
        raise CheckpointError("an anneal branches off a checkpoint; give resume")
    start, end = position.annealing or (position.tokens, target)
    if end != target:
        raise CheckpointError(f"{resume} is on an anneal that ends at {end} tokens, not {target}")
    if position.annealing is None and start == target:
        raise CheckpointError(f"{resume} stands at {start} tokens already; an anneal needs steps")
    return Schedule(config, Anneal(start=start, end=end))


def _trunk_schedule(
    config: TrainConfig, position: Position, target: int, resume: Path | None
) -> Schedule:
    if position.annealing is not None:
        raise CheckpointError(f"{resume} lies on an anneal; resume the trunk it branched from")
    schedule = Schedule(config)
    if target > schedule.end:
        raise SegmentError(f"until {target} passes the horizon's {schedule.end} tokens; lower it")
    return schedule


def _check_recipe(recipe: dict[str, Any], position: Position, resume: Path | None) -> None:
    if resume is None:
        return
    ours, theirs = _flat(recipe), _flat(position.recipe)
    differing = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
    if differing:
        told = "; ".join(f"{k} was {theirs.get(k)!r}, is {ours.get(k)!r}" for k in differing)
        raise CheckpointError(
            f"{resume} was trained differently: {told}; keep the recipe, or start in "
            "another folder"
        )


def _flat(tree: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(tree, dict):
        return {prefix[:-1]: tree}
    return {k: v for key, item in tree.items() for k, v in _flat(item, f"{prefix}{key}.").items()}


def _batches(config: TrainConfig, corpus: Corpus) -> Batches:
    if corpus.vocab > config.model.vocab:
        raise DataError(
            f"model.vocab {config.model.vocab} does not hold the {corpus.vocab} tokens of "
            f"{config.data.tokenizer!r}; use {corpus.vocab}"
        )
    batches = Batches(
        corpus.train(),
        context=config.model.context,
        sequences=config.sequences_per_step,
        seed=config.seed,
    )
    epochs = batches.epochs(config.horizon)
    if epochs > config.data.max_epochs:
        raise DataError(
            f"horizon {config.horizon} is {epochs:.1f} epochs of {corpus.train_tokens} tokens, "
            f"over data.max_epochs {config.data.max_epochs}; use more data, or raise it"
        )
    if epochs > 1:
        log.warning("the horizon repeats the data: %.1f epochs", epochs)
    return batches
