"""The choice where no forecast is trusted: losses are compared where all of them are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from orchestrator.policies.choosing import Rule, chosen, common, seen
from orchestrator.policies.trust import Belief
from orchestrator.state import SweepState
from orchestrator.values import Candidate, Decision, Extend, Forecast, IntArray
from tests.orchestrator.worlds import chinchilla, drive, small_pool

POOL, CURVES = small_pool(sizes=(4000,), rates=(1, 2))
BLIND = Belief(forecaster=None, trusted=False, why="nobody knows")


class Wary:
    """A forecaster that will not speak of one trial, as of one whose loss has risen for good."""

    def __init__(self, refused: str) -> None:
        self._refused = refused

    def forecasts(self, candidate: Candidate) -> bool:
        return candidate.id != self._refused

    def predict(
        self, candidates: Sequence[Candidate], tokens: IntArray, *, draws: int = 0
    ) -> Forecast:
        size = len(candidates)
        return Forecast(mean=np.ones(size), sd=np.ones(size), samples=np.ones((draws, size)))


class Unequal:
    """The worse one gets ten times the tokens of the better one."""

    name = "unequal"
    watches_points = False

    def decide(self, state: SweepState) -> list[Decision]:
        if state.trials:
            return []
        return [
            Extend(trial="n4000-r1", tokens=5000, reason="the better one, briefly"),
            Extend(trial="n4000-r2", tokens=50000, reason="the worse one, long"),
        ]


def test_the_further_one_does_not_win_by_being_further() -> None:
    state = drive(POOL, CURVES, Unequal(), POOL.exhaustive_flops).state
    better, worse = POOL.candidates
    assert seen(state, worse) < seen(state, better)
    level = common(state, POOL.candidates)
    assert level == better.flops(state.trials[better.id].curve.last_tokens)
    assert seen(state, worse, level) > seen(state, better, level)
    options = [(c, c.end) for c in POOL.candidates]
    found = chosen(state, options, 1e9, BLIND, Rule(), by="nobody")
    assert found.candidate is better
    assert chinchilla(4000, 80000, 1) < chinchilla(4000, 80000, 2)


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("incumbent", [None, "n4000-r1"])
def test_a_trial_that_is_not_forecast_is_no_option_while_there_are_others(
    trusted: bool, incumbent: str | None
) -> None:
    """It has the lowest loss, which lies behind it; on its way or not."""
    state = drive(POOL, CURVES, Unequal(), POOL.exhaustive_flops).state
    options = [(c, c.end) for c in POOL.candidates]
    for refused, wanted in (("n4000-r1", "n4000-r2"), ("n4000-r2", "n4000-r1")):
        belief = Belief(forecaster=Wary(refused), trusted=trusted, why="it was tested")
        found = chosen(state, options, 1e9, belief, Rule(), by="wary", incumbent=incumbent)
        assert found.candidate.id == wanted
    nobody = Belief(forecaster=Wary("n4000-r1"), trusted=trusted, why="it was tested")
    alone = chosen(state, options[:1], 1e9, nobody, Rule(), by="wary", incumbent=incumbent)
    assert alone.candidate.id == "n4000-r1"
