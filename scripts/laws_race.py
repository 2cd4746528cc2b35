"""The race of `bench_laws`: one law from the same starts, by our search and by scipy's L-BFGS-B.

Touches nothing but the clock. What is compared:

- The same 64 starts, drawn in the law's stated box, at which the objective is finite (a minimiser
  that sees no number at its start has nothing to do), the same rows, the same sum with the same
  knee, the same box. L-BFGS-B gets value and gradient from one evaluation of the compiled law
  over all rows, and scipy's default tolerances.
- Ours: all 64 through the search of `fit`: what is linear is solved for, starts that meet go on as
  one, starts far above the best are left behind, and the rest run to convergence. L-BFGS-B: each
  start until scipy stops it, which is often early. So beside the times there stand the best
  objective of either, how many starts of L-BFGS-B came within a hundredth of the lower of them,
  and the time in which ours, all 64 advanced together, are as low as the best of L-BFGS-B.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from orchestrator.laws.doubts import probe_inputs
from orchestrator.laws.forms.line import LineForm
from orchestrator.laws.law import Objective
from orchestrator.laws.levenberg import minimise
from orchestrator.laws.posing import Posed
from orchestrator.laws.problem import Problem
from orchestrator.laws.robust import huber_weight
from orchestrator.laws.runs import Runs
from orchestrator.laws.screening import solve_linear
from orchestrator.laws.search import followed

Array = NDArray[np.float64]

STARTS = 64
_SCALE = 0.02  # of log loss, or of the mean loss: what the knee is measured in
_TRIES = 50  # times 64 draws for a start at which the objective is finite
_CLOSE = 1.01  # times the lower objective: that optimum was reached
_REPEATS = 3  # of our own runs, which are short; the middle one counts
_AHEAD = (1, 2, 4, 8, 16, 32, 64)  # iterations after which ours are compared


def races(
    form: LineForm,
    said: dict[str, Any],
    runs: Runs,
    objective: Objective,
    knee: float,
    theirs: int,
) -> dict[str, Any]:
    """What a record of the benchmark says of the race: under its own objective, and under the
    published one, squared error of the loss, which is finite from nearly every start."""
    found = race(form, said, runs, objective, knee, theirs)
    plain = race(form, said, runs, "squared", knee, theirs)
    return {
        "speedup_vs_lbfgsb": found.pop("speedup"),
        **found,
        **{f"squared_{key}": value for key, value in plain.items()},
    }


def summary(records: Sequence[dict[str, Any]]) -> str:
    """The distribution of the speed-ups over the forms, and who got how far, in a few lines."""
    lines: list[str] = []
    for prefix, first in (("", "speedup_vs_lbfgsb"), ("squared_", "squared_speedup")):
        raced = [record for record in records if record.get(first) is not None]
        if not raced:
            continue
        lines.append(f"{prefix.strip('_') or 'objective of the fits'}, {len(raced)} forms:")
        for key, what in ((first, "to the end"), (f"{prefix}speedup_to_theirs", "to their best")):
            known = [record[key] for record in raced if record[key] is not None]
            if known:
                ends = np.quantile(known, [0.0, 0.1, 0.5, 0.9, 1.0])
                lines.append(
                    f"  times faster {what}: least, 10 %, median, 90 %, most = "
                    + ", ".join(f"{x:.1f}" for x in ends)
                    + ("" if len(known) == len(raced) else f" ({len(raced) - len(known)} never)")
                )
        own = [record[f"{prefix}objective_own"] for record in raced]
        their = [record[f"{prefix}objective_lbfgsb"] for record in raced]
        lower = sum(a < b / _CLOSE for a, b in zip(own, their, strict=True))
        higher = sum(a > b * _CLOSE for a, b in zip(own, their, strict=True))
        never = sum(record[f"{prefix}lbfgsb_reached"] == 0 for record in raced)
        lines.append(
            f"  our best is lower by over 1 % in {lower}, higher in {higher}; no start of"
            f" L-BFGS-B came within 1 % of the lower one in {never}"
        )
    return "\n".join(lines)


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
    scale = _SCALE * posed.unit
    problem = posed.problem(scale)
    probes = form.covariates(probe_inputs(runs.inputs(form.inputs)), np.zeros(0))
    starts = feasible_starts(problem, said["bounds"], np.random.default_rng(0))
    chosen = starts[np.random.default_rng(1).permutation(len(starts))[:theirs]]
    begun = time.process_time()
    reached = [_scipy(problem, scale, start) for start in chosen]
    their_s = (time.process_time() - begun) * STARTS / len(chosen)

    def own(values: Array) -> float:
        found, _ = followed(problem, values, probes, np.random.default_rng(2))
        return float(found.objective.min())

    best = own(chosen)
    own_s = statistics.median(_seconds(own, starts) for _ in range(_REPEATS))
    lower = min(best, *reached)
    return {
        "speedup": round(their_s / own_s, 1),
        "own_s": round(own_s, 4),
        "lbfgsb_s": round(their_s, 4),
        "objective_own": best,
        "objective_lbfgsb": min(reached),
        "lbfgsb_reached": round(sum(x <= _CLOSE * lower for x in reached) / len(reached), 3),
        "speedup_to_theirs": _speedup_to(problem, starts, min(reached), their_s),
    }


def _seconds(own: Any, starts: Array) -> float:
    begun = time.process_time()
    own(starts)
    return time.process_time() - begun


def _speedup_to(problem: Problem, starts: Array, level: float, their_s: float) -> float | None:
    """Their time over ours until one of ours is as low as `level`; None if none is."""
    for steps in _AHEAD:
        begun = time.process_time()
        values = starts.copy()
        solve_linear(problem, values)
        found = minimise(problem, values, most_iterations=steps)
        spent = time.process_time() - begun
        if float(found.objective.min()) <= level * (1 + 1e-9):
            return round(their_s / spent, 1)
    return None


def feasible_starts(
    problem: Problem, bounds: Sequence[tuple[float, float]], rng: np.random.Generator
) -> Array:
    """Working values (64, P) at which the objective is finite, drawn as the benchmark draws its
    own: evenly in the box, in logarithms where it is positive."""
    kept: list[Array] = []
    for _ in range(_TRIES):
        values = problem.form.absorb(boxed_starts(bounds, rng), np.zeros(0))
        with np.errstate(all="ignore"):
            loss = problem.form.loss(values, problem.covariates)
            finite = np.isfinite(problem.residual(loss, np.zeros((1, 0)))).all(axis=1)
        kept.append(values[finite])
        if sum(map(len, kept)) >= STARTS:
            break
    else:
        raise SystemExit(f"{problem.form.name}: its box holds hardly a start with a finite loss")
    return np.concatenate(kept)[:STARTS]


def boxed_starts(bounds: Sequence[tuple[float, float]], rng: np.random.Generator) -> Array:
    """Starts (64, P) in the boxes, evenly in logarithms where positive."""
    low, high = np.array(bounds, dtype=np.float64).T
    share = rng.random((STARTS, len(low)))
    with np.errstate(all="ignore"):
        return np.where(low > 0, low * (high / low) ** share, low + (high - low) * share)


def _scipy(problem: Problem, scale: float, start: Array) -> float:
    """Where L-BFGS-B ends: the same sum, its gradient, all rows at once. The sum is in units of
    the residuals' scale, or its absolute tolerances would stop it before it moves."""
    target, weight, delta = problem.target[0], problem.weight[0], problem.delta

    def objective(values: Array) -> tuple[float, Array]:
        loss, slopes = problem.form.jacobian(values[None, :], problem.covariates)
        with np.errstate(all="ignore"):
            residual = (np.log(loss[0]) if problem.in_logs else loss[0]) - target
            pull = weight * huber_weight(residual, delta) * residual
            value = float(pull @ (residual - 0.5 * huber_weight(residual, delta) * residual))
            slope = slopes[0] @ (pull / loss[0] if problem.in_logs else pull)
        if not (math.isfinite(value) and np.isfinite(slope).all()):
            return 1e30, np.zeros_like(values)
        return value / scale**2, slope / scale**2

    box = list(zip(problem.lower, problem.upper, strict=True))
    return (
        float(minimize(objective, start, jac=True, method="L-BFGS-B", bounds=box).fun) * scale**2
    )
