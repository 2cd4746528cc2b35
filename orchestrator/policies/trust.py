"""Trust before use: may a surrogate rank these trials, and how wide are its intervals really?

A backtest inside the prefixes at hand. At levels of compute that several trials have reached,
every curve (stopped ones included: survivors alone would flatter the surrogate) is cut at a part
of that compute, the surrogate is fitted to what is left, and its order at the level is compared
with the order of the losses at the cut, which is how plain halving would have ranked. It is
trusted only where it does better. The same scores say by how much its intervals are too narrow.
They are widened by that, and never narrowed: the targets of one fit share its law's error, so that
they say little of a spread that is too wide, and they lie nearer than what is forecast for a
decision. Touches nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np

from orchestrator.surrogates.base import Forecaster, NoForecast, Observed, Surrogate
from orchestrator.values import Candidate, Curve, FloatArray, Forecast, IntArray

CUTS = (0.5, 0.25)
"""Where curves are cut, as parts of the level's compute."""
LEAST_TRIALS = 3
"""Fewer trials at a level say nothing about an order."""
CENTRAL_80 = 1.2816
"""Half-width of a normal's central 80 % interval, in sd."""
DOUBTED = 6.0
"""Targets that a scale of 1 counts as: few targets move the intervals little."""
WIDEST = 4.0
"""The most that intervals are widened by."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """How a surrogate did on prefixes of the prefixes.

    `by_surrogate`, `by_loss`: the share of pairs of trials put in the right order, each pair
    weighed by how far apart its losses ended; of `pairs` pairs. `scale`: what to multiply the
    surrogate's sd by so that its 80 % intervals hold 80 % of the `targets` or more; at least 1.
    """

    by_surrogate: float
    by_loss: float
    pairs: int
    targets: int
    scale: float

    @property
    def trusted(self) -> bool:
        return self.pairs > 0 and self.by_surrogate > self.by_loss

    def said(self, surrogate: str) -> str:
        """In words, for the reason of a decision."""
        if not self.pairs:
            return f"{surrogate} could not be tested on these prefixes, so the loss ranks"
        share = f"{100 * self.by_surrogate:.1f} % of the pairs against {100 * self.by_loss:.1f} %"
        if self.trusted:
            return f"{surrogate} ranks: in a backtest it ordered {share} by current loss"
        return f"the loss ranks: in a backtest {surrogate} ordered {share} by current loss"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescaled:
    """A forecaster with its spread about the mean multiplied by `scale`."""

    forecaster: Forecaster
    scale: float

    def forecasts(self, candidate: Candidate) -> bool:
        return self.forecaster.forecasts(candidate)

    def predict(
        self, candidates: Sequence[Candidate], tokens: IntArray, *, draws: int = 0
    ) -> Forecast:
        found = self.forecaster.predict(candidates, tokens, draws=draws)
        samples = found.samples
        if samples is not None:
            samples = found.mean + self.scale * (samples - found.mean)
        return replace(found, sd=self.scale * found.sd, samples=samples)


def backtest(surrogate: Surrogate, observed: Observed, *, seed: int) -> Backtest:
    """The score of `surrogate` on `observed`; of no pairs where the prefixes carry no test."""
    mine = theirs = weight = 0.0
    pairs = 0
    scores: list[float] = []
    for level in _levels(observed):
        group = [(c, curve) for c, curve in observed if _reaches(curve, level)]
        for cut in CUTS:
            tried = _tried(surrogate, observed, group, level, level * cut, seed)
            if tried is None:
                continue
            truth, forecast, current, z = tried
            scores.extend(z)
            first, second = np.triu_indices(len(truth), 1)
            apart = truth[first] - truth[second]
            weights = np.abs(apart)
            weight += float(weights.sum())
            pairs += len(first)
            mine += float(weights @ _ordered(forecast[first], forecast[second], apart))
            theirs += float(weights @ _ordered(current[first], current[second], apart))
    if weight <= 0:
        return Backtest(
            by_surrogate=0.0, by_loss=0.0, pairs=0, targets=len(scores), scale=_scale(scores)
        )
    return Backtest(
        by_surrogate=mine / weight,
        by_loss=theirs / weight,
        pairs=pairs,
        targets=len(scores),
        scale=_scale(scores),
    )


def _levels(observed: Observed) -> list[float]:
    """Compute at which to score: where most trials are, and the furthest that enough reached."""
    ends = sorted((float(curve.flops[-1]) for _, curve in observed), reverse=True)
    if len(ends) < LEAST_TRIALS:
        return []
    furthest = ends[LEAST_TRIALS - 1]
    broadest = ends[max(LEAST_TRIALS, math.ceil(0.75 * len(ends))) - 1]
    return [furthest] if furthest < 1.5 * broadest else [broadest, furthest]


def _reaches(curve: Curve, level: float) -> bool:
    return curve.flops[0] <= level <= curve.flops[-1] * (1 + 1e-6)


def _tried(
    surrogate: Surrogate,
    observed: Observed,
    group: Observed,
    level: float,
    cut: float,
    seed: int,
) -> tuple[FloatArray, FloatArray, FloatArray, list[float]] | None:
    """(truth, forecast, loss at the cut) of each trial of the group, in log loss, and the scores
    of those that had begun by the cut in sd."""
    known = [(c, curve.upto(_tokens_at(c, cut))) for c, curve in observed]
    known = [(c, curve) for c, curve in known if len(curve)]
    if len(known) < LEAST_TRIALS:
        return None
    try:
        forecaster = surrogate.fit(known, seed=seed)
        group = [(c, curve) for c, curve in group if forecaster.forecasts(c)]
        if len(group) < LEAST_TRIALS:
            return None
        candidates = [candidate for candidate, _ in group]
        tokens = np.array([_tokens_at(c, level) for c in candidates], np.int64)
        found = forecaster.predict(candidates, tokens)
    except NoForecast:
        return None
    truth = np.array([_loss_at(curve, level) for _, curve in group])
    current = np.array(
        [math.log(curve.best_upto(_tokens_at(c, cut))) for c, curve in group], np.float64
    )
    # The forecast is of the curve joined with what was seen, as the ranking will use it.
    forecast = np.minimum(found.mean, current)
    begun = np.isfinite(current)
    z = np.abs(truth - found.mean)[begun] / found.sd[begun]
    return truth, forecast, current, [float(value) for value in z]


def _tokens_at(candidate: Candidate, flops: float) -> int:
    return max(1, math.floor(flops / candidate.flops_per_token * (1 + 1e-9)))


def _loss_at(curve: Curve, flops: float) -> float:
    return float(np.interp(math.log(flops), np.log(curve.flops), np.log(curve.loss)))


def _ordered(first: FloatArray, second: FloatArray, apart: FloatArray) -> FloatArray:
    """1 where a pair is in the order of `apart`, 1/2 where it is tied, else 0."""
    tied = first == second
    right = (first > second) == (apart > 0)
    return np.where(tied, 0.5, right.astype(np.float64))


def _scale(scores: Sequence[float]) -> float:
    """The factor on the sd, 1 or more, drawn towards 1 where the targets are few."""
    if not scores:
        return 1.0
    raw = max(float(np.quantile(scores, 0.8)) / CENTRAL_80, 1e-3)
    scale = math.exp(math.log(raw) * len(scores) / (len(scores) + DOUBTED))
    return min(max(scale, 1.0), WIDEST)


def fingerprint(observed: Observed) -> tuple[object, ...]:
    """What a surrogate reads of the observed curves, as a key: equal only for equal content."""
    return tuple(
        (
            candidate,
            curve.tokens.tobytes(),
            curve.flops.tobytes(),
            curve.loss.tobytes(),
            curve.phases,
        )
        for candidate, curve in observed
    )


@dataclass(frozen=True)
class Remembered(Generic[_Value]):
    """A cache keyed by content: what was computed before is not computed again, and nothing
    else. Holds the latest `most`."""

    most: int = 64
    _kept: OrderedDict[object, _Value] = field(
        default_factory=lambda: OrderedDict[object, _Value](), repr=False
    )

    def get(self, key: object, compute: Callable[[], _Value]) -> _Value:
        if key not in self._kept:
            self._kept[key] = compute()
            if len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return self._kept[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """What may be believed of the prefixes at hand.

    `forecaster`: None where the surrogate has nothing to say; its spread is rescaled already.
    `trusted`: whether it may choose against the current loss. `why`: in words.
    """

    forecaster: Forecaster | None
    trusted: bool
    why: str


def believed(surrogate: Surrogate, observed: Observed, *, seed: int, gate: bool) -> Belief:
    """The surrogate fitted to `observed`, and what its backtest says of it. Without the `gate` it
    is trusted untested."""
    try:
        fitted = surrogate.fit(observed, seed=seed)
    except NoForecast as error:
        why = f"the loss ranks: {surrogate.name} has no forecast ({error})"
        return Belief(forecaster=None, trusted=False, why=why)
    if not gate:
        return Belief(forecaster=fitted, trusted=True, why=f"{surrogate.name} ranks, untested")
    test = backtest(surrogate, observed, seed=seed)
    return Belief(
        forecaster=Rescaled(forecaster=fitted, scale=test.scale),
        trusted=test.trusted,
        why=test.said(surrogate.name),
    )
