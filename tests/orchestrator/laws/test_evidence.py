"""The evidence is that of the normal distribution that rows have with parameters and misfit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from orchestrator.laws.evidence import Rows

NOISES = np.array([0.003, 0.02, 0.1])
FACTORS = np.array([0.5, 1.0, 3.0])


def rows(count: int, size: int) -> Rows:
    rng = np.random.default_rng(count)
    tangle = rng.normal(size=(size, size))
    return Rows(
        residual=0.05 * rng.normal(size=count),
        slopes=rng.normal(size=(size, count)),
        precision=rng.uniform(0.2, 1.0, count),
        prior=np.eye(size) + tangle @ tangle.T,
    )


@pytest.mark.parametrize("features", [0, 3, 8])
@pytest.mark.parametrize("count", [2, 5, 20])
def test_it_is_the_density_of_the_rows(count: int, features: int) -> None:
    """Up to what is the same for all sizes: rows, and the logs of their precisions."""
    known = rows(count, 3)
    misfit = 0.05 * np.random.default_rng(1).normal(size=(count, features))
    found = known.evidence(misfit, FACTORS, NOISES) - count * np.log(NOISES)
    same = 0.5 * (np.log(known.precision).sum() - count * np.log(2.0 * np.pi))
    law = known.slopes.T @ np.linalg.solve(known.prior, known.slopes)
    for m, factor in enumerate(FACTORS):
        for n, noise in enumerate(NOISES):
            spread = law + factor**2 * misfit @ misfit.T + np.diag(noise**2 / known.precision)
            density = multivariate_normal(cov=spread).logpdf(known.residual)
            assert found[m, n] + same == pytest.approx(density, rel=1e-8)


def test_rows_that_stray_together_speak_for_the_misfit_and_scatter_for_the_noise() -> None:
    rng = np.random.default_rng(0)
    place = np.linspace(-1.0, 1.0, 40)
    misfit = 0.02 * np.exp(-((place[:, None] - np.linspace(-1, 1, 6)) ** 2) / 0.2)
    for stray, scatter in ((0.0, 0.02), (1.0, 0.003)):
        off = stray * misfit @ rng.normal(size=6) + scatter * rng.normal(size=40)
        known = Rows(residual=off, slopes=np.ones((1, 40)), precision=np.ones(40), prior=np.eye(1))
        found = known.evidence(misfit, np.array([1e-3, 1.0]), NOISES) - 40 * np.log(NOISES)
        factor, noise = np.unravel_index(int(np.argmax(found)), found.shape)
        assert (factor, NOISES[noise]) == (1 if stray else 0, scatter)
