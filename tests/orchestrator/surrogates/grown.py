"""Curves of a known law, for the tests of surrogates."""

from __future__ import annotations

import numpy as np

from orchestrator.surrogates.base import Observed
from orchestrator.values import Candidate, Curve, FloatArray, Point, Scalar

E, A, ALPHA, B, BETA = 1.7, 400.0, 0.34, 410.0, 0.28
HORIZON = 4_000_000_000


def candidate(
    name: str,
    params: int,
    *,
    horizon: int = HORIZON,
    settings: tuple[tuple[str, Scalar], ...] = (),
) -> Candidate:
    return Candidate(
        id=name,
        params=params,
        horizon=horizon,
        flops_per_token=6.0 * params,
        settings=settings,
    )


def truth(params: float, tokens: FloatArray) -> FloatArray:
    """Log loss of the law."""
    return np.log(E + A / params**ALPHA + B / tokens**BETA)


def ladder(count: int, *, least: float = 2e7, most: float = 6e8) -> list[Candidate]:
    """Candidates of sizes even in logs."""
    return [
        candidate(f"t{k:02d}", round(size))
        for k, size in enumerate(np.geomspace(least, most, count))
    ]


def grown(
    trial: Candidate,
    points: int,
    *,
    upto: float = 0.25,
    noise: float = 0.002,
    shift: float = 0.0,
    seed: int = 0,
) -> Curve:
    """The first `upto` of a curve of the law, at even tokens, with white noise in log loss."""
    tokens = np.linspace(trial.horizon * upto / points, trial.horizon * upto, points)
    generator = np.random.default_rng([seed, trial.params])
    losses = np.exp(
        truth(float(trial.params), tokens) + shift + noise * generator.standard_normal(points)
    )
    return Curve.of(
        Point(tokens=int(t), flops=trial.flops_per_token * int(t), loss=float(loss))
        for t, loss in zip(tokens, losses, strict=True)
    )


def observed(count: int, points: int, *, upto: float = 0.25, seed: int = 0) -> Observed:
    return [(trial, grown(trial, points, upto=upto, seed=seed)) for trial in ladder(count)]
