"""The choice where no forecast is trusted: losses are compared where all of them are known."""

from __future__ import annotations

from orchestrator.policies.choosing import Rule, chosen, common, seen
from orchestrator.policies.trust import Belief
from orchestrator.state import SweepState
from orchestrator.values import Decision, Extend
from tests.orchestrator.worlds import chinchilla, drive, small_pool

POOL, CURVES = small_pool(sizes=(4000,), rates=(1, 2))
BLIND = Belief(forecaster=None, trusted=False, why="nobody knows")


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
