"""Levenberg-Marquardt for many starts at once, robust, inside a box. Touches nothing.

All starts (or all bootstrap draws) advance together in NumPy: one evaluation of the form, one
batched product and one batched solve an iteration. Three choices:

- Variable projection: only parameters that enter non-linearly are damped in full. Eliminating
  the others from the joint normal equations gives Kaufman's projected step (Kaufman 1975, BIT
  15:49), so a start walks in the few exponents; where it arrives, the others are solved for.
- Huber by iterated weights (Holland and Welsch 1977): a cautious step minimises a majoriser and
  always descends, but slowly where many rows lie beyond the knee. A bold step gives such rows
  a tenth of that curvature (they have none in truth); a start that a bold step does not help
  takes a cautious one next.
- Bounds by an active set: a parameter at its bound whose gradient points outwards rests.

Trial offsets, where asked for, are one shift of log loss a trial, shrunk towards zero under a
Huber penalty, and eliminated exactly (their block of the normal equations is diagonal).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.boxed import boxed_minimum
from orchestrator.laws.forms.base import solvable
from orchestrator.laws.problem import Array, Flags, Offsets, Problem
from orchestrator.laws.projection import projected
from orchestrator.laws.robust import huber_weight

__all__ = ["Array", "Offsets", "Problem", "Solution", "minimise"]

_LINEAR_DAMPING = 1e-3  # share of the damping that parameters entering linearly feel
_BOLD = 0.1  # curvature of rows beyond the knee in a bold step, of that in a cautious one
_RIDGE = 1e-12  # on the unit diagonal of the scaled normal equations
_OWN_FLOOR = 1e-8  # of a squared length
_CAUTIOUS = 3
_LARGEST_BLOCK = 4_000_000  # numbers in one Jacobian; larger batches are solved in parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """Where each start ended: values (S, P), offsets (S, T; T = 0 without), objective (S,; inf
    where the start never had a finite one), converged (S,), iterations taken by the slowest."""

    values: Array
    offsets: Array
    objective: Array
    converged: Flags
    iterations: int


def _indices(count: int) -> NDArray[np.intp]:
    return np.arange(count, dtype=np.intp)


@dataclass(frozen=True, slots=True)
class Reduced:
    """matrix (S, P, P), slope (S, P); of the offsets: curvature and pull (S, T), coupling
    (S, P, T). T = 0 without offsets."""

    matrix: Array
    slope: Array
    curvature: Array
    pull: Array
    coupling: Array


@dataclass(slots=True)
class Place:
    """Where some starts stand, with everything a step needs."""

    values: Array
    offsets: Array
    residual: Array
    gradient: Array
    objective: Array

    def rows_of(self, chosen: NDArray[np.intp] | Flags) -> Place:
        return Place(
            self.values[chosen],
            self.offsets[chosen],
            self.residual[chosen],
            self.gradient[chosen],
            self.objective[chosen],
        )

    def put(self, at: NDArray[np.intp], other: Place) -> None:
        """The starts `at` stand where those of `other` do."""
        if len(at) == len(self.values):
            self.values, self.offsets, self.residual = other.values, other.offsets, other.residual
            self.gradient, self.objective = other.gradient, other.objective
            return
        self.values[at], self.offsets[at] = other.values, other.offsets
        self.residual[at], self.gradient[at] = other.residual, other.gradient
        self.objective[at] = other.objective


def stand(problem: Problem, values: Array, offsets: Array) -> Place:
    """Residuals, their derivatives and the objective at some values."""
    with np.errstate(all="ignore"):
        loss, gradient = problem.form.jacobian(values, problem.covariates)
        residual = problem.residual(loss, offsets)
        if problem.in_logs:
            gradient *= (1.0 / loss)[:, None, :]
        objective = problem.objective(residual, values, offsets)
    broken = ~(np.isfinite(objective) & np.isfinite(gradient).all(axis=(1, 2)))
    objective[broken] = np.inf
    return Place(values, offsets, residual, gradient, objective)


def _curved(weight: Array, bold: Flags | None) -> Array:
    """Huber weights as curvature: where a start is bold, those beyond the knee count a tenth."""
    if bold is None or not bold.any():
        return weight
    return np.where(bold[:, None] & (weight < 1.0), _BOLD * weight, weight)


def _normal(problem: Problem, at: Place, bold: Flags | None) -> tuple[Array, Array]:
    """Normal matrix (S, P, P) and slope (S, P) of the parameters, priors included."""
    huber_weights = huber_weight(at.residual, problem.delta)
    pull = problem.weight * huber_weights * at.residual
    weighted = at.gradient * (problem.weight * _curved(huber_weights, bold))[:, None, :]
    matrix = np.matmul(weighted, at.gradient.swapaxes(1, 2))
    slope = np.matmul(at.gradient, pull[:, :, None])[:, :, 0]
    precision = problem.prior_root**2
    diagonal = _indices(len(precision))
    matrix[:, diagonal, diagonal] += precision
    slope += precision * (at.values - problem.prior_mean)
    return matrix, slope


def reduced(problem: Problem, at: Place, bold: Flags | None = None) -> Reduced:
    """Normal equations of the parameters with the offsets eliminated (Schur complement)."""
    matrix, slope = _normal(problem, at, bold)
    if problem.offsets is None:
        none = np.zeros((len(slope), 0))
        return Reduced(matrix, slope, none, none, np.zeros((*slope.shape, 0)))
    curvature, pull, coupling = _offset_block(problem, problem.offsets, at, bold)
    scaled = coupling / curvature[:, None, :]
    matrix = matrix - np.matmul(scaled, coupling.swapaxes(1, 2))
    slope = slope - np.matmul(scaled, pull[:, :, None])[:, :, 0]
    return Reduced(matrix, slope, curvature, pull, coupling)


def resting(problem: Problem, values: Array, slope: Array) -> Flags:
    """Which parameters are at a bound that the objective pushes them against."""
    low, high = values <= problem.lower, values >= problem.upper
    return (low & (slope > 0)) | (high & (slope < 0))


def _offset_block(
    problem: Problem, offsets: Offsets, at: Place, bold: Flags | None
) -> tuple[Array, Array, Array]:
    """The offsets' curvature (S, T), slope (S, T) and coupling to the parameters (S, P, T)."""
    of_rows = huber_weight(at.residual, problem.delta)
    of_offsets = huber_weight(at.offsets, offsets.knee)
    precision = offsets.precision * offsets.count
    slope = (problem.weight * of_rows * at.residual) @ offsets.member
    slope = slope + precision * of_offsets * at.offsets
    weight = problem.weight * _curved(of_rows, bold)
    curvature = weight @ offsets.member + precision * _curved(of_offsets, bold)
    coupling = np.matmul(at.gradient * weight[:, None, :], offsets.member)
    return np.where(curvature > 0, curvature, 1.0), slope, coupling


def _mostly_near(problem: Problem, at: Place) -> Flags:
    """Starts with most rows inside the knee; of others, rows beyond it are all that steers."""
    return (np.abs(at.residual) <= problem.delta).mean(axis=1) > 0.5


def _step(
    problem: Problem, at: Place, damping: Array, share: Array, bold: Flags
) -> tuple[Array, Array, Array]:
    """The damped step of the parameters and of the offsets from where the starts stand, and how
    much the quadratic that it minimises says will be gained."""
    with np.errstate(all="ignore"):
        normal = reduced(problem, at, bold)
    matrix, slope = normal.matrix, normal.slope
    diagonal = _indices(slope.shape[1])
    # Where squares of slopes overflow there is no step: such a start stays, and is given up.
    broken = ~(np.isfinite(matrix).all(axis=(1, 2)) & np.isfinite(slope).all(axis=1))
    matrix[broken], slope[broken] = np.eye(slope.shape[1]), 0.0
    size = np.maximum(matrix[:, diagonal, diagonal], 0.0)
    largest = size.max(axis=1, keepdims=True)
    scale = np.sqrt(np.maximum(size, 1e-30 * np.where(largest > 0, largest, 1.0)))
    scaled = matrix / (scale[:, :, None] * scale[:, None, :])
    scaled[:, diagonal, diagonal] += _RIDGE
    scaled[:, diagonal, diagonal] += damping[:, None] * share * _own_part(scaled)
    move = boxed_minimum(
        scaled,
        -slope / scale,
        (problem.lower - at.values) * scale,
        (problem.upper - at.values) * scale,
        resting(problem, at.values, slope),
    )
    move = np.minimum(np.maximum(at.values + move / scale, problem.lower), problem.upper)
    move -= at.values
    curved = np.matmul(matrix, move[:, :, None])[:, :, 0]
    promised = -np.sum(move * (slope + 0.5 * curved), axis=1)
    if problem.offsets is None:
        return move, normal.pull, promised
    pulled = np.matmul(normal.coupling.swapaxes(1, 2), move[:, :, None])[:, :, 0]
    return move, -(normal.pull + pulled) / normal.curvature, promised


def _own_part(scaled: Array) -> Array:
    """What of each column's length the other columns cannot make up, (S, P).

    Damping in this measure lets columns that are almost alike (uncentred covariates, a scale and
    its exponent) move against each other, which damping by their lengths would forbid.
    """
    inverse = np.linalg.inv(scaled)
    diagonal = _indices(scaled.shape[1])
    # An ill-conditioned inverse can have a diagonal below one, or below zero.
    share: Array = np.maximum(1.0, inverse[:, diagonal, diagonal])
    return np.asarray(np.sqrt(np.maximum(1.0 / share, _OWN_FLOOR)), dtype=np.float64)


def _change(gain: Array, promised: Array, bold: Flags) -> Array:
    """Factor on the damping: by how much of the promised gain there was. A bold step that fails
    says nothing of the damping."""
    with np.errstate(all="ignore"):
        kept = gain / promised
    good = np.where(kept > 0.75, 0.1, np.where(kept > 0.25, 0.4, 2.0))
    return np.where(gain > 0, good, np.where(bold, 1.0, 6.0))


def minimise(
    problem: Problem, starts: Array, *, tolerance: float = 1e-10, most_iterations: int = 300
) -> Solution:
    """Minimise from every start (S, P), in parts where the Jacobian would be large.

    A start has converged when a lightly damped step twice in a row lowers its objective by less
    than `tolerance` of it, or when no step of any length lowers it.
    """
    rows = problem.covariates.shape[1]
    part = max(1, _LARGEST_BLOCK // max(1, rows * starts.shape[1]))
    if len(starts) <= part:
        return _minimise(problem, starts, tolerance, most_iterations)
    pieces = [
        _minimise(problem.rows_of(chosen), starts[chosen], tolerance, most_iterations)
        for chosen in np.array_split(_indices(len(starts)), -(-len(starts) // part))
    ]
    return Solution(
        values=np.concatenate([piece.values for piece in pieces]),
        offsets=np.concatenate([piece.offsets for piece in pieces]),
        objective=np.concatenate([piece.objective for piece in pieces]),
        converged=np.concatenate([piece.converged for piece in pieces]),
        iterations=max(piece.iterations for piece in pieces),
    )


def _minimise(problem: Problem, starts: Array, tolerance: float, most_iterations: int) -> Solution:
    count = len(starts)
    trials = 0 if problem.offsets is None else problem.offsets.member.shape[1]
    share = np.array(
        [_LINEAR_DAMPING if known.linear else 1.0 for known in problem.form.parameters]
    )
    values = np.clip(starts, problem.lower, problem.upper)
    offsets = np.zeros((count, trials))
    objective = np.full(count, np.inf)
    converged = np.zeros(count, dtype=np.bool_)
    # What is below is only for the starts that still move.
    solved = solvable(problem.form.parameters)
    place = stand(problem, values.copy(), offsets.copy())
    ids = np.flatnonzero(np.isfinite(place.objective))
    place, here = place.rows_of(ids), problem.rows_of(ids)
    damping, calm = np.full(len(ids), 1e-2), np.zeros(len(ids), dtype=np.int64)
    nothing = 1e-26 * float(np.max(np.sum(problem.weight, axis=1)))
    caution = np.zeros(len(ids), dtype=np.int64)  # steps until a bold one is tried again
    iteration = 0
    while len(ids) and iteration < most_iterations:
        iteration += 1
        bold = (caution == 0) & _mostly_near(here, place)
        move, shift, promised = _step(here, place, damping, share, bold)
        gain = _moved(here, place, solved, move, shift)
        better = gain > 0
        small: Flags = np.less_equal(np.abs(gain), tolerance * place.objective + nothing)
        calm = np.where(small & (damping <= 1.0), calm + 1, np.where(better, 0, calm))
        damping = np.maximum(damping * _change(gain, promised, bold), 1e-9)
        caution = np.where(bold & ~better, _CAUTIOUS, np.maximum(caution - 1, 0))
        rests = (calm >= 2) | (damping > 1e8)
        if rests.any():
            done = ids[rests]
            values[done], offsets[done] = place.values[rests], place.offsets[rests]
            objective[done], converged[done] = place.objective[rests], True
            on = np.flatnonzero(~rests)
            ids, place, here = ids[on], place.rows_of(on), here.rows_of(on)
            damping, calm, caution = damping[on], calm[on], caution[on]
    values[ids], offsets[ids], objective[ids] = place.values, place.offsets, place.objective
    return Solution(
        values=values,
        offsets=offsets,
        objective=objective,
        converged=converged,
        iterations=iteration,
    )


def _moved(
    problem: Problem, place: Place, solved: NDArray[np.intp], move: Array, shift: Array
) -> Array:
    """Move those starts that this helps, and say by how much each was, or would have been."""
    values, offsets = place.values + move, place.offsets + shift
    if not solved.size:
        there = stand(problem, values, offsets)
        gain: Array = place.objective - there.objective
        better = np.flatnonzero(gain > 0)
        place.put(better, there if len(better) == len(gain) else there.rows_of(better))
        return gain
    values, objective = projected(problem, solved, values, offsets, place.residual)
    gain = place.objective - objective
    better = np.flatnonzero(gain > 0)
    if better.size:
        there = stand(problem.rows_of(better), values[better], offsets[better])
        gain[better] = place.objective[better] - there.objective
        kept = np.flatnonzero(gain[better] > 0)
        all_kept = len(kept) == len(better)
        place.put(better[kept], there if all_kept else there.rows_of(kept))
    return gain
