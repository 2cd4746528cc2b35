"""A job: one segment, or several that train as one stack and are told each for itself.

The only caller of `trainers.lockstep`, as `worker` is of `trainers.loop`. Touches what the worker
touches.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from orchestrator.backends import worker
from orchestrator.backends.attempts import opened_folder
from orchestrator.backends.base import Report
from orchestrator.events import Started

if TYPE_CHECKING:
    from trainers.config import TrainConfig
    from trainers.own import RunConfig

Key = tuple[str, int]
"""A trial, and the number of its attempt."""


def key_of(segment: Started) -> Key:
    return segment.trial, segment.attempt


def run_job(
    segments: Sequence[Started],
    configs: Sequence[RunConfig],
    *,
    storage: Path,
    stopping: Callable[[Key], bool],
    train: worker.Train | None = None,
) -> Generator[Report]:
    """Train the segments of a job; each ends as `worker.run_segment` says, whatever the others do.

    `stopping` says whether an attempt was told to stop. Where the stack cannot go on, all that are
    still in it are lost: as `crowded` where they did not fit into memory. A stand-in for the
    trainer is advanced in turn.
    """
    stops = [_asks(stopping, key_of(segment)) for segment in segments]
    if len(segments) == 1:
        yield from worker.run_segment(
            segments[0], config=configs[0], storage=storage, stop=stops[0], train=train
        )
        return
    accounts = [
        worker.Account(segment, storage, stop)
        for segment, stop in zip(segments, stops, strict=True)
    ]
    try:
        for place, report in _reports(accounts, configs, storage, train):
            account = accounts[place]
            if report is not None:
                yield from account.told(report)
            if not account.over and (report is None or _last(account, report, configs[place])):
                yield account.ended()
    except Exception as error:  # told as events: the sweep decides what a failure costs
        crowded = train is None and _out_of_memory(error)
        for account in accounts:
            if not account.over:
                yield account.lost(error, "crowded" if crowded else "error")


def _asks(stopping: Callable[[Key], bool], key: Key) -> Callable[[], bool]:
    return lambda: stopping(key)


def _last(account: worker.Account, report: worker.TrainReport, config: RunConfig) -> bool:
    """Whether the member has left the stack with this report."""
    target = account.segment.until // config.tokens_per_step * config.tokens_per_step
    return account.heard or report.tokens >= target


def _reports(
    accounts: Sequence[worker.Account],
    configs: Sequence[RunConfig],
    storage: Path,
    train: worker.Train | None,
) -> Iterator[tuple[int, worker.TrainReport | None]]:
    """Each report with its member's place; None where a stand-in has no more of a member."""
    folders = [opened_folder(account.segment, storage) for account in accounts]
    kept = [worker.keeping_two(config) for config in configs]
    first = accounts[0].segment
    if train is not None:
        singles = [
            train(
                config,
                until=account.segment.until,
                folder=folder,
                resume=resume,
                anneal=account.segment.branch is not None,
                stop=account.asked,
            )
            for account, config, (folder, resume) in zip(accounts, kept, folders, strict=True)
        ]
        yield from _in_turn(singles)
        return
    from trainers.lockstep import Member, train_lockstep

    members = [
        Member(
            config=cast("TrainConfig", config), folder=folder, resume=resume, stop=account.asked
        )
        for account, config, (folder, resume) in zip(accounts, kept, folders, strict=True)
    ]
    yield from train_lockstep(members, until=first.until, anneal=first.branch is not None)


def _in_turn(
    singles: Sequence[Iterator[worker.TrainReport]],
) -> Iterator[tuple[int, worker.TrainReport | None]]:
    going = dict(enumerate(singles))
    while going:
        for place, single in list(going.items()):
            report = next(single, None)
            yield place, report
            if report is None:
                del going[place]


def _out_of_memory(error: Exception) -> bool:
    from trainers.memory import out_of_memory

    return out_of_memory(error)
