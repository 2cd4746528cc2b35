"""The frontier of a set of curves: the lowest loss reached for a given compute, and its law.

Touches nothing. Curves are interpolated in log-log and never outside their own points: taking
the nearest point instead would score a curve at a compute that it never had. Approach 1 of
Hoffmann et al. 2022 (arXiv 2203.15556, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import POWER, LawForm
from orchestrator.laws.law import LawFit, Objective
from orchestrator.laws.runs import Array, CurveRows, Labels, Runs


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
    """Envelope of `curves` on `points` values of C, evenly spaced in log.

    C_range: from the first to the last compute of any curve unless given; the part of it where
    no curve has begun is left out. Raises FitError where no curve has a point in it.
    """
    known = [place for place, curve in enumerate(curves) if len(curve)]
    if not known:
        raise FitError("no frontier: no curve has a point")
    if points < 2:
        raise ValueError(f"points is {points}; a frontier needs at least 2")
    low = min(float(curves[place].flops[0]) for place in known)
    high = max(float(curves[place].flops[-1]) for place in known)
    low, high = (low, high) if C_range is None else C_range
    if not 0.0 < low < high:
        raise FitError(f"no frontier: the compute runs from {low:.4g} to {high:.4g} FLOPs")
    grid = np.linspace(math.log(low), math.log(high), points)
    # exp(log(x)) may miss x by a rounding; the ends are meant exactly.
    C = np.exp(grid)
    C[0], C[-1] = low, high
    grid = np.log(C)
    losses, tokens = np.full((len(curves), points), np.inf), np.ones((len(curves), points))
    for place in known:
        curve = curves[place]
        logs = np.log(curve.flops)
        inside = (grid >= logs[0]) & (grid <= logs[-1])
        losses[place, inside] = np.interp(grid[inside], logs, np.log(curve.loss))
        tokens[place, inside] = np.exp(np.interp(grid[inside], logs, np.log(curve.tokens)))
    owner = np.argmin(losses, axis=0)
    across = np.arange(points)
    lowest = losses[owner, across]
    envelope = np.minimum.accumulate(lowest)
    held = np.isfinite(envelope)
    if not held.any():
        raise FitError(f"no frontier: no curve has a point from {low:.4g} to {high:.4g} FLOPs")
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
