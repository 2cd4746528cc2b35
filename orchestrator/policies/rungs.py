"""Rungs in FLOPs: the arithmetic that halving policies and `frontrunner plan` share.

Successive Halving as in arXiv 2605.17234: of M_0 candidates, R = ceil(log_eta |M_0|) rounds; in
round r each of the |M_r| survivors gets the same extra compute C_r = floor(B / (|M_r| R)), so that
every round costs B / R and a rung is a level of compute, not of steps. k = floor(|M_r| / eta), at
least 1, go on. Touches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.values import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """Round `index` of `rounds`: `live` trials reach `flops` each, `increment` of them new."""

    index: int
    rounds: int
    live: int
    increment: int
    flops: int


def survivors(live: int, eta: int) -> int:
    """How many of `live` go on: floor(live / eta), at least one."""
    return max(1, live // eta)


def ladder(groups: Sequence[int], budget: int, eta: int) -> tuple[Rung, ...]:
    """The rungs of halving `groups` of the given sizes side by side within `budget` FLOPs.

    One group is the published rule. With several, each is halved by itself and the number of
    rounds is that of the largest. Raises ValueError for an empty pool or an eta below 2.
    """
    if eta < 2 or not groups or min(groups) < 1:
        raise ValueError(
            f"halving needs candidates and an eta of at least 2, not groups {list(groups)} "
            f"and eta {eta}"
        )
    rounds = _rounds(max(groups), eta)
    rungs: list[Rung] = []
    sizes, flops = list(groups), 0
    for index in range(rounds):
        live = sum(sizes)
        increment = budget // (live * rounds)
        flops += increment
        rungs.append(Rung(index=index, rounds=rounds, live=live, increment=increment, flops=flops))
        sizes = [survivors(size, eta) for size in sizes]
    return tuple(rungs)


def _rounds(live: int, eta: int) -> int:
    """ceil(log_eta live) in whole numbers, at least one."""
    rounds, reach = 0, 1
    while reach < live:
        reach *= eta
        rounds += 1
    return max(1, rounds)


def grouped(candidates: Sequence[Candidate], key: str | None) -> Mapping[object, list[Candidate]]:
    """Candidates by the value of a setting, in the order of the pool; one group without a key."""
    groups: dict[object, list[Candidate]] = {}
    for candidate in candidates:
        value = None if key is None else candidate.setting(key)
        groups.setdefault(value, []).append(candidate)
    return groups
