"""What the policies that leave the halving skeleton ask of a surrogate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.policies.searching import Starts, lowering, observed_of
from orchestrator.policies.static_ladder import StaticLadder
from orchestrator.policies.trust import Belief
from orchestrator.values import Candidate, Forecast, IntArray
from tests.orchestrator.policies.forecasting import Seen, Seer
from tests.orchestrator.worlds import drive, fresh, small_pool


def test_starts_differ_in_size_and_then_in_settings() -> None:
    pool, _ = small_pool(sizes=(1000, 2000, 4000, 8000), rates=(1, 3, 9, 27))
    for seed in range(5):
        state = fresh(pool, pool.exhaustive_flops, seed=seed)
        found = [pool[each.trial] for each in Starts().decisions(state, tokens_per_param=20.0)]
        assert sorted(c.params for c in found) == [1000, 2000, 4000, 8000]
        rates = [dict(c.settings)["rate"] for c in found]
        assert {1, 27} <= set(rates) and len(set(rates)) >= 3


def test_a_large_pool_is_asked_about_in_lots() -> None:
    """A surrogate holds a covariance over all that it is asked at once: for a thousand candidates
    at fourteen levels that would be gigabytes."""

    class Counting(Seen):
        def predict(
            self, candidates: Sequence[Candidate], tokens: IntArray, *, draws: int = 0
        ) -> Forecast:
            asked.append(len(candidates))
            return super().predict(candidates, tokens, draws=draws)

    asked: list[int] = []
    pool, curves = small_pool(sizes=range(1000, 31000, 100), rates=(1, 3))
    budget = 0.01 * pool.exhaustive_flops
    state = drive(pool, curves, StaticLadder(share=0.1), budget).state
    known = frozenset(candidate.id for candidate, _ in observed_of(state))
    few = Counting(seer=Seer(), known=known, seed=0)
    levels = np.geomspace(budget / 100, budget, 14)
    found = lowering(
        state,
        Belief(forecaster=few, trusted=True, why=""),
        levels,
        affordable=state.remaining,
        most=0.75 * budget,
        by="seer",
    )
    assert found is not None
    assert sum(asked) > 2000
    assert max(asked) <= 400
