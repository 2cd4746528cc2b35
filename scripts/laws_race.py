"""The race of `bench_laws`: one law from the same starts, by our search and by scipy's L-BFGS-B.

Touches nothing but the clock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from orchestrator.laws.doubts import probe_inputs
from orchestrator.laws.forms.line import LineForm
from orchestrator.laws.law import Objective
from orchestrator.laws.levenberg import Problem, huber, huber_weight
from orchestrator.laws.posing import Posed
from orchestrator.laws.runs import Runs
from orchestrator.laws.search import followed

Array = NDArray[np.float64]

STARTS = 64


def boxed_starts(bounds: Sequence[tuple[float, float]], rng: np.random.Generator) -> Array:
    """Starts as the benchmark draws them: in the boxes, evenly in logarithms where positive."""
    low, high = np.array(bounds, dtype=np.float64).T
    share = rng.random((STARTS, len(low)))
    with np.errstate(all="ignore"):
        return np.where(low > 0, low * (high / low) ** share, low + (high - low) * share)


def race(
    form: LineForm,
    said: dict[str, Any],
    runs: Runs,
    objective: Objective,
    knee: float,
    theirs: int,
) -> dict[str, Any]:
    """CPU time of 64 starts to their optima, ours and scipy's, and the best objectives.

    theirs: how many of the starts scipy runs; its time is scaled to 64. Objectives are compared
    over those starts alone.
    """
    posed = Posed(
        form=form,
        runs=runs,
        centre=np.zeros(0),
        objective=objective,
        delta=None,
        priors=(),
        offsets_sd=None,
        knee=knee,
    )
    scale = 0.02 * posed.unit
    problem = posed.problem(scale)
    probes = form.covariates(probe_inputs(runs.inputs(form.inputs)), np.zeros(0))
    rng = np.random.default_rng(0)
    starts = form.absorb(boxed_starts(said["bounds"], rng), np.zeros(0))
    followed(problem, starts[:2], probes, rng)  # warm caches
    begun = time.process_time()
    ours, _ = followed(problem, starts, probes, rng)
    own_s = time.process_time() - begun
    chosen = rng.permutation(len(starts))[:theirs]
    begun = time.process_time()
    reached = [_scipy(problem, scale, starts[k]) for k in chosen]
    their_s = (time.process_time() - begun) * len(starts) / len(chosen)
    best = (
        ours if len(chosen) == len(starts) else followed(problem, starts[chosen], probes, rng)[0]
    )
    return {
        "speedup_vs_lbfgsb": round(their_s / own_s, 1),
        "own_s": round(own_s, 3),
        "objective_own": float(best.objective.min()),
        "objective_lbfgsb": float(min(reached)),
    }


def _scipy(problem: Problem, scale: float, start: Array) -> float:
    """Where L-BFGS-B ends: the same sum, its gradient, all rows at once. The sum is in units of
    the residuals' scale, or its absolute tolerances would stop it before it moves."""
    target, weight = problem.target[0], problem.weight[0]

    def objective(values: Array) -> tuple[float, Array]:
        loss, slopes = problem.form.jacobian(values[None, :], problem.covariates)
        with np.errstate(all="ignore"):
            residual = (np.log(loss[0]) if problem.in_logs else loss[0]) - target
            pull = weight * huber_weight(residual, problem.delta) * residual
            if problem.in_logs:
                pull = pull / loss[0]
            value = float(np.sum(weight * huber(residual, problem.delta)))
            slope = slopes[0] @ pull
        if not (math.isfinite(value) and np.isfinite(slope).all()):
            return 1e30, np.zeros_like(values)
        return value / scale**2, slope / scale**2

    box = list(zip(problem.lower, problem.upper, strict=True))
    return (
        float(minimize(objective, start, jac=True, method="L-BFGS-B", bounds=box).fun) * scale**2
    )
