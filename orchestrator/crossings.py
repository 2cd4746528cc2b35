"""Learning curves with known truth: how often they cross, and what noise they carry, is chosen.

For judging policies where recorded curves say too little. `crossing_curves`: curves of one shape
between their levels at the first and at the last compute; the order at the end is a permutation of
the order at the start with the stated share of inverted pairs, and two curves of one shape cross
exactly where their pair is inverted. The curves are exchangeable: size says nothing, only the
prefix does. `rate_pool`: a ladder of sizes under a law E + A/N^a + B/D^b (constants drawn around
those of Hoffmann et al. 2022, arXiv 2203.15556), each at several learning rates, most of them bad:
size alone does not decide there. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from orchestrator.recorded import RecordedCurve
from orchestrator.values import FloatArray

Noise = Literal["none", "white", "brownian", "ou"]
NOISES: tuple[Noise, ...] = ("none", "white", "brownian", "ou")
NOISE_SD = 0.004
"""Sd of log loss: of a point (white, OU), or gathered over the whole curve (Brownian)."""
FIRST_FLOPS = 1e15
LAST_FLOPS = 1e18
PARAMS = 10_000_000
EARLY_SPREAD = 0.25
LATE_SPREAD = 0.12
FALL = 0.9
BEND = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RateEffect:
    """How a learning rate costs loss: `level` in log loss for each squared e-fold from the best
    rate, and `drag`, by which it weakens the fall with tokens likewise."""

    level: float = 0.012
    drag: float = 0.02


def crossing_curves(
    count: int, density: float, noise: Noise, *, seed: int, points: int = 40
) -> dict[str, RecordedCurve]:
    """`count` curves of which a share `density` of the pairs crosses, before noise.

    Raises ValueError for a density outside [0, 1], an unknown noise, or fewer than two curves.
    """
    if not 0 <= density <= 1:
        raise ValueError(f"the density of crossings is {density}; it is a share, from 0 to 1")
    if noise not in NOISES:
        raise ValueError(f"{noise!r} is no noise; there are {', '.join(NOISES)}")
    if count < 2:
        raise ValueError(f"{count} curves cannot cross; ask for two or more")
    generator = np.random.default_rng((seed, count, round(1000 * density)))
    order = inverted(count, round(density * count * (count - 1) / 2), generator)
    start = np.sort(generator.uniform(0.0, EARLY_SPREAD, count))
    end = np.sort(generator.uniform(0.0, LATE_SPREAD, count))[order]
    flops = np.geomspace(FIRST_FLOPS, LAST_FLOPS, points)
    along = np.linspace(0.0, 1.0, points)
    fallen = (1 - np.exp(-BEND * along)) / (1 - math.exp(-BEND))
    top = math.log(6.5)
    places = generator.permutation(count)
    curves: dict[str, RecordedCurve] = {}
    for number, place in enumerate(places):
        y = top + start[place] + (end[place] - FALL - start[place]) * fallen
        y = y + _noise(noise, np.log(flops), generator)
        curves[f"curve-{number:02d}"] = _recorded(f"curve-{number:02d}", PARAMS, flops, y)
    return curves


def inverted(count: int, pairs: int, generator: np.random.Generator) -> list[int]:
    """A random permutation of range(count) with exactly `pairs` inverted pairs."""
    order = list(range(count))
    left = pairs
    while left:
        risen = [k for k in range(count - 1) if order[k] < order[k + 1]]
        k = risen[int(generator.integers(len(risen)))]
        order[k], order[k + 1] = order[k + 1], order[k]
        left -= 1
    return order


def crossing_share(curves: Mapping[str, RecordedCurve], *, gap: float = 0.003) -> float:
    """The share of pairs whose order changes on their common range of compute, counting only
    gaps in log loss above `gap`."""
    crossed = pairs = 0
    listed = list(curves.values())
    for i, first in enumerate(listed):
        for second in listed[i + 1 :]:
            low = max(first.flops[0], second.flops[0])
            high = min(first.flops[-1], second.flops[-1])
            if low >= high:
                continue
            grid = np.linspace(math.log(low), math.log(high), 60)
            apart = np.interp(grid, np.log(first.flops), np.log(first.loss)) - np.interp(
                grid, np.log(second.flops), np.log(second.loss)
            )
            pairs += 1
            crossed += bool((apart > gap).any() and (apart < -gap).any())
    return crossed / pairs if pairs else 0.0


def rate_pool(
    sizes: int, rates: int, *, seed: int, noise: Noise = "ou", points: int = 40
) -> dict[str, RecordedCurve]:
    """`sizes` x `rates` curves to 40 tokens a parameter; the rates span a hundredfold, and which
    of them is best drifts with size."""
    generator = np.random.default_rng((seed, sizes, rates))
    floor = generator.uniform(1.5, 2.0)
    a, b = generator.uniform(0.28, 0.42, 2)
    of_size, of_tokens = generator.uniform(0.4, 1.0, 2)
    effect = RateEffect()
    best = generator.uniform(math.log(1e-3), math.log(6e-3))
    drift = generator.uniform(-0.35, -0.1)
    curves: dict[str, RecordedCurve] = {}
    for params in (float(size) for size in np.geomspace(1e7, 1e9, sizes)):
        tokens: FloatArray = np.round(np.geomspace(params / 4, 40 * params, points))
        flops = 6.0 * params * tokens
        for rate in (float(value) for value in np.geomspace(3e-4, 3e-2, rates)):
            off = (math.log(rate) - best - drift * math.log(params / 1e8)) ** 2
            own = generator.normal(0.0, 0.006)
            slower = b * (1 - effect.drag * min(off, 9.0))
            y = np.log(
                floor + of_size * (1e8 / params) ** a + of_tokens * (2e9 / tokens) ** slower
            )
            y = y + effect.level * off + own + _noise(noise, np.log(flops), generator)
            name = f"n{params:.0f}-r{rate:.0e}"
            curves[name] = _recorded(
                name, round(params), flops, y, settings=(("learning_rate", rate),)
            )
    return curves


def _recorded(
    name: str,
    params: int,
    flops: FloatArray,
    log_loss: FloatArray,
    settings: tuple[tuple[str, float], ...] = (),
) -> RecordedCurve:
    tokens = np.round(flops / (6.0 * params)).astype(np.int64)
    return RecordedCurve(
        curve_id=name,
        tokens=tokens,
        flops=6.0 * params * tokens.astype(np.float64),
        loss=np.exp(log_loss),
        params=params,
        settings=settings,
    )


def _noise(kind: Noise, log_flops: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Noise of log loss along a curve."""
    drawn = generator.standard_normal(len(log_flops))
    steps = np.diff(log_flops)
    match kind:
        case "none":
            return np.zeros(len(log_flops))
        case "white":
            return NOISE_SD * drawn
        case "brownian":
            walked = np.concatenate([[0.0], np.cumsum(drawn[1:] * np.sqrt(steps))])
            return 3 * NOISE_SD * walked / math.sqrt(float(log_flops[-1] - log_flops[0]))
        case "ou":
            found = [float(drawn[0])]
            for step, fresh in zip(steps, drawn[1:], strict=True):
                kept = math.exp(-float(step))
                found.append(kept * found[-1] + math.sqrt(1 - kept**2) * float(fresh))
            return NOISE_SD * np.array(found)
