"""One suite for every policy: pure, within budget, explained, and finished at some point."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from orchestrator.events import Decided
from orchestrator.journal import MemoryJournal
from orchestrator.laws.forms.chinchilla import CHINCHILLA
from orchestrator.policies.active import Active
from orchestrator.policies.annealed import Annealed
from orchestrator.policies.asha import Asha
from orchestrator.policies.at_random import AtRandom
from orchestrator.policies.base import Policy
from orchestrator.policies.buying import Rule
from orchestrator.policies.by_forecast import ByForecast
from orchestrator.policies.cheapest import Cheapest
from orchestrator.policies.cost_weighted_random import CostWeightedRandom
from orchestrator.policies.d_optimal import DOptimal
from orchestrator.policies.exhaustive import Exhaustive
from orchestrator.policies.frontier import Frontier
from orchestrator.policies.hyperband import Hyperband
from orchestrator.policies.one_shot import OneShot
from orchestrator.policies.posterior import Learner
from orchestrator.policies.ranking import ByChance
from orchestrator.policies.recommend import Recommend
from orchestrator.policies.selection import Selection
from orchestrator.policies.static_ladder import StaticLadder
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.policies.target import Target
from orchestrator.policies.uniform import Uniform
from orchestrator.policies.v_optimal import VOptimal
from orchestrator.state import fold
from orchestrator.surrogates.joint_law import JointLaw
from orchestrator.values import Candidate
from tests.orchestrator.policies.forecasting import Seer
from tests.orchestrator.worlds import drive, fresh, small_pool

PLAIN = Learner(forms=(CHINCHILLA,), misfit=None)
ASKED = Candidate(id="(target)", params=50_000, horizon=1_000_000, flops_per_token=3e5)


def buying(rule: Rule, lengths: int = 1) -> Policy:
    return Selection(rule=rule, target={"N": (5e4,), "D": (1e6,)}, lengths=lengths)


POLICIES: dict[str, Callable[[], Policy]] = {
    "exhaustive": Exhaustive,
    "uniform": Uniform,
    "successive_halving": SuccessiveHalving,
    "literal": lambda: SuccessiveHalving(spend_out=False),
    "eta 3": lambda: SuccessiveHalving(eta=3),
    "by size": lambda: SuccessiveHalving(group_by="params"),
    "by chance": lambda: SuccessiveHalving(ranking=ByChance()),
    "by forecast": lambda: SuccessiveHalving(ranking=ByForecast(surrogate=Seer())),
    "by forecast, ungated": lambda: SuccessiveHalving(
        ranking=ByForecast(surrogate=Seer(), gate=False)
    ),
    "frontier": lambda: Frontier(surrogate=Seer()),
    "recommend": lambda: Recommend(
        surrogate=Seer(), deployment_flops=1e12, then=Frontier(surrogate=Seer())
    ),
    "active": lambda: buying(Active(learner=Learner(forms=(CHINCHILLA,)))),
    "active, three lengths": lambda: buying(Active(learner=Learner(forms=(CHINCHILLA,))), 3),
    "active, by curves": lambda: Target(
        surrogate=JointLaw(misfit=6.0), targets=((ASKED, 1_000_000),)
    ),
    "random": lambda: buying(AtRandom(), 2),
    "cheapest": lambda: buying(Cheapest()),
    "cost_weighted_random": lambda: buying(CostWeightedRandom()),
    "d_optimal": lambda: buying(DOptimal(learner=PLAIN)),
    "v_optimal": lambda: buying(VOptimal(learner=PLAIN)),
    "asha": Asha,
    "asha 3, literal": lambda: Asha(eta=3, spend_out=False),
    "hyperband": Hyperband,
    "hyperband 2": lambda: Hyperband(eta=2),
    "static_ladder": StaticLadder,
    "one_shot": OneShot,
}
POOL, CURVES = small_pool()
SHARES = (0.003, 0.05, 0.3, 1.0)


@pytest.fixture(params=POLICIES)
def make(request: pytest.FixtureRequest) -> Callable[[], Policy]:
    return POLICIES[request.param]


@pytest.mark.parametrize("share", SHARES)
def test_it_comes_to_an_end_within_its_budget(make: Callable[[], Policy], share: float) -> None:
    outcome = drive(POOL, CURVES, make(), share * POOL.exhaustive_flops)
    assert outcome.kind == "done"
    assert outcome.state.ledger.reserved == 0
    assert outcome.state.ledger.spent <= share * POOL.exhaustive_flops
    assert outcome.state.ledger.spent == sum(
        trial.candidate.flops(trial.trunk.tokens) for trial in outcome.state.trials.values()
    )


def test_the_same_state_gives_the_same_decisions_and_is_not_touched(
    make: Callable[[], Policy],
) -> None:
    journal = MemoryJournal()
    budget = 0.2 * POOL.exhaustive_flops
    drive(POOL, CURVES, make(), budget, journal=journal)
    state = fresh(POOL, budget)
    asked = 0
    for record in journal.records:
        if isinstance(record.event, Decided):
            once, twice = make().decide(state), make().decide(state)
            assert tuple(once) == tuple(twice) == record.event.decisions
            asked += 1
        state = fold(state, [record.event])
    assert asked == state.decided > 0


def test_every_decision_has_a_reason_and_whole_steps(make: Callable[[], Policy]) -> None:
    journal = MemoryJournal()
    drive(POOL, CURVES, make(), 0.2 * POOL.exhaustive_flops, journal=journal)
    decisions = [
        decision
        for record in journal.records
        if isinstance(record.event, Decided)
        for decision in record.event.decisions
    ]
    assert decisions
    for decision in decisions:
        assert len(decision.reason) > 10
        assert getattr(decision, "tokens", 0) % POOL[decision.trial].tokens_per_step == 0


def test_it_neither_reads_nor_writes_the_global_random_state(make: Callable[[], Policy]) -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    drive(POOL, CURVES, make(), 0.2 * POOL.exhaustive_flops)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[union-attr]


def test_annealing_keeps_its_share_out_of_sight_of_the_wrapped_policy(
    make: Callable[[], Policy],
) -> None:
    budget = int(0.2 * POOL.exhaustive_flops)
    wrapped = Annealed(policy=make(), share=0.1, decay=0.2, stopped=2)
    without = make().decide(fresh(POOL, budget - int(budget * 0.1)))
    assert wrapped.decide(fresh(POOL, budget)) == without
