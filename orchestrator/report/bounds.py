"""A law's parameters and its line along compute, with their intervals. Touches nothing."""

from __future__ import annotations

import numpy as np

from orchestrator.laws.law import LawFit
from orchestrator.laws.uncertainty import LawPosterior
from orchestrator.report.conclusions import Bounded, Line
from orchestrator.report.cost import SIZES_BEYOND, FlopsPerToken

REACH = 10.0
"""How many times the largest run a law is drawn and quoted beyond it, unless a target is named."""
LINE_POINTS = 60
_SIZES_TRIED = 240


def parameters_of(
    law: LawFit, posterior: LawPosterior | None, level: float
) -> tuple[tuple[str, str, Bounded], ...]:
    """Name, meaning and value of every parameter, with its interval where there are draws that
    differ: those that all rest at an end of a range, or at one node of a grid, give none."""
    found = posterior.parameter_intervals(level) if posterior else {}
    bounds = {name: (low, high) for name, (low, high) in found.items() if low < high}
    return tuple(
        (
            known.name,
            known.meaning,
            Bounded(
                value=law.parameters[known.name],
                low=bounds.get(known.name, (None, None))[0],
                high=bounds.get(known.name, (None, None))[1],
            ),
        )
        for known in law.form.parameters
    )


def optimal_line(
    law: LawFit,
    posterior: LawPosterior | None,
    level: float,
    start: float,
    end: float,
    cost: FlopsPerToken,
) -> Line:
    """Loss at the best size for each compute, for the law and for each of its draws."""
    grid = np.geomspace(start, end, LINE_POINTS)
    # More compute never asks for less than the smallest size that was trained.
    sizes = np.geomspace(cost.smallest, cost.largest * REACH * SIZES_BEYOND, _SIZES_TRIED)
    furthest = law.end["N"]
    sizes = np.sort(np.append(sizes, furthest))
    tokens = grid[:, None] / cost(sizes)
    table = law.predict(sizes, tokens)
    loss, best = table.min(axis=1), sizes[table.argmin(axis=1)]
    low, high = loss, loss
    if posterior is not None:
        drawn = posterior.predictions(sizes, tokens).min(axis=2)
        # The best at a compute is no worse than the run that went furthest was there, or ended.
        seen = np.minimum(law.end["D"], grid / cost(np.array([furthest])))
        at = {"N": np.full_like(grid, furthest), "D": seen}
        place = np.stack([at[name] for name in law.form.inputs])
        low, high = posterior.bounded(drawn, loss, place, level)
    return Line(flops=grid, loss=loss, low=low, high=high, params=best)
