"""What a law of size and tokens misses in log loss, as zero-mean normal terms: their covariances.

Touches nothing. Each term is a kernel at unit sd over places (a trial after so many tokens):

- level, tilt: smooth in size and settings; alike everywhere, and in proportion to the share that
  the tokens' term of the law has in the loss
- offset, slope: the same two, each trial its own
- shape: what a power law in tokens misses, common to all trials, smooth in log tokens
- drift: a random walk in log tokens, each trial its own
- bend: a walk of each trial's own slope, so that what is not seen yet of a young trial is doubted
  in proportion to the distance, and more: its sd grows as the distance in log tokens to the power
  3/2 (integrated Wiener process; Wahba 1978: the prior of a cubic spline)

Drift and bend begin where `rooted` says. From the "start" they grow along a trial: it is the rest
of a young one that is doubted, as forecasts for pruning must. (Drift starts at the first row of
all, bend at the trial's own first, or where these are on the mean for one that never started.)
From the "end" they grow backwards: at the end of its horizon a run deviates from the law by its
own offset and slope alone, and the earlier a place, the less it tells of that. That is for laws:
rooted at the start, what may happen to one run on its way is counted against the law at every
target, where no purchase could lower it, and the late rows of a long run count least. A unit of
size then counts half and one of a setting twice: what size does is the law's to tell.

Sizes were set by hand; bend's, and what those units count, on generated pools (worlds, crossings,
bad rates) and on backtests inside the first quarter or half of recorded curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from orchestrator.surrogates.configuration import Encoding, size_of
from orchestrator.surrogates.gaussian import integrated_walk
from orchestrator.surrogates.prefixes import Rows
from orchestrator.values import Candidate, FloatArray, IntArray

CONFIGURATION_SCALE = 2.5  # units of the encoding
UNITS = {"start": (1.0, 1.0), "end": (0.5, 2.0)}  # what one of size counts, and one of a setting
SHAPE_SCALE = 1.5  # e-folds of tokens
MISFIT_SCALE = 0.6  # e-folds of size

Root: TypeAlias = Literal["start", "end"]

# Sd of each term (median of its prior), and the width of that prior in logs.
TERMS = ("level", "tilt", "offset", "slope", "shape", "drift", "bend", "noise")
OFFSET, NOISE = TERMS.index("offset"), TERMS.index("noise")
TERM_SD = np.array([0.015, 0.1, 0.012, 0.05, 0.02, 0.008, 0.006, 0.004])
TERM_WIDTH = np.array([1.0, 1.0, 0.7, 0.7, 0.7, 0.7, 0.7, 1.0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Places to speak of: rows or queries. candidates (trials,); trial, an index into them, size
    and log_tokens, both centred, and ahead, e-folds of tokens to the end of the trial's horizon,
    zero from there on, (places,)."""

    candidates: tuple[Candidate, ...]
    trial: IntArray
    size: FloatArray
    log_tokens: FloatArray
    ahead: FloatArray

    @classmethod
    def of(
        cls,
        candidates: Sequence[Candidate],
        trial: IntArray,
        log_tokens: FloatArray,
        centre: tuple[float, float],
    ) -> Where:
        """centre: of log size and log tokens."""
        sizes = np.log([size_of(candidate) for candidate in candidates]) - centre[0]
        ends = np.log([float(candidate.horizon) for candidate in candidates])
        return cls(
            candidates=tuple(candidates),
            trial=trial,
            size=sizes[trial],
            log_tokens=log_tokens - centre[1],
            ahead=np.maximum(ends[trial] - log_tokens, 0.0),
        )

    @property
    def names(self) -> NDArray[np.str_]:
        return np.array([candidate.id for candidate in self.candidates])[self.trial]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """The terms' covariances, for one set of observed rows.

    earliest: centred log tokens of the first row of all; begun: of each observed trial's first,
    by its name; usual: their mean. misfit: variance of what is missed at a size and tokens
    together, in shapes. rooted: where drift and bend begin.
    """

    encoding: Encoding
    earliest: float
    begun: dict[str, float]
    usual: float
    misfit: float
    rooted: Root

    @classmethod
    def of(cls, rows: Rows, at: Where, misfit: float, rooted: Root) -> Kernels:
        first = np.full(len(rows.candidates), np.inf)
        np.minimum.at(first, rows.trial, at.log_tokens)
        return cls(
            encoding=Encoding.of(rows.candidates),
            earliest=float(first.min()),
            begun={c.id: float(x) for c, x in zip(rows.candidates, first, strict=True)},
            usual=float(first.mean()),
            misfit=misfit,
            rooted=rooted,
        )

    def between(self, left: Where, right: Where, tilts: FloatArray) -> FloatArray:
        """Of every term but noise, in the order of TERMS, at unit sd: (terms, left, right).

        tilts (left, right): products of the tokens' shares in the loss.
        """
        size, settings = UNITS[self.rooted]
        gap = self.encoding.distances(
            left.candidates, right.candidates, size=size, settings=settings
        )
        likeness = np.exp(-0.5 * gap / CONFIGURATION_SCALE**2)[left.trial][:, right.trial]
        same = (left.names[:, None] == right.names[None, :]).astype(np.float64)
        here, there = left.log_tokens[:, None], right.log_tokens[None, :]
        apart = np.abs(here - there) * (np.sqrt(3.0) / SHAPE_SCALE)
        matern = (1.0 + apart) * np.exp(-apart)
        sizes = (left.size[:, None] - right.size[None, :]) / MISFIT_SCALE
        matern *= 1.0 + self.misfit * np.exp(-0.5 * sizes * sizes)
        walked, bent = self._walks(left, right)
        return np.stack(
            [
                likeness,
                likeness * tilts,
                same,
                same * tilts,
                matern,
                same * walked,
                same * bent,
            ]
        )

    def _walks(self, left: Where, right: Where) -> tuple[FloatArray, FloatArray]:
        """Of drift and bend (left, right), all trials taken for one."""
        if self.rooted == "end":
            walked = np.minimum(left.ahead[:, None], right.ahead[None, :])
            return walked, integrated_walk(left.ahead, right.ahead)
        walked = np.minimum(left.log_tokens[:, None], right.log_tokens[None, :]) - self.earliest
        return np.maximum(walked, 0.0), integrated_walk(self._since(left), self._since(right))

    def _since(self, where: Where) -> FloatArray:
        """E-folds of tokens since the first row of each place's trial; negative before it."""
        first = np.array([self.begun.get(c.id, self.usual) for c in where.candidates])
        return where.log_tokens - first[where.trial]
