"""A curve of some family through each trial's own points, each trial alone.

Touches memory only. The humblest surrogates, and the rivals of arXiv 2605.17234: power law,
exponential, MMF, and a straight line in logs. Weak priors hold what few points leave open, and the
spread is that of the coefficients (Laplace) with a doubt of the family itself, which grows in
proportion to the log of the extrapolation. The sizes of noise and of that doubt are set by hand
and fitted to no data: intervals want the backtest of whoever relies on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.surrogates.base import Forecaster, NoForecast, Observed
from orchestrator.surrogates.families import POWER_LAW, Family
from orchestrator.surrogates.gaussian import draw
from orchestrator.surrogates.prefixes import rows_of
from orchestrator.threads import one_thread
from orchestrator.values import Candidate, FloatArray, Forecast, IntArray

ROWS_A_CURVE = 10
STEPS = 40
NOISE = 0.003  # sd of a late row, log loss, at least
DOUBT = 0.015  # sd of the family itself an e-fold beyond the last point


@dataclass(frozen=True, slots=True, kw_only=True)
class PerCurve:
    """The surrogate. Forecasts trials with two points or more, and nothing that never started."""

    family: Family = POWER_LAW

    @property
    def name(self) -> str:
        return self.family.name

    @one_thread
    def fit(self, observed: Observed, *, seed: int) -> Forecaster:
        """Raises NoForecast where no curve has two points."""
        rows = rows_of(observed, most=ROWS_A_CURVE * len(observed))
        known: dict[str, _Curve] = {}
        for place, candidate in enumerate(rows.candidates):
            mine = rows.trial == place
            if int(mine.sum()) >= 2:
                known[candidate.id] = _fitted(
                    self.family, rows.log_tokens[mine], rows.log_loss[mine], rows.share[mine]
                )
        if not known:
            raise NoForecast(f"{self.name} needs a curve of two points; wait for more evaluations")
        return _Fitted(name=self.name, curves=known, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """One fitted curve. last: log tokens of its last row; covariance of the coefficients."""

    family: Family
    coefficients: FloatArray
    covariance: FloatArray
    last: float

    def forecast(self, log_tokens: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean (queries,) and covariance (queries, queries)."""
        x = log_tokens - self.last
        slopes = self.family.slopes(self.coefficients, x)
        beyond = DOUBT * np.maximum(x, 0.0)
        covariance = slopes @ self.covariance @ slopes.T + np.outer(beyond, beyond)
        return self.family.log_loss(self.coefficients, x), covariance


def _fitted(
    family: Family, log_tokens: FloatArray, log_loss: FloatArray, share: FloatArray
) -> _Curve:
    """The most probable coefficients by damped Gauss-Newton, and the covariance about them."""
    x, root = log_tokens - log_tokens[-1], np.sqrt(share) / NOISE
    mean, sd = family.prior_mean(float(log_loss.min())), np.array(family.sd)
    values, damping = mean, 1e-2
    objective, residual = _stand(family, values, mean, sd, x, log_loss, root)
    for _ in range(STEPS):
        slopes = family.slopes(values, x) * root[:, None]
        precision = slopes.T @ slopes + np.diag(sd**-2.0)
        pull = slopes.T @ residual - (values - mean) / sd**2
        damped = precision + damping * np.diag(precision.diagonal())
        there = values + np.clip(np.linalg.solve(damped, pull), -1.0, 1.0)
        gained = objective - (found := _stand(family, there, mean, sd, x, log_loss, root))[0]
        if gained > 0:
            values, damping = there, damping * 0.2
            objective, residual = found
            if gained < 1e-9 * (1.0 + objective):
                break
        else:
            damping *= 8.0
    slopes = family.slopes(values, x) * root[:, None]
    scatter = max(1.0, float(residual @ residual) / len(x))  # a family that fits badly says so
    precision = slopes.T @ slopes / scatter + np.diag(sd**-2.0)
    return _Curve(
        family=family,
        coefficients=values,
        covariance=np.asarray(np.linalg.inv(precision), dtype=np.float64),
        last=float(log_tokens[-1]),
    )


def _stand(
    family: Family,
    values: FloatArray,
    mean: FloatArray,
    sd: FloatArray,
    x: FloatArray,
    log_loss: FloatArray,
    root: FloatArray,
) -> tuple[float, FloatArray]:
    """The objective and the weighted residuals; infinite where the family overflows."""
    with np.errstate(all="ignore"):
        residual = (log_loss - family.log_loss(values, x)) * root
        objective = float(residual @ residual + (((values - mean) / sd) ** 2).sum())
    return (objective if np.isfinite(objective) else np.inf), residual


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """Curves by the names of their trials."""

    name: str
    curves: dict[str, _Curve]
    seed: int

    def forecasts(self, candidate: Candidate) -> bool:
        return candidate.id in self.curves

    @one_thread
    def predict(
        self, candidates: Sequence[Candidate], tokens: IntArray, *, draws: int = 0
    ) -> Forecast:
        names = np.array([candidate.id for candidate in candidates])
        mean, covariance = np.empty(len(names)), np.zeros((len(names), len(names)))
        log_tokens = np.log(tokens.astype(np.float64))
        for name in dict.fromkeys(names.tolist()):
            if name not in self.curves:
                raise NoForecast(f"{self.name} has fewer than two points of {name}")
            mine = np.flatnonzero(names == name)
            mean[mine], covariance[np.ix_(mine, mine)] = self.curves[name].forecast(
                log_tokens[mine]
            )
        sd = np.sqrt(np.maximum(covariance.diagonal(), 1e-12))
        samples = draw(mean, covariance, draws, self.seed) if draws else None
        return Forecast(mean=mean, sd=sd, samples=samples)
