"""Sweeps of known truth for the tests of laws."""

from __future__ import annotations

import numpy as np

from orchestrator.laws.runs import CurveRows, Runs, finished_runs

TRUTH = {"E": 1.8, "A": 480.0, "B": 2085.0, "alpha": 0.35, "beta": 0.37}


def true_loss(N, D):
    """E + A/N^alpha + B/D^beta with TRUTH."""
    return (
        TRUTH["E"]
        + TRUTH["A"] / np.asarray(N) ** TRUTH["alpha"]
        + TRUTH["B"] / np.asarray(D) ** TRUTH["beta"]
    )


def runs_of_truth(*, count: int = 60, noise: float = 0.0, seed: int = 0) -> Runs:
    """Finished runs scattered over N and D; noise is the sd of log loss."""
    rng = np.random.default_rng(seed)
    N = np.exp(rng.uniform(np.log(1e7), np.log(1e9), count))
    D = np.exp(rng.uniform(np.log(1e9), np.log(1e11), count))
    return finished_runs(N, D, true_loss(N, D) * np.exp(noise * rng.normal(size=count)))


def curves_of_truth(
    *,
    sizes: int = 8,
    per_size: int = 3,
    trial_sd: float = 0.01,
    row_sd: float = 0.003,
    points: int = 40,
    seed: int = 0,
) -> list[CurveRows]:
    """Learning curves; each trial has its own shift of log loss, each point its own noise."""
    rng = np.random.default_rng(seed)
    curves: list[CurveRows] = []
    for N in np.geomspace(1e7, 1e9, sizes):
        for k in range(per_size):
            D = np.geomspace(1e8, 3e10 * (0.3 if k == 0 and per_size > 1 else 1.0), points)
            noise = trial_sd * rng.normal() + row_sd * rng.normal(size=points)
            loss = true_loss(N, D) * np.exp(noise)
            curves.append(CurveRows(N=float(N), tokens=D, flops=6 * N * D, loss=loss))
    return curves
