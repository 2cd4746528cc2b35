"""The normal distribution about one optimum of a fit (Laplace), in working values.

Touches nothing. With residuals r, weights w, psi the slope of the Huber loss, m = mean(psi') and
H the normal matrix at the curvature m (priors and offsets included), rows that are independent
give

    covariance = s^2 H^-1,  s^2 = k sum(w psi(r)^2) / (m (n - p)),  k = 1 + (p/n) (1 - m) / m

(Huber 1973, Annals of Statistics 1:799). Where rows share a trial the covariance is the larger,
direction by direction, of this and of the jackknife over trials (Bell and McCaffrey 2002, Survey
Methodology 28:169), to first order: H^-1 sum_t(u_t u_t') H^-1 with u_t what trial t pulls at the
values, divided by what its own leverage leaves. Both rest on few degrees of freedom, trials (or
rows) less parameters, so intervals take Student's t.

A parameter at a bound is known no better than the push against the bound says: a slope g there is
worth the precision g^2 / (2 s^2) of an exponential distribution's second moment. And no parameter
is thought to move the log loss at the rows by more than about 1: that weak prior is all that
bounds a direction which the rows leave free.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.errors import FitError
from orchestrator.laws.levenberg import Place, Problem, reduced, resting, stand
from orchestrator.laws.runs import Array, Labels

_MOST_MOVE = 1.0  # of log loss at the rows, rms: sd of the weak prior on every parameter
_INSIDE = 0.1  # least share of rows (or offsets) inside the knee that is believed
_TINY = 1e-20  # of the residual's unit, squared: a law that meets its rows exactly
_LEAST_LEFT = 0.05  # of a direction, when the trial that fixes it is left out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Normal:
    """root (P, K): the covariance is root @ root.T. noise: sd of a row's residual. degrees: of
    freedom of the covariance. power: of the objective in the likelihood, half the rows' degrees
    of freedom, less where rows of a trial move together."""

    root: Array
    noise: float
    degrees: float
    power: float


def normal_about(problem: Problem, values: Array, offsets: Array, trial: Labels) -> Normal:
    """The distribution about `values` (P,), an optimum with these offsets (T,; T = 0 without).

    trial (R,): rows with one label are one cluster. Raises FitError where slopes overflow.
    """
    at = stand(problem, values[None, :], offsets[None, :])
    residual, gradient = at.residual[0], at.gradient[0]
    weight = np.broadcast_to(problem.weight[0], residual.shape)
    size, total = len(values), float(np.sum(weight))
    count = total**2 / float(np.sum(weight**2))  # as many rows as weights count
    spare = max(count - size, 1.0)
    inside = max(float(np.average(np.abs(residual) <= problem.delta, weights=weight)), _INSIDE)
    psi = np.clip(residual, -problem.delta, problem.delta)
    influence = float(np.sum(weight * psi**2)) * (1.0 + size / count * (1.0 - inside) / inside)
    influence = max(influence, _TINY * total * problem.unit**2)
    variance = influence / (spare * inside)
    slope = reduced(problem, at).slope[0]
    pushed = np.where(resting(problem, values, slope), slope, 0.0)
    weak = np.average(gradient**2, axis=1, weights=weight) * (problem.unit / _MOST_MOVE) ** -2
    precision = problem.prior_root**2 + variance * weak + pushed**2 / (2.0 * variance)
    labels = np.unique(trial)
    member = (trial[:, None] == labels).astype(np.float64)
    clustered = len(labels) < len(trial)
    if not clustered:
        member = np.ones((len(trial), 1))
    shares = _shares(problem, at, weight * inside, member)
    matrix = shares.sum(axis=0) + np.diag(precision)
    if not np.isfinite(matrix).all():
        raise FitError(
            f"no uncertainty of {problem.form.name}: its slopes at the rows are too steep to be"
            " squared; give its parameters bounds nearer to what they can be"
        )
    axes = _root(matrix)
    root, temper, clusters = math.sqrt(variance) * axes, 1.0, count
    if clustered:
        pulls = axes.T @ ((gradient * (weight * psi)) @ member)
        root, temper = _larger(root, axes @ _without_own(axes.T @ shares @ axes, pulls))
        clusters = min(count, float(len(labels)))
    return Normal(
        root=root,
        noise=math.sqrt(influence / total * count / spare) / inside,
        degrees=max(clusters - size, 1.0),
        power=0.5 * spare / temper,
    )


def _shares(problem: Problem, at: Place, curvature: Array, member: Array) -> Array:
    """What each trial (or all rows as one) adds to the normal matrix: (T, P, P). member (R, T).

    An offset gives way to what its trial's rows have in common, all of it where offsets lie
    beyond their knee.
    """
    gradient, offsets = at.gradient[0], problem.offsets
    shares: Array = np.stack(
        [(gradient * (curvature * member[:, t])) @ gradient.T for t in range(member.shape[1])]
    )
    if offsets is None:
        return shares
    within = np.abs(at.offsets[0]) <= offsets.knee
    inside = max(float(np.count_nonzero(within)) / len(within), _INSIDE)
    own = curvature @ offsets.member + offsets.precision * inside
    coupled = (gradient * curvature) @ offsets.member / np.sqrt(own)
    return shares - np.einsum("pt,qt->tpq", coupled, coupled)


def _root(matrix: Array) -> Array:
    """R with R R' the inverse of a positive definite matrix, each column by its own scale."""
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    roots, axes = np.linalg.eigh(matrix / np.outer(scale, scale))
    kept = np.maximum(roots, 1e-15 * roots[-1])
    return axes / np.sqrt(kept) / scale[:, None]


def _without_own(shares: Array, pulls: Array) -> Array:
    """Pulls (P, T) with each trial's own leverage taken out. In the axes where the whole matrix
    is the identity, so that a trial's share (T, P, P) of it is its leverage."""
    roots, turns = np.linalg.eigh(shares)
    left = 1.0 / np.maximum(1.0 - roots, _LEAST_LEFT)
    turned = np.einsum("tpq,pt->tq", turns, pulls) * left
    count = len(shares)
    return np.einsum("tpq,tq->pt", turns, turned) * math.sqrt((count - 1.0) / count)


def _larger(alone: Array, beside: Array) -> tuple[Array, float]:
    """A root (P, P) that is no smaller than either of two, (P, P) and (P, T), in any direction;
    and the mean ratio of the second variance to the first, 1 or more."""
    turns, sizes, _ = np.linalg.svd(np.linalg.solve(alone, beside), full_matrices=True)
    full = np.zeros(len(alone))
    full[: len(sizes)] = sizes
    return alone @ (turns * np.maximum(full, 1.0)), max(1.0, float(np.mean(full**2)))
