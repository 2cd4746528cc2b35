"""Compute-optimal size and tokens from a law of N and D, with intervals from its draws.

Touches nothing. Minimises the law's loss along C = flops_per_token(N) * D. With 6 N and
E + A/N^alpha + B/D^beta the answer is closed: N* = G (C/6)^a, a = beta / (alpha + beta),
G = (alpha A / (beta B))^(1 / (alpha + beta)) (Hoffmann et al. 2022, arXiv 2203.15556, eq. 4).
The search below is used for every form and cost, and is tested against it. A law with more inputs
(a learning rate, say) is asked with those held; several laws are asked as one, every draw for its
own optimum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.errors import FitError
from orchestrator.laws.law import LawFit, LawWarning
from orchestrator.laws.runs import Array
from orchestrator.laws.uncertainty import LawPosterior, interval_of
from orchestrator.values import flops_in_words

_SIZES = (1e2, 1e16)  # where N* is looked for
_COARSE = 97
_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)
_NARROWINGS = 60
_STEP = 0.5 * math.log(10.0)  # of log C either way, for the exponents: a decade of compute
_LEAST_SHARE = 1e-6  # of an exponent in logits, from 0 and from 1
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

    exponent_N and exponent_D are the slopes of log N* and log D* in log C over the decade of
    compute about this C: what a token costs is known at the sizes that were trained, and N* rests
    at one of them for a while where the straight lines between them break.
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
    held: Mapping[str, float] | None = None,
) -> Optimum:
    """The optimum at C FLOPs. flops_per_token: from sizes (K,) to FLOPs (K,), increasing in N.
    held: the law's further inputs by name.

    Raises FitError where the law has no optimum between 100 and 1e16 parameters, in itself or in
    more than half of its draws; ValueError for a law without N and D, an input without a value,
    or a C that is not one.
    """
    fitted = law.law if isinstance(law, LawPosterior) else law
    asked = _asked(fitted, C, flops_per_token, held or {})
    best = asked.own()
    lows: Sequence[float | None] = [None] * 5
    highs: Sequence[float | None] = [None] * 5
    if isinstance(law, LawPosterior):
        lows, highs = asked.bounds(law, best, level)
    N, D, loss, of_size, of_data = (
        Interval(value=float(best[k]), low=lows[k], high=highs[k]) for k in range(5)
    )
    beyond = fitted.extrapolation_warning(N.value, D.value, **held or {})
    return Optimum(
        C=C,
        N=N,
        D=D,
        loss=loss,
        exponent_N=of_size,
        exponent_D=of_data,
        flat_N=asked.flat(loss.value),
        level=level if isinstance(law, LawPosterior) else None,
        warnings=() if beyond is None else (beyond,),
    )


def averaged_optimum(
    laws: Sequence[LawPosterior],
    weights: Sequence[float],
    C: float,
    *,
    flops_per_token: Callable[[Array], Array] = six_N,
    level: float = 0.9,
    held: Mapping[str, float] | None = None,
) -> Optimum:
    """The optimum by several laws at once, weighted (`averaging`): the mean of theirs, in
    logarithms, and an interval that holds what each law doubts and what they differ by.

    Every draw of every law has its optimum, moved away from its law's own as that law's intervals
    are widened; the bounds are quantiles of all draws together. A law without an optimum at C is
    left out, and a warning says so; FitError where none has one. exponents: likewise.
    """
    if len(laws) != len(weights) or not laws or not math.fsum(weights) > 0:
        raise ValueError(f"{len(laws)} laws and the weights {list(weights)}: one each is needed")
    owns: list[Array] = []
    pools: list[Array] = []
    shares: list[float] = []
    flats: list[tuple[float, float]] = []
    warnings: list[LawWarning] = []
    for law, weight in zip(laws, weights, strict=True):
        asked = _asked(law.law, C, flops_per_token, held or {})
        try:
            own, (drawn, _) = asked.own(), asked.drawn(law)
        except FitError as error:
            text = f"{law.law.form.name} is left out of the average: {error}"
            warnings.append(LawWarning(kind="not_identified", text=text))
            continue
        owns.append(own)
        pools.append(_scale(own) + law.widened(level) * (_scale(drawn) - _scale(own)))
        shares.append(weight)
        flats.append(asked.flat(float(own[2])))
    if not math.fsum(shares) > 0:
        raise FitError(f"no averaged optimum at {flops_in_words(C)} FLOPs: {warnings[0].text}")
    share = np.array(shares) / math.fsum(shares)
    each = np.repeat(share / [len(pool) for pool in pools], [len(pool) for pool in pools])
    tail = 0.5 * (1.0 - level)
    low, high = _quantiles(np.concatenate(pools), each, (tail, 1.0 - tail))
    middle = share @ np.stack([_scale(own) for own in owns])
    found = [
        Interval(value=value, low=least, high=most)
        for value, least, most in _unscaled(middle, low, high)
    ]
    best = int(np.argmax(share))
    beyond = laws[best].law.extrapolation_warning(N=found[0].value, D=found[1].value, **held or {})
    return Optimum(
        C=C,
        N=found[0],
        D=found[1],
        loss=found[2],
        exponent_N=found[3],
        exponent_D=found[4],
        flat_N=(min(flat[0] for flat in flats), max(flat[1] for flat in flats)),
        level=level,
        warnings=(*warnings, *(() if beyond is None else (beyond,))),
    )


def _scale(found: Array) -> Array:
    """N*, D* and loss in logarithms, the exponents as they are."""
    return np.concatenate([np.log(found[..., :3]), found[..., 3:]], axis=-1)


def _unscaled(*rows: Array) -> list[tuple[float, ...]]:
    """Back again: of each of the five, its value in every row."""
    back = [np.concatenate([np.exp(row[:3]), row[3:]]) for row in rows]
    return [tuple(float(row[k]) for row in back) for k in range(5)]


def _quantiles(values: Array, weight: Array, at: Sequence[float]) -> list[Array]:
    """Weighted quantiles of each column of values (K, 5)."""
    found = np.zeros((len(at), values.shape[1]))
    for k in range(values.shape[1]):
        order = np.argsort(values[:, k])
        below = np.cumsum(weight[order]) - 0.5 * weight[order]
        found[:, k] = np.interp(at, below, values[order, k])
    return list(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A law that is asked for its optimum at C. held: its inputs beside N and D."""

    law: LawFit
    C: float
    cost: Callable[[Array], Array]
    held: Mapping[str, float]

    def own(self) -> Array:
        """(5,) of the law itself. Raises FitError where it has no optimum."""
        best = _search(self, np.array([self.law.working]))[0]
        if not np.isfinite(best).all():
            raise FitError(
                f"no optimum at {flops_in_words(self.C)} FLOPs: the law's loss falls all the way"
                f" to {_SIZES[0]:.0e} or {_SIZES[1]:.0e} parameters"
                + "".join(f"; {warning}" for warning in self.law.warnings)
            )
        return best

    def drawn(self, law: LawPosterior) -> tuple[Array, NDArray[np.bool_]]:
        """(draws, 5) of those that have one, and which these are. Raises FitError where more than
        half have none."""
        drawn = _search(self, np.array(law.draws))
        kept: NDArray[np.bool_] = np.asarray(np.isfinite(drawn).all(axis=1))
        if kept.sum() * 2 < len(drawn):
            raise FitError(
                f"no interval of the optimum at {flops_in_words(self.C)} FLOPs:"
                f" {len(drawn) - kept.sum()} of {len(drawn)} draws have none; the law needs more"
                " sizes and longer runs"
            )
        return drawn[kept], kept

    def bounds(
        self, law: LawPosterior, own: Array, level: float
    ) -> tuple[list[float], list[float]]:
        """Lows and highs of the five: the best at C is no worse than the run that went furthest
        was there, or at its end."""
        drawn, kept = self.drawn(law)
        low, high = interval_of(drawn, own, level, law.widened(level))
        at, loss = self.on_the_furthest(), slice(2, 3)
        low[loss], high[loss] = law.bounded(drawn[:, loss], own[loss], at, level, kept)
        low[3:], high[3:] = _shares(drawn[:, 3:], own[3:], level, law.widened(level))
        return [float(x) for x in low], [float(x) for x in high]

    def on_the_furthest(self) -> Array:
        """The inputs (I, 1) of the run that went furthest, after C FLOPs or where it ended."""
        end = self.law.end
        tokens = self.C / float(self.cost(np.array([end["N"]]))[0])
        at = {**self.held, "N": end["N"], "D": min(end["D"], tokens)}
        return np.array([[at[name]] for name in self.law.form.inputs])

    def flat(self, least: float) -> tuple[float, float]:
        """The sizes whose loss is within FLAT of the least."""
        grid = np.linspace(math.log(_SIZES[0]), math.log(_SIZES[1]), 40 * _COARSE)
        with np.errstate(over="ignore"):
            loss, _ = _losses(self, np.array([self.law.working]), grid[None, :], self.C)
        close = np.flatnonzero(loss[0] <= least * (1.0 + FLAT))
        return float(np.exp(grid[close[0]])), float(np.exp(grid[close[-1]]))


def _shares(drawn: Array, own: Array, level: float, widening: float) -> tuple[Array, Array]:
    """Interval of exponents, draws (draws, K) and own (K,). A law that falls in N and in D shares
    its compute between them: both exponents lie between 0 and 1, and are widened in logits, which
    stay there. Those of other laws are widened as they are."""
    low, high = interval_of(drawn, own, level)
    share = (np.minimum(low, own) >= 0.0) & (np.maximum(high, own) <= 1.0)
    middle, ends = _logits(own), (_logits(low), _logits(high))
    in_logits = [1.0 / (1.0 + np.exp(-(middle + widening * (end - middle)))) for end in ends]
    as_they_are = [own + widening * (end - own) for end in (low, high)]
    return (
        np.where(share, in_logits[0], as_they_are[0]),
        np.where(share, in_logits[1], as_they_are[1]),
    )


def _logits(values: Array) -> Array:
    within = np.clip(values, _LEAST_SHARE, 1.0 - _LEAST_SHARE)
    return np.log(within) - np.log1p(-within)


def _asked(
    law: LawFit, C: float, cost: Callable[[Array], Array], held: Mapping[str, float]
) -> _Asked:
    inputs = law.form.inputs
    if not {"N", "D"} <= set(inputs):
        raise ValueError(
            f"an optimum needs a law of N and D; {law.form.name} is one of {', '.join(inputs)}"
        )
    wrong = sorted((set(inputs) - {"N", "D"}) ^ set(held))
    if wrong:
        raise ValueError(
            f"{law.form.name} takes N, D and values for"
            f" {', '.join(n for n in inputs if n not in ('N', 'D')) or 'no other input'}:"
            f" {wrong[0]!r} is {'not one of them' if wrong[0] in held else 'missing'}"
        )
    if not (np.isfinite(C) and C > 0):
        raise ValueError(f"C is {C}; compute must be finite and above zero")
    return _Asked(law=law, C=C, cost=cost, held=held)


def _losses(asked: _Asked, working: Array, log_N: Array, C: float) -> tuple[Array, Array]:
    """Loss and tokens where start s has the sizes log_N (S, K): both (S, K)."""
    N = np.exp(log_N)
    D = C / asked.cost(N.ravel()).reshape(N.shape)
    known = {"N": N, "D": D} | {n: np.full_like(N, value) for n, value in asked.held.items()}
    inputs = np.stack([known[name] for name in asked.law.form.inputs])
    covariates = asked.law.form.covariates(inputs, np.array(asked.law.centre))
    return asked.law.form.loss(working, covariates), D


def _least(asked: _Asked, working: Array, C: float) -> tuple[Array, Array, Array]:
    """(log N*, D*, loss) of every start, (S,) each; NaN where the least is at an end."""
    grid = np.linspace(math.log(_SIZES[0]), math.log(_SIZES[1]), _COARSE)
    with np.errstate(over="ignore"):
        coarse, _ = _losses(asked, working, np.tile(grid, (len(working), 1)), C)
    at = np.argmin(coarse, axis=1)
    inside = (at > 0) & (at < _COARSE - 1)
    middle = np.clip(at, 1, _COARSE - 2)
    low, high = grid[middle - 1], grid[middle + 1]
    for _ in range(_NARROWINGS):
        inner = np.stack([high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)], axis=1)
        loss, _ = _losses(asked, working, inner, C)
        left = loss[:, 0] < loss[:, 1]
        low, high = np.where(left, low, inner[:, 0]), np.where(left, inner[:, 1], high)
    log_N = 0.5 * (low + high)
    loss, D = _losses(asked, working, log_N[:, None], C)
    void = np.where(inside, 0.0, np.nan)
    return log_N + void, D[:, 0] + void, loss[:, 0] + void


def _search(asked: _Asked, working: Array) -> Array:
    """(S, 5): N*, D*, loss, and the exponents of both in C by a central difference."""
    log_N, D, loss = _least(asked, working, asked.C)
    below = _least(asked, working, asked.C * np.exp(-_STEP))
    above = _least(asked, working, asked.C * np.exp(_STEP))
    of_size = (above[0] - below[0]) / (2.0 * _STEP)
    of_data = np.log(above[1] / below[1]) / (2.0 * _STEP)
    return np.stack([np.exp(log_N), D, loss, of_size, of_data], axis=1)
