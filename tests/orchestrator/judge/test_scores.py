"""The judge's further columns, on curves whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.judge import Contest, Truth, judged, lawful, replayed
from orchestrator.judge.ceilings import Hindsight, Oracle
from orchestrator.judge.coverage import NEAR, RATIOS, WIDTHS, covered
from orchestrator.judge.recommending import (
    by_forecasts,
    by_textbook,
    leader,
    reaches,
    recommend_regret,
)
from orchestrator.policies.choosing import Rule
from orchestrator.policies.exhaustive import Exhaustive
from orchestrator.policies.one_shot import OneShot
from orchestrator.policies.ranking import ByChance
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.policies.uniform import Uniform
from tests.orchestrator.policies.forecasting import Seer
from tests.orchestrator.worlds import small_pool

POOL, UNSIZED = small_pool(sizes=(1000, 2000, 4000, 8000, 16000), rates=(1, 6))
CURVES = {name: replace(curve, params=POOL[name].params) for name, curve in UNSIZED.items()}
BUDGET = int(0.1 * POOL.exhaustive_flops)


def test_the_oracle_lies_between_chance_and_hindsight() -> None:
    chance, plain, oracle, hindsight = (
        judged(policy, POOL, CURVES, BUDGET).best_loss
        for policy in (
            SuccessiveHalving(spend_out=False, ranking=ByChance()),
            SuccessiveHalving(spend_out=False),
            SuccessiveHalving(spend_out=False, ranking=Oracle(CURVES)),
            Hindsight(CURVES),
        )
    )
    assert hindsight <= oracle <= plain
    assert oracle < chance
    assert judged(Hindsight(CURVES), POOL, CURVES, BUDGET).regret_to_hindsight <= 1e-9


def test_who_shows_no_loss_at_the_deployment_is_held_to_the_worst() -> None:
    """An infinite regret would be no number in the records, and fall out of their means."""
    name = "n1000-r6"
    late = replace(
        CURVES[name],
        tokens=CURVES[name].tokens[-1:],
        flops=CURVES[name].flops[-1:],
        loss=CURVES[name].loss[-1:],
    )
    flops = 0.5 * POOL[name].cost
    regret = recommend_regret(name, POOL, CURVES | {name: late}, flops)
    worst = max(
        recommend_regret(c.id, POOL, CURVES | {name: late}, flops)
        for c in POOL.candidates
        if c.id != name
    )
    assert 0 < regret == worst < np.inf


def test_who_is_recommended_and_what_it_costs() -> None:
    state = replayed(Uniform(), POOL, CURVES, BUDGET)
    flops = 10.0 * BUDGET
    assert by_forecasts(Seer(), Rule(), gate=False)(state, flops) == "n16000-r1"
    assert by_textbook(20)(state, 6.0 * 4000 * 20 * 4000).startswith("n4000")
    assert recommend_regret("n16000-r1", POOL, CURVES, flops) == 0.0
    assert recommend_regret("n1000-r6", POOL, CURVES, flops) > 0.1
    best = min(state.trials.values(), key=lambda t: float(t.curve.loss.min()))
    assert leader(state, flops) == best.id
    assert reaches(POOL, CURVES, 1.0) and not reaches(POOL, CURVES, 1e30)


def test_the_law_of_everything_errs_nowhere_and_one_run_leaves_none() -> None:
    pool = POOL.subset([c.id for c in POOL.candidates if c.params < 16000])
    everything = pool.exhaustive_flops
    known = Contest(truth=Truth.of(pool, CURVES, everything))
    whole = judged(Exhaustive(), pool, CURVES, everything, contest=known)
    assert whole.law_error == pytest.approx(0.0, abs=1e-9)
    assert whole.law_error_held_out is not None and whole.law_error_held_out < 2.0
    assert whole.killed_share == 0.0
    alone = judged(
        OneShot(), pool, CURVES, BUDGET, contest=Contest(truth=Truth.of(pool, CURVES, BUDGET))
    )
    assert alone.law_error is None and alone.law_error_held_out is None
    assert alone.killed_share is not None and alone.killed_share > 0.4
    assert (alone.sizes, alone.largest_share) == (1, pytest.approx(1.0, abs=0.1))


def test_held_out_are_the_largest_that_nobody_could_buy() -> None:
    pool = POOL.subset([c.id for c in POOL.candidates][:5])
    assert [c.params for c in lawful.held_out(pool, CURVES)] == [
        16000,
        16000,
        8000,
    ]


@pytest.mark.parametrize(("sd", "least", "most"), [(0.2, 1.0, 1.0), (1e-9, 0.0, 0.9)])
def test_wide_intervals_cover_and_narrow_ones_do_not(sd: float, least: float, most: float) -> None:
    generator = np.random.default_rng(0)
    noisy = {
        name: replace(c, loss=c.loss * np.exp(0.01 * generator.standard_normal(len(c.loss))))
        for name, c in CURVES.items()
    }
    state = replayed(Uniform(), POOL, noisy, BUDGET // 4)
    found = covered(Seer(sd=sd), state, noisy)
    assert found
    assert least <= float(np.mean([target.away <= WIDTHS[1] for target in found])) <= most


def test_intervals_are_judged_at_recorded_points_alone() -> None:
    class Spy(Seer):
        def fit(self, observed, *, seed):  # type: ignore[no-untyped-def]
            seen = super().fit(observed, seed=seed)

            class Asked:
                forecasts = staticmethod(seen.forecasts)

                @staticmethod
                def predict(candidates, tokens, *, draws=0):  # type: ignore[no-untyped-def]
                    asked.extend(zip([c.id for c in candidates], tokens.tolist(), strict=True))
                    return seen.predict(candidates, tokens, draws=draws)

            return Asked()

    asked: list[tuple[str, int]] = []
    state = replayed(Uniform(), POOL, CURVES, BUDGET // 4)
    found = covered(Spy(), state, CURVES)
    assert len(found) > 10
    # Those asked before are the backtest's.
    for target, (name, tokens) in zip(found, asked[-len(found) :], strict=True):
        assert target.curve == name
        assert tokens in CURVES[name].tokens
        ratio = tokens / state.trials[name].curve.last_tokens
        assert min(abs(np.log(ratio / wanted)) for wanted in RATIOS) < np.log(NEAR)
