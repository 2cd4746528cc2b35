"""What annealing gains, as a law: gain (N/N0)^nu (D/D0)^delta in log loss, of few cooldowns.

Touches nothing. The gain of a decay is what the noise of a constant rate holds back, a small share
of the loss that changes slowly with size and tokens (on public runs of 48M to 2B parameters, 0.02
to 0.035 of log loss). A sweep has few cooldowns, so the exponents are shrunk to a constant gain by
normal priors, and where the pairs do not reach, what the priors leave open is the doubt. Share of
the decay and peak rate have an exponent each where they differ among the pairs; the law is then
that of the usual share, at the best rate.

y = exp(X b) + u_trial + e_row by penalised least squares at every node of a grid over the sds of u
and e; nodes weigh as their marginal likelihood (Laplace) under lognormal priors on both sds, so
that few pairs give the heavy tails of a scatter hardly known (Rue, Martino and Chopin 2009, JRSS B
71:319).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.cooldowns import Pairs
from orchestrator.laws.errors import FitError
from orchestrator.laws.runs import Array, Labels, count_levels

LEAST_TRIALS = 2
"""Trials with cooldowns from which on there is a law of the gain: the scatter about a single one
would be a guess of ours."""
TERMS = ("gain", "N", "D", "share", "rate")
_MEAN = np.array([math.log(0.03), 0.0, 0.0, 0.25, 0.5])
_SD = np.array([1.5, 0.15, 0.15, 0.25, 0.5])
# Log gain: public runs lie near, a factor of 4.5 is one sd. N, D: ten times the size moves the
# gain by 1.4 either way (of public runs under 0.9B parameters, told by those under 0.12B: 0.1 to
# 0.2 are alike from six cooldowns on, and wider ones are worse at two). Share: between no effect
# and the square root. Rate: between no effect and proportion, which is that of the noise about a
# quadratic minimum.
_USUAL, _USUAL_SD = 0.1, 1.0  # sds of trials and rows, as shares of the gain, in log
_SDS = np.geomspace(0.005, 3.0, 10)
_STEPS = 40
_FAR = 6.0  # robust sds from which on a pair is no cooldown like the others,
_FAR_SHARE = 0.3  # if it is also this share of the gain away
_FAR_FROM = 6  # and there are as many pairs as this


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gain:
    """A law of the gain as a mixture over K nodes, normal about each. values (K, 3): log gain at
    the centre, nu, delta; roots (K, 3, 3). centre: N0 and D0. share: of the decay that the law is
    for, None where unknown. scatter: sd of one run's gain about it, in log loss. level: of the
    trunks, in nats. strays: trial, tokens and loss of the ends that were left out."""

    weight: Array
    values: Array
    roots: Array
    centre: tuple[float, float]
    share: float | None
    pairs: int
    trials: int
    scatter: float
    level: float
    terms: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    strays: tuple[tuple[int, float, float], ...] = ()

    @property
    def own(self) -> Array:
        """(3,): the mean of the values."""
        return self.weight @ self.values

    def samples(self, draws: int, seed: int) -> Array:
        """(draws, 3) of the values."""
        # A stream of its own: numpy takes [seed, 0] for seed, and the stable law draws from that.
        rng = np.random.default_rng([seed, 2])
        node = rng.choice(len(self.weight), size=draws, p=self.weight)
        normal = rng.standard_normal((draws, self.values.shape[1]))
        return self.values[node] + np.einsum("spq,sq->sp", self.roots[node], normal)

    def at(self, N: float, D: float) -> tuple[float, float]:
        """Mean and sd of the gain in log loss at N parameters and D tokens."""
        x = np.array([1.0, math.log(N / self.centre[0]), math.log(D / self.centre[1])])
        log, spread = self.values @ x, np.einsum("kpq,p->kq", self.roots, x)
        variance = np.sum(spread**2, axis=1)
        mean = float(self.weight @ np.exp(log + 0.5 * variance))
        square = float(self.weight @ np.exp(2.0 * log + 2.0 * variance))
        return mean, math.sqrt(max(square - mean**2, 0.0))

    @property
    def nats(self) -> tuple[float, float]:
        """The gain that the law takes off in the middle of the pairs, in nats, and its sd."""
        # Not the mean of `at`: few pairs that disagree have a long tail, which moves it far up.
        own, sd = math.exp(float(self.own[0])), self.at(*self.centre)[1]
        return self.level * -math.expm1(-own), self.level * math.exp(-own) * sd


def fit_gain(pairs: Pairs) -> Gain:
    """The law of these pairs' gains.

    Raises FitError where fewer than two trials have a cooldown beside a point of their trunk, or
    half of the cooldowns gained nothing: the law knows no gain below zero and would make one up.
    """
    _refuse(pairs)
    stray, doubts = _strays(pairs)
    kept = pairs.at(~stray)
    _refuse_losses(kept)
    x, terms, share, centre = _covariates(kept)
    active = [TERMS.index(term) for term in terms]
    y = kept.gain
    unit = max(float(np.median(np.abs(y))), 1e-4)
    trial = np.unique(kept.trial, return_inverse=True)[1].astype(np.int64)
    scales = _scales(len(y) > int(trial.max()) + 1)
    sds, priors = scales[:, :2] * unit, scales[:, 2]
    task = _Task(x=x, y=y, trial=trial, row=sds[:, 0], own=sds[:, 1], mean=_MEAN[active])
    values, objective, precision = task.solved(_SD[active])
    logs = priors - objective - 0.5 * np.linalg.slogdet(precision)[1]
    weight = np.exp(logs - logs.max())
    weight = weight / weight.sum()
    roots: Array = np.asarray(np.linalg.cholesky(np.linalg.inv(precision)[:, :3, :3]), np.float64)
    scatter = math.sqrt(float(weight @ np.sum(sds**2, axis=1)))
    mean = float(weight @ np.exp(values[:, 0]))
    if scatter > mean:
        doubts = (*doubts, "the gain from annealing scatters by more than itself between trials")
    if count_levels(kept.N) == 1:
        alone = "all cooldowns are of one size: how the gain changes with size is a prior's"
        doubts = (*doubts, alone)
    return Gain(
        weight=weight,
        values=values[:, :3],
        roots=roots,
        centre=centre,
        share=share,
        pairs=len(kept),
        trials=kept.trials,
        scatter=scatter,
        level=float(np.exp(np.mean(np.log(kept.level)))),
        terms=terms,
        doubts=doubts,
        strays=tuple(
            (int(pairs.trial[k]), float(pairs.D[k]), float(pairs.loss[k]))
            for k in np.flatnonzero(stray)
        ),
    )


def _refuse(pairs: Pairs) -> None:
    if pairs.trials >= LEAST_TRIALS:
        return
    beside = f" ({pairs.unpaired} more, far from any point of the trunk)"
    seen = "is no cooldown" if not len(pairs) else "are cooldowns of one trial alone"
    raise FitError(
        f"no law of the annealing gain: there {seen}{beside if pairs.unpaired else ''}, and"
        f" {LEAST_TRIALS} trials are needed; anneal another trial"
    )


def _refuse_losses(pairs: Pairs) -> None:
    middle = float(np.median(pairs.gain))
    if middle > 0:
        return
    raise FitError(
        f"no law of the annealing gain: half of the {len(pairs)} cooldowns end no lower than their"
        f" trunk at equal tokens (median gain {middle:.2g} in log loss); did the rate decay to its"
        " end, and are both losses of one evaluation?"
    )


def _strays(pairs: Pairs) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Which pairs gained nothing like the others, such as a decay that failed; and words."""
    middle = float(np.median(pairs.gain))
    away = np.abs(pairs.gain - middle)
    spread = 1.4826 * float(np.median(away))
    far = (away > _FAR * spread) & (away > _FAR_SHARE * abs(middle))
    if len(pairs) < _FAR_FROM or not far.any() or len(np.unique(pairs.trial[~far])) < LEAST_TRIALS:
        return np.zeros(len(pairs), dtype=np.bool_), ()
    said = ", ".join(
        f"{gain:.3g} at {N:.3g} parameters and {D:.3g} tokens"
        for gain, N, D in zip(pairs.gain[far], pairs.N[far], pairs.D[far], strict=True)
    )
    return far, (
        f"left out of the annealing gain, of {middle:.3g} in log loss at half of the cooldowns:"
        f" {said}",
    )


def _covariates(
    pairs: Pairs,
) -> tuple[Array, tuple[str, ...], float | None, tuple[float, float]]:
    """X (R, P), what its columns are, the usual share, and the centre."""
    n, d = np.log(pairs.N), np.log(pairs.D)
    columns, terms = [np.ones(len(n)), n - n.mean(), d - d.mean()], ["gain", "N", "D"]
    centre = (math.exp(float(n.mean())), math.exp(float(d.mean())))
    share: float | None = None
    if np.isfinite(pairs.share).all():
        share = float(np.median(pairs.share))
        if count_levels(pairs.share) > 1:
            columns.append(np.log(pairs.share / share))
            terms.append("share")
    if count_levels(pairs.rate) > 1:
        columns.append(np.log(pairs.rate))
        terms.append("rate")
    return np.stack(columns, axis=1), tuple(terms), share, centre


def _scales(clustered: bool) -> Array:
    """(K, 3): sd of a row, sd of a trial, both as shares of the gain, and log prior of the node.
    Where every trial has one row the two are one."""
    own = _SDS if clustered else np.zeros(1)
    row, trial = (grid.ravel() for grid in np.meshgrid(_SDS, own, indexing="ij"))

    def prior(sd: Array) -> Array:
        return -0.5 * (np.log(sd / _USUAL) / _USUAL_SD) ** 2

    logs = prior(row) + (prior(trial) if clustered else 0.0)
    return np.stack([row, trial, logs], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Task:
    """K problems alike but for the sds of a row and of a trial, (K,) each. x (R, P), y (R,),
    trial (R,) from 0."""

    x: Array
    y: Array
    trial: Labels
    row: Array
    own: Array
    mean: Array

    def solved(self, sd: Array) -> tuple[Array, Array, Array]:
        """Values (K, P), half of minus two log posterior (K,), precision (K, P, P)."""
        values = np.tile(self.mean, (len(self.row), 1))
        values[:, 0] = math.log(max(float(np.mean(self.y)), 1e-4))
        best = self._objective(values, sd)
        for _ in range(_STEPS):
            step = np.clip(self._step(values, sd), -1.0, 1.0)
            moved = values
            for size in (1.0, 0.5, 0.1, 0.01):
                tried = values + size * step
                objective = self._objective(tried, sd)
                better = objective < best
                moved = np.where(better[:, None], tried, moved)
                best = np.where(better, objective, best)
            if np.abs(moved - values).max() < 1e-8:
                break
            values = moved
        slopes = np.exp(values @ self.x.T)[:, :, None] * self.x
        return values, best, self._precision(slopes, sd)

    def _step(self, values: Array, sd: Array) -> Array:
        said = np.exp(values @ self.x.T)
        slopes = said[:, :, None] * self.x
        pull = np.einsum("krp,kr->kp", self._weighed(slopes), self.y - said)
        pull -= (values - self.mean) / sd**2
        precision = self._precision(slopes, sd)
        return np.asarray(np.linalg.solve(precision, pull[:, :, None])[:, :, 0], dtype=np.float64)

    def _precision(self, slopes: Array, sd: Array) -> Array:
        inner = np.einsum("krp,krq->kpq", slopes, self._weighed(slopes))
        return inner + np.diag(1.0 / sd**2)

    def _weighed(self, columns: Array) -> Array:
        """The inverse of the rows' covariance times columns (K, R, P)."""
        member = np.eye(int(self.trial.max()) + 1)[self.trial]
        sums = np.einsum("rt,krp->ktp", member, columns)
        shared = (self.own**2)[:, None] / (
            (self.row**2)[:, None] + member.sum(axis=0) * (self.own**2)[:, None]
        )
        common = np.einsum("rt,ktp->krp", member, shared[:, :, None] * sums)
        return (columns - common) / (self.row**2)[:, None, None]

    def _objective(self, values: Array, sd: Array) -> Array:
        with np.errstate(over="ignore"):
            away = (self.y - np.exp(np.minimum(values @ self.x.T, 50.0)))[:, :, None]
        count = np.bincount(self.trial).astype(np.float64)
        volume = (len(self.y) - len(count)) * np.log(self.row**2)
        volume = volume + np.sum(
            np.log((self.row**2)[:, None] + count * (self.own**2)[:, None]), axis=1
        )
        squares = np.einsum("krp,krp->k", away, self._weighed(away))
        return 0.5 * (squares + volume + np.sum(((values - self.mean) / sd) ** 2, axis=1))
