"""Priors of exponents are valid, and the published ones hold what each sweep found."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from orchestrator.laws.exponents import PUBLISHED

SWEEPS = ((0.19, 0.31, 0.09), (0.22, 0.41, 0.33), (0.48, 0.43, 0.14))


def test_each_published_sweep_lies_within_two_sd() -> None:
    for alpha, beta, gamma in SWEEPS:
        assert abs(math.log(alpha / PUBLISHED.alpha)) < 2 * PUBLISHED.alpha_sd
        assert abs(math.log(beta / PUBLISHED.beta)) < 2 * PUBLISHED.beta_sd
        assert abs(gamma - PUBLISHED.gamma) < 2 * PUBLISHED.gamma_sd


@pytest.mark.parametrize("field", ["alpha", "beta_sd", "gamma_sd"])
def test_what_must_be_above_zero_is(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is 0"):
        replace(PUBLISHED, **{field: 0.0})


def test_gamma_may_be_negative_but_not_infinite() -> None:
    assert replace(PUBLISHED, gamma=-0.1).gamma == -0.1
    with pytest.raises(ValueError, match="gamma is inf"):
        replace(PUBLISHED, gamma=math.inf)
