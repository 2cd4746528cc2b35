"""One law for all curves, E + A/N^a + (B/D^b) N^c, with what it misses as a Gaussian process.

Touches memory only. Log loss of trial i after D tokens is

    log f(N, D) + configuration + own offset + own slope + shape + drift + noise.

f has a prior: weak on E, A and B, moderately informative on the exponents (values that published
laws span; Hoffmann et al. 2022, arXiv 2203.15556; Besiroglu et al. 2024, arXiv 2404.10102), and an
interaction c about zero. The rest are zero-mean normal terms, so that all of it is one exact GP
once f is linearised at its most probable parameters (Laplace): parameter uncertainty, offsets
shrunk to zero and the residual surface come out of one covariance, and so do joint samples.

- configuration: a level, and a part that scales the tokens' term, smooth in size and settings
- own offset, own slope: the same two, each trial its own
- shape: what a power law in D misses, common to all trials, smooth in log tokens
- drift: a random walk in log tokens, each trial its own, so that doubt grows with the horizon

The sizes of these terms are fitted (marginal likelihood with log-normal priors), the scales at
which they vary are fixed. Offsets and single rows are robust: what lies far out gets its variance
raised by as much as Huber's penalty would lower its weight, so that a diverged curve or a spike
does not bend the law.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import get_lapack_funcs, solve_triangular
from scipy.optimize import minimize

from orchestrator.surrogates.base import Forecaster, Observed
from orchestrator.surrogates.configuration import Encoding, size_of
from orchestrator.surrogates.gaussian import draw, factor
from orchestrator.surrogates.prefixes import Rows, rows_of
from orchestrator.values import Candidate, FloatArray, Forecast, IntArray

MOST_ROWS = 240
MAP_STEPS = 12
ROUNDS = 2  # of: most probable law, robust weights, sizes of the terms
EVIDENCE_STEPS = 12
OFFSET_KNEE = 1.5  # in sd of an offset
ROW_KNEE = 2.5  # in sd of a row given all others
CONFIGURATION_SCALE = 1.5  # e-folds of size or of a setting
SHAPE_SCALE = 1.5  # e-folds of tokens

# Working parameters: log E, log A/N0^a, log B/D0^b, log a, log b, c. Means of the first three are
# relative to the lowest loss seen.
PRIOR_MEAN = np.array([np.log(0.6), np.log(0.2), np.log(0.2), np.log(0.35), np.log(0.35), 0.0])
PRIOR_SD = np.array([0.5, 1.0, 1.0, 0.35, 0.35, 0.1])
STARTS = np.array([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.3, -1.0, -1.0, 0.4, 0.4, 0.0]])

# Sd of each term (median of its prior), and the width of that prior in logs.
TERMS = ("level", "tilt", "offset", "slope", "shape", "drift", "noise")
TERM_SD = np.array([0.03, 0.1, 0.012, 0.05, 0.02, 0.008, 0.004])
TERM_WIDTH = np.array([1.0, 1.0, 0.7, 0.7, 0.7, 0.7, 1.0])


@dataclass(frozen=True, slots=True, kw_only=True)
class JointLaw:
    """The surrogate; a value without settings. Forecasts every candidate, started or not."""

    name: str = "joint_law"

    def fit(self, observed: Observed, *, seed: int) -> Forecaster:
        """Raises NoForecast where no curve has a point."""
        rows = rows_of(observed, most=MOST_ROWS)
        space = _Space.of(rows)
        return _Fitted(rows=rows, space=space, seed=seed, posterior=_posterior(rows, space))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Where:
    """Places to speak of: queries or rows, (places,) each. trial is an index into candidates."""

    candidates: tuple[Candidate, ...]
    trial: IntArray
    size: FloatArray
    log_tokens: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class _Space:
    """Where the law is centred, and what likeness is measured by."""

    encoding: Encoding
    log_size: float
    log_tokens: float
    first_log_tokens: float
    lowest: float

    @classmethod
    def of(cls, rows: Rows) -> _Space:
        sizes = np.log([size_of(candidate) for candidate in rows.candidates])
        return cls(
            encoding=Encoding.of(rows.candidates),
            log_size=float(sizes.mean()),
            log_tokens=float(np.average(rows.log_tokens, weights=rows.share)),
            first_log_tokens=float(rows.log_tokens.min()),
            lowest=float(rows.log_loss.min()),
        )

    def where(
        self, candidates: Sequence[Candidate], trial: IntArray, log_tokens: FloatArray
    ) -> _Where:
        sizes = np.log([size_of(candidate) for candidate in candidates]) - self.log_size
        return _Where(
            candidates=tuple(candidates),
            trial=trial,
            size=sizes[trial],
            log_tokens=log_tokens - self.log_tokens,
        )

    def prior_mean(self) -> FloatArray:
        return PRIOR_MEAN + np.array([self.lowest, self.lowest, self.lowest, 0.0, 0.0, 0.0])

    def kernels(
        self, left: _Where, right: _Where, tilt: tuple[FloatArray, FloatArray]
    ) -> _Kernels:
        """The terms' kernels at unit sd between two sets of places; tilt is the share of the
        tokens' term in the loss at each."""
        gap = self.encoding.distances(left.candidates, right.candidates)
        likeness = np.exp(-0.5 * gap / CONFIGURATION_SCALE**2)[left.trial][:, right.trial]
        names = np.array([c.id for c in left.candidates])[left.trial]
        other = np.array([c.id for c in right.candidates])[right.trial]
        same = (names[:, None] == other[None, :]).astype(np.float64)
        both = tilt[0][:, None] * tilt[1][None, :]
        begin = self.first_log_tokens - self.log_tokens
        walked = np.maximum(
            np.minimum(left.log_tokens[:, None], right.log_tokens[None, :]) - begin, 0.0
        )
        return _Kernels(
            np.stack(
                [
                    likeness,
                    likeness * both,
                    same,
                    same * both,
                    _matern(left.log_tokens, right.log_tokens, SHAPE_SCALE),
                    same * walked,
                ]
            )
        )


@dataclass(frozen=True, slots=True)
class _Kernels:
    """(terms without noise, left, right)."""

    parts: FloatArray

    def total(self, sd: FloatArray) -> FloatArray:
        return np.tensordot(sd[:-1] ** 2, self.parts, axes=1)


def _matern(left: FloatArray, right: FloatArray, scale: float) -> FloatArray:
    """Matern 3/2."""
    gap = np.sqrt(3.0) * np.abs(left[:, None] - right[None, :]) / scale
    return (1.0 + gap) * np.exp(-gap)


def _law(values: FloatArray, where: _Where) -> tuple[FloatArray, FloatArray]:
    """Log loss (places,) and its derivatives (places, 6) by the working parameters.

    The third derivative is the share of the tokens' term in the loss.
    """
    a, b = np.exp(values[3]), np.exp(values[4])
    irreducible = np.exp(values[0])
    of_size = np.exp(values[1] - a * where.size)
    of_tokens = np.exp(values[2] - b * where.log_tokens + values[5] * where.size)
    loss = irreducible + of_size + of_tokens
    slopes = np.stack(
        [
            np.full_like(loss, irreducible),
            of_size,
            of_tokens,
            -a * of_size * where.size,
            -b * of_tokens * where.log_tokens,
            of_tokens * where.size,
        ],
        axis=1,
    )
    return np.log(loss), slopes / loss[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Posterior:
    """The most probable law and the covariance about it.

    values (6,); sd (7,), of the terms; robust (trials,), the factor on each offset's variance;
    solved (rows,): inverse covariance times residual; root: factor of the rows' covariance with
    the law's own uncertainty in it.
    """

    values: FloatArray
    sd: FloatArray
    robust: FloatArray
    solved: FloatArray
    root: FloatArray
    slopes: FloatArray
    at: _Where = field(repr=False)


def _posterior(rows: Rows, space: _Space) -> _Posterior:
    """Alternates between the law, the robust weights and the sizes of the terms."""
    at = space.where(rows.candidates, rows.trial, rows.log_tokens)
    mean, sd = space.prior_mean(), TERM_SD.copy()
    robust, loose = np.ones(len(rows.candidates)), np.ones(len(rows))
    starts = STARTS + mean
    for _ in range(ROUNDS):
        values, covariance, kernels = _law_given(starts, mean, sd, robust, loose, rows, space, at)
        starts = values[None, :]
        robust, loose = _robust(values, mean, covariance, sd, robust, loose, rows, at)
        sd = _sizes(values, mean, kernels, sd, robust, loose, rows, at)
    values, covariance, _ = _law_given(starts, mean, sd, robust, loose, rows, space, at)
    expected, slopes = _law(values, at)
    solved = _solve(factor(covariance), rows.log_loss - expected)
    root = factor(covariance + (slopes * PRIOR_SD**2) @ slopes.T)
    return _Posterior(
        values=values, sd=sd, robust=robust, solved=solved, root=root, slopes=slopes, at=at
    )


def _law_given(
    starts: FloatArray,
    mean: FloatArray,
    sd: FloatArray,
    robust: FloatArray,
    loose: FloatArray,
    rows: Rows,
    space: _Space,
    at: _Where,
) -> tuple[FloatArray, FloatArray, _Kernels]:
    """The most probable law where the terms have these sizes; the rows' covariance, their
    kernels."""
    tilt = _law(starts[0], at)[1][:, 2]
    kernels = space.kernels(at, at, (tilt, tilt))
    covariance = _covariance(kernels, sd, robust, loose, rows)
    root = factor(covariance)
    found = [_most_probable(start, mean, root, rows, at) for start in starts]
    return min(found, key=lambda one: one[0])[1], covariance, kernels


def _noise(rows: Rows, loose: FloatArray) -> FloatArray:
    """Variance of each row at unit sd of the noise: late rows count more, as they would by
    tokens."""
    return loose / rows.share


def _covariance(
    kernels: _Kernels, sd: FloatArray, robust: FloatArray, loose: FloatArray, rows: Rows
) -> FloatArray:
    covariance = kernels.total(sd)
    covariance += kernels.parts[2] * (sd[2] ** 2 * (robust[rows.trial] - 1.0))
    diagonal = np.arange(len(rows))
    covariance[diagonal, diagonal] += sd[6] ** 2 * _noise(rows, loose)
    return covariance


def _most_probable(
    start: FloatArray, mean: FloatArray, root: FloatArray, rows: Rows, at: _Where
) -> tuple[float, FloatArray]:
    """The objective and the parameters where damped Gauss-Newton steps from `start` end."""

    def stand(values: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        expected, slopes = _law(values, at)
        both = np.column_stack([rows.log_loss - expected, slopes])
        white = solve_triangular(root, both, lower=True, check_finite=False)
        away = (values - mean) / PRIOR_SD
        return float(white[:, 0] @ white[:, 0] + away @ away), white[:, 0], white[:, 1:]

    values, damping = start.copy(), 1e-2
    objective, residual, slopes = stand(values)
    for _ in range(MAP_STEPS):
        precision = slopes.T @ slopes + np.diag(PRIOR_SD**-2.0)
        pull = slopes.T @ residual - (values - mean) / PRIOR_SD**2
        precision[np.diag_indices(6)] *= 1.0 + damping
        step = np.clip(np.linalg.solve(precision, pull), -1.0, 1.0)
        trial = stand(values + step)
        if trial[0] < objective:
            gained = objective - trial[0]
            values, damping = values + step, damping * 0.1
            objective, residual, slopes = trial
            if gained < 1e-9 * (1.0 + objective):
                break
        else:
            damping = max(damping, 1e-4) * 10.0
    return objective, values


def _robust(
    values: FloatArray,
    mean: FloatArray,
    covariance: FloatArray,
    sd: FloatArray,
    robust: FloatArray,
    loose: FloatArray,
    rows: Rows,
    at: _Where,
) -> tuple[FloatArray, FloatArray]:
    """New factors on the variance of each offset (trials,) and of each row (rows,)."""
    expected, slopes = _law(values, at)
    inverse = _inverse(factor(covariance + (slopes * PRIOR_SD**2) @ slopes.T))
    residual = inverse @ (rows.log_loss - expected + slopes @ (values - mean))
    pulls = np.bincount(rows.trial, weights=residual, minlength=len(robust))
    offset = np.abs(pulls) * robust * sd[2] ** 2
    without = np.abs(residual) / np.sqrt(inverse.diagonal())
    return (
        np.maximum(1.0, offset / (OFFSET_KNEE * sd[2])),
        loose * np.maximum(1.0, (without / ROW_KNEE) ** 2),
    )


def _sizes(
    values: FloatArray,
    mean: FloatArray,
    kernels: _Kernels,
    sd: FloatArray,
    robust: FloatArray,
    loose: FloatArray,
    rows: Rows,
    at: _Where,
) -> FloatArray:
    """Most probable sd of the terms: marginal likelihood of the linearised law, and priors."""
    expected, slopes = _law(values, at)
    target = rows.log_loss - expected + slopes @ (values - mean)
    of_law = (slopes * PRIOR_SD**2) @ slopes.T
    parts = kernels.parts.copy()
    parts[2] *= robust[rows.trial]
    noise, diagonal = _noise(rows, loose), np.arange(len(rows))
    centre = np.log(TERM_SD)

    def objective(logs: FloatArray) -> tuple[float, FloatArray]:
        variance = np.exp(2.0 * logs)
        covariance = of_law + np.tensordot(variance[:-1], parts, axes=1)
        covariance[diagonal, diagonal] += variance[-1] * noise
        root = factor(covariance)
        inverse = _inverse(root)
        solved = inverse @ target
        pull = inverse - np.outer(solved, solved)
        slope = np.empty_like(logs)
        slope[:-1] = variance[:-1] * np.tensordot(parts, pull, axes=2)
        slope[-1] = variance[-1] * (noise @ pull.diagonal())
        away = (logs - centre) / TERM_WIDTH
        value = np.log(root.diagonal()).sum() + 0.5 * target @ solved + 0.5 * away @ away
        return float(value), slope + away / TERM_WIDTH

    found = minimize(
        objective,
        np.log(sd),
        jac=True,
        method="L-BFGS-B",
        bounds=[(c - 3.5 * w, c + 3.5 * w) for c, w in zip(centre, TERM_WIDTH, strict=True)],
        options={"maxiter": EVIDENCE_STEPS, "maxfun": EVIDENCE_STEPS + 4},
    )
    return np.exp(np.asarray(found.x, dtype=np.float64))


def _inverse(root: FloatArray) -> FloatArray:
    """Inverse of the matrix that has this lower factor."""
    (potri,) = get_lapack_funcs(("potri",), (root,))
    lower, _ = potri(root, lower=1)
    return np.asarray(np.tril(lower) + np.tril(lower, -1).T)


def _solve(root: FloatArray, right: FloatArray) -> FloatArray:
    half = solve_triangular(root, right, lower=True, check_finite=False)
    return np.asarray(solve_triangular(root, half, lower=True, trans=1, check_finite=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """The joint law after a fit."""

    rows: Rows
    space: _Space
    seed: int
    posterior: _Posterior

    def forecasts(self, candidate: Candidate) -> bool:
        return True

    def predict(
        self, candidates: Sequence[Candidate], tokens: IntArray, *, draws: int = 0
    ) -> Forecast:
        post = self.posterior
        places = {candidate.id: candidate for candidate in candidates}
        order = {name: place for place, name in enumerate(places)}
        trial = np.array([order[candidate.id] for candidate in candidates], dtype=np.int64)
        at = self.space.where(tuple(places.values()), trial, np.log(tokens.astype(np.float64)))
        expected, slopes = _law(post.values, at)
        kernels = self.space.kernels(at, post.at, (slopes[:, 2], post.slopes[:, 2]))
        cross = kernels.total(post.sd)
        cross += kernels.parts[2] * (post.sd[2] ** 2 * (post.robust[self.rows.trial] - 1.0))
        mean = expected + cross @ post.solved
        cross += (slopes * PRIOR_SD**2) @ post.slopes.T
        white = solve_triangular(post.root, cross.T, lower=True, check_finite=False)
        own = self.space.kernels(at, at, (slopes[:, 2], slopes[:, 2]))
        boost = self._boost(at)
        prior = own.total(post.sd) + own.parts[2] * (post.sd[2] ** 2 * boost)
        covariance = prior + (slopes * PRIOR_SD**2) @ slopes.T - white.T @ white
        sd = np.sqrt(np.maximum(covariance.diagonal(), 1e-12))
        samples = draw(mean, covariance, draws, self.seed) if draws else None
        return Forecast(mean=mean, sd=sd, samples=samples)

    def _boost(self, at: _Where) -> FloatArray:
        """What robustness adds to the variance of each query's offset, relative to its own."""
        known = {c.id: f for c, f in zip(self.rows.candidates, self.posterior.robust, strict=True)}
        return np.array([known.get(c.id, 1.0) - 1.0 for c in at.candidates])[at.trial]
