"""Halving by forecasts: the forecast decides where it is trusted, and the reason says who did."""

from __future__ import annotations

from orchestrator.events import Decided
from orchestrator.journal import MemoryJournal
from orchestrator.policies.by_forecast import ByForecast
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.state import SweepState
from orchestrator.values import Stop
from tests.orchestrator.policies.forecasting import Seer
from tests.orchestrator.worlds import drive, small_pool

POOL, CURVES = small_pool(sizes=(1000, 2000, 4000, 8000, 16000), rates=(1,))
BUDGET = 0.3 * POOL.exhaustive_flops


def halved(seer: Seer, *, gate: bool) -> tuple[SweepState, list[Stop]]:
    journal = MemoryJournal()
    ranking = ByForecast(surrogate=seer, gate=gate)
    policy = SuccessiveHalving(spend_out=False, ranking=ranking)
    state = drive(POOL, CURVES, policy, BUDGET, journal=journal).state
    stops = [
        decision
        for record in journal.records
        if isinstance(record.event, Decided)
        for decision in record.event.decisions
        if isinstance(decision, Stop)
    ]
    return state, stops


def plain() -> SweepState:
    return drive(POOL, CURVES, SuccessiveHalving(spend_out=False), BUDGET).state


def best(state: SweepState) -> float:
    return min(float(t.curve.loss.min()) for t in state.trials.values() if len(t.curve))


def test_forecasts_keep_what_the_current_loss_would_stop() -> None:
    state, stops = halved(Seer(), gate=False)
    assert best(state) < best(plain())
    assert any(stop.expected is not None and stop.expected.by == "seer" for stop in stops)
    assert all("seer ranks, untested" in stop.reason for stop in stops)


def test_behind_the_gate_who_surely_loses_is_stopped_before_its_turn() -> None:
    """What the hopeless would have cost goes to the best; without the gate the rule is literal."""
    journal = MemoryJournal()
    pool, curves = small_pool(sizes=(1000, 2000, 4000, 8000, 16000), rates=(1, 3, 6))
    policy = SuccessiveHalving(ranking=ByForecast(surrogate=Seer(sd=0.001)))
    state = drive(pool, curves, policy, 0.3 * pool.exhaustive_flops, journal=journal).state
    said = [
        decision
        for record in journal.records
        if isinstance(record.event, Decided)
        for decision in record.event.decisions
        if isinstance(decision, Stop) and "no chance against the best" in decision.reason
    ]
    assert said
    assert best(state) < best(
        drive(pool, curves, SuccessiveHalving(), 0.3 * pool.exhaustive_flops).state
    )
    _, stops = halved(Seer(sd=0.001), gate=False)
    assert not any("no chance" in stop.reason for stop in stops)


def test_behind_the_gate_a_misleading_surrogate_changes_nothing() -> None:
    misled, _ = halved(Seer(sign=-1), gate=False)
    gated, stops = halved(Seer(sign=-1), gate=True)
    assert best(misled) > best(plain())
    assert {name: trial.trunk.tokens for name, trial in gated.trials.items()} == {
        name: trial.trunk.tokens for name, trial in plain().trials.items()
    }
    assert all("the loss ranks" in stop.reason or "could not" in stop.reason for stop in stops)
    assert all(stop.expected is None for stop in stops)
