"""Which candidate to put a compute on: the textbook's size unless the forecasts know better.

The rule of Hoffmann et al. 2022 (arXiv 2203.15556) names a size for the compute. Among the
candidates that it cannot tell apart, and against it, forecasts decide, but against it only where
they expect less loss by `certainty` sd of the difference. Where the surrogate failed its backtest,
the losses seen decide among those alike, as far as the leaders got (`lowest`). A trial that has
points and is not forecast all the same, as one whose loss has risen for good, is no option while
there are others: its lowest loss lies behind it. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.policies.textbook import alike, by_ratio
from orchestrator.policies.trust import Belief
from orchestrator.state import SweepState
from orchestrator.surrogates.base import Forecaster
from orchestrator.values import Candidate, Expectation, FloatArray, flops_in_words

DRAWS = 256
ENOUGH_POINTS = 3
"""For any surrogate to forecast the rest of a curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`tokens_per_param` of the textbook; `certainty`: by how many sd of the difference a forecast
    must be better to overrule it."""

    tokens_per_param: float = 20.0
    certainty: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A candidate, the tokens it would end at, the forecast there, and why it was chosen."""

    candidate: Candidate
    tokens: int
    expected: Expectation | None
    why: str


def chosen(
    state: SweepState,
    options: Sequence[tuple[Candidate, int]],
    flops: float,
    belief: Belief,
    rule: Rule,
    *,
    by: str,
    incumbent: str | None = None,
) -> Choice:
    """The option (candidate, tokens at its end) to choose for `flops`.

    `incumbent`, a trial on its way already, stands in the textbook's place; `by` is the
    surrogate's name. Where it forecasts none of those that stand, they stand. Raises ValueError
    without options.
    """
    if not options:
        raise ValueError("nothing to choose from")
    forecaster = belief.forecaster
    options = [(c, t) for c, t in options if not _refused(state, c, forecaster)] or options
    candidates = [candidate for candidate, _ in options]
    standing = [c for c in candidates if c.id == incumbent]
    role = "it is on its way"
    if not standing:
        standing = alike(candidates, flops, rule.tokens_per_param)
        standing = by_ratio(standing, flops, rule.tokens_per_param, seed=state.terms.seed)
        role = (
            f"the textbook's size for {flops_in_words(flops)} FLOPs, {rule.tokens_per_param:g} "
            "tokens a "
            "parameter"
        )
    mute = forecaster is None or not any(forecaster.forecasts(c) for c in standing)
    if forecaster is None or mute or not belief.trusted:
        first = lowest(state, standing)
        tokens = dict((c.id, t) for c, t in options)[first.id]
        return Choice(candidate=first, tokens=tokens, expected=None, why=f"{role}; {belief.why}")
    return _forecast(state, options, standing, forecaster, rule, by, f"{role}; {belief.why}")


def _refused(state: SweepState, candidate: Candidate, forecaster: Forecaster | None) -> bool:
    """Whether a trial has points enough for a forecast, and the surrogate gives none."""
    trial = state.trials.get(candidate.id)
    if forecaster is None or trial is None or len(trial.curve) < ENOUGH_POINTS:
        return False
    return not forecaster.forecasts(candidate)


def _forecast(
    state: SweepState,
    options: Sequence[tuple[Candidate, int]],
    standing: Sequence[Candidate],
    forecaster: Forecaster,
    rule: Rule,
    by: str,
    role: str,
) -> Choice:
    able = [(c, tokens) for c, tokens in options if forecaster.forecasts(c)]
    found = forecaster.predict(
        [c for c, _ in able], np.array([tokens for _, tokens in able], np.int64), draws=DRAWS
    )
    samples = found.samples
    if samples is None:
        raise ValueError(f"{by} gave no samples, which a choice between candidates needs")
    names = {c.id for c in standing}
    here = [place for place, (c, _) in enumerate(able) if c.id in names]
    anchor = min(here, key=lambda place: float(found.mean[place]))
    better = _sd_better(samples, found.mean, anchor)
    contenders = [p for p in range(len(able)) if better[p] >= rule.certainty] or [anchor]
    place = min(contenders, key=lambda p: float(found.mean[p]))
    candidate, tokens = able[place]
    expected = Expectation(
        tokens=tokens,
        loss=math.exp(float(found.mean[place])),
        sd=float(found.sd[place]),
        by=by,
    )
    why = role
    if place != anchor:
        why = (
            f"{expected.loss:.4f} is foreseen, {better[place]:.1f} sd below the "
            f"{math.exp(float(found.mean[anchor])):.4f} of {able[anchor][0].id} ({role})"
        )
    return Choice(candidate=candidate, tokens=tokens, expected=expected, why=why)


def _sd_better(samples: FloatArray, mean: FloatArray, anchor: int) -> FloatArray:
    """By how many sd of the difference each option is expected below the anchor."""
    spread = (samples[:, anchor, None] - samples).std(axis=0)
    better = (mean[anchor] - mean) / np.maximum(spread, 1e-9)
    better[anchor] = -np.inf
    return better


def lowest(state: SweepState, candidates: Sequence[Candidate]) -> Candidate:
    """The candidate with the lowest loss where all have been. The one that ran least sets that
    compute: behind there, it is out, and the others are compared as far as they got."""
    left = list(candidates)
    while True:
        level = common(state, left)
        first = min(left, key=lambda c: seen(state, c, level))
        further = [c for c in left if _reached(state, c) > level]
        if first not in further:
            return first
        left = further


def _reached(state: SweepState, candidate: Candidate) -> float:
    """The compute of the last point; -infinite for a candidate without one."""
    if not math.isfinite(seen(state, candidate)):
        return -math.inf
    return float(state.trials[candidate.id].curve.flops[-1])


def common(state: SweepState, candidates: Sequence[Candidate]) -> float:
    """The compute that all of the candidates with points have reached; infinite without any."""
    curves = [state.trials[c.id].curve for c in candidates if math.isfinite(seen(state, c))]
    return min((float(curve.flops[-1]) for curve in curves), default=math.inf)


def seen(state: SweepState, candidate: Candidate, flops: float = math.inf) -> float:
    """The lowest loss seen of a candidate, within `flops`; infinite for one without. Before its
    first point a curve stands at it."""
    trial = state.trials.get(candidate.id)
    if trial is None or trial.diverged is not None or not len(trial.curve):
        return math.inf
    curve = trial.curve
    if flops >= curve.flops[-1]:
        return float(curve.loss.min())
    lowest = np.minimum.accumulate(curve.loss)
    return float(np.interp(math.log(flops), np.log(curve.flops), lowest))
