"""Hyperband: brackets from brave to cautious that share pool and budget."""

from __future__ import annotations

import pytest

from orchestrator.policies.hyperband import Hyperband, bracket_sizes
from tests.orchestrator.worlds import drive, small_pool


@pytest.mark.parametrize("eta", [2, 3, 4])
@pytest.mark.parametrize("candidates", [1, 2, 5, 20, 100])
def test_every_candidate_is_in_one_bracket(candidates: int, eta: int) -> None:
    sizes = bracket_sizes(candidates, eta)
    assert sum(sizes) == candidates
    assert min(sizes) >= 1


def test_the_bravest_bracket_is_that_of_the_paper() -> None:
    """R = 81, eta = 3 in Li et al.: brackets of 81, 34, 15, 8, 5."""
    assert bracket_sizes(81 + 34 + 15 + 8 + 5, 3) == (81, 34, 15, 8, 5)


def test_which_candidate_is_in_which_bracket_follows_the_seed() -> None:
    pool, curves = small_pool(sizes=(1000, 2000, 4000, 8000, 16000))
    budget = 0.2 * pool.exhaustive_flops
    first, again = (drive(pool, curves, Hyperband(eta=2), budget).state for _ in range(2))
    assert first.trials == again.trials
    assert first.ledger.spent > 0.9 * budget
