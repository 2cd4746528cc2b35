"""Pairs of an annealed end and its own trunk: what a cooldown gained at equal tokens.

Touches nothing. A cooldown leaves the trunk at some tokens and ends further on, at a loss that is
lower for two reasons: the rate decayed, and more tokens were seen. The second is no gain of
annealing. So the trunk is carried to the tokens of the end: the mean of its log residuals about
the stable law within 4/3 of there (evaluations at a constant rate are noisy, several say more
than one), and the stable law's own change from there on. Of the stable law only the slope over
the decay is used; its level cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.runs import Array, CurveRows, Labels

NEAR = 4.0 / 3.0
"""Factor in tokens about an end within which points of its trunk tell the trunk's level."""
FURTHEST = 2.0
"""Where no point is that near, the nearest one within this factor does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooldown:
    """An annealed end. trial: the place of its trunk among the curves; tokens: in all, up to the
    end; start: where it left the trunk, None where unknown; rate: the trunk's peak rate over the
    best one of its size, 1 where rates are not varied."""

    trial: int
    tokens: float
    loss: float
    start: float | None = None
    rate: float = 1.0

    def __post_init__(self) -> None:
        for name in ("tokens", "loss", "rate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(
                    f"{name} of a cooldown is {value}; it must be finite and above zero"
                )
        if self.start is not None and not 0 <= self.start < self.tokens:
            raise ValueError(
                f"a cooldown that ends at {self.tokens:g} tokens cannot start at {self.start:g}"
            )

    @property
    def share(self) -> float:
        """Of its tokens, the part over which the rate decayed; not a number where unknown."""
        return math.nan if self.start is None else 1.0 - self.start / self.tokens


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """Pairs, (R,) each. gain: log loss of the trunk at the end's tokens less that of the end.
    level: loss of the trunk there, in nats. share: not a number where unknown. unpaired: how many
    cooldowns have no point of their trunk near."""

    trial: Labels
    N: Array
    D: Array
    share: Array
    rate: Array
    gain: Array
    level: Array
    loss: Array
    unpaired: int = 0

    def __len__(self) -> int:
        return len(self.gain)

    @property
    def trials(self) -> int:
        return len(np.unique(self.trial))

    def at(self, rows: NDArray[np.bool_]) -> Pairs:
        """These pairs alone."""
        return Pairs(
            trial=self.trial[rows],
            N=self.N[rows],
            D=self.D[rows],
            share=self.share[rows],
            rate=self.rate[rows],
            gain=self.gain[rows],
            level=self.level[rows],
            loss=self.loss[rows],
            unpaired=self.unpaired,
        )


def paired(
    curves: Sequence[CurveRows],
    cooldowns: Sequence[Cooldown],
    stable: Callable[[Array, Array], Array],
) -> Pairs:
    """Every cooldown beside its trunk. curves: points of the constant rate alone; stable: loss
    (Q,) of the stable law at N (Q,) and D (Q,)."""
    kept: list[Cooldown] = []
    levels: list[float] = []
    for cooldown in cooldowns:
        curve = curves[cooldown.trial]
        near = _near(curve, cooldown.tokens)
        if not len(near):
            continue
        at = np.append(curve.tokens[near], cooldown.tokens)
        law = np.log(stable(np.full(len(at), curve.N), at))
        levels.append(float(np.mean(np.log(curve.loss[near]) - law[:-1]) + law[-1]))
        kept.append(cooldown)
    loss = np.array([cooldown.loss for cooldown in kept], dtype=np.float64)
    return Pairs(
        trial=np.array([cooldown.trial for cooldown in kept], dtype=np.int64),
        N=np.array([curves[cooldown.trial].N for cooldown in kept], dtype=np.float64),
        D=np.array([cooldown.tokens for cooldown in kept], dtype=np.float64),
        share=np.array([cooldown.share for cooldown in kept], dtype=np.float64),
        rate=np.array([cooldown.rate for cooldown in kept], dtype=np.float64),
        gain=np.array(levels) - np.log(loss),
        level=np.exp(np.array(levels)),
        loss=loss,
        unpaired=len(cooldowns) - len(kept),
    )


def _near(curve: CurveRows, tokens: float) -> Labels:
    """Places of the trunk's points that tell its level at these tokens, or at its own end where
    that comes first."""
    if not len(curve):
        return np.zeros(0, dtype=np.int64)
    middle = min(tokens, float(curve.tokens[-1]))
    if tokens > FURTHEST * middle:
        return np.zeros(0, dtype=np.int64)
    away = np.abs(np.log(curve.tokens / middle))
    near = np.flatnonzero(away <= math.log(NEAR))
    if len(near):
        return near
    nearest = int(np.argmin(away))
    return np.array([nearest] if away[nearest] <= math.log(FURTHEST) else [], dtype=np.int64)
