"""Numbers as people say them: sizes, compute, losses with intervals, durations, moments.

Touches nothing. Used by the page, the figures and the command alike, so that all three say the
same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from orchestrator.values import count_in_words, flops_in_words

amount = count_in_words
"""Parameters or tokens."""
flops = flops_in_words
"""Compute."""


def loss(value: float) -> str:
    """Nats per token, to a thousandth."""
    return f"{value:.3f}" if math.isfinite(value) else "none"


def share(value: float) -> str:
    """A fraction as a percentage with two or three digits."""
    percent = 100 * value
    if not math.isfinite(percent):
        return str(percent)
    return f"{percent:.1f} %" if abs(percent) < 10 else f"{percent:.0f} %"


def figure(value: float) -> str:
    """A parameter of a law: four digits, exponents only where they help."""
    return f"{value:.4g}"


def factor(value: float) -> str:
    """How many times: `3.2`, `41`, `1,200`."""
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


class _Bounds(Protocol):
    """A figure with its bounds; None where there are none."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def bounded(found: _Bounds | None, said: Callable[[float], str] = figure) -> str:
    """`0.513 (0.471 to 0.552)`; `none` where there is no figure."""
    if found is None:
        return "none"
    if found.low is None or found.high is None:
        return f"{said(found.value)} (no interval)"
    return f"{said(found.value)} ({said(found.low)} to {said(found.high)})"


def duration(seconds: float) -> str:
    """`48 s`, `4 min 10 s`, `3 h 12 min`, `2 d 4 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def moment(seconds: float) -> str:
    """UNIX seconds as UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def several(count: int, noun: str, plural: str | None = None) -> str:
    """`1 trial`, `3 trials`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def plain(text: str) -> str:
    """The text without control characters, which a terminal or a page would act on."""
    return "".join(c if c.isprintable() or c == " " else "�" for c in text)
