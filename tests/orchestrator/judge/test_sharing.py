"""Fits that contestants share, and who is charged for them."""

from __future__ import annotations

import time

import pytest

from orchestrator.judge import Shared, replayed
from orchestrator.policies.searching import observed_of
from orchestrator.policies.uniform import Uniform
from orchestrator.surrogates.base import NoForecast
from tests.orchestrator.policies.forecasting import Seer
from tests.orchestrator.worlds import small_pool

POOL, CURVES = small_pool()
OBSERVED = observed_of(replayed(Uniform(), POOL, CURVES, POOL.exhaustive_flops // 10))


class Counting(Seer):
    """A surrogate that takes its time, and says how often it was asked; it refuses few curves."""

    def fit(self, observed, *, seed):  # type: ignore[no-untyped-def]
        asked.append(len(observed))
        begun = time.process_time()
        while time.process_time() - begun < 0.02:
            pass
        if len(observed) < 2:
            raise NoForecast("one curve says nothing")
        return super().fit(observed, seed=seed)


asked: list[int] = []


def test_equal_prefixes_are_fitted_once_and_charged_to_everybody() -> None:
    asked.clear()
    shared = Shared(Counting())
    assert shared.name == Counting().name
    first = shared.fit(OBSERVED, seed=1)
    assert shared.saved_s == 0.0
    assert shared.fit(list(OBSERVED), seed=1) is first
    assert shared.saved_s >= 0.02
    shared.fit(OBSERVED, seed=2)
    shared.fit(OBSERVED[:-1], seed=1)
    assert len(asked) == 3


def test_a_refusal_is_remembered_as_one() -> None:
    asked.clear()
    shared = Shared(Counting())
    for _ in range(2):
        with pytest.raises(NoForecast, match="says nothing"):
            shared.fit(OBSERVED[:1], seed=0)
    assert len(asked) == 1


def test_the_oldest_fits_are_let_go() -> None:
    asked.clear()
    shared = Shared(Counting(), most=2)
    for seed in (0, 1, 2, 0):
        shared.fit(OBSERVED, seed=seed)
    assert len(asked) == 4
