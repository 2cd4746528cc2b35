"""The scores of one policy on one pool.

Best loss is the lowest loss among the points that were really bought when the budget is spent: the
quantity of arXiv 2605.17234. It rewards spending all on one run, so the regret of the whole
frontier, the regret of the configuration recommended, and the error of the law stand beside it.
Touches nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.judge import lawful
from orchestrator.judge.coverage import Target, covered
from orchestrator.judge.lawful import Truth
from orchestrator.judge.recommending import Recommender, leader, reaches, recommend_regret
from orchestrator.judge.replays import hindsight, replayed
from orchestrator.policies.acquisition import different_sizes
from orchestrator.policies.base import Policy
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve
from orchestrator.state import SweepState
from orchestrator.surrogates.base import Surrogate
from orchestrator.values import FloatArray

GRID = 200
DEPLOYED = (10, 30)
"""Deployment computes, as multiples of the budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """What is to be scored besides the losses. `recommender`: the policy's own rule;
    `common`: one rule for all policies alike; `surrogate`: whose intervals to check; `truth`: hold
    the law of what was bought against it; `saved_s`: CPU seconds so far that fits shared with
    others did not cost again."""

    recommender: Recommender = leader
    common: Recommender | None = None
    surrogate: Surrogate | None = None
    truth: Truth | None = None
    saved_s: Callable[[], float] = lambda: 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One policy on one pool: losses in nats per token, regrets as fractions, CPU seconds.

    `best_loss` is infinite where nothing was shown for the budget. `recommend_regret`: at 10 and
    30 budgets, None where no curve goes so far (at 10 the ends count instead); `common_regret`
    likewise with one rule for all. `law_error`: mean distance in log loss from the frontier law of
    the full curves; `law_error_held_out`: nats at the largest curves outside the pool; None where
    no law can be given, or no truth was. `killed_share` of the true frontier's candidates.
    `largest_share` of the budget in one trial; `sizes` with points.
    """

    best_loss: float
    hindsight_loss: float
    frontier_regret: float
    spent_share: float
    cpu_s: float
    recommend_regret: tuple[float | None, ...] = ()
    common_regret: tuple[float | None, ...] = ()
    law_error: float | None = None
    law_error_held_out: float | None = None
    killed_share: float | None = None
    largest_share: float = math.nan
    sizes: int = 0
    coverage: tuple[Target, ...] = ()

    @property
    def regret_to_hindsight(self) -> float:
        return self.best_loss / self.hindsight_loss - 1


def judged(
    policy: Policy,
    pool: Pool,
    curves: Mapping[str, RecordedCurve],
    budget: int,
    *,
    seed: int = 0,
    slots: int = 1,
    contest: Contest | None = None,
) -> Score:
    """The score of `policy` after spending at most `budget` FLOPs on `pool`, on so many workers
    at once."""
    contest = contest or Contest()
    begun, saved = time.process_time(), contest.saved_s()
    state = replayed(policy, pool, curves, budget, seed=seed, slots=slots)
    cpu_s = time.process_time() - begun + contest.saved_s() - saved
    trials = list(state.trials.values())
    best = min((float(t.curve.loss.min()) for t in trials if len(t.curve)), default=np.inf)
    largest = max((t.candidate.flops(t.trunk.tokens) for t in trials), default=0)
    truth = contest.truth
    error, far, killed = _lawful(state, pool, budget, truth) if truth else (None,) * 3
    return Score(
        best_loss=best,
        hindsight_loss=hindsight(pool, curves, budget),
        frontier_regret=frontier_regret(state, curves, budget),
        spent_share=state.ledger.spent / budget,
        cpu_s=cpu_s,
        recommend_regret=_regrets(contest.recommender, state, curves, budget),
        common_regret=_regrets(contest.common, state, curves, budget) if contest.common else (),
        law_error=error,
        law_error_held_out=far,
        killed_share=killed,
        largest_share=largest / budget,
        sizes=different_sizes([t.candidate for t in trials if len(t.curve)]),
        coverage=covered(contest.surrogate, state, curves) if contest.surrogate else (),
    )


def _regrets(
    recommender: Recommender, state: SweepState, curves: Mapping[str, RecordedCurve], budget: int
) -> tuple[float | None, ...]:
    found: list[float | None] = []
    for times in DEPLOYED:
        flops = float(times * budget)
        if times > DEPLOYED[0] and not reaches(state.pool, curves, flops):
            found.append(None)
            continue
        named = recommender(state, flops)
        found.append(recommend_regret(named, state.pool, curves, flops))
    return tuple(found)


def _lawful(
    state: SweepState, pool: Pool, budget: int, truth: Truth
) -> tuple[float | None, float | None, float | None]:
    """(law error, error held out, share of the frontier killed)."""
    mine = lawful.bought_rows(state)
    far = lawful.held_out_error(mine, truth.held_out)
    if truth.edge is None:
        return None, far, None
    killed = lawful.killed_share(state, truth.edge, pool, budget)
    ours = lawful.edge_law(mine, truth.window) if truth.law is not None else None
    if truth.law is None or ours is None:
        return None, far, killed
    return lawful.area_between(ours, truth.law, truth.window), far, killed


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
    reach = np.stack(full)
    best = reach.min(axis=0)
    seen = np.isfinite(best)
    if not seen.any():
        return float("nan")
    best = best[seen]
    worst = np.where(np.isfinite(reach), reach, -np.inf).max(axis=0)[seen]
    if not bought:
        return float((np.log(worst) - np.log(best)).mean())
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
