"""The choice where no forecast is trusted: losses are compared where all of them are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.policies.choosing import Rule, chosen, common, lowest, seen
from orchestrator.policies.trust import Belief
from orchestrator.state import SweepState
from orchestrator.values import Candidate, Decision, Extend, Forecast, IntArray
from tests.orchestrator.worlds import chinchilla, drive, fresh, small_pool

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


class Lengths:
    """Each candidate of the pool gets the tokens that stand in its place."""

    name = "lengths"
    watches_points = False

    def __init__(self, *tokens: int) -> None:
        self._tokens = tokens

    def decide(self, state: SweepState) -> list[Decision]:
        if state.trials:
            return []
        told = zip(state.pool.candidates, self._tokens, strict=True)
        return [Extend(trial=c.id, tokens=tokens, reason="so far") for c, tokens in told]


def test_one_that_is_behind_does_not_say_how_far_the_others_are_compared() -> None:
    pool, curves = small_pool(sizes=(4000,), rates=(1, 2, 9))
    early, late, poor = pool.candidates
    tokens = curves[early.id].tokens
    # The first leads at first, and is overtaken where the second has been as well.
    losses = np.array([9.0, 8.0, 7.0, 6.0, 5.0, 4.6, 4.5, 4.4]), 10.0 * 0.85 ** np.arange(8)
    for candidate, loss in zip((early, late), losses, strict=True):
        curves[candidate.id] = replace(curves[candidate.id], loss=loss)
    reach = tuple(int(tokens[place]) // 10 * 10 + 10 for place in (5, 6, 2))
    state = drive(pool, curves, Lengths(*reach), pool.exhaustive_flops).state
    level = common(state, pool.candidates)
    assert seen(state, early, level) < seen(state, late, level) < seen(state, poor, level)
    assert lowest(state, pool.candidates) is late
    assert lowest(state, [early, poor]) is early and lowest(state, [poor]) is poor
    # Where the one that ran least leads, it is ahead of all as far as anybody knows.
    brief = drive(pool, curves, Lengths(reach[2], *reach[1:]), pool.exhaustive_flops).state
    assert lowest(brief, pool.candidates) is early


def test_without_a_point_the_first_stands_and_one_with_a_point_goes_before_it() -> None:
    nothing = fresh(POOL, POOL.exhaustive_flops)
    assert lowest(nothing, POOL.candidates) is POOL.candidates[0]
    state = drive(POOL, CURVES, Only(), POOL.exhaustive_flops).state
    assert lowest(state, POOL.candidates) is POOL.candidates[1]


class Only:
    """The second candidate alone is begun."""

    name = "only"
    watches_points = False

    def decide(self, state: SweepState) -> list[Decision]:
        one = state.pool.candidates[1]
        return [] if state.trials else [Extend(trial=one.id, tokens=5000, reason="alone")]


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
