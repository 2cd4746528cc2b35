"""The gate: a surrogate that foresees is trusted, one that misleads is not, and intervals that are
too narrow are widened."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.policies.portion import MOST_CURVES
from orchestrator.policies.trust import (
    Ballot,
    Believer,
    Rescaled,
    backtest,
    believed,
    counted,
    fingerprint,
)
from orchestrator.surrogates.base import Observed
from orchestrator.values import Curve, Forecast, Point
from tests.orchestrator.policies.forecasting import Seen, Seer
from tests.orchestrator.worlds import chinchilla, small_pool

POOL, _ = small_pool(sizes=(1000, 2000, 4000, 8000), rates=(1,))


def prefixes(noise: float = 0.0) -> Observed:
    """Curves to one compute, at which the order has changed since a quarter of it."""
    generator = np.random.default_rng(0)
    found = []
    for candidate in POOL.candidates:
        end = candidate.tokens_within(6e8)
        tokens = np.unique(np.geomspace(end / 16, end, 12).astype(int))
        points = [
            Point(
                tokens=int(t),
                flops=candidate.flops_per_token * int(t),
                loss=chinchilla(candidate.params, float(t)) * float(np.exp(noise * z)),
            )
            for t, z in zip(tokens, generator.standard_normal(len(tokens)), strict=True)
        ]
        found.append((candidate, Curve.of(points)))
    return found


def test_one_that_foresees_a_crossing_is_trusted() -> None:
    test = backtest(Seer(), prefixes(), seed=0)
    assert test.trusted and test.by_surrogate == 1.0 > test.by_loss
    assert "seer ranks" in test.said("seer")


def test_one_that_has_it_upside_down_is_not() -> None:
    test = backtest(Seer(sign=-1), prefixes(), seed=0)
    assert not test.trusted
    assert "the loss ranks" in test.said("seer")


def test_one_that_gives_no_numbers_is_not_trusted_for_the_order_of_the_trials() -> None:
    class Mute(Seer):
        def fit(self, observed: Observed, *, seed: int):  # type: ignore[no-untyped-def]
            found = super().fit(observed, seed=seed)
            return replace(found, seer=replace(found.seer, sd=float("nan")))

    class Blank(Seer):
        def fit(self, observed: Observed, *, seed: int):  # type: ignore[no-untyped-def]
            return Blanks(seer=self, known=frozenset(), seed=seed)

    class Blanks(Seen):
        def predict(self, candidates, tokens, *, draws=0):  # type: ignore[no-untyped-def]
            nothing = np.full(len(candidates), np.nan)
            return Forecast(mean=nothing, sd=nothing)

    for observed in (prefixes(), prefixes()[::-1]):
        for surrogate in (Mute(), Blank()):
            test = backtest(surrogate, observed, seed=0)
            assert (test.pairs, test.trusted, test.scale) == (0, False, 1.0)


def test_one_lucky_pair_is_not_enough() -> None:
    """A surrogate that is right where the loss is wrong about a single pair, and ties with it
    elsewhere, leads by less than its standard error."""
    lucky = Ballot(
        names=("a", "b", "c", "d"),
        truth=np.array([0.0, 0.1, 0.2, 0.3]),
        forecast=np.array([0.0, 0.1, 0.2, 0.3]),
        current=np.array([0.1, 0.0, 0.2, 0.3]),
    )
    mine, theirs, error = counted([lucky])
    assert mine == 1.0 and theirs == pytest.approx(0.9)
    assert error > mine - theirs
    twice = counted([lucky, lucky])
    assert twice == pytest.approx((mine, theirs, error)), "cuts of one trial are one trial"
    better = replace(lucky, current=np.array([0.3, 0.2, 0.1, 0.0]))
    mine, theirs, error = counted([better])
    assert (mine, theirs) == (1.0, 0.0) and error == pytest.approx(0.0)


def test_many_curves_are_believed_by_a_portion() -> None:
    class Counting(Seer):
        def fit(self, observed: Observed, *, seed: int):  # type: ignore[no-untyped-def]
            sizes.append(len(observed))
            return super().fit(observed, seed=seed)

    sizes: list[int] = []
    (first, curve), *_ = prefixes()
    many = [(replace(first, id=f"t{k}", params=1000 + k), curve) for k in range(200)]
    believed(Counting(), many, seed=0, gate=True)
    assert max(sizes) == MOST_CURVES


def test_two_policies_that_share_a_believer_pay_for_one_belief() -> None:
    class Counting(Seer):
        def fit(self, observed: Observed, *, seed: int):  # type: ignore[no-untyped-def]
            fits.append(len(observed))
            return super().fit(observed, seed=seed)

    fits: list[int] = []
    believer, observed = Believer(), prefixes()
    once = believer.belief(Counting(), observed, seed=0, gate=False)
    assert believer.belief(Counting(), observed, seed=0, gate=False) is once
    assert len(fits) == 1
    assert believer.belief(Counting(), observed, seed=1, gate=False) is not once


def test_too_few_trials_are_no_test() -> None:
    test = backtest(Seer(), prefixes()[:2], seed=0)
    assert (test.pairs, test.trusted, test.scale) == (0, False, 1.0)
    assert "could not be tested" in test.said("seer")


def test_it_never_sees_past_the_cut() -> None:
    class Spy(Seer):
        def fit(self, observed: Observed, *, seed: int):  # type: ignore[no-untyped-def]
            furthest.extend(float(curve.flops[-1]) for _, curve in observed)
            return super().fit(observed, seed=seed)

    furthest: list[float] = []
    backtest(Spy(), prefixes(), seed=0)
    assert furthest
    assert max(furthest) <= 0.5 * 6e8


@pytest.mark.parametrize(("claimed", "wider"), [(0.001, True), (0.1, False)])
def test_intervals_are_rescaled_towards_their_scores(claimed: float, wider: bool) -> None:
    belief = believed(Seer(sd=claimed), prefixes(noise=0.01), seed=0, gate=True)
    assert isinstance(belief.forecaster, Rescaled)
    assert (belief.forecaster.scale > 1) is wider
    candidates = list(POOL.candidates)
    tokens = np.array([1000] * len(candidates))
    found = belief.forecaster.predict(candidates, tokens, draws=4000)
    assert found.samples is not None
    assert found.samples.std(axis=0) == pytest.approx(found.sd, rel=0.05)


def test_intervals_are_never_narrowed() -> None:
    """All targets of a fit share its law's error: many good scores are little more than one."""
    belief = believed(Seer(sd=0.1), prefixes(), seed=0, gate=True)
    assert isinstance(belief.forecaster, Rescaled)
    assert belief.forecaster.scale == 1.0


def test_what_a_surrogate_reads_is_in_the_key_of_a_cache() -> None:
    observed = prefixes()
    (candidate, curve), *rest = observed
    other = replace(candidate, settings=(("rate", 9),))
    young = Curve.of(
        Point(tokens=int(t), flops=float(c), loss=float(loss), phase="warmup")
        for t, c, loss in zip(curve.tokens, curve.flops, curve.loss, strict=True)
    )
    keys = {
        fingerprint(each)
        for each in (observed, prefixes(), [(other, curve), *rest], [(candidate, young), *rest])
    }
    assert len(keys) == 3
