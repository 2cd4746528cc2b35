"""Replays: a policy driven over recorded curves, random pools of them, and what the recordings say
that no policy was shown. Touches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.backends.replay import ReplayBackend, shown
from orchestrator.driver import Driver
from orchestrator.events import Opened
from orchestrator.journal import DiscardingJournal
from orchestrator.policies.base import Policy
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve
from orchestrator.state import SweepState, Terms
from orchestrator.values import Candidate


def replayed(
    policy: Policy,
    pool: Pool,
    curves: Mapping[str, RecordedCurve],
    budget: int,
    *,
    seed: int = 0,
    slots: int = 1,
) -> SweepState:
    """The sweep that `policy` makes of the recorded curves within `budget` FLOPs.

    On one worker unless told otherwise: with several, policies that buy one run after another
    know less at each purchase, and FLOPs alone are judged here.
    """
    backend = ReplayBackend(curves, pool, slots=slots)
    terms = Terms(name="replay", seed=seed, budget=budget, lost_ceiling=0)
    driver = Driver(
        state=SweepState(pool=pool, terms=terms),
        policy=policy,
        backend=backend,
        journal=DiscardingJournal(),
        clock=backend.clock,
    )
    opened = Opened(
        session=1,
        name="replay",
        spec="",
        digest="",
        owner="judge",
        environment=backend.environment,
    )
    return driver.run(opened).state


def loss_within(candidate: Candidate, curve: RecordedCurve, flops: float) -> float:
    """The loss of a run that `flops` pay for, its end at the most; infinite before the first
    point."""
    tokens = candidate.tokens_within(flops)
    at = shown(curve, tokens, bought=tokens)
    return np.inf if at is None else at


def hindsight(pool: Pool, curves: Mapping[str, RecordedCurve], budget: int) -> float:
    """The lowest loss that the whole budget buys on a single candidate known beforehand."""
    losses: list[float] = []
    for candidate in pool.candidates:
        curve, tokens = curves[candidate.id], candidate.tokens_within(budget)
        losses.extend(curve.loss[curve.tokens <= tokens].tolist())
        losses.append(loss_within(candidate, curve, budget))
    return min(losses, default=np.inf)


def subsets(pool: Pool, size: int, count: int, *, seed: int) -> list[Pool]:
    """`count` random pools of `size` candidates, drawn without replacement, in the pool's order.

    Raises ValueError where the pool is smaller than `size`.
    """
    if not 1 <= size <= len(pool):
        raise ValueError(
            f"a subset of {size} candidates cannot be drawn from a pool of {len(pool)}"
        )
    generator = np.random.default_rng(seed)
    drawn: list[list[int]] = [
        sorted(generator.permutation(len(pool))[:size].tolist()) for _ in range(count)
    ]
    return [pool.subset([pool.candidates[i].id for i in picks]) for picks in drawn]
