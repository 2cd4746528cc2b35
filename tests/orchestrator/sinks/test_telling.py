"""What is told of a journal: every fresh point once, and how each run stands."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from orchestrator.events import (
    Decided,
    Diverged,
    Opened,
    PointReported,
    Record,
    SegmentEnded,
    Started,
    StopAsked,
)
from orchestrator.journal import MemoryJournal
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.sinks.telling import ANNEALED, LOSS, OUT, SIZES, Teller
from orchestrator.sinks.views import sweep_note
from orchestrator.state import SweepState
from orchestrator.values import Anneal, Checkpoint, Environment, Extend, Point, Stop, Used
from tests.orchestrator.worlds import drive, fresh, small_pool

POOL, CURVES = small_pool()
BUDGET = 0.2 * POOL.exhaustive_flops


def sweep() -> tuple[list[Record], SweepState]:
    journal = MemoryJournal()
    outcome = drive(POOL, CURVES, SuccessiveHalving(spend_out=False), BUDGET, journal=journal)
    return journal.records, outcome.state


@pytest.mark.parametrize("size", [1, 3, 17, 10_000])
def test_every_point_is_told_once_however_the_records_are_cut(size: int) -> None:
    records, state = sweep()
    teller = Teller(fresh(POOL, BUDGET))
    told: list[tuple[str | None, str, int, float]] = []
    for start in range(0, len(records), size):
        for run, telling in teller.take(records[start : start + size]).items():
            told.extend((run, m.key, m.step, m.value) for m in telling.metrics)
    losses = {(run, step, value) for run, key, step, value in told if key == LOSS}
    assert losses == {
        (trial.id, tokens, loss)
        for trial in state.trials.values()
        for tokens, loss in zip(
            trial.curve.tokens.tolist(), trial.curve.loss.tolist(), strict=True
        )
    }
    assert sum(key == LOSS for _, key, _, _ in told) == state.points == len(losses)


def test_the_share_spent_is_of_what_runs_out_first() -> None:
    """As the console and `status` have it: dollars at 90 % beside FLOPs at 56 % are 90 %."""
    records, state = sweep()

    def dollars(_: SweepState) -> Used:
        return Used(unit="dollars", amount=3.6, budget=4.0)

    def shares(teller: Teller) -> list[float]:
        told = teller.take(records)[None].metrics
        return [metric.value for metric in told if metric.key == "sweep/spent_share"]

    assert set(shares(Teller(fresh(POOL, BUDGET), dollars))) == {0.9}
    assert shares(Teller(fresh(POOL, BUDGET)))[-1] == state.ledger.spent / state.terms.budget
    note = sweep_note(state, answer=None, files=(), used=dollars)
    assert "- budget: 90 % of 4 dollars spent" in note
    plain = sweep_note(state, answer=None, files=())
    assert re.search(r"- budget: \d+ % of \d\.\d\de\d+ FLOPs spent", plain)


def test_stopped_is_killed_with_its_reason_and_survivors_finish() -> None:
    records, state = sweep()
    told = Teller(fresh(POOL, BUDGET)).take(records)
    statuses = Counter(telling.status for run, telling in told.items() if run is not None)
    assert statuses["KILLED"] > 0 and statuses["FINISHED"] > 0
    assert set(statuses) == {"KILLED", "FINISHED"}
    for run, telling in told.items():
        if run is None:
            continue
        trial = state.trials[run]
        assert telling.ended_ms is not None
        if telling.status == "KILLED":
            assert telling.tags["frontrunner.outcome"] == "stopped"
            assert telling.tags["frontrunner.reason"] == trial.stop_reason
    assert (told[None].status, next(iter(told))) == ("FINISHED", None)


A = POOL.candidates[0].id


def record(seq: int, event: object) -> Record:
    return Record(seq=seq, time=100.0 + seq, event=event)  # type: ignore[arg-type]


def standing(*events: object) -> tuple[str | None, str]:
    told = Teller(fresh(POOL, BUDGET)).take([record(i, e) for i, e in enumerate(events)])
    return told[A].status, told[A].tags["frontrunner.outcome"]


OPENED = Opened(
    session=1, name="n", spec="", digest="", owner="me", environment=Environment(slots=1)
)
GO = Decided(policy="p", decisions=(Extend(trial=A, tokens=100, reason="x"),))
START = Started(trial=A, attempt=1, until=100)
POINT = PointReported(
    trial=A,
    attempt=1,
    point=Point(tokens=100, flops=1.0, loss=3.0),
    checkpoint=Checkpoint(tokens=100, path="c"),
)
END = SegmentEnded(trial=A, attempt=1, tokens=100)


def test_a_trial_runs_waits_diverges_and_is_paused() -> None:
    assert standing(OPENED, GO, START) == ("RUNNING", "running")
    assert standing(OPENED, GO, START, POINT, END) == ("SCHEDULED", "waiting")
    bad = Diverged(trial=A, attempt=1, tokens=50, reason="NaN")
    assert standing(OPENED, GO, START, bad) == ("FAILED", "diverged")
    assert standing(OPENED, GO, START, StopAsked(by="me", reason="x")) == ("SCHEDULED", "paused")


def test_annealed_losses_have_a_metric_of_their_own() -> None:
    anneal = Decided(policy="p", decisions=(Anneal(trial=A, tokens=120, reason="law"),))
    begin = Started(trial=A, attempt=2, until=120, branch=0)
    low = replace(POINT, attempt=2, point=Point(tokens=120, flops=1.0, loss=2.5, phase="annealed"))
    events = (OPENED, GO, START, POINT, END, anneal, begin, low)
    told = Teller(fresh(POOL, BUDGET)).take([record(i, e) for i, e in enumerate(events)])
    losses = {(m.key, m.step): m.value for m in told[A].metrics if m.key.startswith("loss/")}
    assert losses == {(LOSS, 100): 3.0, (ANNEALED, 120): 2.5}


def test_points_of_superseded_attempts_are_not_told() -> None:
    late = replace(POINT, attempt=7, point=Point(tokens=90, flops=1.0, loss=0.1))
    told = Teller(fresh(POOL, BUDGET)).take(
        [record(i, e) for i, e in enumerate((OPENED, GO, START, late, POINT))]
    )
    assert [m.value for m in told[A].metrics if m.key == LOSS] == [3.0]


def test_figures_that_are_no_numbers_are_not_told() -> None:
    wild = replace(POINT.point, train_loss=float("inf"), grad_norm=float("nan"))
    events = (OPENED, GO, START, replace(POINT, point=wild))
    told = Teller(fresh(POOL, BUDGET)).take([record(i, e) for i, e in enumerate(events)])
    keys = {m.key for m in told[A].metrics}
    assert "loss/validation" in keys and not keys & {"run/train_loss", "run/grad_norm"}


def test_a_stopped_trial_is_grey_and_named_so_until_it_is_taken_up_again() -> None:
    stop = Decided(policy="p", decisions=(Stop(trial=A, reason="rank 8 of 8"),))
    again = Decided(policy="p", decisions=(Extend(trial=A, tokens=200, reason="spare budget"),))
    teller = Teller(fresh(POOL, BUDGET))
    events = (OPENED, GO, START, POINT, END, stop)
    told = teller.take([record(i, e) for i, e in enumerate(events)])[A]
    assert (told.name, told.status) == (f"{A} (stopped)", "KILLED")
    assert told.tags["mlflow.runColor"] == OUT
    assert told.tags["mlflow.note.content"] == "stopped: rank 8 of 8"
    told = teller.take([record(6, again)])[A]
    assert (told.name, told.status) == (A, "SCHEDULED")
    assert told.tags["mlflow.runColor"] == SIZES[0]
    assert told.tags["frontrunner.reason"] == ""


def test_colours_follow_size() -> None:
    records, _ = sweep()
    told = Teller(fresh(POOL, BUDGET)).take(records)
    of_size = {
        POOL[run].params: telling.tags["mlflow.runColor"]
        for run, telling in told.items()
        if run is not None and telling.status != "KILLED"
    }
    places = [SIZES.index(of_size[size]) for size in sorted(of_size)]
    assert places == sorted(places) and len(set(places)) == len(places) > 1
