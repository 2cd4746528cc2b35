"""What can be bought next, and what it is expected to bring for each aim.

A purchase is a candidate, the tokens it would then have seen, and the FLOPs of the extra tokens
alone. `frontier`: the expected fall of the mean log loss along the frontier. `recommend`: the
expected fall of the regret of the configuration that would be recommended (the knowledge gradient
with correlated beliefs, Frazier, Powell and Dayanik 2009, by quadrature). `target`: the expected
fall of the variance of what is asked. The last two need joint samples, and take a purchase as one
observation that moves them linearly. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.state import SweepState
from orchestrator.values import Candidate, FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """Train `candidate` on to `tokens`, for `flops` more."""

    candidate: Candidate
    tokens: int
    flops: int


def purchases(
    state: SweepState,
    candidate: Candidate,
    levels: FloatArray,
    *,
    affordable: float,
    most: float,
    least: float = 1.0,
) -> list[Purchase]:
    """What can be bought of a candidate: to each level of compute beyond what it has, and to the
    furthest that `affordable` FLOPs, a total of `most` in one trial, and its end allow. Nothing
    for less than `least` FLOPs.

    Nothing for a trial that is out, or whose trunk has a segment running or waiting.
    """
    trial = state.trials.get(candidate.id)
    if trial is not None and (trial.out or trial.trunk.running or trial.trunk.unfinished):
        return []
    done = trial.trunk.tokens if trial is not None else 0
    spent = candidate.flops(done)
    furthest = candidate.tokens_within(min(spent + affordable, most))
    goals = {candidate.tokens_within(float(level)) for level in levels}
    goals = {tokens for tokens in goals if done < tokens < furthest}
    if furthest > done:
        goals.add(furthest)
    return [
        Purchase(candidate=candidate, tokens=tokens, flops=candidate.flops(tokens) - spent)
        for tokens in sorted(goals)
        if candidate.flops(tokens) - spent >= least
    ]


def frontier_gains(
    frontier: FloatArray, weights: FloatArray, reached: IntArray, samples: FloatArray
) -> FloatArray:
    """The expected fall of the weighted log loss along the frontier, for each place along one
    curve to stop at: (stops,).

    frontier, weights: (levels,), log loss and weight at each level of compute, increasing.
    reached: (stops,), the place among the levels of the first that each stop covers.
    samples: (draws, stops), log loss of the curve there.
    """
    lowest = np.minimum.accumulate(samples, axis=1)
    gains = np.empty(samples.shape[1])
    along = np.zeros(samples.shape[0])
    for stop in range(samples.shape[1]):
        begin = int(reached[stop])
        end = int(reached[stop + 1]) if stop + 1 < len(reached) else len(frontier)
        fall = np.maximum(frontier[None, begin:] - lowest[:, stop, None], 0.0)
        gains[stop] = float((along + fall @ weights[begin:]).mean())
        along += fall[:, : end - begin] @ weights[begin:end]
    return gains


def decision_gains(
    targets: FloatArray, queries: FloatArray, noise_sd: float, *, nodes: int = 15
) -> FloatArray:
    """The expected fall of the least expected loss among the targets, for each observation:
    (queries,). Never below zero.

    targets: (draws, choices), queries: (draws, queries), joint samples of log loss; `noise_sd` of
    one observation.
    """
    mean = targets.mean(axis=0)
    moves = _moves(targets, queries, noise_sd)
    at, weight = np.polynomial.hermite_e.hermegauss(nodes)
    after = (mean[None, :, None] + moves.T[:, :, None] * at).min(axis=1) @ (weight / weight.sum())
    return np.maximum(float(mean.min()) - after, 0.0)


def given(samples: FloatArray, known: FloatArray, noise_sd: float) -> FloatArray:
    """The samples (draws, places) as they would be spread if `known` (draws, observations), of
    the same draws, had been observed with `noise_sd`, at its mean (Matheron's rule)."""
    if not known.shape[1]:
        return samples
    s, k = samples - samples.mean(axis=0), known - known.mean(axis=0)
    covariance = k.T @ k / len(k) + noise_sd**2 * np.eye(k.shape[1])
    drawn = np.random.default_rng(known.shape[1]).standard_normal(known.shape)
    return samples - (k + noise_sd * drawn) @ np.asarray(
        np.linalg.solve(covariance, k.T @ s / len(k)), np.float64
    )


def _moves(targets: FloatArray, queries: FloatArray, noise_sd: float) -> FloatArray:
    """By how much one sd of each observation moves each target's mean: (choices, queries)."""
    t = targets - targets.mean(axis=0)
    q = queries - queries.mean(axis=0)
    spread = np.sqrt((q * q).mean(axis=0) + noise_sd**2)
    return (t.T @ q) / len(t) / np.maximum(spread, 1e-12)


def different_sizes(candidates: Sequence[Candidate]) -> int:
    """How many sizes there are; sizes within 1 % of the least of a group are one."""
    count, least = 0, -math.inf
    for params in sorted(candidate.params for candidate in candidates):
        if params > 1.01 * least:
            count, least = count + 1, float(params)
    return count
