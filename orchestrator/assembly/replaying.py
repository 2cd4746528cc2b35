"""Policies over recorded curves: judged before money is spent, by the driver that would run them.

Reads one table of curves; touches nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator import blocks
from orchestrator.assembly.policies import built
from orchestrator.assembly.refusal import Refused
from orchestrator.judge import Score, compare, subsets
from orchestrator.policies.base import Policy
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedError, read_recorded

POLICIES = (
    "successive_halving",
    "hyperband",
    "asha",
    "frontier",
    "static_ladder",
    "one_shot",
    "uniform",
    "exhaustive",
)
SUBSET = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRow:
    """One policy at one budget over several pools: means, with the standard deviation of the
    regret.

    `budget_flops` is that of the first pool; losses in nats per token; regrets as fractions.
    """

    policy: str
    budget: str
    budget_flops: int
    pools: int
    best_loss: float
    regret: float
    regret_sd: float
    frontier_regret: float
    spent_share: float


def replay_table(
    curves_file: str,
    *,
    policies: Sequence[str],
    budgets: Sequence[str],
    seeds: int,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[ReplayRow, ...]:
    """Each policy at each budget. With one seed the whole pool is replayed; with more, as many
    random pools of 70 % of the curves, the same for every policy. Raises Refused for what cannot
    be read."""
    chosen = {name: _policy(name) for name in policies}
    try:
        curves = read_recorded(curves_file)
    except RecordedError as error:
        raise Refused(str(error)) from None
    pool = Pool(candidates=tuple(curve.candidate(name) for name, curve in curves.items()))
    pools = [pool] if seeds == 1 else subsets(pool, _size(pool), seeds, seed=seed)
    rows: list[ReplayRow] = []
    for text in budgets:
        scores = _scores(chosen, pools, curves, text, progress)
        flops = _flops(text, pools[0])
        rows += [_row(name, text, flops, found) for name, found in scores.items()]
    return tuple(rows)


def _scores(
    chosen: Mapping[str, Policy],
    pools: Sequence[Pool],
    curves: Mapping[str, object],
    text: str,
    progress: Callable[[str], None],
) -> dict[str, list[Score]]:
    scores: dict[str, list[Score]] = {name: [] for name in chosen}
    for number, pool in enumerate(pools, 1):
        budget = _flops(text, pool)
        for name, found in compare(chosen, [pool], curves, budget).items():  # pyright: ignore
            scores[name] += found
        progress(f"budget {text}: pool {number} of {len(pools)}")
    return scores


def _row(name: str, text: str, flops: int, scores: Sequence[Score]) -> ReplayRow:
    regrets = np.array([score.regret_to_hindsight for score in scores])
    return ReplayRow(
        policy=name,
        budget=text,
        budget_flops=flops,
        pools=len(scores),
        best_loss=float(np.mean([score.best_loss for score in scores])),
        regret=float(regrets.mean()),
        regret_sd=float(regrets.std(ddof=1)) if len(scores) > 1 else 0.0,
        frontier_regret=float(np.mean([score.frontier_regret for score in scores])),
        spent_share=float(np.mean([score.spent_share for score in scores])),
    )


def _policy(name: str) -> Policy:
    """A policy with its own settings; `name+surrogate` ranks by that surrogate."""
    kind, _, surrogate = name.partition("+")
    try:
        return built(blocks.policy_named(kind, surrogate or None), None)
    except ValueError:
        raise Refused(
            f"{name!r} is no policy to replay; there are {', '.join(POLICIES)}, some of which "
            f"take a surrogate, such as successive_halving+{blocks.SURROGATES[0]}"
        ) from None


def _flops(text: str, pool: Pool) -> int:
    from trainers.quantity import parse_number

    try:
        value = parse_number(text)
    except ValueError as error:
        raise Refused(f"--budget: {error}") from None
    if "%" in text or "/" in text:
        value *= pool.exhaustive_flops
    if value < 1:
        raise Refused(f"--budget {text} buys nothing; write a share such as 20 %, or FLOPs")
    return int(value)


def _size(pool: Pool) -> int:
    return max(1, round(SUBSET * len(pool)))


def curves_path(word: str) -> bool:
    """Whether a word on the command line means a table of curves rather than a sweep."""
    return word.endswith((".csv", ".csv.gz")) or (Path(word).is_file())
