"""The learning rate and the phase of a run, as pure functions of tokens. Touches nothing.

Warm-up is linear and its last step reaches the peak. Then a constant rate, of which every prefix
is a shorter run (warmup-stable-decay: Hu et al. 2024; Haegele et al. 2024), or a cosine to the
horizon (Loshchilov and Hutter 2017), or a decay within the run itself (`wsd`). An anneal branches
off at some point and falls to zero as 1 - sqrt(progress), the best of the shapes that Haegele et
al. compared, or linearly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from trainers.config import TrainConfig

Phase = Literal["warmup", "stable", "decay", "annealed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anneal:
    """A decay from `start` tokens, where the trunk was left, to `end` tokens."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """The rate of each step of one run, on its trunk or on an anneal branch."""

    config: TrainConfig
    anneal: Anneal | None = None

    @property
    def end(self) -> int:
        """Tokens at which the trunk's schedule is over: the horizon in whole steps."""
        return self.config.floor_tokens(self.config.horizon)

    def rate_at(self, tokens: int) -> float:
        """The rate of the step that begins when `tokens` have been seen."""
        if self.anneal is None:
            return self._trunk(tokens)
        peak = self._trunk(min(self.anneal.start, self.end - 1))
        return peak * self._left(tokens, self.anneal)

    def phase_at(self, tokens: int) -> Phase:
        """What a loss measured after `tokens` may be compared with."""
        if self.anneal is not None:
            return "annealed" if tokens >= self.anneal.end else "decay"
        if tokens < self.config.warmup_tokens:
            return "warmup"
        kind = self.config.schedule.kind
        if kind == "constant" or (kind == "wsd" and tokens <= self._decay.start):
            return "stable"
        return "annealed" if tokens >= self.end else "decay"

    @property
    def _decay(self) -> Anneal:
        """The end of `wsd`, in whole steps."""
        start = self.config.floor_tokens(self.end * (1 - self.config.schedule.decay))
        return Anneal(start=start, end=self.end)

    def _left(self, tokens: int, decay: Anneal) -> float:
        """The share of the rate that a decay leaves to the step that begins at `tokens`."""
        progress = max(0, tokens - decay.start) / max(1, decay.end - decay.start)
        gone = math.sqrt(progress) if self.config.schedule.anneal == "1-sqrt" else progress
        return 1 - min(1.0, gone)

    def _trunk(self, tokens: int) -> float:
        schedule, warmup = self.config.schedule, self.config.warmup_tokens
        peak = self.config.optimizer.learning_rate
        rise = tokens + self.config.batch_tokens
        if rise < warmup:
            return peak * rise / warmup
        if schedule.kind == "constant":
            return peak
        if schedule.kind == "wsd":
            return peak * self._left(tokens, self._decay)
        progress = min(1.0, max(0, tokens - warmup) / max(1, self.end - warmup))
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return peak * (schedule.final + (1 - schedule.final) * cosine)


def evaluation_points(config: TrainConfig) -> tuple[int, ...]:
    """Tokens at which the trunk is evaluated, whatever its segments: whole steps, rising.

    Half of them are spaced evenly over the horizon and half geometrically from 1/256 of it, so
    that curves are dense early and late alike (Qiu et al. 2025). The last is the horizon.
    """
    end, count = config.floor_tokens(config.horizon), config.evaluation.points
    geometric = count // 2
    linear = count - geometric
    wanted = [end * (i + 1) / linear for i in range(linear)]
    wanted += [end * 256 ** (i / geometric - 1) for i in range(geometric)]
    floored = {config.floor_tokens(tokens + 0.5) for tokens in wanted} | {end}
    return tuple(sorted(floored - {0}))


def anneal_points(config: TrainConfig, anneal: Anneal, *, count: int = 4) -> tuple[int, ...]:
    """Tokens at which a decay is evaluated: quarters of its length, its end the last."""
    span = anneal.end - anneal.start
    wanted = {config.floor_tokens(anneal.start + span * (i + 1) / count) for i in range(count)}
    return tuple(sorted(tokens for tokens in wanted | {anneal.end} if tokens > anneal.start))
