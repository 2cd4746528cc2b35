"""Squared error of the loss by L-BFGS-B from random starts in the box: the fitter of a rival.

Touches nothing. As Li et al. 2026 (arXiv 2604.22753) have it: mean squared error in raw loss, no
scaling of parameters, analytic slopes, starts log-uniform where a lower bound is above zero and
uniform elsewhere, beside those that are given. Kept apart from `fit`, which does better on the
same rows, so that the rule can be judged with its own fitter too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize  # pyright: ignore[reportMissingTypeStubs]

from orchestrator.laws.forms.line import LineForm
from orchestrator.laws.runs import Array, Runs

_NO_ERROR = 1e30
_WIDEST = 1e3  # a bound that is none is taken to be this


@dataclass(frozen=True, slots=True, kw_only=True)
class SquaredFit:
    """values (K, P), published, best first; error (K,): mean squared error of the loss."""

    values: Array
    error: Array


def squared_fit(
    form: LineForm,
    runs: Runs,
    *,
    seed: int,
    starts: int = 64,
    warm: Array | None = None,
    most_iterations: int = 2000,
) -> SquaredFit:
    """Where each start ends. warm (W, P): published values that stand in for the first starts."""
    low, high = boxes(form)
    values = drawn(low, high, np.random.default_rng(seed), starts)
    if warm is not None and len(warm):
        values[: len(warm)] = warm[:starts]
    covariates = form.covariates(runs.inputs(form.inputs), np.zeros(0))
    logs = np.array([parameter.logarithmic for parameter in form.parameters])

    def error(asked: Array) -> tuple[float, Array]:
        with np.errstate(all="ignore"):
            working = form.absorb(asked[None, :], np.zeros(0))
            loss, slopes = form.jacobian(working, covariates)
            residual = loss[0] - runs.loss
            slope: Array = 2.0 * slopes[0] @ residual / len(residual)
            slope = np.where(logs, slope / np.maximum(asked, 1e-300), slope)
            value = float(residual @ residual) / len(residual)
        if not (np.isfinite(value) and np.isfinite(slope).all()):
            return _NO_ERROR, np.zeros_like(asked)
        return value, slope

    minimise: Any = optimize.minimize  # pyright: ignore
    options = {"maxiter": most_iterations, "ftol": 1e-15, "gtol": 1e-10}
    ends: list[Array] = []
    errors: list[float] = []
    for start in values:
        end: Any = minimise(
            error,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(low, high, strict=True)),
            options=options,
        )
        ends.append(np.asarray(end.x, dtype=np.float64))
        errors.append(float(end.fun))
    order = [int(k) for k in np.argsort(errors, kind="stable") if errors[int(k)] < _NO_ERROR]
    return SquaredFit(
        values=np.array([ends[k] for k in order], dtype=np.float64).reshape(-1, len(low)),
        error=np.array([errors[k] for k in order], dtype=np.float64),
    )


def boxes(form: LineForm) -> tuple[Array, Array]:
    """Published bounds (P,) and (P,); without one, a wide one."""
    low = np.array([known.low for known in form.known])
    high = np.array(
        [known.high if isinstance(known.high, float | int) else np.inf for known in form.known]
    )
    low = np.where(np.isfinite(low), low, -_WIDEST)
    return low, np.where(np.isfinite(high), high, _WIDEST)


def drawn(low: Array, high: Array, rng: np.random.Generator, count: int) -> Array:
    """(count, P): log-uniform where the lower bound is above zero, uniform elsewhere."""
    share = rng.random((count, len(low)))
    logs = low > 0
    small, large = np.log(np.where(logs, low, 1.0)), np.log(np.where(logs, high, 1.0))
    return np.where(logs, np.exp(small + share * (large - small)), low + share * (high - low))
