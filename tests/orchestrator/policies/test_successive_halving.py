"""Successive Halving keeps whom the rule keeps, says why, and spends what it may."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.backends.base import Report
from orchestrator.backends.replay import ReplayBackend
from orchestrator.driver import Driver
from orchestrator.events import Decided, Diverged, PointReported, Record, SegmentEnded
from orchestrator.journal import MemoryJournal
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve
from orchestrator.state import SweepState
from orchestrator.values import Candidate, Decision, Extend, Stop
from tests.orchestrator.worlds import drive, fresh, opened, small_pool


def flat(losses: list[float], *, horizon: int = 10_000) -> tuple[Pool, dict[str, RecordedCurve]]:
    """Candidates of one cost whose loss never moves: the ranking is known."""
    candidates = [
        Candidate(id=f"c{i}", params=1, horizon=horizon, flops_per_token=1.0)
        for i in range(len(losses))
    ]
    tokens = np.array([1, horizon])
    curves = {
        c.id: RecordedCurve(
            curve_id=c.id, tokens=tokens, flops=1.0 * tokens, loss=np.array([loss, loss])
        )
        for c, loss in zip(candidates, losses, strict=True)
    }
    return Pool(candidates=tuple(candidates)), curves


def sweep(
    pool: Pool, curves: dict[str, RecordedCurve], policy: SuccessiveHalving, budget: float
) -> tuple[SweepState, list[Decision]]:
    journal = MemoryJournal()
    state = drive(pool, curves, policy, budget, journal=journal).state
    return state, decisions(journal.records)


def decisions(records: list[Record]) -> list[Decision]:
    return [
        decision
        for record in records
        if isinstance(record.event, Decided)
        for decision in record.event.decisions
    ]


def test_compute_of_each_trial_is_that_of_its_last_rung() -> None:
    losses = [float(loss) for loss in np.random.default_rng(0).permutation(20) + 1]
    pool, curves = flat(losses)
    state, _ = sweep(pool, curves, SuccessiveHalving(spend_out=False), 10_000)
    rank = {c.id: int(np.argsort(np.argsort(losses))[i]) for i, c in enumerate(pool.candidates)}
    expected = {0: 3700, 1: 1700, 2: 700, 3: 700, 4: 700, **dict.fromkeys(range(5, 10), 300)}
    for trial in state.trials.values():
        assert trial.trunk.tokens == expected.get(rank[trial.id], 100)
    assert state.ledger.spent == 10_000


def test_ties_go_by_the_order_of_the_pool() -> None:
    pool, curves = flat([2.0] * 4)
    state, _ = sweep(pool, curves, SuccessiveHalving(spend_out=False), 800)
    assert [state.trials[c.id].trunk.tokens for c in pool.candidates] == [300, 300, 100, 100]
    one = flat([2.0] * 3)
    state, _ = sweep(*one, SuccessiveHalving(spend_out=False), 600)
    assert [state.trials[c.id].trunk.tokens for c in one[0].candidates] == [400, 100, 100]


def test_who_diverged_or_shows_no_point_yet_ranks_last() -> None:
    pool, curves = flat([3.0, 2.0, 1.0, 4.0])
    late = curves["c2"]
    curves["c2"] = replace(late, tokens=np.array([5000, 10_000]))  # best, but silent at the rung
    state, _ = sweep(pool, curves, SuccessiveHalving(spend_out=False), 800)
    assert state.trials["c2"].status == "stopped"
    assert "no loss" in (state.trials["c2"].stop_reason or "")
    assert state.trials["c1"].trunk.tokens == state.trials["c0"].trunk.tokens == 300


def test_every_stop_says_rung_rank_and_loss() -> None:
    pool, curves = flat([3.0, 2.0, 1.0, 4.0])
    _, made = sweep(pool, curves, SuccessiveHalving(spend_out=False), 800)
    stops = {d.trial: d.reason for d in made if isinstance(d, Stop)}
    assert set(stops) == {"c0", "c3"}
    assert stops["c3"] == (
        "rung 1 of 2 at 1.00e2 FLOPs: rank 4 of 4 with loss 4.0000, 2 kept, the last with loss "
        "2.0000"
    )
    assert all(d.reason for d in made)


def test_spend_out_hands_what_is_left_to_the_best_that_is_not_at_its_end() -> None:
    pool, curves = flat([3.0, 2.0, 1.0, 4.0], horizon=250)
    literal, _ = sweep(pool, curves, SuccessiveHalving(spend_out=False), 800)
    assert literal.ledger.spent == 100 * 4 + 150 * 2
    out, made = sweep(pool, curves, SuccessiveHalving(), 800)
    assert out.ledger.spent == 800
    assert {t.id: t.trunk.tokens for t in out.trials.values()} == {
        "c0": 200,  # best of the stopped
        "c1": 250,
        "c2": 250,
        "c3": 100,
    }
    last = made[-1]
    assert isinstance(last, Extend) and "unspent" in last.reason
    assert out.trials["c0"].stop_reason is None


def test_groups_keep_their_spread_of_sizes() -> None:
    pool, curves = small_pool(sizes=(1000, 2000, 4000, 8000), rates=(1, 2, 4))
    budget = 0.3 * pool.exhaustive_flops
    plain, _ = sweep(pool, curves, SuccessiveHalving(spend_out=False), budget)
    grouped, made = sweep(
        pool, curves, SuccessiveHalving(spend_out=False, group_by="params"), budget
    )

    def kept(state: SweepState) -> set[int]:
        return {t.candidate.params for t in state.trials.values() if t.stop_reason is None}

    assert len(kept(plain)) == 1
    assert kept(grouped) == {1000, 2000, 4000, 8000}
    best = {t.id for t in grouped.trials.values() if t.stop_reason is None}
    assert best == {f"n{n}-r1" for n in (1000, 2000, 4000, 8000)}
    assert any("of params 8000" in d.reason for d in made if isinstance(d, Stop))


def test_a_pool_of_one_gets_the_whole_budget() -> None:
    pool, curves = flat([2.0])
    state, _ = sweep(pool, curves, SuccessiveHalving(), 700)
    assert state.ledger.spent == 700


def test_a_budget_too_small_for_a_step_ends_at_once() -> None:
    pool, curves = small_pool()
    state, made = sweep(pool, curves, SuccessiveHalving(), 10)
    assert not made and not state.trials


class Diverging(ReplayBackend):
    """A replay in which one trial diverges once it comes this far."""

    victim = ""
    beyond = 0

    def poll(self, timeout_s: float) -> list[Report]:
        reports: list[Report] = []
        for report in super().poll(timeout_s):
            point = report.point if isinstance(report, PointReported) else None
            if report.trial == self.victim and point is not None and point.tokens > self.beyond:
                self._running.pop((report.trial, report.attempt), None)
                diverged = Diverged(
                    trial=report.trial,
                    attempt=report.attempt,
                    tokens=point.tokens,
                    reason="the loss is NaN",
                )
                return [*reports, diverged]
            reports.append(report)
        return reports


@pytest.mark.parametrize("spend_out", [False, True])
def test_who_diverges_later_brings_nobody_back(spend_out: bool) -> None:
    """The winner of the first rung diverges at the end of the second: its rivals stay stopped."""
    pool, curves = flat([1.0, 2.0, 3.0, 4.0])
    backend = Diverging(curves, pool, batch=1)
    backend.victim, backend.beyond = "c0", 100
    journal = MemoryJournal()
    driver = Driver(
        state=fresh(pool, 800),
        policy=SuccessiveHalving(spend_out=spend_out),
        backend=backend,
        journal=journal,
        clock=backend.clock,
    )
    state = driver.run(opened(1, backend)).state
    assert state.trials["c0"].status == "diverged"
    assert state.trials["c1"].trunk.tokens == 300
    assert {t.id for t in state.trials.values() if t.stop_reason} == {"c2", "c3"}
    assert [t.trunk.tokens for t in state.trials.values()] == [300, 300, 100, 100]


def test_who_diverges_before_a_rung_ranks_last_there() -> None:
    pool, curves = flat([1.0, 2.0, 3.0, 4.0])
    backend = Diverging(curves, pool, batch=1)
    backend.victim, backend.beyond = "c0", 50
    driver = Driver(
        state=fresh(pool, 800),
        policy=SuccessiveHalving(spend_out=False),
        backend=backend,
        journal=MemoryJournal(),
        clock=backend.clock,
    )
    state = driver.run(opened(1, backend)).state
    assert [state.trials[f"c{i}"].trunk.tokens for i in range(4)] == [100, 300, 300, 100]


def test_who_diverges_right_at_a_rung_ranks_last_there() -> None:
    """A finite point at the rung, then the news that it diverged at the same tokens."""

    class AtTheRung(ReplayBackend):
        def poll(self, timeout_s: float) -> list[Report]:
            reports = super().poll(timeout_s)
            last = reports[-1] if reports else None
            if isinstance(last, SegmentEnded) and last.trial == "c0":
                bad = Diverged(trial="c0", attempt=1, tokens=last.tokens, reason="NaN")
                reports[-1] = bad
                self._running.clear()
            return reports

    pool, curves = flat([1.0, 2.0, 3.0, 4.0])
    backend = AtTheRung(curves, pool, batch=1, slots=1)
    driver = Driver(
        state=fresh(pool, 800),
        policy=SuccessiveHalving(spend_out=False),
        backend=backend,
        journal=MemoryJournal(),
        clock=backend.clock,
    )
    state = driver.run(opened(1, backend)).state
    assert state.trials["c0"].curve.last_tokens == 100
    assert [state.trials[f"c{i}"].trunk.tokens for i in range(4)] == [100, 300, 300, 100]
