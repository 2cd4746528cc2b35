"""FLOPs per token at any size, from those of the sizes that could be trained.

Touches nothing. Of the whole pool, so that a target costs the same in a plan, in the sweep and in
another sweep of that pool, whatever was trained. Between sizes the ratio to 6 N is interpolated in
log N, beyond them it is held: the attention and head terms that make it differ from 6 N change
slowly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from orchestrator.values import FloatArray

LONG_REACH = 30.0
"""Beyond this many times the largest run, an answer carries a warning."""
SIZES_BEYOND = 3.0
"""How far below the smallest size, or above the largest that its reach allows, a law may place the
best size: further out the sizes trained say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlopsPerToken:
    """Callable from sizes (K,) to FLOPs per token (K,). `ratios` are to 6 N. `trained`: the
    smallest and the largest size that was; of all sizes where empty."""

    log_sizes: tuple[float, ...]
    ratios: tuple[float, ...]
    trained: tuple[float, ...] = ()

    @classmethod
    def of(
        cls, pairs: Iterable[tuple[float, float]], trained: Iterable[float] = ()
    ) -> FlopsPerToken:
        """From (params, FLOPs per token) of candidates, the mean where one size has several, and
        the sizes that were trained, all where left out."""
        by_size: dict[float, list[float]] = {}
        for params, flops in pairs:
            by_size.setdefault(params, []).append(flops / (6 * params))
        known = {size: float(np.mean(ratios)) for size, ratios in sorted(by_size.items())}
        return cls(
            log_sizes=tuple(float(np.log(size)) for size in known),
            ratios=tuple(known.values()),
            trained=(min(sizes), max(sizes)) if (sizes := tuple(trained)) else (),
        )

    def __call__(self, sizes: FloatArray) -> FloatArray:
        if not self.ratios:
            return 6.0 * sizes
        ratio = np.interp(np.log(sizes), self.log_sizes, self.ratios)
        return 6.0 * sizes * ratio

    def pairs(self) -> list[tuple[float, float]]:
        """(params, FLOPs per token) of the sizes it was made from; `of` takes them back."""
        return [
            (size, 6.0 * size * ratio)
            for size, ratio in zip(np.exp(self.log_sizes).tolist(), self.ratios, strict=True)
        ]

    @property
    def smallest(self) -> float:
        """The smallest size that was trained."""
        return self.trained[0] if self.trained else float(np.exp(self.log_sizes[0]))

    @property
    def largest(self) -> float:
        """The largest size that was trained."""
        return self.trained[1] if self.trained else float(np.exp(self.log_sizes[-1]))
