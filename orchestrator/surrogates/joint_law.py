"""One law for all curves, E + A/N^a + (B/D^b) N^c, with what it misses as a Gaussian process.

Touches memory only. Log loss of trial i after D tokens is

    log f(N, D) + configuration + own offset, slope, drift and bend + shape + noise.

f has a prior: weak on E, A and B (one as narrow as published laws are alike narrows intervals by a
tenth, and is wrong by three sd where E is small), moderately informative on the exponents and the
interaction c (`laws/exponents.py`), and a transient about zero, by which the tokens' term falls
faster at first. The rest are zero-mean normal terms, so that all is one exact GP once f is
linearised at its most probable parameters (Laplace): parameter uncertainty, offsets shrunk to zero
and the residual surface come out of one covariance, and so do joint samples. `law_terms.py` has
the terms.

The sizes of these terms are fitted (marginal likelihood with log-normal priors), the scales at
which they vary are fixed. Offsets and single rows are robust: what lies far out gets its variance
raised by as much as Huber's penalty would lower its weight, so that a diverged curve or a spike
does not bend the law. Rows high above their curve's lowest are doubted: young, no power law yet.
A run whose last points lie as high has gone bad; no law has a place for it, and it is not
forecast.

Constants were set by hand, or on generated curves and on backtests within the first quarter of
recorded ones (`scripts/bench_surrogates.py --inside 0.25`), none on how a recorded curve ends.
Where a schedule decays, a prefix is no shorter run: the law is then sure and wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import minimize

from orchestrator.laws.exponents import MODERATE, PUBLISHED, Exponents
from orchestrator.surrogates.base import Joint, JointForecaster, NoForecast, Observed
from orchestrator.surrogates.configuration import size_of
from orchestrator.surrogates.gaussian import draw, factor, inverse_of
from orchestrator.surrogates.law_terms import (
    NOISE,
    OFFSET,
    TERM_SD,
    TERM_WIDTH,
    Kernels,
    Root,
    Where,
)
from orchestrator.surrogates.prefixes import Rows, rows_of
from orchestrator.threads import one_thread
from orchestrator.values import Candidate, Curve, FloatArray, Forecast, IntArray

MOST_ROWS = 240
MAP_STEPS = 12
ROUNDS = 2  # of: most probable law, robust weights, sizes of the terms
EVIDENCE_STEPS = 12
OFFSET_KNEE = 1.5  # in sd of an offset
ROW_KNEE = 2.5  # in sd of a row given all others
TRANSIENT_SCALE = 1.5  # e-folds of tokens
EARLIEST = 4.0  # of those scales before the centre, from where on the transient grows no more
YOUNG = 0.05  # log loss above its curve's lowest from where on a row is doubted, and by how much

# Working parameters: log E, log A/N0^a, log B/D0^b, log a, log b, c, transient. Priors of the
# first three, relative to the lowest loss seen, and of the transient.
LEVELS, LEVEL_SD = np.log([0.6, 0.2, 0.2]), (0.5, 1.0, 1.0)
TRANSIENT_SD = 0.08
STARTS = np.array([[0.0] * 7, [0.3, -1.0, -1.0, 0.4, 0.4, 0.0, 0.0]])
OF_TOKENS = 2  # the working parameter whose derivative is the share of the tokens' term


@dataclass(frozen=True, slots=True, kw_only=True)
class JointLaw:
    """The surrogate. `floor`: the middle of E's prior, as a share of the lowest loss seen.
    `misfit`: variance of what is missed at a size and tokens together, in shapes.
    `exponents`: their priors. `rooted`: where a trial's own walks
    begin (`law_terms`): at the "start" to forecast the rest of runs, at the "end" for a law."""

    name: str = "joint_law"
    floor: float = 0.6
    misfit: float = 0.0
    exponents: Exponents = MODERATE
    rooted: Root = "start"

    @one_thread
    def fit(self, observed: Observed, *, seed: int) -> JointForecaster:
        """Raises NoForecast where no curve has a point, or arithmetic fails on these losses."""
        healthy = [pair for pair in observed if not _risen(pair[1])]
        if observed and not healthy:
            raise NoForecast(
                f"all {len(observed)} curves end {YOUNG:g} of log loss or more above their "
                "lowest: runs that go bad follow no law; lower the learning rate"
            )
        task = _Task.of(rows_of(healthy, most=MOST_ROWS), self)
        bad = frozenset(candidate.id for candidate, curve in observed if _risen(curve))
        try:
            return _Fitted(task=task, posterior=_posterior(task), seed=seed, bad=bad)
        except np.linalg.LinAlgError as error:
            raise NoForecast(
                f"joint_law cannot be fitted to these {len(task.rows)} rows ({error}); are losses"
                " in nats per token, and tokens and sizes the true ones?"
            ) from error


def _risen(curve: Curve) -> bool:
    """Whether a curve's last two points lie far above its lowest; a single one may be a spike."""
    return len(curve) > 2 and bool(
        curve.loss[-2:].min() > np.exp(YOUNG) * max(curve.loss.min(), 0.0)
    )


FOR_LAWS = JointLaw(exponents=PUBLISHED, rooted="end")
"""For who asks for the law, where it must be right: `active`, and the judge of such laws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What is fitted, where the law is centred, and what likeness is measured by.

    doubt (rows,): variance of rows that are young. mean, sd (7,): working parameters' prior.
    """

    rows: Rows
    at: Where
    doubt: FloatArray
    mean: FloatArray
    sd: FloatArray
    kernels: Kernels
    centre: tuple[float, float]

    @classmethod
    def of(cls, rows: Rows, options: JointLaw) -> _Task:
        sizes = np.log([size_of(candidate) for candidate in rows.candidates])
        centre = float(sizes.mean()), float(np.average(rows.log_tokens, weights=rows.share))
        lowest = np.full(len(sizes), np.inf)
        np.minimum.at(lowest, rows.trial, rows.log_loss)
        levels = np.array([np.log(options.floor), *LEVELS[1:]]) + lowest.min()
        at = Where.of(rows.candidates, rows.trial, rows.log_tokens, centre)
        return cls(
            rows=rows,
            at=at,
            doubt=np.maximum(rows.log_loss - lowest[rows.trial] - YOUNG, 0.0) ** 2,
            mean=np.array([*levels, *options.exponents.means, 0.0]),
            sd=np.array([*LEVEL_SD, *options.exponents.sds, TRANSIENT_SD]),
            kernels=Kernels.of(rows, at, options.misfit, options.rooted),
            centre=centre,
        )


def _law(values: FloatArray, where: Where) -> tuple[FloatArray, FloatArray]:
    """Log loss (places,) and its derivatives (places, 7) by the working parameters."""
    a, b = np.exp(values[3]), np.exp(values[4])
    irreducible = np.exp(values[0])
    early = np.minimum(-where.log_tokens / TRANSIENT_SCALE, EARLIEST)
    transient = TRANSIENT_SCALE**2 * np.expm1(early)
    of_size = np.exp(values[1] - a * where.size)
    of_tokens = np.exp(
        values[2] - b * where.log_tokens + values[5] * where.size + values[6] * transient
    )
    loss = irreducible + of_size + of_tokens
    slopes = np.stack(
        [
            np.full_like(loss, irreducible),
            of_size,
            of_tokens,
            -a * of_size * where.size,
            -b * of_tokens * where.log_tokens,
            of_tokens * where.size,
            of_tokens * transient,
        ],
        axis=1,
    )
    return np.log(loss), slopes / loss[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """How large the terms are. sd (terms,); robust (trials,), loose (rows,): factors on the
    variance of each trial's offset and of each row's noise."""

    sd: FloatArray
    robust: FloatArray
    loose: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class _Linear:
    """The law linearised: slopes (rows, 7), kernels of the terms (terms, rows, rows), target, the
    rows as deviations from the linear law at its prior mean, and of_law (rows, rows), their
    covariance by what is unknown of the law."""

    values: FloatArray
    slopes: FloatArray
    target: FloatArray
    kernels: FloatArray
    of_law: FloatArray

    @classmethod
    def at(cls, values: FloatArray, task: _Task) -> _Linear:
        expected, slopes = _law(values, task.at)
        tilts = np.outer(slopes[:, OF_TOKENS], slopes[:, OF_TOKENS])
        return cls(
            values=values,
            slopes=slopes,
            target=task.rows.log_loss - expected + slopes @ (values - task.mean),
            kernels=task.kernels.between(task.at, task.at, tilts),
            of_law=(slopes * task.sd**2) @ slopes.T,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Posterior:
    """The GP after the rows are known. root (rows, rows): lower factor of their covariance;
    solved (rows,): its inverse times the target."""

    linear: _Linear
    terms: _Terms
    root: FloatArray
    solved: FloatArray


def _posterior(task: _Task) -> _Posterior:
    """Alternates between the law, the robust factors and the sizes of the terms."""
    count = len(task.rows.candidates), len(task.rows)
    terms = _Terms(sd=TERM_SD, robust=np.ones(count[0]), loose=np.ones(count[1]))
    linear, starts = _Linear.at(task.mean, task), STARTS + task.mean
    for _ in range(ROUNDS):
        linear = _Linear.at(_most_probable(starts, linear, terms, task), task)
        terms = _robust(linear, terms, task)
        terms = _Terms(sd=_sizes(linear, terms, task), robust=terms.robust, loose=terms.loose)
        starts = linear.values[None, :]
    linear = _Linear.at(_most_probable(starts, linear, terms, task), task)
    root = factor(linear.of_law + _covariance(linear.kernels, terms, task))
    half = solve_triangular(root, linear.target, lower=True, check_finite=False)
    solved = solve_triangular(root, half, lower=True, trans=1, check_finite=False)
    return _Posterior(linear=linear, terms=terms, root=root, solved=np.asarray(solved))


def _noise(terms: _Terms, task: _Task) -> FloatArray:
    """Variance of each row at unit sd of the noise: late rows count more, as if by tokens."""
    return terms.loose / task.rows.share


def _covariance(kernels: FloatArray, terms: _Terms, task: _Task) -> FloatArray:
    """Covariance of the rows by all terms, the law's own uncertainty left out."""
    covariance = np.tensordot(terms.sd[:NOISE] ** 2, kernels, axes=1)
    covariance += kernels[OFFSET] * (terms.sd[OFFSET] ** 2 * (terms.robust[task.at.trial] - 1.0))
    diagonal = np.arange(len(covariance))
    covariance[diagonal, diagonal] += terms.sd[NOISE] ** 2 * _noise(terms, task) + task.doubt
    return covariance


def _most_probable(starts: FloatArray, linear: _Linear, terms: _Terms, task: _Task) -> FloatArray:
    """The most probable parameters where the terms are as they are: best of the starts."""
    root = factor(_covariance(linear.kernels, terms, task))
    return min((_descended(start, root, task) for start in starts), key=lambda found: found[0])[1]


def _descended(start: FloatArray, root: FloatArray, task: _Task) -> tuple[float, FloatArray]:
    """The objective and the parameters where damped Gauss-Newton steps from `start` end."""

    def stand(values: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        expected, slopes = _law(values, task.at)
        both = np.column_stack([task.rows.log_loss - expected, slopes])
        white = solve_triangular(root, both, lower=True, check_finite=False)
        away = (values - task.mean) / task.sd
        return float(white[:, 0] @ white[:, 0] + away @ away), white[:, 0], white[:, 1:]

    values, damping = start, 1e-2
    objective, residual, slopes = stand(values)
    for _ in range(MAP_STEPS):
        precision = slopes.T @ slopes + np.diag(task.sd**-2.0)
        pull = slopes.T @ residual - (values - task.mean) / task.sd**2
        precision[np.diag_indices(len(values))] *= 1.0 + damping
        step = np.clip(np.linalg.solve(precision, pull), -1.0, 1.0)
        there = stand(values + step)
        if there[0] < objective:
            gained = objective - there[0]
            values, damping = values + step, damping * 0.1
            objective, residual, slopes = there
            if gained < 1e-9 * (1.0 + objective):
                break
        else:
            damping = max(damping, 1e-4) * 10.0
    return objective, values


def _robust(linear: _Linear, terms: _Terms, task: _Task) -> _Terms:
    """Raises the variance of offsets beyond their knee by as much as Huber's penalty lowers
    weight, and that of rows that all others speak against."""
    covariance = linear.of_law + _covariance(linear.kernels, terms, task)
    inverse = inverse_of(factor(covariance))
    solved = inverse @ linear.target
    pulls = np.bincount(task.at.trial, weights=solved, minlength=len(terms.robust))
    offset = np.abs(pulls) * terms.robust * terms.sd[OFFSET] ** 2
    without = np.abs(solved) / np.sqrt(inverse.diagonal())
    return _Terms(
        sd=terms.sd,
        robust=np.maximum(1.0, offset / (OFFSET_KNEE * terms.sd[OFFSET])),
        loose=terms.loose * np.maximum(1.0, without / ROW_KNEE) ** 2,
    )


def _sizes(linear: _Linear, terms: _Terms, task: _Task) -> FloatArray:
    """Most probable sd of the terms: marginal likelihood of the linear law, and priors."""
    parts = linear.kernels.copy()
    parts[OFFSET] *= terms.robust[task.at.trial]
    fixed, noise = linear.of_law.copy(), _noise(terms, task)
    diagonal, centre = np.arange(len(noise)), np.log(TERM_SD)
    fixed[diagonal, diagonal] += task.doubt

    def objective(logs: FloatArray) -> tuple[float, FloatArray]:
        variance = np.exp(2.0 * logs)
        covariance = fixed + np.tensordot(variance[:NOISE], parts, axes=1)
        covariance[diagonal, diagonal] += variance[NOISE] * noise
        root = factor(covariance)
        inverse = inverse_of(root)
        solved = inverse @ linear.target
        pull = inverse - np.outer(solved, solved)
        slope = np.append(np.tensordot(parts, pull, axes=2), noise @ pull.diagonal()) * variance
        away = (logs - centre) / TERM_WIDTH
        value = np.log(root.diagonal()).sum() + 0.5 * (linear.target @ solved + away @ away)
        return float(value), slope + away / TERM_WIDTH

    reach = 3.5 * TERM_WIDTH
    found = minimize(
        objective,
        np.log(terms.sd),
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(centre - reach, centre + reach, strict=True)),
        options={"maxiter": EVIDENCE_STEPS, "maxfun": EVIDENCE_STEPS + 4},
    )
    return np.exp(np.asarray(found.x, dtype=np.float64))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """The joint law after a fit. bad: names of the trials that it has no place for."""

    task: _Task
    posterior: _Posterior
    seed: int
    bad: frozenset[str]

    def forecasts(self, candidate: Candidate) -> bool:
        return candidate.id not in self.bad

    @one_thread
    def predict(
        self, candidates: Sequence[Candidate], tokens: IntArray, *, draws: int = 0
    ) -> Forecast:
        mean, covariance = self.joint(candidates, tokens)
        samples = draw(mean, covariance, draws, self.seed) if draws else None
        sd = np.sqrt(np.maximum(covariance.diagonal(), 1e-12))
        return Forecast(mean=mean, sd=sd, samples=samples)

    @one_thread
    def joint(self, candidates: Sequence[Candidate], tokens: IntArray) -> Joint:
        for candidate in candidates:
            if candidate.id in self.bad:
                raise NoForecast(f"trial {candidate.id} has gone bad: its loss has risen for good")
        task, post = self.task, self.posterior
        places = {candidate.id: candidate for candidate in candidates}
        order = {name: place for place, name in enumerate(places)}
        trial = np.array([order[candidate.id] for candidate in candidates], dtype=np.int64)
        at = Where.of(tuple(places.values()), trial, np.log(tokens.astype(float)), task.centre)
        expected, slopes = _law(post.linear.values, at)
        cross = self._between(at, slopes, task.at, post.linear.slopes)
        mean = expected + slopes @ (task.mean - post.linear.values) + cross @ post.solved
        white = solve_triangular(post.root, cross.T, lower=True, check_finite=False)
        return mean, self._between(at, slopes, at, slopes) - white.T @ white

    def _between(
        self, left: Where, of_left: FloatArray, right: Where, of_right: FloatArray
    ) -> FloatArray:
        """Prior covariance of two sets of places, the law's uncertainty in it."""
        terms, task = self.posterior.terms, self.task
        tilts = np.outer(of_left[:, OF_TOKENS], of_right[:, OF_TOKENS])
        kernels = task.kernels.between(left, right, tilts)
        robust = {c.id: r - 1.0 for c, r in zip(task.rows.candidates, terms.robust, strict=True)}
        extra = np.array([robust.get(c.id, 0.0) for c in right.candidates])[right.trial]
        covariance = np.tensordot(terms.sd[:NOISE] ** 2, kernels, axes=1)
        covariance += kernels[OFFSET] * (terms.sd[OFFSET] ** 2 * extra)
        return covariance + (of_left * task.sd**2) @ of_right.T
