"""Optima of the law of curves over a grid of alpha, all nodes at once. Touches nothing.

Levenberg-Marquardt on the logarithms of what is positive; Huber losses by iterated weights
(Holland and Welsch 1977); the trials' offsets, whose block of the normal equations is diagonal,
are eliminated exactly. K nodes, P working values, R rows in the order of their T trials.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.robust import KNEE, huber, huber_weight
from orchestrator.laws.runs import Array

E, TERM_N, TERM_D, ALPHA, BETA, GAMMA = range(6)
FREE = np.array([E, TERM_N, TERM_D, BETA, GAMMA])
"""What is solved for at a node; alpha is the node's."""
_LONGEST = 1.0  # step, in any working value
_TOLERANCE = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """n, d: log N and log D from the centre; y: log loss; weight: sums to about 1 a trial.
    first (T,): the place of each trial's first row."""

    n: Array
    d: Array
    y: Array
    weight: Array
    first: NDArray[np.intp]

    @property
    def trials(self) -> int:
        return len(self.first)

    def by_trial(self, values: Array) -> Array:
        """Sums over each trial's rows of (..., R): (..., T)."""
        return np.add.reduceat(values, self.first, axis=-1)

    def to_rows(self, offsets: Array) -> Array:
        """Each row's own of (K, T): (K, R)."""
        counts = np.diff(np.append(self.first, len(self.y)))
        return np.repeat(offsets, counts, axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrinkage:
    """Of offsets: sd, and Huber's knees in sd below and above zero."""

    sd: float
    low: float
    high: float

    def knee(self, scaled: Array) -> Array:
        return np.where(scaled > 0, self.high, self.low)


@dataclass(slots=True, kw_only=True, eq=False)
class Nodes:
    """Where the nodes stand. objective (K,); precision (K, F, F) of the free values with the
    offsets eliminated; residual (K, R) of log loss."""

    values: Array
    offsets: Array
    objective: Array
    precision: Array
    residual: Array


def law_at(values: Array, n: Array, d: Array) -> tuple[Array, Array]:
    """Loss (K, Q) of working values (K, P), and its slopes by them (K, P, Q)."""
    floor, size, data, alpha, beta = np.exp(values[:, :GAMMA]).T[:, :, None]
    of_size = size * np.exp(-alpha * n)
    of_data = data * np.exp(values[:, GAMMA, None] * n - beta * d)
    slopes = np.empty((len(values), 6, len(n)))
    slopes[:, E], slopes[:, TERM_N], slopes[:, TERM_D] = floor, of_size, of_data
    slopes[:, ALPHA], slopes[:, BETA] = -of_size * alpha * n, -of_data * beta * d
    slopes[:, GAMMA] = of_data * n
    return floor + of_size + of_data, slopes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """What is minimised at every node: rows, the shrinkage, priors (P,), and a row's sd."""

    rows: Rows
    shrinkage: Shrinkage
    mean: Array
    sd: Array
    scale: float


@dataclass(slots=True, eq=False)
class _Stand:
    objective: Array
    residual: Array
    slopes: Array


def _stand(task: Task, values: Array, offsets: Array) -> _Stand:
    rows = task.rows
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        loss, slopes = law_at(values, rows.n, rows.d)
        residual = np.log(loss) + rows.to_rows(offsets) - rows.y
        slopes = slopes[:, FREE] / loss[:, None, :]
        scaled = offsets / task.shrinkage.sd
        objective = np.sum(rows.weight * huber(residual / task.scale, KNEE), axis=1)
        objective += np.sum(huber(scaled, task.shrinkage.knee(scaled)), axis=1)
        objective += 0.5 * np.sum((((values - task.mean) / task.sd) ** 2)[:, FREE], axis=1)
    return _Stand(np.where(np.isfinite(objective), objective, np.inf), residual, slopes)


def _normal(
    task: Task, values: Array, offsets: Array, at: _Stand
) -> tuple[Array, Array, Array, Array, Array]:
    """Reduced matrix and slope, and of the offsets: coupling, curvature and slope."""
    rows, shrinkage = task.rows, task.shrinkage
    weight = rows.weight * huber_weight(at.residual / task.scale, KNEE) / task.scale**2
    scaled = offsets / shrinkage.sd
    precision = huber_weight(scaled, shrinkage.knee(scaled)) / shrinkage.sd**2
    weighted = at.slopes * weight[:, None, :]
    prior = 1.0 / task.sd[FREE] ** 2
    matrix = weighted @ at.slopes.swapaxes(1, 2) + np.diag(prior)
    slope = np.einsum("kfr,kr->kf", weighted, at.residual)
    slope += prior * (values - task.mean)[:, FREE]
    coupling, curvature = rows.by_trial(weighted), rows.by_trial(weight) + precision
    pull = rows.by_trial(weight * at.residual) + precision * offsets
    share = coupling / curvature[:, None, :]
    matrix = matrix - share @ coupling.swapaxes(1, 2)
    slope = slope - np.einsum("kft,kt->kf", share, pull)
    return matrix, slope, coupling, curvature, pull


def solve(task: Task, values: Array, offsets: Array, *, most: int = 80) -> Nodes:
    """The optimum of every node from where it stands; alpha of each stays."""
    values, offsets = values.copy(), offsets.copy()
    at = _stand(task, values, offsets)
    damping, done = np.full(len(values), 1e-3), np.zeros(len(values), dtype=np.bool_)
    diagonal = np.arange(len(FREE))
    normal = _normal(task, values, offsets, at)
    for _ in range(most):
        matrix, slope, coupling, curvature, pull = normal
        damped = matrix.copy()
        damped[:, diagonal, diagonal] *= 1.0 + damping[:, None]
        step = -np.linalg.solve(damped, slope[:, :, None])[:, :, 0]
        step = np.clip(step, -_LONGEST, _LONGEST)
        shift = -(pull + np.einsum("kft,kf->kt", coupling, step)) / curvature
        moved = values.copy()
        moved[:, FREE] += step
        trial = _stand(task, moved, offsets + shift)
        gain = at.objective - trial.objective
        better = (gain > 0) & ~done
        small = np.abs(gain) <= _TOLERANCE * (1.0 + at.objective)
        values[better], offsets[better] = moved[better], (offsets + shift)[better]
        at.objective[better], at.residual[better] = trial.objective[better], trial.residual[better]
        at.slopes[better] = trial.slopes[better]
        damping = np.where(better, np.maximum(damping * 0.2, 1e-9), damping * 5.0)
        done |= small | (damping > 1e8)
        normal = _normal(task, values, offsets, at)
        if done.all():
            break
    return Nodes(
        values=values,
        offsets=offsets,
        objective=at.objective,
        precision=normal[0],
        residual=at.residual,
    )
