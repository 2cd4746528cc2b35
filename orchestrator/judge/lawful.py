"""How good a law the bought points leave: against the law of everything, and at sizes held out.

Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.curves import fit_curves
from orchestrator.laws.errors import FitError
from orchestrator.laws.frontier import Frontier, fit_frontier, frontier
from orchestrator.laws.law import LawFit
from orchestrator.laws.runs import CurveRows
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve
from orchestrator.state import SweepState

STARTS = 16
HELD_OUT = 3
GRID = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a pool's recorded curves say of its law within `window` (FLOPs): the same for whoever
    is judged on it at one budget. None where they cannot tell."""

    window: tuple[float, float]
    edge: Frontier | None
    law: LawFit | None
    held_out: tuple[RecordedCurve, ...]

    @classmethod
    def of(cls, pool: Pool, curves: Mapping[str, RecordedCurve], budget: int) -> Truth:
        rows = recorded_rows(pool, curves)
        window = (budget / 100, max(float(curve.flops[-1]) for curve in rows))
        try:
            edge = frontier(rows, C_range=window)
        except FitError:
            edge = None
        law = edge_law(rows, window) if edge is not None else None
        return cls(window=window, edge=edge, law=law, held_out=tuple(held_out(pool, curves)))


def bought_rows(state: SweepState) -> list[CurveRows]:
    """The points of every trial that did not diverge."""
    return [
        CurveRows(
            N=trial.candidate.params,
            tokens=trial.curve.tokens.astype(np.float64),
            flops=trial.curve.flops,
            loss=trial.curve.loss,
        )
        for trial in state.trials.values()
        if len(trial.curve) and trial.diverged is None
    ]


def recorded_rows(pool: Pool, curves: Mapping[str, RecordedCurve]) -> list[CurveRows]:
    """Everything that was recorded of the pool."""
    return [
        CurveRows(
            N=candidate.params,
            tokens=curves[candidate.id].tokens.astype(np.float64),
            flops=curves[candidate.id].tokens.astype(np.float64) * candidate.flops_per_token,
            loss=curves[candidate.id].loss,
        )
        for candidate in pool.candidates
    ]


def edge_law(rows: Sequence[CurveRows], window: tuple[float, float]) -> LawFit | None:
    """A power law of loss against compute along the frontier of `rows` within the window; None
    where it cannot be given."""
    try:
        return fit_frontier(frontier(rows, C_range=window), starts=STARTS)
    except FitError:
        return None


def area_between(mine: LawFit, theirs: LawFit, window: tuple[float, float]) -> float:
    """Mean distance in log loss of two laws of compute, over the logarithm of the window."""
    C = np.geomspace(window[0], window[1], GRID)
    return float(np.abs(np.log(mine.predict(C=C)) - np.log(theirs.predict(C=C))).mean())


def held_out(pool: Pool, curves: Mapping[str, RecordedCurve]) -> list[RecordedCurve]:
    """The largest curves of the table that the pool does not hold, with known sizes."""
    outside = [c for name, c in curves.items() if name not in pool and c.params is not None]
    outside.sort(key=lambda c: (c.params or 0, float(c.flops[-1])), reverse=True)
    return outside[:HELD_OUT]


def held_out_error(rows: Sequence[CurveRows], targets: Sequence[RecordedCurve]) -> float | None:
    """Mean error, in nats per token, of the law of `rows` (`laws.curves`, priors and offsets and
    all) at the targets' ends. None without targets, and where no law can be given."""
    if not targets or not rows:
        return None
    try:
        law = fit_curves(rows)
    except FitError:
        return None
    ends = [(c.params or 1, int(c.tokens[-1]), float(c.loss[-1])) for c in targets]
    found = law.predict(N=[end[0] for end in ends], D=[end[1] for end in ends])
    error = float(np.abs(found - np.array([end[2] for end in ends])).mean())
    return error if math.isfinite(error) else None


def killed_share(state: SweepState, full: Frontier, pool: Pool, budget: int) -> float:
    """The share of the candidates on the pool's true frontier, up to the budget, that were stopped
    (or never started) before they would have been on it."""
    owners: dict[int, float] = {}
    for stretch in full.stretches:
        if stretch.C_low <= budget:
            owners.setdefault(stretch.curve, stretch.C_low)
    killed = 0
    for place, begins in owners.items():
        candidate = pool.candidates[place]
        trial = state.trials.get(candidate.id)
        reached = candidate.flops(trial.trunk.tokens) if trial is not None else 0
        killed += reached < begins
    return killed / len(owners) if owners else math.nan
