"""How alike two candidates are: the features of a configuration, for kernels and networks.

Touches nothing. Size counts in logs, so do positive settings (a learning rate, a width): one
e-fold is one unit whatever the pool. Numbers that may be zero or below are scaled by their
spread; words and switches are alike or not. What does not vary among the observed candidates and
the queried ones adds no distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.values import Candidate, FloatArray, Scalar

_ABSENT = "\0absent"
WORD_GAP = 3.0  # units between two words of one setting


def size_of(candidate: Candidate) -> float:
    """N: the parameters, or what 6 N D makes of the FLOPs where a recorded table names none."""
    return float(candidate.params) if candidate.params > 1 else candidate.flops_per_token / 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How the settings of a pool become numbers.

    numbers: (key, in logs, centre, scale) of numeric settings; words: (key, values seen) of all
    others. The first three features are log N, log of FLOPs per token by N, and log horizon.
    """

    numbers: tuple[tuple[str, bool, float, float], ...]
    words: tuple[tuple[str, tuple[str, ...]], ...]

    @classmethod
    def of(cls, candidates: Sequence[Candidate]) -> Encoding:
        keys = sorted({key for candidate in candidates for key, _ in candidate.settings})
        numbers: list[tuple[str, bool, float, float]] = []
        words: list[tuple[str, tuple[str, ...]]] = []
        for key in keys:
            values = [_value(candidate, key) for candidate in candidates]
            column = np.array([v for v in values if _is_number(v)], dtype=np.float64)
            if len(column) < len(values):
                words.append((key, tuple(sorted({_word(value) for value in values}))))
            elif (column > 0).all():
                numbers.append((key, True, float(np.log(column).mean()), 1.0))
            else:
                spread = float(column.std())
                numbers.append((key, False, float(column.mean()), spread if spread > 0 else 1.0))
        return cls(numbers=tuple(numbers), words=tuple(words))

    def columns(self, candidates: Sequence[Candidate]) -> FloatArray:
        """Numeric features, (candidates, 3 + numbers)."""
        table = np.empty((len(candidates), 3 + len(self.numbers)))
        for row, candidate in enumerate(candidates):
            size = size_of(candidate)
            table[row, 0] = np.log(size)
            table[row, 1] = np.log(candidate.flops_per_token / (6.0 * size))
            table[row, 2] = np.log(candidate.horizon)
            for place, (key, in_logs, centre, scale) in enumerate(self.numbers, start=3):
                table[row, place] = (_number(candidate, key, in_logs, centre) - centre) / scale
        return table

    def flags(self, candidates: Sequence[Candidate]) -> FloatArray:
        """Words as ones and zeros, (candidates, values seen); all zero for a word never seen."""
        rows = [
            [
                float(_word(_value(candidate, key)) == value)
                for key, known in self.words
                for value in known
            ]
            for candidate in candidates
        ]
        return np.array(rows, dtype=np.float64).reshape(len(candidates), -1)

    def distances(
        self,
        left: Sequence[Candidate],
        right: Sequence[Candidate],
        *,
        size: float = 1.0,
        settings: float = 1.0,
    ) -> FloatArray:
        """Squared distances (left, right): numeric features in their units, a differing word
        WORD_GAP of them. `size`: what a unit of the first three features counts; `settings`: one
        of a numeric setting."""
        gap = self.columns(left)[:, None, :] - self.columns(right)[None, :, :]
        gap *= np.array([size] * 3 + [settings] * len(self.numbers))
        total: FloatArray = (gap * gap).sum(axis=2)
        for key, _ in self.words:
            a = np.array([_word(_value(candidate, key)) for candidate in left])
            b = np.array([_word(_value(candidate, key)) for candidate in right])
            total = total + WORD_GAP**2 * (a[:, None] != b[None, :])
        return total


def _value(candidate: Candidate, key: str) -> Scalar:
    return dict(candidate.settings).get(key, _ABSENT)


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _word(value: Scalar) -> str:
    return value if isinstance(value, str) else repr(value)


def _number(candidate: Candidate, key: str, in_logs: bool, centre: float) -> float:
    """The setting as a number; the pool's centre where this candidate has none that fits."""
    value = _value(candidate, key)
    if isinstance(value, str | bool) or (in_logs and value <= 0):
        return centre
    return float(np.log(value)) if in_logs else float(value)
