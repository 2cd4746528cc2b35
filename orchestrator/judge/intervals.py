"""Means of paired differences with bootstrap intervals. Touches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with the bounds of its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: Sequence[float], *, seed: int = 0, draws: int = 4000) -> Interval:
    """The mean of paired differences, resampled over subsets."""
    data = np.asarray(values, float)
    picks = np.random.default_rng(seed).integers(len(data), size=(draws, len(data)))
    low, high = np.quantile(data[picks].mean(axis=1), [0.025, 0.975])
    return Interval(mean=float(data.mean()), low=float(low), high=float(high))
