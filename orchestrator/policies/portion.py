"""Which curves one fit is given where there are many.

A fit of n curves costs a surrogate n^2 to n^3, and a sweep may hold a thousand. A `portion` keeps
those that matter for a choice, the lowest losses, and a spread over the sizes of all others, which
is what carries a law. Where every one of many trials must be told apart (halving), they are fitted
`in_lots`: each lot beside the same portion, so that the cost grows with their number. Touches
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.surrogates.base import Forecaster, Observed, Surrogate
from orchestrator.values import Candidate, FloatArray, Forecast, IntArray

MOST_CURVES = 60
"""Curves of one fit: the usual surrogates then take about a second or less."""


def portion(observed: Observed, most: int = MOST_CURVES) -> Observed:
    """At most `most` of the curves: half of them those with the lowest losses, the others evenly
    from the rest by size. The same for any order of arrival."""
    if len(observed) <= most:
        return observed
    by_loss = sorted(observed, key=lambda pair: (float(pair[1].loss.min()), pair[0].id))
    low, rest = by_loss[: most // 2], by_loss[most // 2 :]
    rest.sort(key=lambda pair: (pair[0].params, pair[0].id))
    places: FloatArray = np.linspace(0, len(rest) - 1, most - len(low)).round()
    return [*low, *(rest[int(place)] for place in places)]


def in_lots(
    surrogate: Surrogate, observed: Observed, *, seed: int, most: int = MOST_CURVES
) -> Lots:
    """The surrogate fitted to all curves, `most` at a time. Raises NoForecast as it does."""
    core = portion(observed, most // 2) if len(observed) > most else observed
    names = {candidate.id for candidate, _ in core}
    others = [pair for pair in observed if pair[0].id not in names]
    size = most - len(core)
    parts = [others[k : k + size] for k in range(0, len(others), size)] or [others]
    fits = tuple(surrogate.fit([*core, *part], seed=seed) for part in parts)
    home = {candidate.id: k for k, part in enumerate(parts) for candidate, _ in part}
    return Lots(fits=fits, home=tuple(home.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lots:
    """Forecasters of the lots. `home`: (candidate, lot that holds it); others go to the first."""

    fits: tuple[Forecaster, ...]
    home: tuple[tuple[str, int], ...]

    def forecasts(self, candidate: Candidate) -> bool:
        return self.fits[dict(self.home).get(candidate.id, 0)].forecasts(candidate)

    def predict(
        self, candidates: Sequence[Candidate], tokens: IntArray, *, draws: int = 0
    ) -> Forecast:
        """As a forecaster's; joint samples are refused, since lots share none."""
        if len(self.fits) == 1:
            return self.fits[0].predict(candidates, tokens, draws=draws)
        if draws:
            raise ValueError("lots have no joint samples; ask one fit of a portion for them")
        home = dict(self.home)
        lots = np.array([home.get(candidate.id, 0) for candidate in candidates], np.int64)
        mean, sd = np.empty(len(lots)), np.empty(len(lots))
        for lot, fit in enumerate(self.fits):
            here = np.flatnonzero(lots == lot)
            if not len(here):
                continue
            found = fit.predict([candidates[int(k)] for k in here], tokens[here])
            mean[here], sd[here] = found.mean, found.sd
        return Forecast(mean=mean, sd=sd)
