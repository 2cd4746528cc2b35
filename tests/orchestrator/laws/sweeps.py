"""Sweeps of known truth for the tests of laws."""

from __future__ import annotations

import numpy as np

from orchestrator.laws.forms import CHINCHILLA
from orchestrator.laws.posing import Posed, middle_of
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


def posed(
    runs: Runs, form=CHINCHILLA, *, objective="huber_log", delta=None, offsets_sd=None
) -> Posed:
    """What a fit poses of these rows, without priors."""
    return Posed(
        form=form,
        runs=runs,
        centre=middle_of(form, runs),
        objective=objective,
        delta=delta,
        priors=(),
        offsets_sd=offsets_sd,
    )


def exponent() -> float:
    """Of C in the best size under TRUTH and 6 N D."""
    return TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])


def best_size(C):
    """The size of least loss with C FLOPs at 6 N D (Hoffmann et al. 2022, eq. 4)."""
    A, B, alpha, beta = (TRUTH[k] for k in ("A", "B", "alpha", "beta"))
    G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    return G * (np.asarray(C) / 6) ** exponent()


def curve_of_truth(N: float, low: float, high: float, *, points: int = 120) -> CurveRows:
    """One curve without noise from `low` to `high` tokens."""
    D = np.geomspace(low, high, points)
    return CurveRows(N=float(N), tokens=D, flops=6 * N * D, loss=true_loss(N, D))


def curves_across(*, sizes: int, trial_sd: float = 0.0, seed: int = 0) -> list[CurveRows]:
    """Long curves of many sizes: at most computes some size is the best with others on both
    sides of it. Each has its own shift of log loss."""
    rng = np.random.default_rng(seed)
    curves: list[CurveRows] = []
    for N in np.geomspace(3e6, 3e9, sizes):
        plain = curve_of_truth(N, 2 * N, 200 * N)
        shifted = plain.loss * np.exp(trial_sd * rng.normal())
        curves.append(CurveRows(N=plain.N, tokens=plain.tokens, flops=plain.flops, loss=shifted))
    return curves
