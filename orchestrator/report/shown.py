"""What a figure or a table shows of a trial: its curve, how it ended and why, in one value.

Touches nothing. Trials come smallest first, best first within a size, so that every table and
every figure has one order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from orchestrator.report import words
from orchestrator.state import Status, SweepState, Trial
from orchestrator.values import Curve, FloatArray

LONGEST = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCurve:
    """Points of a trunk or a branch: FLOPs from scratch and loss, equally long, thinned out."""

    flops: FloatArray
    loss: FloatArray

    def __len__(self) -> int:
        return len(self.loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTrial:
    """A trial in words and points. `annealed` holds the end of each branch that has one:
    (FLOPs from scratch on the branch's own path, loss)."""

    id: str
    params: int
    status: Status
    settings: str
    tokens: int
    horizon: int
    flops: int
    loss: float
    curve: ShownCurve
    annealed: tuple[tuple[float, float], ...]
    attempts: int
    reason: str

    @property
    def share(self) -> float:
        """How much of its horizon it was trained."""
        return self.tokens / self.horizon


def shown_trials(state: SweepState) -> tuple[ShownTrial, ...]:
    """Every trial that was started, in the order of tables."""
    trials = [_shown(trial) for trial in state.trials.values()]
    place = {candidate.id: i for i, candidate in enumerate(state.pool.candidates)}

    def order(trial: ShownTrial) -> tuple[int, float, int]:
        known = math.isfinite(trial.loss)
        return trial.params, trial.loss if known else math.inf, place[trial.id]

    return tuple(sorted(trials, key=order))


def _shown(trial: Trial) -> ShownTrial:
    candidate, trunk = trial.candidate, trial.trunk
    ends = tuple(
        (float(branch.curve.flops[-1]), branch.curve.last_loss)
        for branch in trial.branches
        if len(branch.curve) and branch.curve.phases[-1] == "annealed"
    )
    settings = ", ".join(f"{_short(key)} {_value(value)}" for key, value in candidate.settings)
    return ShownTrial(
        id=trial.id,
        params=candidate.params,
        status=trial.status,
        settings=settings,
        tokens=trunk.tokens,
        horizon=candidate.end,
        flops=candidate.flops(trunk.tokens),
        loss=trial.curve.last_loss,
        curve=thinned(trial.curve),
        annealed=ends,
        attempts=trial.attempts,
        reason=reason(trial),
    )


def reason(trial: Trial) -> str:
    """Why the trial is where it is."""
    if trial.diverged is not None:
        return f"diverged: {trial.diverged}"
    if trial.failed is not None:
        return f"failed: {trial.failed}"
    if trial.status == "finished":
        return "trained to its horizon"
    if trial.status == "running":
        return f"training to {words.amount(trial.trunk.until)} tokens"
    if trial.status == "waiting":
        return f"waits for a slot, then goes to {words.amount(trial.trunk.target)} tokens"
    return trial.stop_reason or "kept; nothing further was decided"


def thinned(curve: Curve, longest: int = LONGEST) -> ShownCurve:
    """The curve with at most `longest` points, evenly in log FLOPs, ends kept."""
    count = len(curve)
    keep = np.arange(count)
    if count > longest:
        logs = np.log(curve.flops)
        wanted = np.linspace(logs[0], logs[-1], longest)
        keep = np.unique(np.append(np.searchsorted(logs, wanted), count - 1))
    return ShownCurve(flops=curve.flops[keep].copy(), loss=curve.loss[keep].copy())


def _short(key: str) -> str:
    return key.rpartition(".")[2].replace("_", " ")


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return words.amount(value) if isinstance(value, int) and value >= 10_000 else str(value)
