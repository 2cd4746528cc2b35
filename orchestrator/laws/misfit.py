"""What no law form says: a Gaussian process beside the law, over where it will be asked.

Touches nothing. No form is the true one, and rows that lie together are wrong together: a
hundred cheap rows tell little more of a large model than one. So the log loss is the law plus a
process whose correlation falls as exp(-d^2 / 2), with d the distance in standardised inputs
(logarithms where they are above zero), divided by the root of their number and by a length. It is
given as features of few landmarks (Williams and Seeger 2001, NIPS 13), so that F @ F.T is its
covariance and conditioning on n rows costs n F^2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.runs import Array

LANDMARKS = 48
SD = 0.02
"""Of log loss: the misfit usual for laws of language models."""
LENGTHS = (0.5, 1.0, 2.0)
"""Over which a misfit may stay alike: the rows tell which. With 1 alone, the largest rows inside
ScaleBench's pools were foreseen with errors up to half as large again."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Misfit:
    """Features of the process at inputs by name. landmarks (M, I) standardised; mixing (M, F);
    length: the distance over which the misfit stays alike, 1 for the usual one."""

    names: tuple[str, ...]
    logs: tuple[bool, ...]
    centre: Array
    spread: Array
    landmarks: Array
    mixing: Array
    length: float

    def grown(self, factor: float) -> Misfit:
        """The process with its sd times `factor`."""
        return replace(self, mixing=self.mixing * factor)

    def features(self, inputs: Mapping[str, Array]) -> Array:
        """(Q, F) at inputs (Q,) each; products of rows are covariances."""
        place = _placed(inputs, self.names, self.logs)
        return (
            _near((place - self.centre) / self.spread, self.landmarks, self.length) @ self.mixing
        )


def misfit_over(
    inputs: Mapping[str, Array],
    *,
    sd: float = SD,
    length: float = 1.0,
    landmarks: int = LANDMARKS,
) -> Misfit:
    """The process of this sd over the places (R,) where a law may be asked: pool and target.

    Inputs that do not vary are left out. Landmarks are spread by taking the farthest in turn.
    """
    names = tuple(sorted(name for name, column in inputs.items() if np.ptp(column) > 0))
    logs = tuple(bool((inputs[name] > 0).all()) for name in names)
    place = _placed(inputs, names, logs)
    centre, spread = place.mean(axis=0), np.maximum(place.std(axis=0), 1e-12)
    place = (place - centre) / spread
    chosen = place[_farthest(place, landmarks)]
    roots, axes = np.linalg.eigh(_near(chosen, chosen, length))
    kept = roots > 1e-6 * max(float(roots[-1]), 1e-300)
    return Misfit(
        names=names,
        logs=logs,
        centre=centre,
        spread=spread,
        landmarks=chosen,
        mixing=sd * axes[:, kept] / np.sqrt(roots[kept]),
        length=length,
    )


def _placed(inputs: Mapping[str, Array], names: tuple[str, ...], logs: tuple[bool, ...]) -> Array:
    """Inputs as places (Q, I)."""
    rows = len(next(iter(inputs.values())))
    columns = [
        np.log(np.maximum(inputs[name], 1e-300)) if log else inputs[name]
        for name, log in zip(names, logs, strict=True)
    ]
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0))


def _near(places: Array, landmarks: Array, length: float) -> Array:
    """Correlations (Q, M)."""
    count = max(1, places.shape[1])
    away = np.sum(places**2, axis=1)[:, None] + np.sum(landmarks**2, axis=1)
    away = away - 2.0 * places @ landmarks.T
    return np.exp(-0.5 * np.maximum(away, 0.0) / (count * length**2))


def _farthest(places: Array, count: int) -> NDArray[np.intp]:
    """Rows far from each other, the one farthest from the middle first."""
    chosen = [int(np.argmax(np.sum(places**2, axis=1)))]
    away = np.sum((places - places[chosen[0]]) ** 2, axis=1)
    while len(chosen) < min(count, len(places)) and float(away.max()) > 1e-9:
        chosen.append(int(np.argmax(away)))
        away = np.minimum(away, np.sum((places - places[chosen[-1]]) ** 2, axis=1))
    return np.array(chosen, dtype=np.intp)
