"""Intervals on data whose spread is known."""

from __future__ import annotations

import math

import numpy as np

from orchestrator.judge import bootstrap_mean, clustered_share


def test_curves_resampled_cover_what_other_curves_would_say() -> None:
    """Twenty of thirty curves, forty times: the truth is the mean of all curves there could be."""
    generator = np.random.default_rng(1)
    rounds, inside = 200, {0.0: 0, 20 / 30: 0}
    for _ in range(rounds):
        curves = generator.normal(0.0, 1.0, 30)
        values = [float(curves[generator.permutation(30)[:20]].mean()) for _ in range(40)]
        for drawn in inside:
            found = bootstrap_mean(values, draws=400, drawn=drawn)
            inside[drawn] += found.low <= 0.0 <= found.high
    assert inside[0.0] < 0.5 * rounds  # over subsets alone: far too sure
    assert 0.9 <= inside[20 / 30] / rounds <= 0.99


def test_subsets_that_are_the_whole_say_nothing_of_other_curves() -> None:
    found = bootstrap_mean([1.0, 2.0, 3.0], drawn=1.0)
    assert (found.mean, found.low, found.high) == (2.0, -math.inf, math.inf)


def test_targets_of_one_curve_are_one_witness() -> None:
    hits = [True] * 30 + [False] * 10 + [True] * 20
    curves = ["a"] * 30 + ["b"] * 10 + ["c"] * 20
    grouped = clustered_share(hits, curves)
    single = clustered_share(hits, [str(k) for k in range(60)])
    assert grouped.mean == single.mean == 50 / 60
    assert grouped.high - grouped.low > 2 * (single.high - single.low)
