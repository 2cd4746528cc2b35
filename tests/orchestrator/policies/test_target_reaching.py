"""How far a budget reaches: from where a candidate stands, within FLOPs and hours, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orchestrator.judge import replayed
from orchestrator.policies import target
from orchestrator.policies.design import Ground, Plan, Standing, drawn_up
from orchestrator.policies.pricing import IN_FLOPS, Prices, Purse
from orchestrator.policies.target import FEW, MISFIT, SHORTEST, Target
from orchestrator.state import SweepState
from orchestrator.surrogates.joint_law import FOR_LAWS
from orchestrator.values import Candidate, Decision, Extend
from tests.orchestrator.policies.test_pricing import ran
from tests.orchestrator.policies.test_target import of_world
from tests.orchestrator.worlds import drive, fresh, small_pool

POOL, CURVES = small_pool(sizes=(1000, 2000, 4000, 8000, 64000), rates=(1,))
SMALL, LARGE = POOL.candidates[0], POOL.candidates[-2]
LENGTHS = 4
ASKED = Candidate(id="(target)", params=256_000, horizon=5_000_000, flops_per_token=6.0 * 256_000)


def reaching(
    state: SweepState, candidate: Candidate, prices: Prices | None = None, *, few: bool = True
) -> Standing:
    standing = target._standing(state, candidate, LENGTHS)  # pyright: ignore[reportPrivateUsage]
    assert standing is not None
    prices = prices or IN_FLOPS.prices(state)
    return target._reaching(state, standing, prices, few=few)  # pyright: ignore[reportPrivateUsage]


def test_it_is_what_is_left_that_reaches_in_whole_steps() -> None:
    state = fresh(POOL, LARGE.flops(LARGE.end // 8) * 0.7)
    found = reaching(state, LARGE)
    assert found.reach == 0 and len(found.lengths) == LENGTHS + 1
    goal, step = found.lengths[0], LARGE.tokens_per_step
    assert goal % step == 0
    assert LARGE.flops(goal) <= state.remaining < LARGE.flops(goal + step)
    assert reaching(state, LARGE, few=False).reach is None
    assert reaching(state, SMALL).reach is None, "all of it is one of the usual lengths"


def test_one_that_is_much_shorter_than_the_shortest_is_none() -> None:
    shortest = LARGE.end // 8
    for share, there in ((0.9 / SHORTEST, False), (1.1 / SHORTEST, True)):
        state = fresh(POOL, LARGE.flops(int(share * shortest)))
        assert (reaching(state, LARGE).reach is not None) == there


def test_a_run_that_has_begun_reaches_on_from_where_it_stands() -> None:
    tokens = LARGE.end // 3 // 10 * 10
    state = ran(fresh(POOL, LARGE.flops(tokens) * 1.2), LARGE.id, tokens, 9.0)
    found = reaching(state, LARGE)
    assert found.reach is not None and found.tokens == tokens
    goal = found.lengths[found.reach]
    assert found.done <= found.reach and tokens < goal
    left = LARGE.flops(tokens) + state.remaining
    assert LARGE.flops(goal) <= left < LARGE.flops(goal + LARGE.tokens_per_step)
    nothing = replace(state, terms=replace(state.terms, budget=state.ledger.spent))
    assert reaching(nothing, LARGE).reach is None


@pytest.mark.parametrize("unit", ["GPU-hours", "FLOPs"])
def test_hours_that_are_capped_are_kept_within_whatever_binds(unit: Any) -> None:
    """Where FLOPs bind on the whole, a slow candidate would still take more than there is."""
    state = fresh(POOL, LARGE.flops(LARGE.end // 4) * 1.3)
    hours = LARGE.flops(LARGE.end // 8) * 1.5 / 1e6 / 3600
    prices = replace(Purse(gpu_hours=hours, flops_per_s=1e6).prices(state), unit=unit)
    found = reaching(state, LARGE, prices)
    assert found.reach is not None
    goal = found.lengths[found.reach]
    assert prices.fits(LARGE, goal) and not prices.fits(LARGE, goal + LARGE.tokens_per_step)
    assert LARGE.flops(goal) < 0.9 * state.remaining


@dataclass(slots=True)
class Watched:
    """The policy, and of each plan: how many runs were known or on their way, and whether one
    that reaches was weighed; and what was decided."""

    inner: Target
    begun: int = 0
    plans: list[tuple[int, bool]] = field(default_factory=list[tuple[int, bool]])
    decided: list[Decision] = field(default_factory=list[Decision])

    name = "watched"
    watches_points = False

    def decide(self, state: SweepState) -> list[Decision]:
        self.begun = sum(bool(len(t.curve)) or t.in_flight for t in state.trials.values())
        found = self.inner.decide(state)
        self.decided += found
        return found

    def drawn_up(
        self, ground: Ground, standings: Sequence[Standing], budget: float, **options: Any
    ) -> Plan:
        weighed = any(s.reach is not None and s.reach >= s.done for s in standings)
        self.plans.append((self.begun, weighed))
        return drawn_up(ground, standings, budget, **options)


@pytest.mark.parametrize(("slots", "share"), [(1, 0.3), (3, 0.001), (2, 0.01)])
def test_a_second_run_alone_reaches(
    slots: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With several workers too: what is on its way will be known."""
    surrogate = replace(FOR_LAWS, misfit=MISFIT)
    watched = Watched(Target(surrogate=surrogate, targets=((ASKED, 5_000_000),)))
    monkeypatch.setattr(target, "drawn_up", watched.drawn_up)
    drive(POOL, CURVES, watched, share * POOL.exhaustive_flops, slots=slots)
    assert all(weighed == (begun <= FEW) for begun, weighed in watched.plans)
    assert {weighed for _, weighed in watched.plans} == {True, False}


def test_the_reason_says_which_length_is_as_far_as_the_budget_reaches() -> None:
    curves, pool, targets, _ = of_world(5)
    watched = Watched(Target(surrogate=replace(FOR_LAWS, misfit=MISFIT), targets=targets))
    replayed(watched, pool, curves, pool.exhaustive_flops // 100)
    first, *others = (d for d in watched.decided if isinstance(d, Extend))
    far = "as far as the budget reaches"
    assert others and far not in first.reason
    for bought in others:
        usual = [pool[bought.trial].end // 2**k for k in range(LENGTHS)]
        assert (far in bought.reason) == (bought.tokens not in usual)
    assert any(far in bought.reason for bought in others)
