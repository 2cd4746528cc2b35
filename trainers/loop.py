"""Train one model and tell how it goes: `train` yields reports, and that is all it does.

Touches the device and the folder it is given. A call trains one segment, up to `until`, and ends
with an evaluated, checkpointed report exactly there; the next call resumes from that checkpoint,
bit for bit on one CPU machine, since the rate, the batch and the places of evaluation are pure
functions of the position. What is trained is any module of the contract in `trainers.network`;
how its steps are taken is `trainers.learner`'s part. The device is read once a report.

A run counts as diverged when a loss is not finite, or when the held-out loss stands more than
`DIVERGENCE_MARGIN` nats above its lowest at `DIVERGENCE_REPORTS` scheduled evaluations in a row.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainers import checkpoint
from trainers.checkpoint import CheckpointError, Position
from trainers.config import TrainConfig
from trainers.corpus import Corpus, prepare
from trainers.data import Batches, DataError, held_out_windows
from trainers.device import Device, choose_device
from trainers.distributed import ALONE, Group
from trainers.evaluate import bits_per_byte, held_out_total
from trainers.feed import Feed
from trainers.flops import model_cost
from trainers.learner import Learner
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


def never() -> bool:
    """The stop that never comes."""
    return False


def train(
    config: TrainConfig,
    *,
    until: int,
    folder: Path,
    resume: Path | None = None,
    anneal: bool = False,
    stop: Callable[[], bool] = never,
    group: Group = ALONE,
) -> Iterator[Report]:
    """Train from nothing, or from the checkpoint `resume`, to `until` tokens in whole steps.

    Checkpoints go into `folder`. With `anneal` the rate falls to zero from the checkpoint to
    `until`, off the trunk, whose files stay as they are. `stop` is asked at every report; once
    true, the segment ends with that report, checkpointed. All processes of a `group` make the
    same call and get the same reports; the leading one is asked to stop, and writes. Raises
    ValueError (of the module concerned) before the first step when the run cannot be as asked.
    """
    target = config.floor_tokens(until)
    position = _BEGINNING if resume is None else checkpoint.read_position(resume)
    schedule = _schedule(config, position, target, resume, anneal)
    device = choose_device(config)
    corpus = prepare(config.data)
    _check_recipe(_recipe(config, corpus), position, resume)
    run = _Run(config, schedule, device, corpus, folder, position, target, group)
    if resume is not None:
        run.learner.load(resume)
    return run.reports(stop)


class SegmentError(ValueError):
    """A call of `train` that cannot be as asked."""


class _Run:
    """One call of `train`: everything it holds, and where it stands."""

    def __init__(
        self,
        config: TrainConfig,
        schedule: Schedule,
        device: Device,
        corpus: Corpus,
        folder: Path,
        position: Position,
        target: int,
        group: Group = ALONE,
    ) -> None:
        self.config = config
        self.schedule = schedule
        self.device = device
        self.corpus = corpus
        self.folder = folder
        self.position = position
        self.target = target
        self.group = group
        self.recipe = _recipe(config, corpus)
        batches = _batches(config, corpus)
        rows = group.share(config.sequences_per_step, "sequences of a batch")
        self.feed = Feed([batches], device, rows=rows)
        context = config.model.context
        self.held_out_count = config.evaluation.tokens // context
        held_out = held_out_windows(corpus.held_out(), context=context, count=self.held_out_count)
        mine = held_out[group.rank :: group.workers]
        self.held_out = torch.from_numpy(mine).to(device.device)
        self.cost = model_cost(config.model)
        left = self.cost.flops(max(0, target - position.tokens))
        self.learner = Learner(config, device, flops=left, group=group)

    def reports(self, stop: Callable[[], bool]) -> Iterator[Report]:
        if self.group.leads:
            _clear_unfinished(self.folder)
        began = saved = time.monotonic()
        target = self.target
        scheduled = set(self._scheduled())
        places = [tokens for tokens in scheduled if self.position.tokens < tokens < target]
        for place in [*sorted(places), target]:
            train_loss, norm = self._train_to(place)
            loss, train_loss, norm = self._read(train_loss, norm)
            diverged = self._follow(place, loss, train_loss, scheduled=place in scheduled)
            last = not diverged and (place == target or self._agreed(stop()))
            now = time.monotonic()
            due = self._agreed(now - saved >= self.config.checkpoint.every_s)
            path = None
            if last or (due and not diverged):
                path, saved = self._save(last), now
            told = time.monotonic()
            yield Report(
                tokens=place,
                flops=self.cost.flops(place),
                loss=loss,
                bits_per_byte=bits_per_byte(loss, self.corpus.bytes_per_token),
                train_loss=train_loss,
                phase=self.schedule.phase_at(place),
                learning_rate=self.schedule.rate_at(max(0, place - self.config.batch_tokens)),
                grad_norm=norm,
                elapsed_s=told - began,
                checkpoint=path,
                diverged=diverged,
            )
            began += time.monotonic() - told
            if last or diverged:
                return

    def _scheduled(self) -> tuple[int, ...]:
        if self.schedule.anneal is not None:
            return anneal_points(self.config, self.schedule.anneal)
        return evaluation_points(self.config)

    def _train_to(self, place: int) -> tuple[Tensor, Tensor]:
        """Steps up to `place` tokens; the mean loss and the last norm, on the device."""
        size = self.config.batch_tokens
        first, past = self.position.tokens // size, place // size
        return self.learner.train(
            self.feed, lambda k: self.schedule.rate_at(k * size), first, past
        )

    def _read(self, train_loss: Tensor, norm: Tensor) -> tuple[float, float, float]:
        """Evaluate, and read everything from the device at once."""
        total = held_out_total(
            self.learner.network, self.held_out, self.device, self.config.model.padded_vocab
        )
        sums = self.group.summed(torch.stack([total, train_loss.float()]))
        values = torch.stack([sums[0] / self.held_out_count, sums[1], norm.float()]).tolist()
        return values[0], values[1], values[2]

    def _agreed(self, wish: bool) -> bool:
        return self.group.agreed(wish, self.device.device)

    def _follow(self, place: int, loss: float, train_loss: float, *, scheduled: bool) -> bool:
        """Move the position to `place`; whether the run has diverged."""
        trained = place > self.position.tokens
        best, rising = self.position.best_loss, self.position.rising
        finite = math.isfinite(loss) and (math.isfinite(train_loss) or not trained)
        if finite and scheduled and trained:
            above = best is not None and loss > best + DIVERGENCE_MARGIN
            rising = rising + 1 if above else 0
            best = loss if best is None else min(best, loss)
        anneal = self.schedule.anneal
        self.position = Position(
            tokens=place,
            recipe=self.recipe,
            segment_end=False,
            best_loss=best,
            rising=rising,
            annealing=None if anneal is None else (anneal.start, anneal.end),
        )
        return not finite or rising >= DIVERGENCE_REPORTS

    def _save(self, segment_end: bool) -> Path:
        path = checkpoint.place(self.folder, self.position.tokens)
        if self.group.leads:
            checkpoint.save(
                self.folder,
                replace(self.position, segment_end=segment_end),
                model=self.learner.network,
                optimizer=self.learner.optimizer,
                generator=self.learner.generator,
            )
            checkpoint.discard_old(self.folder, self.config.checkpoint.keep)
        self._agreed(True)  # the others wait until it is written
        return path


_BEGINNING = Position(tokens=0, recipe={}, segment_end=False, best_loss=None, rising=0)


def _recipe(config: TrainConfig, corpus: Corpus) -> dict[str, Any]:
    """What decides the losses: the configuration's part of it, and the bytes of the data."""
    return config.recipe() | {"corpus": corpus.digest}


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
        raise CheckpointError(f"{resume} was trained differently: {told}; keep the recipe")


def _flat(tree: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(tree, dict):
        return {prefix[:-1]: tree}
    return {k: v for key, item in tree.items() for k, v in _flat(item, f"{prefix}{key}.").items()}


def _batches(config: TrainConfig, corpus: Corpus) -> Batches:
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


def _clear_unfinished(folder: Path) -> None:
    """Remove what a killed writer left half done; the folder belongs to one attempt alone."""
    for path in folder.glob(".unfinished-*"):
        shutil.rmtree(path, ignore_errors=True)
