"""Ranking by what a surrogate foresees at the last rung's compute (arXiv 2605.17234, as its
"SH + surrogate"), behind a gate: where a backtest on the prefixes at hand does not show that the
surrogate ranks better than the current loss, the current loss ranks.

The score of a trial is the lowest loss of its measured prefix joined with the forecast. The gate
off, the surrogate always ranks, as published, and that is all it does. Behind the gate, a trusted
forecast also says who has no chance left (in the manner of Domhan, Springenberg and Hutter 2015):
what they would have cost goes to the best in the end. Where trials are many, they are forecast in
lots, and a portion of them is the backtest. Touches nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from orchestrator.policies.portion import in_lots, portion
from orchestrator.policies.ranking import ByLoss, Standing, Verdict
from orchestrator.policies.trust import Backtest, Remembered, Rescaled, backtest, fingerprint
from orchestrator.surrogates.base import NoForecast, Surrogate
from orchestrator.values import Expectation, FloatArray, Forecast

DRAWS = 256
LEAST_SD = 0.004
"""Of a difference: two evaluations at the same place differ by about as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByForecast:
    """Ranks by `surrogate` where it is trusted; always, without the `gate`. `certainty`: by how
    many sd of the difference a trial must be foreseen above the best to have no chance."""

    surrogate: Surrogate
    gate: bool = True
    certainty: float = 2.0
    _seen: Remembered[Verdict] = field(
        default_factory=lambda: Remembered[Verdict](), repr=False, compare=False
    )

    @property
    def name(self) -> str:
        return self.surrogate.name

    def verdict(self, standing: Standing) -> Verdict:
        key = (
            standing.rung,
            standing.final_flops,
            standing.seed,
            standing.lost,
            tuple(candidate.id for candidate in standing.live),
            fingerprint(standing.observed),
        )
        return self._seen.get(key, lambda: self._verdict(standing))

    def _verdict(self, standing: Standing) -> Verdict:
        test: Backtest | None = None
        why = f"{self.name} ranks, untested"
        if self.gate:
            test = backtest(self.surrogate, portion(standing.observed), seed=standing.seed)
            why = test.said(self.name)
        plain = Verdict(scores=ByLoss().verdict(standing).scores, why=why, expected={})
        if test is not None and not test.trusted:
            return plain
        try:
            return self._foreseen(standing, test.scale if test is not None else 1.0, why)
        except NoForecast as error:
            return Verdict(
                scores=plain.scores,
                why=f"the loss ranks: {self.name} has no forecast ({error})",
                expected={},
            )

    def _foreseen(self, standing: Standing, scale: float, why: str) -> Verdict:
        fitted = in_lots(self.surrogate, standing.observed, seed=standing.seed)
        forecaster = Rescaled(forecaster=fitted, scale=scale)
        asked = [
            candidate
            for candidate in standing.live
            if candidate.id not in standing.lost and forecaster.forecasts(candidate)
        ]
        scores = {
            name: loss if name not in standing.lost else math.inf
            for name, loss in standing.losses.items()
        }
        expected: dict[str, Expectation] = {}
        hopeless: frozenset[str] = frozenset()
        if asked:
            ends = [candidate.tokens_within(standing.final_flops) for candidate in asked]
            draws = DRAWS if self.gate and len(fitted.fits) == 1 else 0
            found = forecaster.predict(asked, np.array(ends, np.int64), draws=draws)
            for place, candidate in enumerate(asked):
                foreseen = math.exp(float(found.mean[place]))
                if foreseen < scores[candidate.id]:
                    scores[candidate.id] = foreseen
                    expected[candidate.id] = Expectation(
                        tokens=ends[place],
                        loss=foreseen,
                        sd=float(found.sd[place]),
                        by=self.name,
                    )
            if self.gate:
                current = np.log([standing.losses[candidate.id] for candidate in asked])
                sure = _behind(found, current) > self.certainty
                hopeless = frozenset(c.id for c, no in zip(asked, sure, strict=True) if no)
        return Verdict(scores=scores, why=why, expected=expected, hopeless=hopeless)


def _behind(found: Forecast, current: FloatArray) -> FloatArray:
    """By how many sd of the difference each is foreseen above the best: (queries,). `current`: log
    losses seen, which a forecast cannot rise above. Without joint samples errors count as
    independent, which is cautious: most of what a surrogate has wrong it has wrong for all."""
    mean = np.minimum(found.mean, current)
    best = int(np.argmin(mean))
    if found.samples is None:
        spread = np.hypot(found.sd, found.sd[best])
    else:
        samples = np.minimum(found.samples, current)
        spread = (samples - samples[:, best, None]).std(axis=0)
    return (mean - mean[best]) / np.maximum(spread, LEAST_SD)
