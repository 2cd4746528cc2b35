"""Crash at every event: a driver stopped after each single event, and resumed, ends alike.

The journal is cut after each record in turn, with a torn line behind it where the next record
would have been a point, and the sweep is driven on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.events import Event, PointReported, Record, SegmentEnded
from orchestrator.journal import FileJournal, MemoryJournal, read_records
from orchestrator.policies.asha import Asha
from orchestrator.policies.base import Policy
from orchestrator.policies.by_forecast import ByForecast
from orchestrator.policies.exhaustive import Exhaustive
from orchestrator.policies.frontier import Frontier
from orchestrator.policies.hyperband import Hyperband
from orchestrator.policies.recommend import Recommend
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.policies.uniform import Uniform
from orchestrator.state import SweepState
from tests.orchestrator.policies.forecasting import Seer
from tests.orchestrator.worlds import drive, small_pool

POOL, RECORDINGS = small_pool()
COST = sum(candidate.cost for candidate in POOL.candidates)


def _recommending() -> Policy:
    then = Frontier(surrogate=Seer())
    return Recommend(surrogate=Seer(), deployment_flops=2.0 * COST, then=then)


POLICIES: dict[str, tuple[Callable[[], Policy], float]] = {
    "exhaustive": (Exhaustive, COST),
    "uniform": (Uniform, 0.2 * COST),
    "halving": (SuccessiveHalving, 0.2 * COST),
    "halving, literal": (lambda: SuccessiveHalving(spend_out=False), 0.2 * COST),
    "halving, eta 3": (lambda: SuccessiveHalving(eta=3), 0.1 * COST),
    "halving by size": (lambda: SuccessiveHalving(group_by="params"), 0.3 * COST),
    "halving by forecast": (
        lambda: SuccessiveHalving(ranking=ByForecast(surrogate=Seer())),
        0.2 * COST,
    ),
    "hyperband": (lambda: Hyperband(eta=2), 0.3 * COST),
    "frontier": (lambda: Frontier(surrogate=Seer()), 0.2 * COST),
    "recommend": (_recommending, 0.2 * COST),
    "asha": (Asha, 0.2 * COST),
}
"""Built anew for each session, as after a crash: what a policy keeps must not carry over."""
EVERY = {"frontier": 3, "recommend": 3}
"""Those that think longer are killed after every third event."""
AT_ONCE = {"asha", "frontier", "recommend"}
"""Those that give a free worker its next run by what is known then: who reports first matters."""
WITH_BARRIERS = [name for name in POLICIES if name not in AT_ONCE]


def settled(policy: str) -> tuple[Policy, float]:
    make, budget = POLICIES[policy]
    return make(), budget


def sweep_of(state: SweepState) -> dict[str, tuple[object, ...]]:
    """What must not depend on crashes: each trial's curve, target and standing."""
    return {
        trial.id: (
            trial.status,
            trial.trunk.target,
            trial.curve.tokens.tolist(),
            trial.curve.loss.tolist(),
            trial.stop_reason,
        )
        for trial in state.trials.values()
    }


def run(policy: str, before: list[Record], path: Path | None = None, **how: object) -> SweepState:
    chosen, budget = settled(policy)
    if path is None:
        journal = MemoryJournal(list(before))
        outcome = drive(POOL, RECORDINGS, chosen, budget, before=before, journal=journal, **how)
    else:
        with FileJournal(path, owner="test") as journal:
            outcome = drive(
                POOL,
                RECORDINGS,
                chosen,
                budget,
                before=list(journal.records()),
                journal=journal,
                **how,
            )
    assert outcome.kind == "done"
    return outcome.state


def records_of(policy: str, **how: object) -> tuple[list[Record], SweepState]:
    journal = MemoryJournal()
    chosen, budget = settled(policy)
    outcome = drive(POOL, RECORDINGS, chosen, budget, journal=journal, **how)
    return journal.records, outcome.state


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_sweep_whatever_event_it_was_killed_after(policy: str) -> None:
    records, whole = records_of(policy)
    assert whole.ledger.lost == 0
    for cut in range(0, len(records), EVERY.get(policy, 1)):
        resumed = run(policy, records[:cut])
        assert sweep_of(resumed) == sweep_of(whole), f"killed after record {cut}"
        assert resumed.ledger.spent == whole.ledger.spent
        assert resumed.ledger.reserved == 0
        assert resumed.ledger.spent <= resumed.terms.budget


@pytest.mark.parametrize("policy", WITH_BARRIERS)
def test_policies_with_barriers_end_alike_under_any_order_of_reports(policy: str) -> None:
    records, whole = records_of(policy)
    for slots, order, speed in ((1, "clock", 1e6), (8, "clock", 1e6), (2, "progress", 1e3)):
        for cut in range(0, len(records), 5 * EVERY.get(policy, 1)):
            other = run(policy, records[:cut], slots=slots, order=order, flops_per_s=speed)
            assert sweep_of(other) == sweep_of(whole), f"{slots} slots, {order}, cut {cut}"


def test_a_torn_point_on_disk_is_bought_again_and_never_counted_twice(tmp_path: Path) -> None:
    records, whole = records_of("halving")
    for cut, record in enumerate(records):
        if not isinstance(record.event, PointReported):
            continue
        path = tmp_path / f"{cut}.jsonl"
        with FileJournal(path, owner="test") as journal:
            for kept in records[: cut + 1]:
                journal.append(kept.event, kept.time)
            journal.sync()
        torn = path.read_bytes()
        path.write_bytes(torn[: len(torn) - 9])
        state = run("halving", [], path)
        assert sweep_of(state) == sweep_of(whole)
        points = [r.event for r in read_records(path) if isinstance(r.event, PointReported)]
        told = [(point.trial, point.point.tokens) for point in points]
        assert len(told) == len(set(told)) == whole.points


def test_two_crashes_in_a_row_anywhere(tmp_path: Path) -> None:
    records, whole = records_of("halving")
    for first in range(3, len(records), 9):
        journal = MemoryJournal(list(records[:first]))
        chosen, budget = settled("halving")
        drive(POOL, RECORDINGS, chosen, budget, before=records[:first], journal=journal)
        for second in range(first, len(journal.records), 11):
            assert sweep_of(run("halving", journal.records[:second])) == sweep_of(whole)


def test_what_was_decided_is_never_decided_again() -> None:
    records, _ = records_of("halving")

    def decisions(events: list[Event]) -> list[Event]:
        return [event for event in events if event.kind == "decided"]

    whole = decisions([record.event for record in records])
    for cut in range(len(records)):
        journal = MemoryJournal(list(records[:cut]))
        chosen, budget = settled("halving")
        drive(POOL, RECORDINGS, chosen, budget, before=records[:cut], journal=journal)
        assert decisions([record.event for record in journal.records]) == whole


def test_segments_end_at_what_was_decided() -> None:
    records, _ = records_of("halving")
    until = {}
    for record in records:
        if record.event.kind == "started":
            until[record.event.trial, record.event.attempt] = record.event.until
        if isinstance(record.event, SegmentEnded):
            assert record.event.tokens == until[record.event.trial, record.event.attempt]
