"""Compute-optimal size and tokens from a law of N and D, with intervals from its draws.

Touches nothing. Minimises the law's loss along C = flops_per_token(N) * D. With 6 N and
E + A/N^alpha + B/D^beta the answer is closed: N* = G (C/6)^a, a = beta / (alpha + beta),
G = (alpha A / (beta B))^(1 / (alpha + beta)) (Hoffmann et al. 2022, arXiv 2203.15556, eq. 4).
The search below is used for every form and cost, and is tested against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.errors import FitError
from orchestrator.laws.law import LawFit, LawWarning
from orchestrator.laws.runs import Array
from orchestrator.laws.uncertainty import LawPosterior, interval_of

_SIZES = (1e2, 1e16)  # where N* is looked for
_COARSE = 97
_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)
_NARROWINGS = 60
_STEP = 0.1  # of log C, for the exponents
FLAT = 0.005  # share of the loss that counts as no difference


def six_N(N: Array) -> Array:
    """FLOPs per token as 6 N."""
    return 6.0 * N


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its bounds at the level asked for; bounds None without draws."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """What to train with C FLOPs: N, D, the loss there, and the exponents of C.

    exponent_N and exponent_D are the slopes of log N* and log D* in log C at this C.
    flat_N: sizes whose loss is within 0.5 % of the best, all of them at this C.
    """

    C: float
    N: Interval
    D: Interval
    loss: Interval
    exponent_N: Interval
    exponent_D: Interval
    flat_N: tuple[float, float]
    level: float | None
    warnings: tuple[LawWarning, ...]


def compute_optimal(
    law: LawFit | LawPosterior,
    C: float,
    *,
    flops_per_token: Callable[[Array], Array] = six_N,
    level: float = 0.9,
) -> Optimum:
    """The optimum at C FLOPs. flops_per_token: from sizes (K,) to FLOPs (K,), increasing in N.

    Raises FitError where the law has no optimum between 100 and 1e16 parameters, in itself or in
    more than half of its draws; ValueError for a law without N and D, or a C that is not one.
    """
    fitted = law.law if isinstance(law, LawPosterior) else law
    if fitted.form.inputs != ("N", "D"):
        raise ValueError(
            f"an optimum needs a law of N and D; {fitted.form.name} is one of"
            f" {', '.join(fitted.form.inputs)}"
        )
    if not (np.isfinite(C) and C > 0):
        raise ValueError(f"C is {C}; compute must be finite and above zero")
    best = _search(fitted, np.array([fitted.working]), C, flops_per_token)[0]
    if not np.isfinite(best).all():
        raise FitError(
            f"no optimum at {C:.4g} FLOPs: the law's loss falls all the way to"
            f" {_SIZES[0]:.0e} or {_SIZES[1]:.0e} parameters"
            + "".join(f"; {warning}" for warning in fitted.warnings)
        )
    lows: list[float | None] = [None] * 5
    highs: list[float | None] = [None] * 5
    if isinstance(law, LawPosterior):
        drawn = _search(fitted, np.array(law.draws), C, flops_per_token)
        kept = drawn[np.isfinite(drawn).all(axis=1)]
        if len(kept) * 2 < len(drawn):
            raise FitError(
                f"no interval of the optimum at {C:.4g} FLOPs: {len(drawn) - len(kept)} of"
                f" {len(drawn)} draws have none; the law needs more sizes and longer runs"
            )
        low, high = interval_of(kept, best, level, law.widened(level))
        lows, highs = [float(x) for x in low], [float(x) for x in high]
    N, D, loss, of_size, of_data = (
        Interval(value=float(best[k]), low=lows[k], high=highs[k]) for k in range(5)
    )
    beyond = fitted.extrapolation_warning(N.value, D.value)
    return Optimum(
        C=C,
        N=N,
        D=D,
        loss=loss,
        exponent_N=of_size,
        exponent_D=of_data,
        flat_N=_flat(fitted, C, loss.value, flops_per_token),
        level=level if isinstance(law, LawPosterior) else None,
        warnings=() if beyond is None else (beyond,),
    )


def _losses(
    law: LawFit, working: Array, log_N: Array, C: float, cost: Callable[[Array], Array]
) -> tuple[Array, Array]:
    """Loss and tokens where start s has the sizes log_N (S, K): both (S, K)."""
    D = C / cost(np.exp(log_N).ravel()).reshape(log_N.shape)
    covariates = law.form.covariates(np.stack([np.exp(log_N), D]), np.array(law.centre))
    return law.form.loss(working, covariates), D


def _least(
    law: LawFit, working: Array, C: float, cost: Callable[[Array], Array]
) -> tuple[Array, Array, Array]:
    """(log N*, D*, loss) of every start, (S,) each; NaN where the least is at an end."""
    grid = np.linspace(math.log(_SIZES[0]), math.log(_SIZES[1]), _COARSE)
    with np.errstate(over="ignore"):
        coarse, _ = _losses(law, working, np.tile(grid, (len(working), 1)), C, cost)
    at = np.argmin(coarse, axis=1)
    inside = (at > 0) & (at < _COARSE - 1)
    middle = np.clip(at, 1, _COARSE - 2)
    low, high = grid[middle - 1], grid[middle + 1]
    for _ in range(_NARROWINGS):
        inner = np.stack([high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)], axis=1)
        loss, _ = _losses(law, working, inner, C, cost)
        left = loss[:, 0] < loss[:, 1]
        low, high = np.where(left, low, inner[:, 0]), np.where(left, inner[:, 1], high)
    log_N = 0.5 * (low + high)
    loss, D = _losses(law, working, log_N[:, None], C, cost)
    void = np.where(inside, 0.0, np.nan)
    return log_N + void, D[:, 0] + void, loss[:, 0] + void


def _search(law: LawFit, working: Array, C: float, cost: Callable[[Array], Array]) -> Array:
    """(S, 5): N*, D*, loss, and the exponents of both in C by a central difference."""
    log_N, D, loss = _least(law, working, C, cost)
    below = _least(law, working, C * np.exp(-_STEP), cost)
    above = _least(law, working, C * np.exp(_STEP), cost)
    of_size = (above[0] - below[0]) / (2.0 * _STEP)
    of_data = np.log(above[1] / below[1]) / (2.0 * _STEP)
    return np.stack([np.exp(log_N), D, loss, of_size, of_data], axis=1)


def _flat(
    law: LawFit, C: float, least: float, cost: Callable[[Array], Array]
) -> tuple[float, float]:
    grid = np.linspace(math.log(_SIZES[0]), math.log(_SIZES[1]), 40 * _COARSE)
    with np.errstate(over="ignore"):
        loss, _ = _losses(law, np.array([law.working]), grid[None, :], C, cost)
    close = np.flatnonzero(loss[0] <= least * (1.0 + FLAT))
    return float(np.exp(grid[close[0]])), float(np.exp(grid[close[-1]]))
