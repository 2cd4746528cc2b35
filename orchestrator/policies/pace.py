"""How long training takes: seconds of a segment, learned from the segments that ended.

A segment of n tokens of candidate c takes t = (h + n r_c) e^x seconds: a start-up h that all
share, seconds per token r_c, and a relative error x. In logs,

    log r_c = log(FLOPs per token of c) - log(speed) + w . z_c + u_c

with z_c the centred logs of FLOPs per token, parameters and batch: w is shrunk towards none, which
is a cost in proportion to FLOPs, and u_c is a candidate's own remainder. A segment that trained in
a stack of k adds s log k, s shrunk towards none as well, and the pace that is told is that of a
trial alone. A segment with several points is read in two pieces, up to its first point and from
there on, the second without a start-up: so one segment tells h from r, and short purchases are not
taken for cheap ones. The two count as independent, though one worker trained both: over 16 live
sweeps an error that they share foretold the next segment no better (mean log score .23, and .22
and .07 with half and nine tenths of it shared).

Given h and the sd of x this is a linear regression with normal priors
(Rasmussen and Williams 2006, section 2.2), solved exactly; h and the sd are averaged over a grid
by their evidence. Before any segment there is the stated speed, or nothing. A pure function of its
arguments; touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.trial import Timing
from orchestrator.values import Candidate, FloatArray

SLOPES_SD = (0.5, 0.25, 0.3)
"""Prior sd of w: small models, and small batches, are slower than their FLOPs say."""
STACKED_SD = 0.5
"""Prior sd of s: four in a stack, each of them in half the seconds, are one sd from no gain."""
OWN_SD = 0.15
"""Prior sd of a candidate's own remainder."""
UNKNOWN_SD = 0.7
"""Prior sd of log speed where nobody stated one, about the median of what was measured."""
NOISES = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Sd of the relative error of a segment's time."""
STARTS = (0.0, *np.geomspace(1e-3, 0.95, 12).tolist())
"""The start-up, in parts of the shortest segment; half of the prior is on none."""
NEWEST = 120
"""So many of the newest segments are read."""
FAINT = 1e-2
"""Places of the grid with less evidence than this part of the best are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """FLOP/s of one worker, as somebody states it; `sd` of its logarithm."""

    flops_per_s: float
    sd: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pace:
    """Seconds of segments of the pool's candidates, as far as is known.

    start, start_sd: seconds of the start-up. rate, rate_sd (candidates,): seconds per token, their
    median, and the sd of their logarithm. noise: sd of a segment's relative error. segments: how
    many were read. stacked: s, by which power of its members a stack changes a member's share.
    """

    start: float
    start_sd: float
    rate: FloatArray
    rate_sd: FloatArray
    noise: float
    segments: int
    stacked: float = 0.0

    def seconds(
        self, place: int, tokens: int, *, members: int = 1, begun: bool = False
    ) -> tuple[float, float]:
        """What one segment of `tokens` of the candidate at this place of the pool takes: the
        median, not the mean, which a few unlikely slow worlds would rule; and the sd of its
        logarithm. `members` of a stack: its share of the stack's seconds. `begun`: its start-up
        is behind it."""
        running = tokens * float(self.rate[place]) * members**self.stacked
        start, start_sd = (0.0, 0.0) if begun else (self.start, self.start_sd)
        median = max(start + running, 1e-300)
        apart = math.hypot(running * float(self.rate_sd[place]), start_sd) / median
        return median, math.hypot(apart, self.noise)


def learned(
    pool: Sequence[Candidate],
    timings: Sequence[tuple[int, Timing]],
    stated: Speed | None = None,
) -> Pace | None:
    """The pace of a pool from (place in the pool, timing) of segments, oldest first; None where
    there are none and no speed is stated."""
    flops = np.log([candidate.flops_per_token for candidate in pool])
    timings = timings[-NEWEST:]
    if not timings:
        return None if stated is None else _stated(flops, stated)
    features = _features(pool, flops)
    pieces = [piece for place, timing in timings for piece in _pieces(place, timing)]
    who = np.array([piece.place for piece in pieces], dtype=np.int64)
    tokens = np.array([piece.tokens for piece in pieces], dtype=np.float64)
    seconds = np.array([piece.seconds for piece in pieces], dtype=np.float64)
    starting = np.array([piece.starts for piece in pieces], dtype=np.float64)
    shortest = float(seconds[starting > 0].min())
    base = math.log(stated.flops_per_s) if stated is not None else 0.0
    if stated is None:
        base = float(np.median(flops[who] - np.log(seconds / tokens)))
    level_sd = stated.sd if stated is not None else UNKNOWN_SD
    shared = level_sd**2 + features @ features.T
    stacked = STACKED_SD * np.log([piece.members for piece in pieces])
    covariance = shared[np.ix_(who, who)] + OWN_SD**2 * (who[:, None] == who[None, :])
    covariance = covariance + np.outer(stacked, stacked)
    across = shared[:, who] + OWN_SD**2 * (np.arange(len(pool))[:, None] == who[None, :])
    spread = shared.diagonal() + OWN_SD**2
    fits = [
        _Fit.of(h * shortest, noise, tokens, seconds, starting, flops[who] - base, covariance)
        for h in STARTS
        for noise in NOISES
    ]
    prior = np.repeat([0.5, *([0.5 / (len(STARTS) - 1)] * (len(STARTS) - 1))], len(NOISES))
    evidence = np.array([fit.evidence for fit in fits]) + np.log(prior)
    weights = np.exp(evidence - evidence.max())
    weights = np.where(weights >= FAINT, weights, 0.0)
    weights = weights / weights.sum()
    kept = [(fit, w) for fit, w in zip(fits, weights.tolist(), strict=True) if w > 0]
    start = sum(w * fit.start for fit, w in kept)
    found = [(*fit.of_all(across, spread, flops - base), w) for fit, w in kept]
    # Medians are averaged, not their logs: start-up and rate make the same seconds together.
    rate = np.array(sum(w * np.exp(mean) for mean, _, w in found))
    apart = np.array(sum(w * (var + (mean - np.log(rate)) ** 2) for mean, var, w in found))
    return Pace(
        start=start,
        start_sd=math.sqrt(sum(w * (fit.start - start) ** 2 for fit, w in kept)),
        rate=rate,
        rate_sd=np.sqrt(apart),
        noise=math.sqrt(sum(w * fit.noise**2 for fit, w in kept)),
        segments=len(timings),
        stacked=sum(w * STACKED_SD * float(stacked @ fit.weights) for fit, w in kept),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """Tokens of the candidate at a place, in one go; `starts`: after a start-up."""

    place: int
    tokens: int
    seconds: float
    members: int
    starts: bool


def _pieces(place: int, timing: Timing) -> list[_Piece]:
    """A segment up to its first point, and from there on; as one where it had one point."""
    tokens, seconds = timing.opening or (timing.tokens, timing.seconds)
    first = _Piece(
        place=place, tokens=tokens, seconds=seconds, members=timing.members, starts=True
    )
    if timing.opening is None:
        return [first]
    rest = replace(
        first,
        tokens=timing.tokens - tokens,
        seconds=timing.seconds - seconds,
        starts=False,
    )
    return [first, rest]


def _features(pool: Sequence[Candidate], flops: FloatArray) -> FloatArray:
    """(candidates, 3): z, each column times the prior sd of its slope."""
    columns = np.stack(
        [
            flops,
            np.log([candidate.params for candidate in pool]),
            np.log([candidate.tokens_per_step for candidate in pool]),
        ],
        axis=1,
    )
    return (columns - columns.mean(axis=0)) * np.array(SLOPES_SD)


def _stated(flops: FloatArray, stated: Speed) -> Pace:
    """In proportion to FLOPs, at a speed that nobody measured."""
    return Pace(
        start=0.0,
        start_sd=0.0,
        rate=np.exp(flops) / stated.flops_per_s,
        rate_sd=np.full(len(flops), math.hypot(stated.sd, OWN_SD)),
        noise=0.0,
        segments=0,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Fit:
    """The regression at one place of the grid: `start` seconds and `noise` given, `evidence` the
    log density of the times, `weights` (pieces,) and `factor` of the solution."""

    start: float
    noise: float
    evidence: float
    weights: FloatArray
    factor: FloatArray

    @classmethod
    def of(
        cls,
        start: float,
        noise: float,
        tokens: FloatArray,
        seconds: FloatArray,
        starting: FloatArray,
        usual: FloatArray,
        covariance: FloatArray,
    ) -> _Fit:
        """starting (pieces,): 1 for those with a start-up, else 0. usual (pieces,): the log of
        seconds per token that FLOPs alone would make."""
        running = seconds - start * starting
        stretch = seconds / running
        residual = np.log(running / tokens) - usual
        # A relative error of the whole time is a larger one of what is left without the start.
        noisy = covariance + np.diag((noise * stretch) ** 2)
        factor = np.asarray(np.linalg.cholesky(noisy), dtype=np.float64)
        white = np.linalg.solve(factor, residual)
        evidence = (
            -0.5 * float(white @ white)
            - float(np.log(factor.diagonal()).sum())
            + float(np.log(stretch).sum())
        )
        weights = np.asarray(np.linalg.solve(factor.T, white), dtype=np.float64)
        return cls(start=start, noise=noise, evidence=evidence, weights=weights, factor=factor)

    def of_all(
        self, across: FloatArray, spread: FloatArray, usual: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the log of seconds per token, (candidates,) each."""
        white = np.linalg.solve(self.factor, across.T)
        return usual + across @ self.weights, np.maximum(spread - (white**2).sum(axis=0), 0.0)
