"""How policies that leave the halving skeleton look around: starts at several sizes, then what
tells most about the choice to come. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

import numpy as np

from orchestrator.policies.acquisition import Purchase, decision_gains, frontier_gains, purchases
from orchestrator.policies.textbook import by_ratio
from orchestrator.policies.trust import Belief
from orchestrator.state import SweepState
from orchestrator.surrogates.base import Forecaster
from orchestrator.values import Candidate, Curve, Expectation, Extend, FloatArray

_Entry = TypeVar("_Entry")
DRAWS = 256
MOST_QUERIES = 400
DUST = 2e-3
"""Less than this share of the budget is not worth a segment of its own."""
POINT_SD = 0.004
"""Sd of the log loss of one evaluation, as an observation of the curve."""
QUANTILES = np.array([NormalDist().inv_cdf((k + 0.5) / 16) for k in range(16)])


def observed_of(state: SweepState) -> list[tuple[Candidate, Curve]]:
    """The curves that a surrogate may read, stopped trials included, diverged ones not."""
    return [
        (trial.candidate, trial.curve)
        for trial in state.trials.values()
        if len(trial.curve) and trial.diverged is None
    ]


def first_starts(
    state: SweepState, *, flops: float, count: int, tokens_per_param: float
) -> list[Extend]:
    """`count` candidates of different sizes, those nearest the textbook's for `flops`."""
    chosen: list[Candidate] = []
    order = by_ratio(state.pool.candidates, flops, tokens_per_param, seed=state.terms.seed)
    for wanted in (True, False):
        for candidate in order:
            if len(chosen) == count:
                break
            new = all(abs(candidate.params / c.params - 1) > 0.01 for c in chosen)
            if candidate not in chosen and new is wanted:
                chosen.append(candidate)
    return [
        Extend(
            trial=candidate.id,
            tokens=candidate.tokens_within(flops),
            reason=f"a start: one of the {len(chosen)} nearest the textbook's size for "
            f"{flops:.3g} FLOPs, so that a law can be fitted",
        )
        for candidate in chosen
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """The choice that a search is for: each option (candidate, tokens it would end at)."""

    options: tuple[tuple[Candidate, int], ...]
    what: str


def telling(
    state: SweepState,
    belief: Belief,
    ahead: Ahead,
    levels: Sequence[float],
    *,
    affordable: float,
    most: float,
    by: str,
    worth: float = 1e-5,
) -> Extend | None:
    """The purchase that is expected to improve the choice ahead most per FLOP; None where nothing
    improves its log loss by `worth`, or nothing is affordable."""
    forecaster = belief.forecaster
    if forecaster is None or affordable <= 0:
        return None
    offers: list[Purchase] = []
    for candidate in state.pool.candidates:
        if forecaster.forecasts(candidate):
            found = purchases(state, candidate, np.array(levels), affordable=affordable, most=most)
            offers.extend(o for o in found if o.candidate.flops(o.tokens) <= 1.01 * max(levels))
    options = [(c, tokens) for c, tokens in ahead.options if forecaster.forecasts(c)]
    offers, options = _thinned(offers), _thinned(options)
    if not offers or len(options) < 2:
        return None
    asked = [*options, *((o.candidate, o.tokens) for o in offers)]
    found = forecaster.predict(
        [c for c, _ in asked], np.array([t for _, t in asked], np.int64), draws=DRAWS
    )
    if found.samples is None:
        return None
    gains = decision_gains(
        found.samples[:, : len(options)], found.samples[:, len(options) :], POINT_SD
    )
    rates = np.where(gains >= worth, gains, 0.0) / np.array([offer.flops for offer in offers])
    best = int(np.argmax(rates))
    if rates[best] <= 0:
        return None
    offer, place = offers[best], len(options) + best
    why = belief.why if belief.trusted else f"{by} may not choose yet: {belief.why}"
    return Extend(
        trial=offer.candidate.id,
        tokens=offer.tokens,
        reason=f"its next {offer.flops:.3g} FLOPs tell most per FLOP about {ahead.what}: the "
        f"expected loss of that choice falls by {100 * gains[best]:.2g} % ({why})",
        expected=Expectation(
            tokens=offer.tokens,
            loss=float(np.exp(found.mean[place])),
            sd=float(found.sd[place]),
            by=by,
        ),
    )


def _thinned(entries: list[_Entry]) -> list[_Entry]:
    """At most MOST_QUERIES of them, evenly from all over a large pool."""
    return entries[:: -(-len(entries) // MOST_QUERIES)] if entries else entries


def lowering(
    state: SweepState,
    belief: Belief,
    levels: FloatArray,
    *,
    affordable: float,
    most: float,
    by: str,
) -> Extend | None:
    """The purchase that is expected to lower the frontier over `levels` most per FLOP: the mean
    over the logarithm of compute of log loss. None where nothing would.

    The forecast of one curve is taken as wrong by one amount in sd all along it.
    """
    forecaster = belief.forecaster
    if forecaster is None or affordable <= 0:
        return None
    groups = [
        purchases(
            state,
            candidate,
            levels,
            affordable=affordable,
            most=most,
            least=DUST * state.terms.budget,
        )
        for candidate in state.pool.candidates
        if forecaster.forecasts(candidate)
    ]
    offers = [offer for group in groups for offer in group]
    if not offers:
        return None
    mean, sd = _forecasts(forecaster, offers)
    held = envelope(state, levels)
    weights = np.full(len(levels), 1 / len(levels))
    gains = np.zeros(len(offers))
    first = 0
    for group in groups:
        here = slice(first, first + len(group))
        first += len(group)
        if group:
            costs = [o.candidate.flops(o.tokens) * (1 - 1e-9) for o in group]
            samples = mean[here] + QUANTILES[:, None] * sd[here]
            reached = np.searchsorted(levels, costs).astype(np.int64)
            gains[here] = frontier_gains(held, weights, reached, samples)
    best = int(np.argmax(gains / np.array([offer.flops for offer in offers])))
    if gains[best] <= 0:
        return None
    offer = offers[best]
    return Extend(
        trial=offer.candidate.id,
        tokens=offer.tokens,
        reason=f"its next {offer.flops:.3g} FLOPs lower the frontier most per FLOP: by "
        f"{100 * gains[best]:.2g} % on the mean over compute, as {by} expects",
        expected=Expectation(
            tokens=offer.tokens,
            loss=float(np.exp(mean[best])),
            sd=float(sd[best]),
            by=by,
        ),
    )


def _forecasts(
    forecaster: Forecaster, offers: Sequence[Purchase]
) -> tuple[FloatArray, FloatArray]:
    """Mean and sd of log loss of each offer, asked in lots: a surrogate holds a covariance over
    all that it is asked at once."""
    parts = [
        forecaster.predict(
            [offer.candidate for offer in lot], np.array([o.tokens for o in lot], np.int64)
        )
        for lot in (offers[k : k + MOST_QUERIES] for k in range(0, len(offers), MOST_QUERIES))
    ]
    return np.concatenate([p.mean for p in parts]), np.concatenate([p.sd for p in parts])


def envelope(state: SweepState, levels: FloatArray) -> FloatArray:
    """Log loss along the frontier of what was bought, at each level: (levels,), never rising.

    Below the first point of any curve it is the worst loss that was seen.
    """
    lowest = np.full(len(levels), np.inf)
    worst = -math.inf
    for _, curve in observed_of(state):
        losses = np.log(np.minimum.accumulate(curve.loss))
        values = np.interp(np.log(levels), np.log(curve.flops), losses)
        lowest = np.minimum(
            lowest, np.where(levels >= curve.flops[0] * (1 - 1e-9), values, np.inf)
        )
        worst = max(worst, float(losses[0]))
    return np.minimum(np.minimum.accumulate(lowest), worst)
