"""A sweep from its file to its report whose trials take different numbers of GPUs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.assembly import parts, session
from orchestrator.assembly.folders import SweepFolder
from orchestrator.assembly.reading import read_sweep
from orchestrator.assembly.specs import changed, read_spec
from orchestrator.backends.inline import InlineBackend
from orchestrator.events import Opened, Started
from orchestrator.journal import read_records
from orchestrator.pool import Pool
from orchestrator.spec import SweepSpec
from tests.orchestrator.assembly import specs
from tests.orchestrator.backends.fakes import fake_train

BY_SIZE = "{by: params, 0: 1, 10K: 2}"
BY_RUNG = "{by: tokens, 0: 1, 1K: 4}"


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks as Ray would have reserved them, and nothing behind them."""

    def engine_of(
        spec: SweepSpec, pool: Pool, folder: SweepFolder, say: Any, *, start_s: float
    ) -> parts.Engine:
        backend = InlineBackend(pool, folder.path, blocks=(4, 2), train=fake_train)
        return parts.Engine(backend=backend, clock=time.time)

    monkeypatch.setattr(parts, "engine_of", engine_of)


def after(calls: int) -> Callable[[], str | None]:
    left = [calls]

    def asked() -> str | None:
        left[0] -= 1
        return "enough" if left[0] < 0 else None

    return asked


def driven(spec: SweepSpec, pool: Pool, asked: Callable[[], str | None]) -> session.Ended:
    return session.drive(spec, pool, session.Wishes(say=lambda _: None, asked=asked))


@pytest.mark.usefixtures("inline")
def test_slots_and_gpus_are_journalled_and_a_resume_may_have_another_rule(tmp_path: Path) -> None:
    resources = f"resources={{backend: ray, workers: 6, gpus_per_trial: {BY_SIZE}}}"
    spec, pool = read_spec(str(specs.live(tmp_path)), [resources])
    paused = driven(spec, pool, after(60))
    assert paused.outcome.kind == "paused"
    again = changed(read_sweep(paused.folder), [f"resources.gpus_per_trial={BY_RUNG}"])
    done = driven(again, pool, lambda: None)
    assert done.outcome.kind == "done"

    events = [record.event for record in read_records(done.folder.journal)]
    opened = [place for place, event in enumerate(events) if isinstance(event, Opened)]
    for place in opened:
        environment = events[place].environment  # pyright: ignore[reportAttributeAccessIssue]
        assert (environment.slots, environment.blocks) == (6, (4, 2))
    starts = [(place, event) for place, event in enumerate(events) if isinstance(event, Started)]
    first = [event for place, event in starts if place < opened[1]]
    second = [event for place, event in starts if place > opened[1]]
    assert {event.gpus for event in first} == {1, 2}
    assert 4 in {event.gpus for event in second} <= {1, 4}
    for event in first:
        assert event.gpus == (2 if pool[event.trial].params >= 10_000 else 1)
    for event in second:
        assert event.gpus == (4 if event.until >= 1000 else 1)
    assert all(event.slots is not None and len(event.slots) == event.gpus for _, event in starts)
    assert read_sweep(done.folder).state.ledger == done.outcome.state.ledger
