"""How figures look: one sequential colour map for sizes, one grey for uncertainty, print first.

Touches nothing outside the figure at hand: settings are applied in a context, never globally. The
map is viridis (van der Walt and Smith 2015), perceptually even, ordered under every common colour
blindness and in grey print; its lightest fifth is left out because it vanishes on paper.
"""

from __future__ import annotations

import io
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

INK = "#1b1f24"
SOFT = "#5b6470"
FAINT = "#c9ced6"
BAND = "#7a8594"
ALERT = "#b3261e"

_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8ebef",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "path.simplify": True,
}


@contextmanager
def house_style(salt: str) -> Generator[None]:
    """Matplotlib's settings for one figure. `salt` keeps the ids of several SVGs on a page apart
    and the same from one writing to the next."""
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": salt}):
        yield


def colours(sizes: Sequence[int]) -> dict[int, str]:
    """A colour for each different size, dark for small to light for large."""
    different = sorted(set(sizes))
    ramp = colormaps["viridis"]
    top = max(len(different) - 1, 1)
    return {size: to_hex(ramp(0.02 + 0.80 * i / top)) for i, size in enumerate(different)}


def svg(figure: Figure, *, label: str, hints: dict[str, str] | None = None) -> str:
    """The figure as an inline `<svg>` element that scales to its column.

    `label` is read out in its place; `hints` gives artists, by their gid, a text to show on hover.
    """
    FigureCanvasSVG(figure)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' (?:width|height)="[0-9.]+pt"', "", text, count=2)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text, count=2)
    text = text.replace("xlink:href", "href")
    text = text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
    for gid, hint in (hints or {}).items():
        mark = f'<g id="{gid}">'
        text = text.replace(mark, f"{mark}<title>{escape(hint)}</title>", 1)
    return text


def png(figure: Figure, *, dpi: int = 200) -> bytes:
    """The figure as a PNG file."""
    FigureCanvasAgg(figure)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
    return out.getvalue()
