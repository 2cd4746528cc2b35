"""The driver: pauses, ceilings and caps, stale reports, and what a sink is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from orchestrator.backends.base import BackendError, Report
from orchestrator.backends.replay import ReplayBackend
from orchestrator.driver import Driver, Outcome
from orchestrator.events import AttemptLost, Event, PointReported, Record, Started, StopAsked
from orchestrator.journal import MemoryJournal
from orchestrator.policies.base import Policy
from orchestrator.policies.exhaustive import Exhaustive
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.state import DecisionError, SweepState, fold
from orchestrator.values import Decision, Extend, Point, Stop
from tests.orchestrator.worlds import fresh, opened, small_pool

POOL, CURVES = small_pool()
BUDGET = 0.2 * POOL.exhaustive_flops


class Failing(ReplayBackend):
    """A replay whose workers die at the points named by their place in the order of reports."""

    deaths: Sequence[int] = ()
    reports = 0

    def poll(self, timeout_s: float) -> list[Report]:
        reports = super().poll(timeout_s)
        for place, report in enumerate(reports):
            self.reports += 1
            if self.reports in self.deaths:
                key = (report.trial, report.attempt)
                self._running.pop(key, None)
                lost = AttemptLost(
                    trial=report.trial,
                    attempt=report.attempt,
                    reached=0,
                    cause="died",
                    reason="the worker was killed",
                )
                return [*reports[:place], lost]
        return reports


class Seen:
    """A sink that remembers what it was shown, and that it was durable by then."""

    def __init__(self, journal: MemoryJournal) -> None:
        self.journal = journal
        self.records: list[Record] = []

    def show(self, records: Sequence[Record], state: SweepState) -> None:
        self.records.extend(records)
        assert self.records == self.journal.records

    def close(self) -> None:
        """Nothing."""


def run(backend: ReplayBackend, policy: Policy, **how: object) -> tuple[Outcome, list[Event]]:
    journal = MemoryJournal()
    budget = how.pop("budget", BUDGET)
    seen = Seen(journal)
    driver = Driver(
        state=fresh(POOL, budget, **how.pop("terms", {})),
        policy=policy,
        backend=backend,
        journal=journal,
        clock=backend.clock,
        sinks=[seen],
        **how,
    )
    outcome = driver.run(opened(1, backend))
    assert seen.records == journal.records
    return outcome, [record.event for record in journal.records]


def test_a_dead_worker_costs_repeated_work_and_nothing_else() -> None:
    whole, _ = run(ReplayBackend(CURVES, POOL, batch=1), SuccessiveHalving())
    for death in range(1, 60, 3):
        backend = Failing(CURVES, POOL, batch=1)
        backend.deaths = (death,)
        outcome, events = run(backend, SuccessiveHalving())
        assert {t: v.curve for t, v in outcome.state.trials.items()} == {
            t: v.curve for t, v in whole.state.trials.items()
        }
        assert outcome.state.ledger.spent == whole.state.ledger.spent
        attempts = [event.attempt for event in events if isinstance(event, Started)]
        assert len(attempts) >= len(outcome.state.trials)


def test_every_checkpoint_resumed_was_journalled() -> None:
    backend = Failing(CURVES, POOL, batch=1)
    backend.deaths = (7, 20, 21, 50)
    _, events = run(backend, SuccessiveHalving())
    saved = set()
    resumed = 0
    for event in events:
        if isinstance(event, PointReported) and event.checkpoint:
            saved.add((event.trial, event.checkpoint.path))
        if isinstance(event, Started) and event.resume_from:
            resumed += 1
            assert (event.trial, event.resume_from.path) in saved
    assert resumed > 3


def test_a_pause_ends_segments_at_a_checkpoint_and_the_next_session_goes_on() -> None:
    asked = iter([None] * 6)
    backend = ReplayBackend(CURVES, POOL, batch=1, slots=3)
    outcome, events = run(backend, SuccessiveHalving(), pause=lambda: next(asked, "lunch"))
    assert (outcome.kind, outcome.reason) == ("paused", "lunch")
    assert outcome.state.running == 0 and outcome.state.ledger.reserved > 0
    again = ReplayBackend(CURVES, POOL, batch=1, slots=3)
    driver = Driver(
        state=fold(fresh(POOL, BUDGET), events),
        policy=SuccessiveHalving(),
        backend=again,
        journal=MemoryJournal(),
        clock=again.clock,
    )
    resumed = driver.run(opened(2, again))
    whole, _ = run(ReplayBackend(CURVES, POOL, batch=1, slots=3), SuccessiveHalving())
    assert resumed.kind == "done" and resumed.state.ledger.lost == 0
    for trial, value in whole.state.trials.items():
        mine, theirs = resumed.state.trials[trial], value
        # Where it was paused there is one more evaluation; what was decided is the same.
        assert set(theirs.curve.tokens.tolist()) <= set(mine.curve.tokens.tolist())
        assert (mine.trunk.target, mine.stop_reason) == (theirs.trunk.target, theirs.stop_reason)


def test_lost_work_beyond_its_ceiling_pauses_the_sweep() -> None:
    backend = Failing(CURVES, POOL, batch=1)
    backend.deaths = tuple(range(20, 400, 6))
    ceiling = int(0.01 * BUDGET)

    class Forgetful(Failing):
        """Checkpoints never become durable, so every death starts its trial from the beginning."""

        def poll(self, timeout_s: float) -> list[Report]:
            return [
                replace(report, checkpoint=None) if isinstance(report, PointReported) else report
                for report in super().poll(timeout_s)
            ]

    forgetful = Forgetful(CURVES, POOL, batch=1)
    forgetful.deaths = backend.deaths
    outcome, _ = run(
        forgetful, SuccessiveHalving(), terms={"lost_ceiling": ceiling, "max_failures": 10**6}
    )
    assert outcome.kind == "paused" and "raise budget.lost" in outcome.reason
    assert outcome.state.ledger.lost > ceiling


def test_a_cap_pauses_the_sweep() -> None:
    def cap(state: SweepState) -> str | None:
        return "10 device seconds are spent" if state.ledger.device_s > 10 else None

    backend = ReplayBackend(CURVES, POOL, flops_per_s=1e6)
    outcome, _ = run(backend, Exhaustive(), cap=cap, budget=POOL.exhaustive_flops)
    assert outcome.kind == "paused" and outcome.reason == "10 device seconds are spent"
    assert outcome.state.ledger.device_s > 10


def test_late_reports_are_journalled_as_stale() -> None:
    class Haunted(ReplayBackend):
        """Reports a point of an attempt that never was, once."""

        haunted = False

        def poll(self, timeout_s: float) -> list[Report]:
            reports = super().poll(timeout_s)
            if not self.haunted and reports:
                self.haunted = True
                point = Point(tokens=10, flops=60.0, loss=0.001)
                reports.append(PointReported(trial=reports[0].trial, attempt=99, point=point))
            return reports

    outcome, events = run(Haunted(CURVES, POOL, batch=1), SuccessiveHalving())
    assert outcome.state.stale == 1
    assert sum(isinstance(e, PointReported) and e.attempt == 99 for e in events) == 1
    assert all(0.001 not in t.curve.loss for t in outcome.state.trials.values())


class Once:
    """Decides one thing at the start."""

    name = "once"
    watches_points = False

    def __init__(self, *decisions: Decision) -> None:
        self.decisions = list(decisions)

    def decide(self, state: SweepState) -> list[Decision]:
        return [] if state.decided else self.decisions


def test_what_cannot_be_decided_never_reaches_the_journal() -> None:
    first = POOL.candidates[-1]
    too_much = Extend(trial=first.id, tokens=first.end, reason="greed")
    journal = MemoryJournal()
    backend = ReplayBackend(CURVES, POOL)
    driver = Driver(
        state=fresh(POOL, first.cost - 1),
        policy=Once(too_much),
        backend=backend,
        journal=journal,
        clock=backend.clock,
    )
    with pytest.raises(DecisionError, match="more than the budget"):
        driver.run(opened(1, backend))
    assert [record.event.kind for record in journal.records] == ["opened"]


def test_a_policy_that_never_ends_is_told_so() -> None:
    class Restless:
        name = "restless"
        watches_points = False

        def decide(self, state: SweepState) -> list[Decision]:
            first = POOL.candidates[0].id
            if state.decided == 0:
                return [Extend(trial=first, tokens=10, reason="x")]
            return [Stop(trial=first, reason="x")]

    with pytest.raises(DecisionError, match="never came to an end"):
        run(ReplayBackend(CURVES, POOL), Restless())


def test_a_policy_that_watches_points_can_stop_a_running_trial() -> None:
    class Impatient:
        """Stops everything above a loss as soon as it shows."""

        name = "impatient"
        watches_points = True

        def decide(self, state: SweepState) -> list[Decision]:
            if not state.decided:
                return Exhaustive().decide(state)
            return [
                Stop(trial=trial.id, reason="above 20 nats")
                for trial in state.trials.values()
                if trial.stop_reason is None and trial.curve.last_loss > 20
            ]

    backend = ReplayBackend(CURVES, POOL, batch=1)
    outcome, _ = run(backend, Impatient(), budget=POOL.exhaustive_flops)
    stopped = [t for t in outcome.state.trials.values() if t.stop_reason is not None]
    assert outcome.kind == "done" and stopped
    assert all(t.status == "stopped" and t.trunk.tokens < t.candidate.end for t in stopped)
    assert outcome.state.ledger.reserved == 0


class Cursed(ReplayBackend):
    """Every attempt fails at its first report, or only those of one trial."""

    only: str | None = None

    def poll(self, timeout_s: float) -> list[Report]:
        reports = super().poll(timeout_s)
        if not reports or self.only not in (None, reports[0].trial):
            return reports
        first = reports[0]
        self._running.pop((first.trial, first.attempt), None)
        return [
            AttemptLost(
                trial=first.trial,
                attempt=first.attempt,
                reached=0,
                cause="error",
                reason="OSError: the data changed",
            )
        ]


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_a_fault_common_to_all_trials_pauses_the_sweep_before_it_fails_any(slots: int) -> None:
    outcome, events = run(Cursed(CURVES, POOL, batch=1, slots=slots), SuccessiveHalving())
    assert outcome.kind == "paused"
    assert "hardly the trials' fault: OSError: the data changed" in outcome.reason
    assert all(trial.failed is None for trial in outcome.state.trials.values())
    mended = ReplayBackend(CURVES, POOL, batch=1, slots=slots)
    driver = Driver(
        state=fold(fresh(POOL, BUDGET), events),
        policy=SuccessiveHalving(),
        backend=mended,
        journal=MemoryJournal(),
        clock=mended.clock,
    )
    assert driver.run(opened(2, mended)).kind == "done"


def test_a_fault_of_one_trial_fails_it_alone() -> None:
    backend = Cursed(CURVES, POOL, batch=1, slots=2)
    backend.only = POOL.candidates[0].id
    outcome, _ = run(backend, SuccessiveHalving())
    assert outcome.kind == "done"
    statuses = {trial.id: trial.status for trial in outcome.state.trials.values()}
    assert [name for name, status in statuses.items() if status == "failed"] == [backend.only]


def test_a_backend_that_breaks_pauses_the_sweep_and_says_why() -> None:
    class Breaking(ReplayBackend):
        polls = 0

        def poll(self, timeout_s: float) -> list[Report]:
            self.polls += 1
            if self.polls > 9:
                raise BackendError("all nodes are gone")
            return super().poll(timeout_s)

    outcome, events = run(Breaking(CURVES, POOL, batch=1), SuccessiveHalving())
    assert (outcome.kind, outcome.reason) == ("paused", "all nodes are gone")
    assert events[-1] == StopAsked(by="backend", reason="all nodes are gone")


def test_work_repeated_after_every_kill_is_counted() -> None:
    """Killed again and again before a new checkpoint: what was done again adds up as lost."""

    class Sparing(ReplayBackend):
        """Only the first point comes with a checkpoint; the driver dies at some poll."""

        dies_at = 10**9
        polls = 0

        def poll(self, timeout_s: float) -> list[Report]:
            self.polls += 1
            if self.polls > self.dies_at:
                raise KeyboardInterrupt
            return [
                replace(report, checkpoint=None)
                if isinstance(report, PointReported) and report.point.tokens > 20
                else report
                for report in super().poll(timeout_s)
            ]

    first = POOL.candidates[-1]
    whole = Once(Extend(trial=first.id, tokens=first.end, reason="all of it"))
    journal = MemoryJournal()
    done = 0.0
    for _ in range(6):
        backend = Sparing(CURVES, POOL, batch=1)
        backend.dies_at = 5
        state = fold(fresh(POOL, first.cost), (r.event for r in journal.records))
        driver = Driver(
            state=state, policy=whole, backend=backend, journal=journal, clock=backend.clock
        )
        with pytest.raises(KeyboardInterrupt):
            driver.run(opened(state.session + 1, backend))
        trunk = driver.state.trials[first.id].trunk
        start = 20 if state.session else 0
        done += first.flops(trunk.position) - first.flops(start)
    backend = ReplayBackend(CURVES, POOL, batch=1)
    state = fold(fresh(POOL, first.cost), (r.event for r in journal.records))
    driver = Driver(
        state=state, policy=whole, backend=backend, journal=journal, clock=backend.clock
    )
    driver.run(opened(9, backend))
    done += first.cost - first.flops(20)
    ledger = driver.state.ledger
    assert ledger.spent == first.cost
    assert ledger.lost == pytest.approx(done - first.cost, abs=1)
    assert ledger.lost > 5 * first.flops(20)
