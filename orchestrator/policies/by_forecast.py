"""Ranking by what a surrogate foresees at the last rung's compute (arXiv 2605.17234, as its
"SH + surrogate"), behind a gate: where a backtest on the prefixes at hand does not show that the
surrogate ranks better than the current loss, the current loss ranks.

The score of a trial is the lowest loss of its measured prefix joined with the forecast. The gate
off, the surrogate always ranks, as published. Where trials are many, they are forecast in lots,
and a portion of them is the backtest. Touches nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from orchestrator.policies.portion import in_lots, portion
from orchestrator.policies.ranking import ByLoss, Standing, Verdict
from orchestrator.policies.trust import Backtest, Remembered, Rescaled, backtest, fingerprint
from orchestrator.surrogates.base import NoForecast, Surrogate
from orchestrator.values import Expectation


@dataclass(frozen=True, slots=True, kw_only=True)
class ByForecast:
    """Ranks by `surrogate` where it is trusted; always, without the `gate`."""

    surrogate: Surrogate
    gate: bool = True
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
        if asked:
            ends = [candidate.tokens_within(standing.final_flops) for candidate in asked]
            found = forecaster.predict(asked, np.array(ends, np.int64))
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
        return Verdict(scores=scores, why=why, expected=expected)
