"""What a surrogate reads of the observed curves: a few rows a curve, in an order of its own.

Touches nothing. Points in warm-up are left out where others remain, the first tenth of a curve's
own tokens too (its shape there is no power law: Choshen et al. 2025), and the rest is averaged in
bins even in log tokens, which costs a smooth curve nothing and makes an exact GP over thirty
curves a matter of milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.surrogates.base import NoForecast, Observed
from orchestrator.values import Candidate, Curve, FloatArray, IntArray

BURN_IN = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Curves as rows. candidates (trials,); trial, log_tokens, log_loss, share (rows,).

    trial is an index into candidates; share the row's tokens by its curve's last, in (0, 1].
    """

    candidates: tuple[Candidate, ...]
    trial: IntArray
    log_tokens: FloatArray
    log_loss: FloatArray
    share: FloatArray

    def __len__(self) -> int:
        return len(self.trial)


def in_order(observed: Observed) -> list[tuple[Candidate, Curve]]:
    """The observed curves that have points, by the candidate's name: what is fitted then never
    depends on the order of arrival. Raises NoForecast where there is none."""
    known = sorted((pair for pair in observed if len(pair[1])), key=lambda pair: pair[0].id)
    if not known:
        raise NoForecast("no curve has a point yet; start a trial before asking for forecasts")
    for candidate, curve in known:
        if not (curve.loss > 0).all():
            raise NoForecast(
                f"trial {candidate.id} has a loss of {curve.loss.min():g}, which has no logarithm;"
                " leave it out or report losses in nats per token"
            )
    return known


def rows_of(observed: Observed, *, most: int, burn_in: float = BURN_IN) -> Rows:
    """Rows of the observed curves, at most `most` in all but at least two a curve.

    Raises NoForecast where no curve has a point.
    """
    known = in_order(observed)
    bins = int(np.clip(most // len(known), 2, 10))
    parts = [_thinned(curve, bins, burn_in) for _, curve in known]
    log_tokens = np.concatenate([part[0] for part in parts])
    last = np.repeat(
        [np.log(float(curve.last_tokens)) for _, curve in known], [len(p[0]) for p in parts]
    )
    return Rows(
        candidates=tuple(candidate for candidate, _ in known),
        trial=np.repeat(np.arange(len(known)), [len(part[0]) for part in parts]),
        log_tokens=log_tokens,
        log_loss=np.concatenate([part[1] for part in parts]),
        share=np.exp(np.minimum(log_tokens - last, 0.0)),
    )


def usable(curve: Curve, burn_in: float) -> tuple[FloatArray, FloatArray]:
    """Log tokens and log loss of a curve's points past warm-up and burn-in; never empty."""
    tokens = curve.tokens.astype(np.float64)
    settled = np.array([phase != "warmup" for phase in curve.phases])
    keep = (settled if settled.any() else ~settled) & (tokens >= burn_in * tokens[-1])
    if not keep.any():
        keep[-1] = True
    return np.log(tokens[keep]), np.log(curve.loss[keep])


def _thinned(curve: Curve, bins: int, burn_in: float) -> tuple[FloatArray, FloatArray]:
    x, y = usable(curve, burn_in)
    if len(x) <= bins:
        return x, y
    edges = np.linspace(x[0], x[-1], bins + 1)[1:-1]
    place = np.searchsorted(edges, x, side="right")
    count = np.bincount(place, minlength=bins)
    full = count > 0
    sums = [np.bincount(place, weights=values, minlength=bins)[full] for values in (x, y)]
    return sums[0] / count[full], sums[1] / count[full]
