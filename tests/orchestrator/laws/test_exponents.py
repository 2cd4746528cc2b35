"""Priors of exponents are valid, and the published ones hold what each sweep found."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws.exponents import MODERATE, PUBLISHED
from orchestrator.surrogates.joint_law import JointLaw
from orchestrator.values import Candidate, Curve, Point

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


def test_small_long_runs_of_an_interacting_law_mislead_the_published_prior_less() -> None:
    """Truth with gamma 0.2, three small models to their end and a larger one's beginning."""

    def loss(size: float, tokens: float) -> float:
        n, d = size / 1e8, tokens / 1e10
        return 1.7 + 0.6 * n**-0.25 + 0.5 * n**0.2 * d**-0.38

    def run(size: int, share: float) -> tuple[Candidate, Curve]:
        candidate = Candidate(
            id=f"m{size}", params=size, horizon=100_000_000_000, flops_per_token=6.0 * size
        )
        tokens = np.linspace(0.02, share, 30) * candidate.horizon
        points = [
            Point(tokens=int(t), flops=6.0 * size * t, loss=loss(size, float(t))) for t in tokens
        ]
        return candidate, Curve.of(points)

    seen = [run(50_000_000, 1.0), run(90_000_000, 1.0), run(500_000_000, 0.12)]
    asked, _ = run(2_000_000_000, 1.0)
    tokens = np.array([asked.horizon])
    truth = math.log(loss(asked.params, asked.horizon))
    errors = [
        abs(
            float(JointLaw(exponents=e).fit(seen, seed=0).predict([asked], tokens).mean[0]) - truth
        )
        for e in (PUBLISHED, MODERATE)
    ]
    assert errors[0] < 0.6 * errors[1], errors
