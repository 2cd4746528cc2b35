"""Rungs in FLOPs: the published arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.policies.rungs import ladder


def test_the_published_example() -> None:
    """20 candidates, 1e4 PFLOP, eta 2: increments 100, 200, 400, 1000, 2000 (arXiv 2605.17234)."""
    rungs = ladder([20], 10_000, 2)
    assert [rung.increment for rung in rungs] == [100, 200, 400, 1000, 2000]
    assert [rung.live for rung in rungs] == [20, 10, 5, 2, 1]
    assert rungs[-1].flops == 3700


def test_groups_are_halved_side_by_side() -> None:
    rungs = ladder([4, 4, 1], 9 * 4 * 100, 2)
    assert [rung.live for rung in rungs] == [9, 5]
    assert [rung.increment for rung in rungs] == [200, 360]


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.integers(1, 10**24),
    st.integers(2, 5),
)
def test_every_round_costs_at_most_its_share(groups: list[int], budget: int, eta: int) -> None:
    rungs = ladder(groups, budget, eta)
    assert sum(rung.live * rung.increment for rung in rungs) <= budget
    for rung in rungs:
        rounds = len(rungs) * rung.live
        assert rounds * rung.increment <= budget < rounds * (rung.increment + 1)
    assert [rung.flops for rung in rungs] == sorted(rung.flops for rung in rungs)


@pytest.mark.parametrize(("groups", "eta"), [([], 2), ([0], 2), ([4], 1)])
def test_nothing_to_halve_is_an_error(groups: list[int], eta: int) -> None:
    with pytest.raises(ValueError, match="eta of at least 2"):
        ladder(groups, 100, eta)
