"""Families of curves: torch and NumPy agree, curves fall, and each is fitted where it is true."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from orchestrator.surrogates.families import EXPONENTIAL, LOG_LINEAR, MMF, POWER_LAW, Family
from orchestrator.surrogates.per_curve import PerCurve
from orchestrator.values import Curve, Point
from tests.orchestrator.surrogates.grown import candidate

FAMILIES = [POWER_LAW, EXPONENTIAL, MMF, LOG_LINEAR]
X = np.linspace(-3.0, 3.0, 25)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_falls_and_reads_alike_in_both_libraries(family: Family) -> None:
    coefficients = family.prior_mean(1.0)
    here = family.log_loss(coefficients, X)
    there = family.shape(torch, list(torch.from_numpy(coefficients)), torch.from_numpy(X))
    assert np.asarray(there) == pytest.approx(here, abs=1e-12)
    assert (np.diff(here) < 0).all()
    assert family.slopes(coefficients, X).shape == (25, len(coefficients))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_curve_of_the_family_is_continued(family: Family) -> None:
    trial = candidate("own", 10**8)
    coefficients = family.prior_mean(1.0) + 0.1
    tokens = np.geomspace(4e8, 2e9, 20)

    def loss(at: np.ndarray) -> np.ndarray:
        return np.exp(family.log_loss(coefficients, np.log(at / 2e9)))

    curve = Curve.of(
        Point(tokens=int(t), flops=6e8 * float(t), loss=float(v))
        for t, v in zip(tokens, loss(tokens), strict=True)
    )
    fitted = PerCurve(family=family).fit([(trial, curve)], seed=0)
    said = fitted.predict([trial], np.array([4_000_000_000]))
    assert said.mean[0] == pytest.approx(float(np.log(loss(np.array([4e9]))[0])), abs=0.02)


def test_a_family_far_before_its_reference_stays_finite() -> None:
    for family in FAMILIES:
        assert np.isfinite(family.log_loss(family.prior_mean(1.0), np.array([40.0]))).all()
