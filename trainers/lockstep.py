"""Several runs of one shape, trained as one stacked network and told as if each were alone.

Touches the device and the folders of the runs. Runs that differ in seed (and so in the order of
their data), learning rate or another setting of the optimizer or the schedule take their steps
together: matmuls are batched over them, while rates, clipping, losses and AdamW's moments are
each run's own. It pays where a single model leaves the device idle (launches, small matmuls), and
not where one model fills it: measured on CPUs, 4 models of 0.03M parameters at nearly twice the
tokens per second, of 0.8M at about the same (HFTA, Wang et al. 2021, has the idea).

A checkpoint of a member is one that `trainers.loop.train` resumes, and the other way round; losses
agree to rounding, since a batched matmul adds up in another order. A rate near the edge of
stability amplifies that as it would any rounding: measured, .1 nats within 25 steps at a rate of
5e-3, and the like in single training whose first weights were moved by 1e-7 of themselves. A
member leaves the stack with the report that stops it; the others go on in a smaller one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainers.config import OWN_IN_A_STACK, TrainConfig
from trainers.corpus import prepare
from trainers.course import Course, Report, SegmentError
from trainers.device import Device, choose_device
from trainers.evaluate import held_out_total
from trainers.feed import Feed
from trainers.loop import never
from trainers.stacked_learner import StackedLearner


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One run of a lockstep: what `trainers.loop.train` asks of a call."""

    config: TrainConfig
    folder: Path
    resume: Path | None = None
    stop: Callable[[], bool] = never


def train_lockstep(
    members: Sequence[Member], *, until: int, anneal: bool = False
) -> Iterator[tuple[int, Report]]:
    """Train all `members` to `until` tokens; each report with its member's place in the list.

    At every place of evaluation each member reports, in order. `elapsed_s` is a member's even
    share of the stack's seconds, and those of its own checkpoints. Raises ValueError (of the
    module concerned) before the first step when a run cannot be as asked, SegmentError when they
    cannot be trained as one.
    """
    if not members:
        raise SegmentError("a lockstep needs at least one member")
    _check_alike([member.config for member in members])
    corpus = prepare(members[0].config.data)
    courses = [
        Course(
            m.config, until=until, folder=m.folder, resume=m.resume, anneal=anneal, corpus=corpus
        )
        for m in members
    ]
    _check_together(courses)
    run = Lockstep(courses, choose_device(members[0].config))
    for place, member in enumerate(members):
        if member.resume is not None:
            run.learner.load(place, member.resume)
    return run.reports([member.stop for member in members])


class Lockstep:
    """One call of `train_lockstep`: the courses, and the learner that takes them all."""

    def __init__(self, courses: Sequence[Course], device: Device) -> None:
        self.courses = courses
        self.device = device
        self.live = list(range(len(courses)))
        self.saving = [0.0] * len(courses)
        self.feed = Feed([course.batches() for course in courses], device)
        self.held_out = torch.from_numpy(courses[0].held_out()).to(device.device)
        flops = sum(course.flops_left for course in courses)
        self.learner = StackedLearner([course.config for course in courses], device, flops=flops)

    def reports(self, stops: Sequence[Callable[[], bool]]) -> Iterator[tuple[int, Report]]:
        """Train from place to place, and tell of each member at each."""
        try:
            yield from self._reports(stops)
        finally:
            self.device.relax()

    def _reports(self, stops: Sequence[Callable[[], bool]]) -> Iterator[tuple[int, Report]]:
        for course in self.courses:
            course.begin()
        elapsed = 0.0
        saved = time.monotonic()
        for place in self.courses[0].places:
            began = time.monotonic()
            values = self.read(*self.train_to(place))
            now = time.monotonic()
            elapsed += (now - began) / len(self.live)
            due = now - saved >= self.courses[0].config.checkpoint.every_s
            saved = now if due else saved
            staying: list[int] = []
            for slot, member in enumerate(self.live):
                loss, train_loss, norm = values[slot]
                report, ended = self._told(
                    slot, place, (loss, train_loss, norm), elapsed, due, stops[member]
                )
                yield member, report
                if not ended:
                    staying.append(slot)
            if not staying:
                return
            if len(staying) < len(self.live):
                self._keep(staying)

    def train_to(self, place: int) -> tuple[Tensor, Tensor]:
        """Steps up to `place` tokens; the members' mean losses and last norms, on the device."""
        live = [self.courses[member] for member in self.live]
        first, past = live[0].steps_to(place)
        return self.learner.train(self.feed, [course.rate for course in live], first, past)

    def read(self, train_losses: Tensor, norms: Tensor) -> list[list[float]]:
        """Evaluate, and read everything at once: (loss, training loss, norm) of each member."""
        totals = held_out_total(
            self.learner.stack,
            self.held_out,
            self.device,
            self.courses[0].config.model.padded_vocab,
            members=len(self.live),
        )
        return torch.stack([totals / len(self.held_out), train_losses, norms], dim=1).tolist()

    def _told(
        self,
        slot: int,
        place: int,
        values: tuple[float, float, float],
        elapsed: float,
        due: bool,
        stop: Callable[[], bool],
    ) -> tuple[Report, bool]:
        """A member's report, its checkpoint written; and whether the member leaves with it."""
        member = self.live[slot]
        course = self.courses[member]
        loss, train_loss, norm = values
        diverged = course.follow(place, loss, train_loss)
        last = not diverged and (place == course.target or stop())
        kept = last or (due and not diverged)
        if kept:
            began = time.monotonic()
            course.save(self.learner.tensors(slot), segment_end=last)
            self.saving[member] += time.monotonic() - began
        report = course.report(
            loss=loss,
            train_loss=train_loss,
            grad_norm=norm,
            elapsed_s=elapsed + self.saving[member],
            saved=kept,
            diverged=diverged,
        )
        return report, last or diverged

    def _keep(self, slots: Sequence[int]) -> None:
        self.live = [self.live[slot] for slot in slots]
        self.learner.keep(slots)
        self.feed.keep(slots)


def _check_alike(configs: Sequence[TrainConfig]) -> None:
    """Raise SegmentError unless the runs differ in nothing but what a stack keeps apart."""
    own = set(OWN_IN_A_STACK)
    ours, *others = [config.model_dump(mode="json", exclude=own) for config in configs]
    for place, theirs in enumerate(others, start=1):
        _refuse(place, sorted(key for key in ours if ours[key] != theirs[key]))


def _check_together(courses: Sequence[Course]) -> None:
    """Raise SegmentError unless the runs stand and are evaluated at the same tokens."""
    first = courses[0]
    for place, course in enumerate(courses[1:], start=1):
        differing: list[str] = []
        if course.position.tokens != first.position.tokens:
            differing.append("the tokens at which they stand")
        if course.places != first.places:
            differing.append("the places of evaluation")
        _refuse(place, differing)


def _refuse(place: int, differing: list[str]) -> None:
    if differing:
        raise SegmentError(
            f"members 0 and {place} of a lockstep differ in {', '.join(differing)}; "
            "only seed, optimizer, schedule and checkpoint may"
        )
