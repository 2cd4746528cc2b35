"""How a sweep begins: a few sizes, after a scout where nobody knows what they take."""

from __future__ import annotations

from orchestrator.events import Decided, Diverged, Started
from orchestrator.journal import MemoryJournal
from orchestrator.policies.frontier import Frontier
from orchestrator.policies.pricing import IN_FLOPS, Purse
from orchestrator.policies.searching import DUST, Starts
from orchestrator.policies.starting import opening
from orchestrator.policies.within import within
from orchestrator.pool import Pool
from orchestrator.state import SweepState, fold
from orchestrator.values import Extend
from tests.orchestrator.policies.forecasting import Seer
from tests.orchestrator.worlds import drive, fresh, small_pool

POOL, CURVES = small_pool(sizes=(1000, 2000, 4000, 8000, 16000, 32000), rates=(1, 6))
BUDGET = 0.3 * POOL.exhaustive_flops
SPEED = 1e6
HOURS = 0.1 * BUDGET / SPEED / 3600


def begun(purse: Purse, slots: int = 1) -> tuple[list[Extend], SweepState]:
    """What a sweep decides first, and how it ends."""
    journal = MemoryJournal()
    policy = within(Frontier(surrogate=Seer(), purse=purse), purse)
    state = drive(
        POOL,
        CURVES,
        policy,
        BUDGET,
        journal=journal,
        slots=slots,
        order="clock",
        flops_per_s=SPEED,
    ).state
    events = [record.event for record in journal.records]
    said = [d for e in events if isinstance(e, Decided) for d in e.decisions]
    return [d for d in said if isinstance(d, Extend)], state


def test_in_flops_the_starts_are_all_at_once_and_then_over() -> None:
    starts = Starts()
    state = fresh(POOL, BUDGET)
    first = opening(state, starts, IN_FLOPS, tokens_per_param=20)
    assert first == starts.decisions(state, tokens_per_param=20)
    state = fold(state, [Decided(policy="test", decisions=tuple(first or ()))])
    assert opening(state, starts, IN_FLOPS, tokens_per_param=20) == []
    extends, ended = begun(IN_FLOPS)
    assert all("a start" in d.reason for d in extends[:4])
    assert opening(ended, starts, IN_FLOPS, tokens_per_param=20) is None


def test_where_hours_bind_and_nobody_knows_the_pace_one_short_run_goes_before_them() -> None:
    """A tenth of the FLOPs is what the hours buy: a hundredth each of all FLOPs would be four
    tenths of the hours."""
    extends, state = begun(Purse(gpu_hours=HOURS))
    scout, starts = extends[0], [d for d in extends if "a start" in d.reason]
    assert "nobody knows the pace" in scout.reason
    assert POOL[scout.trial].flops(scout.tokens) <= DUST * BUDGET
    assert starts == extends[1 : 1 + len(starts)]
    assert len({POOL[d.trial].params for d in (scout, *starts)}) == 4
    cost = sum(POOL[d.trial].flops(d.tokens) for d in (scout, *starts))
    assert cost < 0.06 * 3600 * HOURS * SPEED
    assert 0.5 < state.ledger.spent / (3600 * HOURS * SPEED) < 1.1


def test_who_states_a_speed_needs_no_scout() -> None:
    extends, _ = begun(Purse(gpu_hours=HOURS, flops_per_s=SPEED))
    assert all("a start" in d.reason for d in extends[:4])
    cost = sum(POOL[d.trial].flops(d.tokens) for d in extends[:4])
    assert cost < 0.06 * 3600 * HOURS * SPEED


def test_a_scout_that_diverges_is_not_started_again() -> None:
    purse = Purse(gpu_hours=HOURS)
    state = fresh(POOL, BUDGET)
    (scout,) = opening(state, Starts(), purse, tokens_per_param=20) or []
    state = fold(
        state,
        [
            Decided(policy="test", decisions=(scout,)),
            Started(trial=scout.trial, attempt=1, until=scout.tokens, resume_from=None),
            Diverged(trial=scout.trial, attempt=1, tokens=scout.tokens, reason="NaN"),
        ],
    )
    starts = opening(state, Starts(), purse, tokens_per_param=20)
    assert starts and scout.trial not in {each.trial for each in starts}


def test_a_pool_of_one_begins_and_goes_on() -> None:
    pool = Pool(candidates=POOL.candidates[:1])
    for purse in (IN_FLOPS, Purse(gpu_hours=HOURS / 100)):
        policy = within(Frontier(surrogate=Seer(), purse=purse), purse)
        budget = 0.5 * pool.exhaustive_flops
        state = drive(pool, CURVES, policy, budget, order="clock", flops_per_s=SPEED).state
        assert 0 < state.ledger.spent <= budget


def test_once_the_starts_have_ended_free_workers_get_work_though_no_fifth_trial_began() -> None:
    """As many candidates as starts: the purchases after them are all of the same trials."""
    pool, curves = small_pool(sizes=(1000, 4000, 16000, 64000), rates=(1,))
    budget = 0.1 * pool.exhaustive_flops
    journal = MemoryJournal()
    drive(pool, curves, Frontier(surrogate=Seer()), budget, journal=journal, slots=4)
    state, flying = fresh(pool, budget), list[int]()
    for record in journal.records:
        state = fold(state, [record.event])
        flying.append(sum(trial.in_flight for trial in state.trials.values()))
    over = flying.index(0, flying.index(4))
    assert max(flying[over:]) >= 2
