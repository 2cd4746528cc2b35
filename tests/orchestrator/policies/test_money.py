"""Policies under a budget of hours: within it, told in its unit, and worth having."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from orchestrator.events import Decided, PointReported, SegmentEnded, Started
from orchestrator.policies.frontier import Frontier
from orchestrator.policies.pricing import IN_FLOPS, Purse
from orchestrator.policies.recommend import Recommend
from orchestrator.policies.searching import observed_of
from orchestrator.policies.target import MISFIT, Target
from orchestrator.policies.within import within
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve
from orchestrator.state import SweepState, fold
from orchestrator.surrogates.joint_law import JointLaw
from orchestrator.values import NO_MORE, Candidate, Decision, Extend, Point, Stop
from tests.orchestrator.policies.forecasting import Seer
from tests.orchestrator.policies.paced import Run, paced
from tests.orchestrator.worlds import chinchilla, fresh

ASKED = Candidate(id="(target)", params=64000, horizon=1_280_000, flops_per_token=6.0 * 64000)


def world() -> tuple[Pool, dict[str, RecordedCurve]]:
    """Five sizes with curves of sixty points."""
    candidates: list[Candidate] = []
    curves: dict[str, RecordedCurve] = {}
    for params in (1000, 2000, 4000, 8000, 16000):
        c = Candidate(
            id=f"n{params}",
            params=params,
            horizon=params * 20,
            flops_per_token=6.0 * params,
            tokens_per_step=10,
        )
        tokens = np.unique((np.geomspace(200, c.horizon, 60) // 10 * 10).astype(np.int64))
        loss = np.array([chinchilla(params, float(t)) for t in tokens])
        candidates.append(c)
        curves[c.id] = RecordedCurve(
            curve_id=c.id,
            params=params,
            tokens=tokens,
            flops=6.0 * params * tokens.astype(np.float64),
            loss=loss,
        )
    return Pool(candidates=tuple(candidates)), curves


POOL, CURVES = world()


def by_flops(candidate: Candidate) -> float:
    return candidate.flops_per_token / 5e7


def flat(_: Candidate) -> float:
    """A token costs the same whatever the size: what small models on a large GPU do."""
    return 1e-3


def whole(start: float, flat_rate: bool) -> float:
    """Seconds of the whole pool."""
    rate = flat if flat_rate else by_flops
    return sum(start + rate(c) * c.end for c in POOL)


def target(purse: Purse) -> Target:
    return Target(surrogate=JointLaw(misfit=MISFIT), targets=((ASKED, ASKED.end),), purse=purse)


def half_width(state: SweepState) -> float:
    found = JointLaw(misfit=MISFIT).fit(observed_of(state), seed=0)
    return 1.645 * float(found.predict([ASKED], np.array([ASKED.end])).sd[0])


def run(purse: Purse, seconds: float, *, flat_rate: bool, start: float = 1.0) -> Run:
    return paced(
        POOL,
        CURVES,
        target(purse),
        POOL.exhaustive_flops,
        start=start,
        rate=flat if flat_rate else by_flops,
        seconds=seconds,
    )


@pytest.mark.parametrize("share", [0.3, 0.5])
@pytest.mark.parametrize("flat_rate", [True, False])
def test_hours_are_used_not_overspent_and_spoken_of(share: float, flat_rate: bool) -> None:
    seconds = share * whole(1.0, flat_rate)
    found = run(Purse(gpu_hours=seconds / 3600), seconds, flat_rate=flat_rate)
    assert found.outcome.kind == "done"
    assert 0.85 * seconds < found.seconds < seconds
    assert found.state.closed is not None
    assert found.state.closed.startswith("no more is bought: nothing that is for sale fits")
    bought = [d for d in found.decisions if isinstance(d, Extend)]
    assert all("GPU-" in decision.reason for decision in bought[1:])
    assert all(" FLOPs)" in decision.reason for decision in bought[1:])


def test_where_large_models_are_cheap_hours_buy_more_law_than_flops() -> None:
    # At 15 % it is no better: its few segments hardly tell the pace, and it ends before the cap,
    # where FLOPs go on to the next point beyond it.
    for share in (0.3, 0.5):
        seconds = share * whole(1.0, True)
        in_hours = run(Purse(gpu_hours=seconds / 3600), seconds, flat_rate=True)
        in_flops = run(IN_FLOPS, seconds, flat_rate=True)
        assert in_flops.outcome.kind == "paused", "nothing tells it what the hours buy"
        assert half_width(in_hours.state) < half_width(in_flops.state)


@dataclass(frozen=True)
class Blind:
    """A policy that is not shown when the first point of a segment came."""

    policy: Target
    name: str = "blind"
    watches_points: bool = False

    def decide(self, state: SweepState) -> list[Decision]:
        trials = {
            name: replace(t, timings=tuple(replace(each, opening=None) for each in t.timings))
            for name, t in state.trials.items()
        }
        return self.policy.decide(replace(state, trials=trials))


@pytest.mark.parametrize("flat_rate", [True, False])
def test_where_start_up_dominates_hours_do_not_go_on_restarts(flat_rate: bool) -> None:
    # A minute for every segment, most of which train for less.
    rate, widths = flat if flat_rate else by_flops, dict[str, float]()
    for share in (0.3, 0.5):
        seconds = share * whole(60.0, flat_rate)
        seeing = target(Purse(gpu_hours=seconds / 3600))
        for name, policy in (("seeing", seeing), ("blind", Blind(seeing))):
            found = paced(POOL, CURVES, policy, POOL.exhaustive_flops, start=60.0, rate=rate)
            assert found.seconds < seconds
            widths[name] = widths.get(name, 0.0) + math.log(half_width(found.state))
    assert widths["seeing"] < widths["blind"] + 1e-9


def test_a_cap_that_does_not_bind_changes_nothing() -> None:
    ample = Purse(gpu_hours=10 * whole(1.0, True) / 3600)
    budget = 0.2 * POOL.exhaustive_flops
    runs = [
        paced(POOL, CURVES, target(purse), budget, start=1.0, rate=flat)
        for purse in (IN_FLOPS, ample)
    ]
    assert runs[0].decisions == runs[1].decisions


def test_money_is_spoken_of_in_money() -> None:
    seconds = 0.3 * whole(1.0, True)
    purse = Purse(dollars=seconds / 3600 * 2, dollars_per_gpu_hour=2.0)
    found = run(purse, seconds, flat_rate=True)
    reasons = [d.reason for d in found.decisions if isinstance(d, Extend)]
    assert found.outcome.kind == "done" and all(" dollars (" in r for r in reasons[1:])


@pytest.mark.parametrize("aim", ["frontier", "recommend"])
def test_the_other_aims_stay_within_their_hours(aim: str) -> None:
    seconds = 0.3 * whole(1.0, True)
    purse = Purse(gpu_hours=seconds / 3600)
    frontier = Frontier(surrogate=Seer(sd=0.1), purse=purse, gate=False)
    recommend = Recommend(
        surrogate=Seer(sd=0.1),
        deployment_flops=10.0 * POOL.exhaustive_flops,
        then=frontier,
        purse=purse,
        gate=False,
    )
    policy = within(frontier if aim == "frontier" else recommend, purse)
    found = paced(POOL, CURVES, policy, POOL.exhaustive_flops, start=1.0, rate=flat)
    assert found.outcome.kind == "done"
    assert 0.8 * seconds < found.seconds < 1.05 * seconds
    assert found.state.ledger.spent < 0.5 * POOL.exhaustive_flops


def test_a_purchase_is_cut_to_the_hours_that_are_left() -> None:
    state = fresh(POOL, POOL.exhaustive_flops)
    candidate = POOL.candidates[-1]
    speed = candidate.cost / 1000  # the whole of it in a thousand seconds
    asked = Extend(trial=candidate.id, tokens=candidate.end, reason="all of it")

    def decided(hours: float) -> list[Decision]:
        purse = Purse(gpu_hours=hours, flops_per_s=speed)
        return within(Asks(asked), purse).decide(state)

    assert decided(1.0) == [asked], "it fits"
    (cut,) = decided(0.5 * 1000 / 3600)
    assert isinstance(cut, Extend) and cut.tokens == candidate.end // 2
    assert cut.reason == "all of it; cut to what the hours that are left pay for"
    assert decided(0.2 * 1000 / 3600) == [], "a fifth is not worth a start-up; nobody to tell"
    known = replace(state, trials=paced_once(candidate).trials)
    purse = Purse(gpu_hours=0.0001, flops_per_s=speed)
    told = within(Asks(asked), purse).decide(known)
    assert told and all(isinstance(d, Stop) and d.reason.startswith(NO_MORE) for d in told)


def test_what_is_left_over_is_not_bought_in_ever_smaller_pieces() -> None:
    candidate = POOL.candidates[-1]
    trial = paced_once(candidate).trials[candidate.id]
    state = replace(
        fresh(POOL, POOL.exhaustive_flops),
        trials={candidate.id: replace(trial, timings=())},
        ledger=paced_once(candidate).ledger,
    )
    asked = Extend(trial=candidate.id, tokens=102 * candidate.end // 1000, reason="more")
    # A second of a hundred and one is left: half of what is asked for, and a start-up for nothing.
    purse = Purse(gpu_hours=101 / 3600, flops_per_s=candidate.cost / 1000)
    decisions = within(Asks(asked), purse).decide(state)
    assert decisions and all(isinstance(decision, Stop) for decision in decisions)


@dataclass(frozen=True)
class Asks:
    """A policy that always asks for the same."""

    asked: Extend
    name: str = "asks"
    watches_points: bool = False

    def decide(self, _: SweepState) -> list[Decision]:
        return [self.asked]


def paced_once(candidate: Candidate) -> SweepState:
    """A state in which a tenth of the candidate was trained."""
    tokens = candidate.end // 10
    first = Extend(trial=candidate.id, tokens=tokens, reason="a start")
    point = Point(tokens=tokens, flops=1.0, loss=3.0, elapsed_s=100.0)
    return fold(
        fresh(POOL, POOL.exhaustive_flops),
        [
            Decided(policy="p", decisions=(first,)),
            Started(trial=candidate.id, attempt=1, until=tokens),
            PointReported(trial=candidate.id, attempt=1, point=point),
            SegmentEnded(trial=candidate.id, attempt=1, tokens=tokens),
        ],
    )
