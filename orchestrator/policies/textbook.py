"""What a textbook rule would run: the size at which a compute gives a stated ratio D / N of tokens
to parameters (20 after Hoffmann et al. 2022, arXiv 2203.15556). Shared by the policies that follow
such a rule. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from orchestrator.values import Candidate, Extend, flops_in_words

ALIKE = 1.1
"""Sizes whose D / N differ by less than this factor are one to the rule."""
EXPONENT = 0.31
"""Of loss in N and in D: between the .34 and .28 of Hoffmann et al."""


def misses(candidate: Candidate, flops: float, tokens_per_param: float) -> float:
    """How far, in e-folds of D / N, the candidate is from the size that the rule gives `flops`.

    One whose horizon ends before `flops` are spent misses by more: by as much as would lose the
    same under N^-a + (D / r)^-a, the law for which D / N = r is best at every compute.
    """
    tokens = flops / candidate.flops_per_token
    away = math.log(tokens / candidate.params / tokens_per_param)
    short = math.log(tokens / candidate.end) if candidate.end < tokens else 0.0
    if short == 0.0:
        return abs(away)
    half = 0.5 * EXPONENT
    loss = math.exp(half * away) + math.exp(EXPONENT * short - half * away)
    return math.acosh(0.5 * loss) / half


def by_ratio(
    candidates: Sequence[Candidate], flops: float, tokens_per_param: float, *, seed: int
) -> list[Candidate]:
    """Those that `flops` can train at all, the one nearest the rule's size first.

    Candidates of one size are alike to the rule; among them a draw from `seed` decides.
    """
    able = [candidate for candidate in candidates if candidate.tokens_within(flops) > 0]
    drawn = np.random.default_rng(seed).permutation(len(able))
    order = sorted(
        range(len(able)),
        key=lambda place: (round(misses(able[place], flops, tokens_per_param), 9), drawn[place]),
    )
    return [able[place] for place in order]


def unwatched(candidate: Candidate, flops: float, tokens_per_param: float) -> Extend:
    """Train the rule's choice on all that `flops` can pay for, without having seen anything."""
    return Extend(
        trial=candidate.id,
        tokens=candidate.tokens_within(flops),
        reason=f"with {flops_in_words(flops)} FLOPs it comes nearest {tokens_per_param:g} tokens "
        "a parameter; "
        "nothing was observed",
    )


def alike(
    candidates: Sequence[Candidate], flops: float, tokens_per_param: float
) -> list[Candidate]:
    """The candidates that the rule cannot tell from the nearest to it, in the order given."""
    found = [misses(candidate, flops, tokens_per_param) for candidate in candidates]
    least = min(found, default=0.0)
    return [
        c for c, miss in zip(candidates, found, strict=True) if miss <= least + math.log(ALIKE)
    ]
