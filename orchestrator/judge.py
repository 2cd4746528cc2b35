"""The judge: what policies make of recorded curves, scored on what they bought.

Runs the driver over the replay backend, so a policy is judged by the code that will run it. Wires
parts together as `assembly` does, for the `replay` command and the benchmark scripts. Touches
nothing.

Best loss is the lowest loss among the points that were really bought when the budget is spent: the
quantity of arXiv 2605.17234. It rewards spending all on one run, so the regret of the whole
frontier stands beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.backends.replay import ReplayBackend, shown
from orchestrator.driver import Driver
from orchestrator.events import Opened
from orchestrator.journal import DiscardingJournal
from orchestrator.policies.base import Policy
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve
from orchestrator.state import SweepState, Terms
from orchestrator.values import FloatArray

GRID = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One policy on one pool: losses in nats per token, regrets as fractions, CPU seconds.

    `best_loss` is infinite where nothing was shown for the budget.
    """

    best_loss: float
    hindsight_loss: float
    frontier_regret: float
    spent_share: float
    cpu_s: float

    @property
    def regret_to_hindsight(self) -> float:
        return self.best_loss / self.hindsight_loss - 1


def judged(
    policy: Policy, pool: Pool, curves: Mapping[str, RecordedCurve], budget: int, *, seed: int = 0
) -> Score:
    """The score of `policy` after spending at most `budget` FLOPs on `pool`."""
    begun = time.process_time()
    state = replayed(policy, pool, curves, budget, seed=seed)
    cpu_s = time.process_time() - begun
    best = min(
        (float(t.curve.loss.min()) for t in state.trials.values() if len(t.curve)), default=np.inf
    )
    return Score(
        best_loss=best,
        hindsight_loss=hindsight(pool, curves, budget),
        frontier_regret=frontier_regret(state, curves, budget),
        spent_share=state.ledger.spent / budget,
        cpu_s=cpu_s,
    )


def replayed(
    policy: Policy, pool: Pool, curves: Mapping[str, RecordedCurve], budget: int, *, seed: int = 0
) -> SweepState:
    """The sweep that `policy` makes of the recorded curves within `budget` FLOPs."""
    backend = ReplayBackend(curves, pool)
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


def hindsight(pool: Pool, curves: Mapping[str, RecordedCurve], budget: int) -> float:
    """The lowest loss that the whole budget buys on a single candidate known beforehand."""
    losses: list[float] = []
    for candidate in pool.candidates:
        curve, tokens = curves[candidate.id], candidate.tokens_within(budget)
        inside = curve.loss[curve.tokens <= tokens]
        at = shown(curve, tokens, bought=tokens)
        losses.extend(inside.tolist() if at is None else [*inside.tolist(), at])
    return min(losses, default=np.inf)


def frontier_regret(state: SweepState, curves: Mapping[str, RecordedCurve], budget: int) -> float:
    """Mean over log compute in [B/100, B] of ln(bought frontier / frontier of the full pool).

    Where the pool shows a loss and the policy bought none yet, it is held to the worst loss that
    the pool shows there. NaN where the pool shows nothing in that range.
    """
    grid = np.geomspace(budget / 100, float(budget), GRID)
    full: list[FloatArray] = []
    bought: list[FloatArray] = []
    for candidate in state.pool.candidates:
        curve = curves[candidate.id]
        cost: FloatArray = curve.tokens.astype(np.float64) * candidate.flops_per_token
        full.append(_envelope(grid, cost, curve.loss))
        trial = state.trials.get(candidate.id)
        if trial is not None and len(trial.curve):
            bought.append(_envelope(grid, trial.curve.flops, trial.curve.loss))
    reach: FloatArray = np.stack(full)
    seen = np.isfinite(reach).any(axis=0)
    if not seen.any() or not bought:
        return float("nan")
    best = reach.min(axis=0)[seen]
    worst: FloatArray = np.where(np.isfinite(reach), reach, -np.inf).max(axis=0)[seen]
    got = np.minimum(np.stack(bought).min(axis=0)[seen], worst)
    return float((np.log(got) - np.log(best)).mean())


def _envelope(grid: FloatArray, cost: FloatArray, loss: FloatArray) -> FloatArray:
    """Lowest loss so far of one curve at each compute of the grid; infinite before its first
    point.

    Straight in log-log between points; past the last point what was reached stays.
    """
    lowest = np.minimum.accumulate(loss)
    values = np.exp(np.interp(np.log(grid), np.log(cost), np.log(lowest)))
    return np.where(grid >= cost[0] * (1 - 1e-12), values, np.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean with the bounds of its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: Sequence[float], *, seed: int = 0, draws: int = 4000) -> Interval:
    """The mean of paired differences, resampled over subsets."""
    data = np.asarray(values, float)
    picks = np.random.default_rng(seed).integers(len(data), size=(draws, len(data)))
    low, high = np.quantile(data[picks].mean(axis=1), [0.025, 0.975])
    return Interval(mean=float(data.mean()), low=float(low), high=float(high))


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


Progress = Callable[[int, int], None]


def compare(
    policies: Mapping[str, Policy],
    pools: Sequence[Pool],
    curves: Mapping[str, RecordedCurve],
    budget: int,
    *,
    progress: Progress = lambda done, total: None,
) -> dict[str, list[Score]]:
    """The scores of each policy on each pool, in the same order: paired by construction."""
    scores: dict[str, list[Score]] = {name: [] for name in policies}
    total = len(pools) * len(policies)
    for number, pool in enumerate(pools):
        for name, policy in policies.items():
            scores[name].append(judged(policy, pool, curves, budget, seed=number))
            progress(sum(map(len, scores.values())), total)
    return scores
