"""What a textbook rule would run: the size at which a compute gives a stated ratio D / N of tokens
to parameters (20 after Hoffmann et al. 2022, arXiv 2203.15556). Shared by the policies that follow
such a rule. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from orchestrator.values import Candidate


def by_ratio(
    candidates: Sequence[Candidate], flops: float, tokens_per_param: float, *, seed: int
) -> list[Candidate]:
    """Those that `flops` can train at all, the one whose D / N comes nearest the ratio first.

    Candidates of one size are alike to the rule; among them a draw from `seed` decides.
    """
    able = [candidate for candidate in candidates if candidate.tokens_within(flops) > 0]
    drawn = np.random.default_rng(seed).permutation(len(able))

    def misses(candidate: Candidate) -> float:
        ratio = candidate.tokens_within(flops) / candidate.params
        return abs(math.log(ratio / tokens_per_param))

    order = sorted(
        range(len(able)), key=lambda place: (round(misses(able[place]), 9), drawn[place])
    )
    return [able[place] for place in order]
