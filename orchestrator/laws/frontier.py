"""The frontier of a set of curves: the lowest loss reached for a given compute, and its law.

Touches nothing. Curves are interpolated in log-log and never outside their own points: taking
the nearest point instead would score a curve at a compute that it never had. Approach 1 of
Hoffmann et al. 2022 (arXiv 2203.15556, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import POWER, LawForm
from orchestrator.laws.law import LawFit, Objective
from orchestrator.laws.posing import posed_again
from orchestrator.laws.runs import Array, CurveRows, Labels, Runs
from orchestrator.laws.uncertainty import LawPosterior, lowest_ends, posterior_of
from orchestrator.values import flops_in_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The part of the frontier, in FLOPs, along which one curve (its place) is the lowest."""

    curve: int
    C_low: float
    C_high: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frontier:
    """Lower envelope on a grid of compute, increasing in C; loss never rises.

    C, loss: (G,). owner: (G,) the place of the curve that reached this loss. reached: (G,) True
    where the owner is at this very compute; False where the loss was reached with less and no
    curve has improved on it yet. N, D: (G,) the owner's size, and its tokens where it reached
    the loss.
    """

    C: Array
    loss: Array
    owner: Labels
    reached: NDArray[np.bool_]
    N: Array
    D: Array

    def __len__(self) -> int:
        return len(self.C)

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """Who owns the frontier, from little compute to much."""
        cuts = np.flatnonzero(np.diff(self.owner)) + 1
        firsts = np.concatenate([[0], cuts]).astype(np.intp)
        lasts = np.concatenate([cuts, [len(self.C)]]).astype(np.intp) - 1
        return tuple(
            Stretch(
                curve=int(self.owner[first]),
                C_low=float(self.C[first]),
                C_high=float(self.C[last]),
            )
            for first, last in zip(firsts, lasts, strict=True)
        )


def frontier(
    curves: Sequence[CurveRows], *, points: int = 200, C_range: tuple[float, float] | None = None
) -> Frontier:
    """Envelope of `curves` on `points` values of C, evenly spaced in log, and at the computes of
    curves with one point (finished runs), which no even spacing would meet.

    C_range: from the first to the last compute of any curve unless given; the part of it where
    no curve has begun is left out. Raises FitError where no curve has a point in it.
    """
    known = [place for place, curve in enumerate(curves) if len(curve)]
    if not known:
        raise FitError("no frontier: no curve has a point")
    if points < 2:
        raise ValueError(f"points is {points}; a frontier needs at least 2")
    even = _grid([curves[place] for place in known], points, C_range)
    single = [float(curve.flops[0]) for curve in curves if len(curve) == 1]
    C = np.union1d(even, [at for at in single if even[0] <= at <= even[-1]])
    losses, tokens = _along(curves, C)
    owner = np.argmin(losses, axis=0)
    across = np.arange(len(C), dtype=np.intp)
    lowest = losses[owner, across]
    envelope = np.minimum.accumulate(lowest)
    held = np.isfinite(envelope)
    if not held.any():
        ends = f"{flops_in_words(float(C[0]))} to {flops_in_words(float(C[-1]))}"
        raise FitError(f"no frontier: no curve has a point from {ends} FLOPs")
    reached = held & (lowest <= envelope)
    # Where nothing new is reached, the last place that reached the loss still owns it.
    last = np.maximum.accumulate(np.where(reached, across, 0))
    owner, D = owner[last], tokens[owner[last], last]
    sizes = np.array([curve.N for curve in curves])
    return Frontier(
        C=C[held],
        loss=np.exp(envelope[held]),
        owner=owner[held].astype(np.int64),
        reached=reached[held],
        N=sizes[owner[held]],
        D=D[held],
    )


def _grid(curves: Sequence[CurveRows], points: int, C_range: tuple[float, float] | None) -> Array:
    low = min(float(curve.flops[0]) for curve in curves)
    high = max(float(curve.flops[-1]) for curve in curves)
    low, high = (low, high) if C_range is None else C_range
    if not 0.0 < low < high:
        ends = f"{flops_in_words(low)} to {flops_in_words(high)}"
        raise FitError(f"no frontier: the compute runs from {ends} FLOPs")
    C = np.exp(np.linspace(math.log(low), math.log(high), points))
    # exp(log(x)) may miss x by a rounding; the ends are meant exactly.
    C[0], C[-1] = low, high
    return C


def _along(curves: Sequence[CurveRows], C: Array) -> tuple[Array, Array]:
    """Log loss and tokens of every curve at every C: (curves, G). Infinite loss outside."""
    grid = np.log(C)
    losses = np.full((len(curves), len(C)), np.inf)
    tokens = np.ones((len(curves), len(C)))
    for place, curve in enumerate(curves):
        if len(curve) == 0:
            continue
        logs = np.log(curve.flops)
        inside = (curve.flops[0] <= C) & (curve.flops[-1] >= C)
        losses[place, inside] = np.interp(grid[inside], logs, np.log(curve.loss))
        tokens[place, inside] = np.exp(np.interp(grid[inside], logs, np.log(curve.tokens)))
    return losses, tokens


def frontier_runs(edge: Frontier) -> Runs:
    """The frontier's points that were reached, as rows: one trial an owner.

    A grid point is no observation of its own, so the weights of an owner's stretch sum to the
    share of the frontier (in log C) that it holds, times the number of owners.
    """
    here = np.flatnonzero(edge.reached)
    owners = len(np.unique(edge.owner[here]))
    return Runs(
        N=edge.N[here],
        D=edge.D[here],
        C=edge.C[here],
        loss=edge.loss[here],
        trial=edge.owner[here],
        weight=np.full(len(here), owners / max(len(here), 1)),
    )


def fit_frontier(
    edge: Frontier,
    *,
    form: LawForm = POWER,
    objective: Objective = "huber_log",
    delta: float | None = None,
    seed: int = 0,
    starts: int = 64,
) -> LawFit:
    """A law of loss against compute along the frontier: `POWER` or `POWER_IRREDUCIBLE`.

    Raises FitError where fewer than two curves own a part of it (a single curve's shape is no
    scaling law), or where the rows do not carry the form; ValueError for a form of other inputs.
    """
    if form.inputs != ("C",):
        raise ValueError(
            f"a frontier is a law of C, and {form.name} is one of {', '.join(form.inputs)}"
        )
    rows = frontier_runs(edge)
    if rows.trials < 2:
        raise FitError(
            "no law of the frontier: one curve owns all of it; train another size, or more of it"
        )
    return fit(form, rows, objective=objective, delta=delta, seed=seed, starts=starts)


def bootstrap_frontier(
    law: LawFit,
    curves: Sequence[CurveRows],
    edge: Frontier,
    *,
    draws: int = 200,
    seed: int = 0,
) -> LawPosterior:
    """Draws of a frontier's law: curves are drawn with replacement, and each draw has its own
    envelope on the grid of `edge`, refitted from the law's optimum.

    law: `fit_frontier` of `edge`, and edge: `frontier` of `curves`. Raises FitError where more
    than half of the draws fail: one curve owns all, or fewer grid points than parameters are
    left. The intervals hold for the frontier of sweeps like this one; with few sizes the
    envelope is biased upwards, and no bootstrap shows that.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}; at least one is needed")
    losses, _ = _along(curves, edge.C)
    rng = np.random.default_rng(seed)
    posed = posed_again(law, frontier_runs(edge))
    targets, weights = np.zeros((draws, len(edge))), np.zeros((draws, len(edge)))
    for draw in range(draws):
        drawn = np.unique(rng.integers(len(curves), size=len(curves)))
        lowest = losses[drawn].min(axis=0)
        here = np.isfinite(lowest) & (lowest <= np.minimum.accumulate(lowest))
        owners = np.unique(drawn[np.argmin(losses[drawn][:, here], axis=0)])
        if len(owners) < 2 or int(here.sum()) <= len(law.working):
            continue
        targets[draw, here] = lowest[here]
        weights[draw, here] = len(owners) / int(here.sum())
    able = weights.any(axis=1)
    if not able.any():
        raise FitError(f"no uncertainty: in none of {draws} draws do two curves own the frontier")
    problem = posed.problem(law.scale)
    target = targets[able] if posed.in_logs else np.exp(targets[able])
    problem = replace(
        problem,
        covariates=law.form.covariates(edge.C[None, :], posed.centre),
        target=target,
        weight=weights[able],
    )
    solution = lowest_ends(problem, np.array([law.working]), int(able.sum()))
    clusters = len(np.unique(edge.owner[edge.reached]))
    return posterior_of(law, solution, asked=draws, clusters=clusters, seed=seed)
