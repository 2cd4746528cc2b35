"""Worlds of learning curves with known truth and known faults, for the surrogates' benchmark.

A world is a pool of curves whose losses follow E + A/N^a + B N^c/D^b with constants of its own,
and what real curves do besides: runs that deviate from the law in level and in slope, a learning
rate that is off by an amount that costs more the larger the model is, an early phase that is no
power law, a tail that bends, and noise with memory. Nothing here is fitted to a data set; the
sizes of these faults are drawn over ranges that hold what has been published of them. The
interaction c is drawn about the mean of three published sweeps with their spread (.09, .33 and
.14: Farseer, arXiv 2506.10972; OLMo's ladder, arXiv 2412.04403; Muennighoff et al., arXiv
2305.16264; `orchestrator/laws/exponents.py`), of which none is without one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.recorded import RecordedCurve
from orchestrator.values import FloatArray, Scalar


def world(seed: int, *, curves: int = 20, points: int = 40) -> Mapping[str, RecordedCurve]:
    """One world. Half of them vary a learning rate, half give every run the same tokens and half
    the same tokens per parameter."""
    rng = np.random.default_rng([seed, 71])
    law = constants(rng)
    sizes = np.exp(rng.uniform(np.log(3e7), np.log(3e7 * rng.uniform(8, 40)), curves))
    middle = float(np.exp(np.log(sizes).mean()))
    horizon = middle * rng.uniform(15, 100)
    rated, alike = rng.random() < 0.5, rng.random() < 0.5
    spread = {name: rng.uniform(*span) for name, span in FAULTS.items()}
    grown: dict[str, RecordedCurve] = {}
    for place, size in enumerate(sizes):
        ends = horizon if alike else horizon * size / middle
        even = rng.random() < 0.7
        grid = np.linspace(1 / points, 1, points) if even else np.geomspace(0.01, 1, points)
        tokens = np.unique(np.round(grid * ends).astype(np.int64))
        settings: tuple[tuple[str, Scalar], ...] = ()
        penalty = 0.0
        if rated:
            rate = float(np.exp(rng.choice([-1.4, -0.7, 0.0, 0.7, 1.4])))
            off = np.log(rate) + 0.25 * np.log(size / middle)
            penalty, settings = spread["rate"] * off * off, (("rate", rate),)
        loss = _losses(rng, law, spread, float(size), tokens.astype(np.float64), penalty)
        grown[f"w{seed}-{place:02d}"] = RecordedCurve(
            curve_id=f"w{seed}-{place:02d}",
            tokens=tokens,
            flops=6.0 * size * tokens,
            loss=loss,
            params=round(size),
            settings=settings,
        )
    return grown


FAULTS = {
    "level": (0.002, 0.02),  # sd of a run's own level, log loss
    "slope": (0.0, 0.1),  # sd of a run's own factor on the tokens' term, in logs
    "rate": (0.005, 0.03),  # log loss lost by one squared e-fold of the learning rate
    "early": (0.0, 0.3),  # log loss above the law at a hundredth of the tokens
    "bend": (-0.04, 0.04),  # curvature of the tokens' term in log tokens
    "noise": (0.0005, 0.004),  # sd of noise with memory, log loss
}
"""Ranges that a world draws its faults from."""


def constants(rng: np.random.Generator) -> dict[str, float]:
    """Terms of a world's law: E, the two others at 100M parameters and 2B tokens, exponents."""
    return {
        "E": rng.uniform(1.2, 2.2),
        "a": rng.uniform(0.2, 0.5),
        "b": rng.uniform(0.2, 0.5),
        "c": rng.normal(0.18, 0.12),
        "at_size": rng.uniform(0.3, 1.2),  # A/N^a at 100M parameters
        "at_tokens": rng.uniform(0.3, 1.2),  # B/D^b at 2B tokens
    }


def _losses(
    rng: np.random.Generator,
    law: Mapping[str, float],
    spread: Mapping[str, float],
    size: float,
    tokens: FloatArray,
    penalty: float,
) -> FloatArray:
    n, d = np.log(size / 1e8), np.log(tokens / 2e9)
    slope = spread["slope"] * rng.standard_normal()
    of_tokens = np.exp(slope - law["b"] * d + law["c"] * n + spread["bend"] * 0.5 * d * d)
    law_loss = law["E"] + law["at_size"] * np.exp(-law["a"] * n) + law["at_tokens"] * of_tokens
    early = spread["early"] * np.exp(-0.8 * (np.log(tokens / tokens[-1]) - np.log(0.01)))
    own = spread["level"] * rng.standard_normal() + penalty
    return np.exp(np.log(law_loss) + own + early + remembering(rng, spread["noise"], tokens))


def remembering(rng: np.random.Generator, sd: float, tokens: FloatArray) -> FloatArray:
    """Ornstein-Uhlenbeck noise in log tokens that forgets within a third of an e-fold."""
    kept = np.exp(-np.diff(np.log(tokens), prepend=-1e9) / 0.33)
    noise, state = np.empty(len(tokens)), 0.0
    for k, share in enumerate(kept):
        state = share * state + np.sqrt(1 - share * share) * rng.standard_normal()
        noise[k] = sd * state
    return noise
