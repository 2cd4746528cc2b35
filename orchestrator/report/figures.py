"""The smaller figures: what is left of the rows after the law, and who trained when.

Touches nothing. Call them inside `style.house_style`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from orchestrator.report import style
from orchestrator.report.conclusions import LawResult
from orchestrator.report.timeline import Timeline, lanes_used

_MOST_ROWS = 600
_SPANS = ((3600.0 * 48, 86400.0, "days"), (7200.0, 3600.0, "hours"), (180.0, 60.0, "minutes"))


def residuals(result: LawResult) -> Figure | None:
    """Relative residuals of a law of N and D against compute, coloured by size."""
    left = result.residuals
    if left is None:
        return None
    order = np.argsort(left.params)
    keep = order[:: max(1, -(-len(order) // _MOST_ROWS))]
    colour = style.colours([int(size) for size in left.params])
    figure = Figure(figsize=(10.0, 2.7), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0.0, color=style.INK, lw=1.0)
    axes.scatter(
        left.flops[keep],
        100.0 * left.log_loss[keep],
        s=13,
        c=[colour[int(size)] for size in left.params[keep]],
        lw=0,
        alpha=0.85,
    )
    widest = 110.0 * float(np.abs(left.log_loss).max())
    axes.set_ylim(-max(widest, 0.1), max(widest, 0.1))
    axes.set_xscale("log")
    axes.set_xlabel("training compute (FLOPs)")
    axes.set_ylabel("seen above law (%)")
    return figure


def occupation(timeline: Timeline, params: Mapping[str, int]) -> Figure | None:
    """Segments over time, a lane a slot, coloured by size. None where nothing took any time."""
    segments = timeline.segments
    if not segments:
        return None
    begun = min(segment.begun for segment in segments)
    total = max(segment.ended for segment in segments) - begun
    if total <= 0:
        return None
    unit, name = next(((u, n) for least, u, n in _SPANS if total > least), (1.0, "seconds"))
    lanes = lanes_used(segments)
    colour = style.colours(list(params.values()))
    figure = Figure(figsize=(10.0, 1.1 + 0.32 * min(lanes, 24)), layout="constrained")
    axes = figure.add_subplot()
    for segment in segments:
        start, end = (segment.begun - begun) / unit, (segment.ended - begun) / unit
        lost = segment.ending in ("lost", "diverged")
        axes.barh(
            segment.lane,
            max(end - start, total / unit * 0.001),
            left=start,
            height=0.4 if segment.branch else 0.76,
            color="white" if lost else colour[params[segment.trial]],
            edgecolor=style.ALERT if lost else "white",
            hatch="////" if lost else None,
            lw=0.6,
        )
        if segment.ending == "stopped":
            axes.plot([end], [segment.lane], "x", color=style.INK, ms=4, mew=1.0)
    axes.set_yticks(range(lanes), [f"slot {lane + 1}" for lane in range(lanes)])
    axes.set_ylim(lanes - 0.45, -0.55)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{name} since the first segment")
    marks: list[Line2D | Patch] = []
    if any(segment.branch for segment in segments):
        marks.append(Line2D([], [], color=style.FAINT, lw=3, label="thin: an annealing branch"))
    if any(segment.ending in ("lost", "diverged") for segment in segments):
        marks.append(
            Patch(facecolor="white", edgecolor=style.ALERT, hatch="////", label="lost or diverged")
        )
    if marks:
        figure.legend(handles=marks, loc="outside upper right", ncols=2)
    return figure
