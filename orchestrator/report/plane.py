"""The loss-compute plane: every curve, where it was stopped, the frontier, the law and its band.

Touches nothing. The picture that people of this field read first (figure 1 of Hoffmann et al.
2022, arXiv 2203.15556). The band ends where the law is asked to: ten times the largest run, no
further.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from orchestrator.report import style, words
from orchestrator.report.shown import ShownTrial
from orchestrator.values import FloatArray

_MOST_SIZES = 14
_KEPT = {"finished", "idle", "running", "waiting"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LawLine:
    """Loss against compute as a law has it, with its interval; arrays of one length.

    `name` goes into the legend; `seen` is the largest compute of the rows that it was fitted to.
    """

    name: str
    flops: FloatArray
    loss: FloatArray
    low: FloatArray
    high: FloatArray
    seen: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """What the picture shows. `frontier`: (FLOPs, loss) of the runs that no cheaper run beats."""

    trials: Sequence[ShownTrial]
    frontier: tuple[FloatArray, FloatArray]
    laws: Sequence[LawLine]
    interval: str
    title: str = ""

    def figure(self, *, width: float = 10.0, height: float = 6.0) -> Figure:
        """The picture, in inches. Call it inside `style.house_style`."""
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        sizes = [trial.params for trial in self.trials]
        colour = style.colours(sizes)
        for trial in self.trials:
            _draw_trial(axes, trial, colour[trial.params])
        self._draw_frontier(axes)
        for place, law in enumerate(self.laws):
            _draw_law(axes, law, first=place == 0)
        _scale(axes, self)
        if len(colour) > 1:
            _size_bar(figure, axes, colour)
        axes.legend(handles=self._legend(colour), loc="lower left", handlelength=1.8)
        if self.title:
            axes.set_title(self.title)
        return figure

    def hints(self) -> dict[str, str]:
        """Text for the pointer, by the id of a curve."""
        return {_gid(trial): _hint(trial) for trial in self.trials if len(trial.curve)}

    def _draw_frontier(self, axes: Axes) -> None:
        flops, loss = self.frontier
        if len(flops):
            axes.plot(
                flops, loss, "o", ms=6.5, mfc="none", mec=style.INK, mew=0.9, ls="none", zorder=5
            )

    def _legend(self, colour: dict[int, str]) -> list[Line2D | Patch]:
        middle = list(colour.values())[len(colour) // 2] if colour else style.SOFT
        status = {trial.status for trial in self.trials}
        entries: list[Line2D | Patch] = [_mark("-", middle, "a trial, coloured by its size")]
        if "stopped" in status:
            entries.append(_mark("x", middle, "stopped here"))
        if status & _KEPT:
            entries.append(_mark("o", middle, "kept to the last rung, or to its end"))
        if "diverged" in status or "failed" in status:
            entries.append(_mark("v", style.ALERT, "diverged or failed"))
        if any(trial.annealed for trial in self.trials):
            entries.append(_mark("D", middle, "annealed (a short decay from a checkpoint)"))
        if len(self.frontier[0]):
            entries.append(
                Line2D([], [], marker="o", mfc="none", mec=style.INK, ls="none", label="frontier")
            )
        for place, law in enumerate(self.laws):
            entries.append(
                Line2D([], [], color=style.INK, lw=1.8, ls=_dashes(place), label=law.name)
            )
        if self.laws:
            entries.append(Patch(color=style.BAND, alpha=0.3, lw=0, label=self.interval))
        return entries


def _mark(kind: str, colour: str, label: str) -> Line2D:
    if kind == "-":
        return Line2D([], [], color=colour, lw=1.6, label=label)
    edge = "white" if kind in "oDv" else colour
    return Line2D([], [], marker=kind, color=colour, mec=edge, ls="none", ms=6, label=label)


def _dashes(place: int) -> str | tuple[int, tuple[float, ...]]:
    return "-" if place == 0 else (0, (5.0, 2.0))


def _gid(trial: ShownTrial) -> str:
    return f"curve-{trial.id}"


def _hint(trial: ShownTrial) -> str:
    return (
        f"{trial.id}: {words.amount(trial.params)} parameters, {trial.settings or 'no settings'}; "
        f"loss {words.loss(trial.loss)} after {words.amount(trial.tokens)} tokens; {trial.status}"
    )


def _draw_trial(axes: Axes, trial: ShownTrial, colour: str) -> None:
    curve = trial.curve
    if not len(curve):
        return
    bad = trial.status in ("diverged", "failed")
    kept = trial.status in _KEPT
    axes.plot(
        curve.flops,
        curve.loss,
        color=style.ALERT if bad else colour,
        lw=1.5 if kept else 1.0,
        alpha=1.0 if kept else 0.75,
        gid=_gid(trial),
        zorder=3 if kept else 2,
        solid_capstyle="round",
    )
    at = (curve.flops[-1:], curve.loss[-1:])
    if bad:
        axes.plot(*at, "v", color=style.ALERT, mec="white", ms=7, zorder=4)
    elif trial.status in ("finished", "idle"):
        axes.plot(*at, "o", color=colour, mec="white", mew=0.8, ms=6.5, zorder=4)
    elif trial.status == "stopped":
        axes.plot(*at, "x", color=colour, ms=5.5, mew=1.5, zorder=4)
    for flops, loss in trial.annealed:
        axes.plot(
            [curve.flops[-1], flops], [curve.loss[-1], loss], ":", color=colour, lw=1.0, zorder=3
        )
        axes.plot([flops], [loss], "D", color=colour, mec="white", mew=0.7, ms=5.5, zorder=6)


def _draw_law(axes: Axes, law: LawLine, *, first: bool) -> None:
    inside = law.flops <= law.seen
    beyond = law.flops >= law.seen * 0.999
    dashes = _dashes(0 if first else 1)
    axes.plot(law.flops[inside], law.loss[inside], color=style.INK, lw=1.8, ls=dashes, zorder=7)
    axes.plot(
        law.flops[beyond],
        law.loss[beyond],
        color=style.INK,
        lw=1.4 if first else 1.1,
        ls=dashes,
        alpha=0.85,
        zorder=7,
    )
    axes.fill_between(
        law.flops, law.low, law.high, color=style.BAND, alpha=0.25 if first else 0.13, lw=0,
        zorder=1,
    )  # fmt: skip
    if first and beyond.sum() > 1:
        axes.axvline(law.seen, color=style.FAINT, lw=1.0, zorder=1)
        for text, side, shift in (("largest run", "right", -5), ("extrapolated", "left", 5)):
            axes.annotate(
                text,
                (law.seen, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(shift, -3),
                textcoords="offset points",
                ha=side,
                va="top",
                fontsize=8.5,
                color=style.SOFT,
            )


def _scale(axes: Axes, plane: Plane) -> None:
    """Log axes around the ends of the curves and the laws: their first descent is cut off."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("training compute (FLOPs)")
    axes.set_ylabel("validation loss (nats per token)")
    curves = [trial.curve for trial in plane.trials if len(trial.curve)]
    if not curves:
        return
    lows = [float(curve.loss.min()) for curve in curves]
    lows += [loss for trial in plane.trials for _, loss in trial.annealed]
    lows += [float(low) for law in plane.laws for low in (law.loss.min(), law.low.min())]
    ends = [float(curve.loss[-1]) for curve in curves]
    bottom = max(min(lows), 0.6 * min(ends)) * 0.975
    top = max(float(np.quantile(ends, 0.85)) * 1.12, min(ends) * 1.35)
    top = min(top, max(float(curve.loss.max()) for curve in curves) * 1.02)
    first = min(
        float(curve.flops[curve.loss <= top][0]) for curve in curves if (curve.loss <= top).any()
    )
    last = max(float(curve.flops[-1]) for curve in curves)
    last = max([last, *(float(law.flops[-1]) for law in plane.laws)])
    axes.set_xlim(first / 1.3, last * 1.25)
    axes.set_ylim(bottom, top)
    _loss_ticks(axes, bottom, top)


def _loss_ticks(axes: Axes, low: float, high: float) -> None:
    """Plain numbers at round losses, five or so of them."""
    for step in (0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0):
        ticks = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
        if len(ticks) <= 9:
            break
    digits = 2 if step in (0.02, 0.05, 0.25) else 1
    axes.yaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.{digits}f}"))


def _size_bar(figure: Figure, axes: Axes, colour: dict[int, str]) -> None:
    """One block a size, labelled; of very many sizes every second or third."""
    sizes = list(colour)
    edges = np.arange(len(sizes) + 1) - 0.5
    bar = figure.colorbar(
        ScalarMappable(BoundaryNorm(edges, len(sizes)), ListedColormap(list(colour.values()))),
        ax=axes,
        aspect=28,
        pad=0.015,
        fraction=0.05,
        ticks=range(0, len(sizes), -(-len(sizes) // _MOST_SIZES)),
    )
    bar.ax.set_yticklabels(
        [words.amount(size) for size in sizes[:: -(-len(sizes) // _MOST_SIZES)]]
    )
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    bar.set_label("parameters (blocks and head)", color=style.SOFT, fontsize=9)
