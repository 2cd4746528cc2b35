"""A surrogate whose forecasts are known, for the tests of policies: the law of `worlds`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.surrogates.base import NoForecast, Observed
from orchestrator.values import Candidate, Forecast, IntArray
from tests.orchestrator.worlds import chinchilla


@dataclass(frozen=True, slots=True, kw_only=True)
class Seer:
    """Knows the law that made the curves, to `sd`; with `sign` -1 it has them upside down. `shy`:
    it knows nothing of candidates that were not started."""

    sd: float = 0.01
    sign: int = 1
    shy: bool = False
    name: str = "seer"

    def fit(self, observed: Observed, *, seed: int) -> Seen:
        if not observed:
            raise NoForecast("no curve has a point yet")
        known = frozenset(candidate.id for candidate, _ in observed)
        return Seen(seer=self, known=known, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    seer: Seer
    known: frozenset[str]
    seed: int

    def forecasts(self, candidate: Candidate) -> bool:
        return not self.seer.shy or candidate.id in self.known

    def predict(
        self, candidates: Sequence[Candidate], tokens: IntArray, *, draws: int = 0
    ) -> Forecast:
        truth = np.log(
            [
                chinchilla(c.params, float(t), float(dict(c.settings).get("rate", 1.0)))
                for c, t in zip(candidates, tokens, strict=True)
            ]
        )
        mean = truth if self.seer.sign > 0 else 2 * 1.5 - truth
        noise = np.random.default_rng(self.seed).standard_normal((draws, len(mean)))
        samples = mean + self.seer.sd * noise if draws else None
        return Forecast(mean=mean, sd=np.full(len(mean), self.seer.sd), samples=samples)
