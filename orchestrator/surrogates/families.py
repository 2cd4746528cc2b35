"""Families of learning curves: log loss against centred log compute, with few coefficients.

Touches nothing. The three of Schram et al. (arXiv 2605.17234), after Domhan et al. (IJCAI 2015),
and a straight line. Coefficients are unconstrained numbers, so that networks may emit them and
searches walk freely; x is log compute by a reference, and priors are relative to the lowest loss
seen. A family reads NumPy arrays and torch tensors alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from orchestrator.values import FloatArray


class Shape(Protocol):
    """Log loss: (numpy or torch, coefficients, x) to an array like x."""

    def __call__(self, library: Any, coefficients: Sequence[Any], x: Any) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """mean and sd: a weak normal prior of each coefficient; levels: how many of the first are
    logs of loss, whose prior means are relative to the lowest log loss seen."""

    name: str
    shape: Shape
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    levels: int

    def prior_mean(self, lowest: float) -> FloatArray:
        """Prior means where `lowest` is the lowest log loss seen."""
        mean = np.array(self.mean)
        mean[: self.levels] += lowest
        return mean

    def log_loss(self, coefficients: FloatArray, x: FloatArray) -> FloatArray:
        """Log loss at x (points,) for coefficients (count,)."""
        with np.errstate(over="ignore"):  # what overflows is a term that has gone to zero
            return np.asarray(self.shape(np, list(coefficients), x), dtype=np.float64)

    def slopes(self, coefficients: FloatArray, x: FloatArray) -> FloatArray:
        """Derivatives of log loss by the coefficients, (points, count), by central differences."""
        step = 1e-5
        columns: list[FloatArray] = []
        for place in range(len(coefficients)):
            up, down = coefficients.copy(), coefficients.copy()
            up[place] += step
            down[place] -= step
            columns.append((self.log_loss(up, x) - self.log_loss(down, x)) / (2 * step))
        return np.stack(columns, axis=1)


def _power_law(library: Any, coefficients: Sequence[Any], x: Any) -> Any:
    """a + b C^-g."""
    a, b, g = coefficients
    return library.logaddexp(a + 0.0 * x, b - library.exp(g) * x)


def _exponential(library: Any, coefficients: Sequence[Any], x: Any) -> Any:
    """a + b exp(-g C^d)."""
    a, b, g, d = coefficients
    return library.logaddexp(a + 0.0 * x, b - library.exp(g + library.exp(d) * x))


def _mmf(library: Any, coefficients: Sequence[Any], x: Any) -> Any:
    """Morgan-Mercer-Flodin: (a b + e C^d) / (b + C^d), from a at first to e at last."""
    last, gap, b, d = coefficients
    left = 1.0 / (1.0 + library.exp(library.exp(d) * x - b))
    return library.log(library.exp(last) + library.exp(gap) * left)


def _log_linear(library: Any, coefficients: Sequence[Any], x: Any) -> Any:
    """A straight line in log loss against log compute."""
    level, slope = coefficients
    return level - library.exp(slope) * x


_HALF, _FALL = float(np.log(0.6)), float(np.log(0.35))

POWER_LAW = Family(
    name="power_law",
    shape=_power_law,
    mean=(_HALF, _HALF, _FALL),
    sd=(0.5, 1.0, 0.5),
    levels=2,
)
EXPONENTIAL = Family(
    name="exponential",
    shape=_exponential,
    mean=(_HALF, 0.5, 0.0, _FALL),
    sd=(0.5, 1.0, 1.0, 0.7),
    levels=2,
)
MMF = Family(
    name="mmf",
    shape=_mmf,
    mean=(_HALF, 0.5, 0.0, _FALL),
    sd=(0.5, 1.0, 1.0, 0.7),
    levels=2,
)
LOG_LINEAR = Family(
    name="log_linear", shape=_log_linear, mean=(0.0, -2.5), sd=(1.0, 1.0), levels=1
)
