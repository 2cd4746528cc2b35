"""Trust before use: may a surrogate rank these trials, and how wide are its intervals really?

A backtest inside the prefixes at hand. At levels of compute that several trials have reached,
every curve (stopped ones included: survivors alone would flatter the surrogate) is cut at a part
of that compute, the surrogate is fitted to what is left, and its order at the level is compared
with the order of the losses at the cut, which is how plain halving would have ranked. It is
trusted only where it does better. How well the difference is known is told beside it: a jackknife
over trials, since all pairs of a trial, at every cut, share its luck (Efron and Stein 1981). To
ask for a lead of a standard error was tried and cost more than it saved: prefixes hold few pairs,
and the loss is no safe side to fall back to, since it misranks sizes.

The same scores say by how much its intervals are too narrow. They are widened by that, and never
narrowed: the targets of one fit share its law's error, so that they say little of a spread that is
too wide, and they lie nearer than what is forecast for a decision. Touches nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import numpy as np

from orchestrator.policies.portion import portion
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
    weighed by how far apart its losses ended; of `pairs` pairs. `error`: the standard error of
    their difference. `scale`: what to multiply the surrogate's sd by so that its 80 % intervals
    hold 80 % of the `targets` or more; at least 1.
    """

    by_surrogate: float
    by_loss: float
    error: float
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
        share = (
            f"{100 * self.by_surrogate:.1f} % of the pairs against {100 * self.by_loss:.1f} % by "
            f"current loss, a difference known to ± {100 * self.error:.1f} points"
        )
        if self.trusted:
            return f"{surrogate} ranks: in a backtest it ordered {share}"
        return f"the loss ranks: in a backtest {surrogate} ordered {share}"


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
    ballots: list[Ballot] = []
    scores: list[float] = []
    for level in _levels(observed):
        group = [(c, curve) for c, curve in observed if _reaches(curve, level)]
        for cut in CUTS:
            tried = _tried(surrogate, observed, group, level, level * cut, seed)
            if tried is not None:
                ballots.append(tried[0])
                scores.extend(tried[1])
    by_surrogate, by_loss, error = counted(ballots)
    return Backtest(
        by_surrogate=by_surrogate,
        by_loss=by_loss,
        error=error,
        pairs=sum(b.pairs for b in ballots) if math.isfinite(error) else 0,
        targets=len(scores),
        scale=_scale(scores),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """One cut: the trials by name, and of each its log loss at the level (`truth`), the one
    foreseen, and the `current` one at the cut."""

    names: tuple[str, ...]
    truth: FloatArray
    forecast: FloatArray
    current: FloatArray

    @property
    def pairs(self) -> int:
        return len(self.truth) * (len(self.truth) - 1) // 2


def counted(ballots: Sequence[Ballot]) -> tuple[float, float, float]:
    """Shares of the pairs put right by the surrogate and by the loss, and the standard error of
    the difference by leaving out one trial at a time; (0, 0, inf) where no pair lies apart."""
    names = sorted({name for ballot in ballots for name in ballot.names})
    place = {name: number for number, name in enumerate(names)}
    mine, theirs, weight = (np.zeros(len(names)) for _ in range(3))
    for ballot in ballots:
        first, second = np.triu_indices(len(ballot.truth), 1)
        apart = ballot.truth[first] - ballot.truth[second]
        heavy = np.abs(apart)
        here = np.array([place[name] for name in ballot.names])
        won = heavy * _ordered(ballot.forecast[first], ballot.forecast[second], apart)
        held = heavy * _ordered(ballot.current[first], ballot.current[second], apart)
        for ends in (here[first], here[second]):
            np.add.at(mine, ends, won)
            np.add.at(theirs, ends, held)
            np.add.at(weight, ends, heavy)
    # Each pair was counted at both of its trials.
    whole, lead = weight.sum() / 2, (mine - theirs).sum() / 2
    if whole <= 0:
        return 0.0, 0.0, math.inf
    left = whole - weight
    without = np.where(left > 0, (lead - (mine - theirs)) / np.where(left > 0, left, 1.0), 0.0)
    count = len(names)
    error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    return float(mine.sum() / 2 / whole), float(theirs.sum() / 2 / whole), error


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
) -> tuple[Ballot, list[float]] | None:
    """What the group is foreseen at the level from the cut, and the scores in sd of those that
    had begun by the cut."""
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
    if not (np.isfinite(found.mean).all() and np.isfinite(found.sd).all()):
        return None  # what is no number would be in no order, or in the right one by chance
    truth = np.array([_loss_at(curve, level) for _, curve in group])
    current = np.array(
        [math.log(curve.best_upto(_tokens_at(c, cut))) for c, curve in group], np.float64
    )
    # The forecast is of the curve joined with what was seen, as the ranking will use it.
    forecast = np.minimum(found.mean, current)
    begun = np.isfinite(current)
    z = np.abs(truth - found.mean)[begun] / found.sd[begun]
    ballot = Ballot(
        names=tuple(candidate.id for candidate in candidates),
        truth=truth,
        forecast=forecast,
        current=current,
    )
    return ballot, [float(value) for value in z]


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
    """The surrogate fitted to `observed`, or to a fair part of many curves, and what its backtest
    says of it. Without the `gate` it is trusted untested."""
    observed = portion(observed)
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


@dataclass(frozen=True)
class Believer:
    """Beliefs, each formed once for equal prefixes; policies that hand over to one another may
    share one."""

    _kept: Remembered[Belief] = field(default_factory=lambda: Remembered[Belief](), repr=False)

    def belief(self, surrogate: Surrogate, observed: Observed, *, seed: int, gate: bool) -> Belief:
        """As `believed`."""
        return self._kept.get(
            (surrogate.name, seed, gate, fingerprint(observed)),
            lambda: believed(surrogate, observed, seed=seed, gate=gate),
        )
