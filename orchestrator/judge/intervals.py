"""Means of paired differences, and shares of targets, with 95 % bootstrap intervals.

Two questions, two intervals. Resampled over subsets: would other subsets of these curves say the
same? Resampled over curves: would other curves? Random subsets of few curves share most of them,
so the first is far too narrow an answer to the second. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BOUNDS = (0.025, 0.975)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with the bounds of its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(
    values: Sequence[float], *, seed: int = 0, draws: int = 4000, drawn: float = 0.0
) -> Interval:
    """The mean of paired differences, resampled over subsets.

    `drawn`: the share of the curves at hand that one subset holds; with it the interval is that
    of curves resampled. It is the delete-d jackknife (Shao and Wu 1989): where subsets of m curves
    out of n vary by s, the mean over all subsets varies with the n curves by s sqrt(m / (n - m)),
    at most (Hoeffding 1948: for a mean of curves exactly so, for what curves do together less).
    Bounds are infinite where every subset is the whole.
    """
    data = np.asarray(values, float)
    picks = np.random.default_rng(seed).integers(len(data), size=(draws, len(data)))
    low, high = np.quantile(data[picks].mean(axis=1), BOUNDS)
    mean = float(data.mean())
    if drawn >= 1:
        return Interval(mean=mean, low=-math.inf, high=math.inf)
    wider = math.sqrt(1 + len(data) * drawn / (1 - drawn))
    return Interval(
        mean=mean, low=mean + wider * float(low - mean), high=mean + wider * float(high - mean)
    )


def clustered_share(
    hits: Sequence[bool], clusters: Sequence[str], *, seed: int = 0, draws: int = 2000
) -> Interval:
    """The share of hits, whole clusters resampled: targets of one curve are no replicates."""
    _, place = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(place, weights=np.asarray(hits, float))
    counts = np.bincount(place)
    picks = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
    low, high = np.quantile(sums[picks].sum(axis=1) / counts[picks].sum(axis=1), BOUNDS)
    return Interval(mean=float(np.mean(hits)), low=float(low), high=float(high))
