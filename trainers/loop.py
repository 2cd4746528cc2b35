"""Train one network and tell how it goes: `train` yields reports, and that is all it does.

Touches the device and the folder it is given. A call trains one segment, up to `until`, and ends
with an evaluated, checkpointed report exactly there; the next call resumes from that checkpoint,
bit for bit on one CPU machine, since the rate, the batch and the places of evaluation are pure
functions of the position. What is trained is any module of the contract in `trainers.network`;
how its steps are taken is `trainers.learner`'s part. The device is read once a report.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from trainers.config import TrainConfig
from trainers.course import Course, Report, SegmentError
from trainers.device import Device, choose_device
from trainers.distributed import ALONE, Group
from trainers.evaluate import held_out_total
from trainers.feed import Feed
from trainers.learner import Learner

__all__ = ["Report", "SegmentError", "never", "train"]


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
    course = Course(config, until=until, folder=folder, resume=resume, anneal=anneal)
    run = Run(course, choose_device(config), group)
    if resume is not None:
        run.learner.load(resume)
    return run.reports(stop)


class Run:
    """One call of `train`: a course, the learner that takes it, and what both need."""

    def __init__(self, course: Course, device: Device, group: Group = ALONE) -> None:
        config = course.config
        self.course = course
        self.device = device
        self.group = group
        rows = group.share(config.sequences_per_step, "sequences of a batch")
        self.feed = Feed([course.batches()], device, rows=rows)
        held_out = course.held_out()
        self._held_out_count = len(held_out)
        mine = held_out[group.rank :: group.workers]
        self.held_out = torch.from_numpy(mine).to(device.device)
        mine_flops = course.flops_left / group.workers
        self.learner = Learner(config, device, flops=mine_flops, group=group)

    def reports(self, stop: Callable[[], bool]) -> Iterator[Report]:
        """Train from place to place, and tell of each."""
        try:
            yield from self._reports(stop)
        finally:
            self.device.relax()

    def _reports(self, stop: Callable[[], bool]) -> Iterator[Report]:
        course = self.course
        if self.group.leads:
            course.begin()
        began = saved = time.monotonic()
        for place in course.places:
            train_loss, norm = self.train_to(place)
            loss, train_loss, norm = self.read(train_loss, norm)
            diverged = course.follow(place, loss, train_loss)
            last = not diverged and (place == course.target or self._agreed(stop()))
            now = time.monotonic()
            due = self._agreed(now - saved >= course.config.checkpoint.every_s)
            kept = last or (due and not diverged)
            if kept:
                self._save(segment_end=last)
                saved = now
            told = time.monotonic()
            yield course.report(
                loss=loss,
                train_loss=train_loss,
                grad_norm=norm,
                elapsed_s=told - began,
                saved=kept,
                diverged=diverged,
            )
            began += time.monotonic() - told
            if last or diverged:
                return

    def train_to(self, place: int) -> tuple[Tensor, Tensor]:
        """Steps up to `place` tokens; the mean loss and the last norm, on the device."""
        first, past = self.course.steps_to(place)
        return self.learner.train(self.feed, self.course.rate, first, past)

    def read(self, train_loss: Tensor, norm: Tensor) -> tuple[float, float, float]:
        """Evaluate, and read everything from the device at once."""
        vocab = self.course.config.model.padded_vocab
        total = held_out_total(self.learner.network, self.held_out, self.device, vocab)
        sums = self.group.summed(torch.stack([total, train_loss.float()]))
        values = torch.stack([sums[0] / self._held_out_count, sums[1], norm.float()]).tolist()
        return values[0], values[1], values[2]

    def _save(self, *, segment_end: bool) -> None:
        if self.group.leads:
            self.course.save(self.learner.tensors(), segment_end=segment_end)
        self._agreed(True)  # the others wait until it is written

    def _agreed(self, wish: bool) -> bool:
        return self.group.agreed(wish, self.device.device)
