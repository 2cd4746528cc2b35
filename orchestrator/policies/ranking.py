"""How halving policies compare trials at a rung: what they are given, and what they answer.

A ranking sees the sweep as it was when the rung was reached (`Standing`), never what came later,
so that the same rung is judged alike whenever it is asked about. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from orchestrator.policies.rungs import Rung
from orchestrator.values import Candidate, Curve, Expectation


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A rung that every live trial has reached or will never reach.

    `live` are compared. `losses`: the lowest loss up to the rung, infinite for trials that
    diverged, failed or have no point yet. `observed`: what had been measured by then, of stopped
    trials too: (candidate, curve up to where its last rung took it). `final_flops`: the compute
    of the last rung. `lost`: the live trials that diverged or failed before the rung. `seed`: the
    sweep's.
    """

    rung: Rung
    live: tuple[Candidate, ...]
    losses: Mapping[str, float]
    observed: tuple[tuple[Candidate, Curve], ...]
    final_flops: int
    lost: frozenset[str]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The scores of live trials, the lower the better; infinite for what cannot go on.

    `why`: in words, what decided and why it did. `expected`: the forecast that a score rests on.
    `hopeless`: those that surely will not be best at the last rung, whatever their rank.
    """

    scores: Mapping[str, float]
    why: str
    expected: Mapping[str, Expectation]
    hopeless: frozenset[str] = frozenset()

    def order(self, group: Sequence[Candidate]) -> list[Candidate]:
        """`group`, best first; ties in the order given."""
        return sorted(group, key=lambda candidate: self.scores[candidate.id])

    def said(self, candidate: Candidate) -> str:
        score = self.scores[candidate.id]
        if not math.isfinite(score):
            return "no loss"
        expected = self.expected.get(candidate.id)
        if expected is None:
            return f"loss {score:.4f}"
        return f"loss {score:.4f} foreseen after {expected.tokens:,} tokens"


class Ranking(Protocol):
    """Compares live trials at a rung. A value: ranking changes nothing in it."""

    @property
    def name(self) -> str: ...

    def verdict(self, standing: Standing) -> Verdict:
        """The score of every live trial. The same standing gives the same verdict."""
        ...


@dataclass(frozen=True, slots=True)
class ByLoss:
    """The lowest loss seen up to the rung: plain halving."""

    name = "loss"

    def verdict(self, standing: Standing) -> Verdict:
        return Verdict(scores=standing.losses, why="", expected={})


@dataclass(frozen=True, slots=True)
class ByChance:
    """Drawn at random, from the sweep's seed and the rung: the floor that any pruning must beat.

    What diverged or failed still comes last.
    """

    name = "chance"

    def verdict(self, standing: Standing) -> Verdict:
        drawn = np.random.default_rng((standing.seed, standing.rung.index)).random(
            len(standing.live)
        )
        scores = {
            candidate.id: math.inf if candidate.id in standing.lost else float(number)
            for candidate, number in zip(standing.live, drawn, strict=True)
        }
        return Verdict(scores=scores, why="by chance", expected={})
