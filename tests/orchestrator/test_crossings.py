"""Generated curves are as they were ordered."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.crossings import NOISES, crossing_curves, crossing_share, inverted, rate_pool


@pytest.mark.parametrize("density", [0.0, 0.3, 0.6, 0.9])
def test_as_many_pairs_cross_as_asked(density: float) -> None:
    measured = crossing_share(crossing_curves(20, density, "none", seed=1), gap=0.0)
    assert measured == pytest.approx(density, abs=0.011)


def test_a_permutation_has_exactly_the_inversions_asked_for() -> None:
    order = inverted(12, 40, np.random.default_rng(0))
    assert sorted(order) == list(range(12))
    assert sum(a > b for i, a in enumerate(order) for b in order[i + 1 :]) == 40


@pytest.mark.parametrize("noise", NOISES)
def test_noise_is_seeded_and_of_the_stated_size(noise: str) -> None:
    clean = crossing_curves(10, 0.5, "none", seed=3)
    noisy, again = (crossing_curves(10, 0.5, noise, seed=3) for _ in range(2))  # type: ignore[arg-type]
    gaps = []
    for name, curve in noisy.items():
        assert np.array_equal(curve.loss, again[name].loss)
        assert (np.diff(curve.tokens) > 0).all()
    if noise == "none":
        assert all(np.array_equal(noisy[n].loss, clean[n].loss) for n in clean)
    else:
        gaps = [np.std(np.diff(np.log(curve.loss))) for curve in noisy.values()]
        assert min(gaps) > 0


def test_most_rates_of_a_ladder_are_bad() -> None:
    curves = rate_pool(5, 4, seed=0)
    assert len(curves) == 20
    for params in {curve.params for curve in curves.values()}:
        ends = sorted(float(c.loss[-1]) for c in curves.values() if c.params == params)
        assert ends[-1] > 1.03 * ends[0]


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="share, from 0 to 1"):
        crossing_curves(10, 1.5, "none", seed=0)
    with pytest.raises(ValueError, match="cannot cross"):
        crossing_curves(1, 0.5, "none", seed=0)
    with pytest.raises(ValueError, match="no noise"):
        crossing_curves(10, 0.5, "pink", seed=0)  # type: ignore[arg-type]
