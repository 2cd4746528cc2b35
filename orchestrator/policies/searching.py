"""How policies that leave the halving skeleton look around: starts at several sizes, then what
tells most about the choices to come.

Where several workers are free, several runs are on their way at once. Each purchase then counts
those as if they had come out as expected, so that no two buy the same knowledge. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

import numpy as np

from orchestrator.policies.acquisition import (
    Purchase,
    decision_gains,
    frontier_gains,
    given,
    purchases,
)
from orchestrator.policies.ending import expected_regret
from orchestrator.policies.pricing import IN_FLOPS, Prices
from orchestrator.policies.textbook import by_ratio
from orchestrator.policies.trust import Belief
from orchestrator.state import SweepState
from orchestrator.surrogates.base import Forecaster
from orchestrator.values import (
    Candidate,
    Curve,
    Expectation,
    Extend,
    FloatArray,
    Scalar,
    flops_in_words,
)

_Entry = TypeVar("_Entry")
DRAWS = 256
MOST_QUERIES = 400
DUST = 2e-3
"""Less than this share of the budget is not worth a segment of its own."""
SAME_SIZE = 0.01
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


def flying(state: SweepState) -> list[tuple[Candidate, int]]:
    """(candidate, tokens it will have seen) of the trunks that run or wait."""
    return [
        (trial.candidate, trial.trunk.target)
        for trial in state.trials.values()
        if not trial.out and trial.trunk.unfinished
    ]


def free_slots(state: SweepState) -> int:
    """How many more trials could run now."""
    return state.unclaimed


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """The first trials of a sweep: `count` of them, each for `share` of the budget."""

    count: int = 4
    share: float = 0.01

    def decisions(self, state: SweepState, *, tokens_per_param: float) -> list[Extend]:
        """Candidates of different sizes, those nearest the textbook's for that compute; among
        those of one size, the one whose settings lie furthest from what was chosen before."""
        flops = self.share * state.terms.budget
        order = by_ratio(state.pool.candidates, flops, tokens_per_param, seed=state.terms.seed)
        places = _places(state.pool.candidates)
        chosen: list[Candidate] = []
        for wanted in (True, False):
            while len(chosen) < self.count:
                left = [c for c in order if c not in chosen and _new_size(c, chosen) is wanted]
                if not left:
                    break
                same = [c for c in left if abs(c.params / left[0].params - 1) <= SAME_SIZE]
                chosen.append(max(same, key=lambda c: _nearest(c, chosen, places)))
        return [
            Extend(
                trial=candidate.id,
                tokens=candidate.tokens_within(flops),
                reason=f"a start: one of the {len(chosen)} nearest the textbook's size for "
                f"{flops_in_words(flops)} FLOPs, so that a law can be fitted",
            )
            for candidate in chosen
        ]


def _new_size(candidate: Candidate, chosen: Sequence[Candidate]) -> bool:
    return all(abs(candidate.params / c.params - 1) > SAME_SIZE for c in chosen)


def _places(pool: Sequence[Candidate]) -> dict[str, dict[str, float]]:
    """Of each candidate each setting as its rank among the values of the pool, from 0 to 1."""
    found: dict[str, dict[str, float]] = {candidate.id: {} for candidate in pool}
    for key in sorted({key for candidate in pool for key, _ in candidate.settings}):
        values = {candidate.id: dict(candidate.settings).get(key) for candidate in pool}
        known = sorted(set(values.values()), key=_in_order)
        rank = {value: place / max(1, len(known) - 1) for place, value in enumerate(known)}
        for name, value in values.items():
            found[name][key] = rank[value]
    return found


def _in_order(value: Scalar | None) -> tuple[float, str]:
    """Numbers by size, then words."""
    return (float(value), "") if isinstance(value, int | float) else (math.inf, repr(value))


def _nearest(
    candidate: Candidate, chosen: Sequence[Candidate], places: Mapping[str, Mapping[str, float]]
) -> float:
    """How far the candidate's settings lie from the nearest of the chosen."""
    mine = places[candidate.id]
    return min(
        (sum(abs(mine[key] - places[c.id][key]) for key in mine) for c in chosen), default=0.0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """A choice that a search is for: each option (candidate, tokens it would end at)."""

    options: tuple[tuple[Candidate, int], ...]


def regret_ahead(belief: Belief, ahead: Ahead) -> float | None:
    """The log loss that a choice made now is expected to lose; None where no forecast is trusted
    to say."""
    forecaster = belief.forecaster
    if forecaster is None or not belief.trusted:
        return None
    options = [(c, t) for c, t in ahead.options if forecaster.forecasts(c)]
    options = _thinned(options, MOST_QUERIES)
    if len(options) < 2:
        return None
    tokens = np.array([t for _, t in options], np.int64)
    samples = forecaster.predict([c for c, _ in options], tokens, draws=DRAWS).samples
    return None if samples is None else expected_regret(samples)


def telling(
    state: SweepState,
    belief: Belief,
    ahead: Sequence[Ahead],
    levels: Sequence[float],
    *,
    what: str,
    affordable: float,
    most: float,
    by: str,
    worth: float = 1e-5,
    prices: Prices | None = None,
    least_rate: float = 0.0,
) -> Extend | None:
    """The purchase that is expected to improve the choices `ahead` (`what`, in words), on the mean
    over them, most for its price (in FLOPs without `prices`); None where nothing improves their
    log loss by `worth`, and by `least_rate` for each of the unit, or nothing is affordable."""
    prices = prices or IN_FLOPS.prices(state)
    forecaster = belief.forecaster
    if forecaster is None or affordable <= 0:
        return None
    offers: list[Purchase] = []
    for candidate in state.pool.candidates:
        if forecaster.forecasts(candidate):
            found = purchases(
                state,
                candidate,
                np.array(levels),
                affordable=affordable,
                most=most,
                least=DUST * state.terms.budget,
            )
            offers.extend(o for o in found if o.candidate.flops(o.tokens) <= 1.01 * max(levels))
    offers = _thinned(offers, MOST_QUERIES)
    choices = [[(c, t) for c, t in each.options if forecaster.forecasts(c)] for each in ahead]
    choices = [
        _thinned(options, MOST_QUERIES // len(ahead)) for options in choices if len(options) > 1
    ]
    if not offers or not choices:
        return None
    away = [(c, tokens) for c, tokens in flying(state) if forecaster.forecasts(c)]
    asked = [*away, *((o.candidate, o.tokens) for o in offers)]
    for options in choices:
        asked += options
    found = forecaster.predict(
        [c for c, _ in asked], np.array([t for _, t in asked], np.int64), draws=DRAWS
    )
    if found.samples is None:
        return None
    samples = given(found.samples, found.samples[:, : len(away)], POINT_SD)
    first = len(away) + len(offers)
    queries, gains = samples[:, len(away) : first], np.zeros(len(offers))
    for options in choices:
        targets = samples[:, first : first + len(options)]
        gains += decision_gains(targets, queries, POINT_SD) / len(choices)
        first += len(options)
    price = np.array([prices.to(offer.candidate, offer.tokens) for offer in offers])
    rates = np.where((gains >= worth) & (gains >= least_rate * price), gains, 0.0) / price
    best = int(np.argmax(rates))
    if rates[best] <= 0:
        return None
    offer, place = offers[best], len(away) + best
    why = belief.why if belief.trusted else f"{by} may not choose yet: {belief.why}"
    return Extend(
        trial=offer.candidate.id,
        tokens=offer.tokens,
        reason=f"its next {prices.told(offer.candidate, offer.tokens)} tell most per "
        f"{prices.each} about {what}: the expected loss of that choice falls by "
        f"{100 * gains[best]:.2g} % ({why})",
        expected=Expectation(
            tokens=offer.tokens,
            loss=float(np.exp(found.mean[place])),
            sd=float(found.sd[place]),
            by=by,
        ),
    )


def _thinned(entries: list[_Entry], most: int) -> list[_Entry]:
    """At most `most` of them, evenly from all over a large pool."""
    return entries[:: -(-len(entries) // most)] if entries else entries


def lowering(
    state: SweepState,
    belief: Belief,
    levels: FloatArray,
    *,
    affordable: float,
    most: float,
    by: str,
    prices: Prices | None = None,
    least_rate: float = 0.0,
) -> Extend | None:
    """The purchase that is expected to lower the frontier over `levels` most for its price: the
    mean over the logarithm of compute of log loss, in FLOPs without `prices`. None where nothing
    would, by `least_rate` for each of the unit.

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
    held = np.minimum(envelope(state, levels), _expected(state, forecaster, levels))
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
    prices = prices or IN_FLOPS.prices(state)
    price = np.array([prices.to(offer.candidate, offer.tokens) for offer in offers])
    best = int(np.argmax(gains / price))
    if gains[best] <= 0 or gains[best] < least_rate * price[best]:
        return None
    offer = offers[best]
    return Extend(
        trial=offer.candidate.id,
        tokens=offer.tokens,
        reason=f"its next {prices.told(offer.candidate, offer.tokens)} lower the frontier most "
        f"per {prices.each}: by "
        f"{100 * gains[best]:.2g} % on the mean over compute, as {by} expects",
        expected=Expectation(
            tokens=offer.tokens,
            loss=float(np.exp(mean[best])),
            sd=float(sd[best]),
            by=by,
        ),
    )


def _expected(state: SweepState, forecaster: Forecaster, levels: FloatArray) -> FloatArray:
    """Log loss along the frontier that runs on their way are expected to leave: (levels,),
    infinite where there is none."""
    lowest = np.full(len(levels), np.inf)
    for candidate, target in flying(state):
        if not forecaster.forecasts(candidate):
            continue
        done = state.trials[candidate.id].trunk.tokens
        ends = np.array([candidate.tokens_within(float(level)) for level in levels], np.int64)
        here = np.flatnonzero((ends > done) & (levels <= candidate.flops(target) * (1 + 1e-9)))
        if len(here):
            mean = forecaster.predict([candidate] * len(here), ends[here]).mean
            lowest[here] = np.minimum(lowest[here], mean)
    return np.minimum.accumulate(lowest)


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
