"""Whether a surrogate's intervals hold what they promise, by how far they reach ahead.

From the prefixes that a sweep ended with: each trial's recorded loss at about 2, 4 and 8 times its
compute, against the surrogate's intervals there, rescaled by its backtest as the policies use
them. Only recorded points are asked about: between them a line would be judged, which misses the
bend of a young curve by more than an interval is wide. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from orchestrator.policies.searching import observed_of
from orchestrator.policies.trust import believed
from orchestrator.recorded import RecordedCurve
from orchestrator.state import SweepState
from orchestrator.surrogates.base import Surrogate
from orchestrator.values import Candidate

RATIOS = (2.0, 4.0, 8.0)
LEVELS = (0.5, 0.8, 0.95)
WIDTHS = tuple(NormalDist().inv_cdf(0.5 + level / 2) for level in LEVELS)
"""Half-widths of a normal's central intervals, in sd."""
NEAR = math.sqrt(2)
"""Targets nearer than this factor belong to a ratio: half the way to the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One recorded loss ahead of a prefix of `curve`, at about `ratio` times its compute: it lay
    `away` sd from the forecast."""

    ratio: float
    curve: str
    away: float


def covered(
    surrogate: Surrogate, state: SweepState, curves: Mapping[str, RecordedCurve]
) -> tuple[Target, ...]:
    """Every target; none where the surrogate has no forecast."""
    observed = observed_of(state)
    if not observed:
        return ()
    belief = believed(surrogate, observed, seed=state.terms.seed, gate=True)
    if belief.forecaster is None:
        return ()
    found: list[Target] = []
    for ratio in RATIOS:
        asked: list[tuple[Candidate, int, float]] = []
        for candidate, curve in observed:
            target = _nearest(curves[candidate.id], ratio * curve.last_tokens)
            if target is not None and belief.forecaster.forecasts(candidate):
                asked.append((candidate, *target))
        if not asked:
            continue
        forecast = belief.forecaster.predict(
            [each[0] for each in asked], np.array([each[1] for each in asked], np.int64)
        )
        z = np.abs(forecast.mean - np.array([each[2] for each in asked])) / forecast.sd
        found += [
            Target(ratio=ratio, curve=each[0].id, away=float(away))
            for each, away in zip(asked, z, strict=True)
        ]
    return tuple(found)


def _nearest(recorded: RecordedCurve, tokens: float) -> tuple[int, float] | None:
    """Tokens and log loss of the recorded point nearest `tokens`; None where the nearest is off by
    a factor of NEAR or more."""
    away = np.abs(np.log(recorded.tokens / tokens))
    place = int(np.argmin(away))
    if away[place] >= math.log(NEAR):
        return None
    return int(recorded.tokens[place]), math.log(recorded.loss[place])
