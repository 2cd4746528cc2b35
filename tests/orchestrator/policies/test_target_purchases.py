"""Aim target on curves: what is bought step by step would be begun anew each time."""

from __future__ import annotations

import re
from collections import Counter

from orchestrator.policies.pricing import IN_FLOPS
from orchestrator.values import Extend
from tests.orchestrator.policies.paced import Run, paced
from tests.orchestrator.policies.test_money import CURVES, POOL, by_flops, half_width, target

SHARE = 0.15


def found() -> Run:
    budget = SHARE * POOL.exhaustive_flops
    return paced(POOL, CURVES, target(IN_FLOPS), budget, start=0.0, rate=by_flops)


def test_steps_that_would_follow_each_other_are_bought_at_once() -> None:
    run = found()
    bought = [decision for decision in run.decisions if isinstance(decision, Extend)]
    times = Counter(decision.trial for decision in bought)
    smallest = POOL.candidates[0]
    # It had been bought at an eighth, a quarter, a half and whole: four starts of a tiny model.
    assert times[smallest.id] <= 2 and bought[0].tokens >= smallest.end // 2
    assert len(bought) <= 6
    assert half_width(run.state) < 0.187, "as with the eight purchases of single steps"
    assert run.state.ledger.spent > 0.85 * SHARE * POOL.exhaustive_flops


def test_what_is_bought_at_once_says_so_of_all_of_it() -> None:
    for decision in found().decisions[1:]:
        if not isinstance(decision, Extend):
            continue
        assert decision.expected is not None and decision.expected.tokens == decision.tokens
        before, after = decision.reason.split("target ")[1].split(" for ")[0].split(" -> ")
        assert float(after) <= float(before)
        assert re.search(r"(\d candidates|one candidate) further and ends at", decision.reason), (
            "and why it"
        )
