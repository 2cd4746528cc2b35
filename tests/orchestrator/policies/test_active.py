"""Active selection on known truth: it narrows the target, counts what flies, and stays itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from orchestrator.laws.errors import FitError
from orchestrator.laws.forms.chinchilla import CHINCHILLA
from orchestrator.laws.forms.line import law_of
from orchestrator.laws.forms.power_irreducible import POWER_IRREDUCIBLE
from orchestrator.laws.scarce import Belief, believed
from orchestrator.policies import posterior
from orchestrator.policies.active import Active
from orchestrator.policies.at_random import AtRandom
from orchestrator.policies.buying import Rule
from orchestrator.policies.cheapest import Cheapest
from orchestrator.policies.cost_weighted_random import CostWeightedRandom
from orchestrator.policies.d_optimal import DOptimal
from orchestrator.policies.posterior import Learner, Optima
from orchestrator.policies.published import Published
from orchestrator.policies.v_optimal import VOptimal
from tests.orchestrator.policies.markets import (
    LINE,
    TARGET,
    bought_by,
    market,
    strange_truth,
    truth,
)

PLAIN = Learner(forms=(CHINCHILLA,), misfit=None)
RULES: dict[str, Rule] = {
    "active": Active(learner=Learner(forms=(CHINCHILLA,))),
    "random": AtRandom(),
    "cheapest": Cheapest(),
    "cost_weighted_random": CostWeightedRandom(),
    "d_optimal": DOptimal(learner=PLAIN),
    "v_optimal": VOptimal(learner=PLAIN),
    "published": Published(
        forms=(LINE,), solver=Optima(learner=Learner(forms=(LINE,), misfit=None))
    ),
}


def error(order: list[int], *, seed: int, strange: bool = False) -> float:
    """Root mean squared error of log loss at the target, of the law of these rows."""
    now, _ = market(order, seed=seed, strange=strange)
    said = Learner(forms=(CHINCHILLA,)).told(now).predict(TARGET)
    goal = strange_truth(dict(TARGET), seed) if strange else truth(dict(TARGET))
    return float(np.sqrt(np.mean(np.log(said / goal) ** 2)))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_ends_within_its_budget_and_repeats_itself(name: str) -> None:
    cost = market([])[0].cost
    order = bought_by(RULES[name], 0.05)
    assert order and len(set(order)) == len(order)
    assert cost[order].sum() <= 0.05
    now, _ = market(order[:6], 0.05)
    assert RULES[name].choose(now) == RULES[name].choose(now)


def test_each_purchase_says_what_it_narrows() -> None:
    now, _ = market(list(range(9)), budget=0.5)
    picks = RULES["active"].choose(now).picks
    assert len(picks) == now.places
    for pick in picks:
        assert pick.before is not None and pick.after is not None and pick.after < pick.before
        assert "half-width at the target" in pick.why
        assert pick.loss is not None and abs(np.log(pick.loss / 3.0)) < 0.7


def test_what_flies_is_taken_for_seen() -> None:
    now, free = market(list(range(9)), budget=0.5, places=1)
    first = RULES["active"].choose(now).picks[0]
    busy, left = market(list(range(9)), budget=0.5, places=1, flying=[int(free[first.offer])])
    second = RULES["active"].choose(busy).picks[0]
    assert first.after is not None and second.before == pytest.approx(first.after, rel=1e-6)
    assert left[second.offer] != free[first.offer]


def test_enough_is_enough() -> None:
    rule = Active(learner=Learner(forms=(CHINCHILLA,)), half_width=10.0)
    choice = rule.choose(market(list(range(20)), budget=0.5)[0])
    assert not choice.picks and choice.ended is not None


def test_forms_that_disagree_widen_the_target() -> None:
    now, _ = market(list(range(0, 36, 2)), budget=1.0)
    other = law_of("a + b*log(N) + c*log(D)", parameters=["a", "b", "c"])
    one = Learner(forms=(CHINCHILLA,)).learn(now)
    both = Learner(forms=(CHINCHILLA, other)).learn(now)
    assert sum(both.weights) == pytest.approx(1.0)
    assert both.weights[0] > both.weights[1] > 0
    assert both.teaching(now).half_width > one.teaching(now).half_width


def test_a_resumed_sweep_decides_as_the_first_would_have() -> None:
    warm = Active(learner=Learner(forms=(CHINCHILLA,)))
    for count in (8, 10, 13):
        now, _ = market(list(range(count)), budget=0.5)
        cold = Active(learner=Learner(forms=(CHINCHILLA,)))
        assert warm.choose(now) == cold.choose(now)


def test_optima_that_new_rows_rule_out_are_searched_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []

    def refusing(*args: Any, **options: Any) -> Belief:
        asked.append("warm" in options)
        if asked[-1]:
            raise FitError("no optimum is left")
        return believed(*args, **options)

    monkeypatch.setattr(posterior, "believed", refusing)
    now, _ = market(list(range(9)), budget=0.5)
    picks = Active(learner=Learner(forms=(CHINCHILLA,))).choose(now).picks
    assert asked == [False, True, False]
    assert picks and "half-width at the target" in picks[0].why


@pytest.mark.slow
def test_a_truth_that_no_form_says_does_not_fool_it() -> None:
    """At most 10 % worse than cost-weighted random, over truths: one alone is luck."""
    for strange in (True, False):
        mine, theirs = [], []
        for seed in range(24):
            active = bought_by(RULES["active"], 0.05, seed=seed, strange=strange)
            chance = bought_by(RULES["cost_weighted_random"], 0.05, seed=seed, strange=strange)
            mine.append(error(active, seed=seed, strange=strange))
            theirs.append(error(chance, seed=seed, strange=strange))
        assert np.mean(mine) <= 1.1 * np.mean(theirs)


def test_laws_of_compute_alone_are_laws_too() -> None:
    assert POWER_IRREDUCIBLE.inputs == ("C",)
