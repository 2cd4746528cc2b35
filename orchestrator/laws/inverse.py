"""A law asked both ways: the loss of a plan with its interval, and the cheapest plan for a loss.

Touches nothing. With a law of N and D the cheapest compute for a loss is the C whose optimum
(Hoffmann et al. 2022, arXiv 2203.15556, section 3; `optimum.compute_optimal`) has that loss; with
a law of C it is where the law has it. The bounds of C are where the bounds of the loss cross it:
all computes at which the loss asked for lies inside the law's interval (an interval inverted as a
test is: Casella and Berger 2002, section 9.2.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy.optimize import brentq

from orchestrator.laws.errors import FitError
from orchestrator.laws.law import LawFit
from orchestrator.laws.optimum import Interval, Optimum, compute_optimal, six_N
from orchestrator.laws.runs import Array
from orchestrator.laws.uncertainty import LawPosterior
from orchestrator.values import flops_in_words

Law: TypeAlias = LawFit | LawPosterior
Cost: TypeAlias = Callable[[Array], Array]
_Bound: TypeAlias = Literal["value", "low", "high"]
_STRIDE = math.log(4.0)  # of the search for a bracket, in log C
_FURTHEST = math.log(1e24)  # from the rows, in either direction
_CLOSE = 1e-6  # in log C


@dataclass(frozen=True, slots=True, kw_only=True)
class Cheapest:
    """The least compute with which the law reaches a loss.

    C: with bounds at the level; None where no compute in reach has it, or there are no draws.
    optimum: size and tokens at C, None for a law of C. notes: why a bound is missing.
    """

    loss: float
    C: Interval
    optimum: Optimum | None
    level: float | None
    notes: tuple[str, ...]


def fitted_of(law: Law) -> LawFit:
    """The fit itself, of a law with or without draws."""
    return law.law if isinstance(law, LawPosterior) else law


def loss_at(law: Law, *, level: float = 0.9, **inputs: float) -> Interval:
    """The law's loss, in nats per token, at the inputs that its form names (N, D, C or others).

    The interval is about the law's own value; single runs scatter about it by `law.scatter` more.
    Raises ValueError where an input is missing, unknown or out of its range, or where the law is
    not finite there.
    """
    fitted = fitted_of(law)
    unknown = [name for name in inputs if name not in fitted.form.inputs]
    if unknown:
        raise ValueError(
            f"{fitted.form.name} ({fitted.form.expression}) has no input {unknown[0]!r};"
            f" it has {', '.join(fitted.form.inputs)}"
        )
    value = float(fitted.predict(**inputs))
    if not math.isfinite(value):
        asked = ", ".join(f"{name} = {given:g}" for name, given in inputs.items())
        raise ValueError(f"the law {fitted.form.name} has no finite loss at {asked}")
    if not isinstance(law, LawPosterior):
        return Interval(value=value)
    low, high = law.interval(level=level, **inputs)
    return Interval(value=value, low=float(low), high=float(high))


def decades_beyond(law: Law, inputs: Mapping[str, float]) -> dict[str, float]:
    """Powers of ten by which each input lies beyond the law's rows: above zero beyond the largest
    value, below zero under the smallest, zero between them. Inputs that the law has not are left
    out, and so are those with a value that is not above zero."""
    fitted = fitted_of(law)
    found: dict[str, float] = {}
    for name, (low, high) in zip(fitted.form.inputs, fitted.ranges, strict=True):
        value = inputs.get(name)
        if value is None or value <= 0 or low <= 0:
            continue
        above, below = math.log10(value / high), math.log10(value / low)
        # A tenth of a per mille is rounding.
        found[name] = above if above > 1e-4 else below if below < -1e-4 else 0.0
    return found


def cheapest(
    law: Law, loss: float, *, flops_per_token: Cost = six_N, level: float = 0.9
) -> Cheapest:
    """The least C at which the law says `loss`, with its bounds, and what to train with it.

    Raises FitError where the law reaches the loss at no compute; ValueError for a loss that is
    not finite and above zero, or a law of other inputs than (N, D) or C.
    """
    fitted = fitted_of(law)
    if not (math.isfinite(loss) and loss > 0):
        raise ValueError(f"loss is {loss}; it must be finite and above zero")
    if fitted.form.inputs not in (("C",), ("N", "D")):
        raise ValueError(
            f"the cheapest compute needs a law of N and D, or of C; {fitted.form.name} is one of"
            f" {', '.join(fitted.form.inputs)}"
        )
    asked = _Asked(law=law, cost=flops_per_token, level=level)
    start = asked.middle()
    value = _crossing(asked, "value", loss, start)
    if isinstance(value, str):
        raise FitError(f"no compute for a loss of {loss:g}: {value}")
    notes: list[str] = []
    low: float | None = None
    high: float | None = None
    if isinstance(law, LawPosterior):
        # Where the loss may be lower, less compute is enough.
        low = _told(_crossing(asked, "low", loss, value), "lower", notes)
        high = _told(_crossing(asked, "high", loss, value), "upper", notes)
    C = math.exp(value)
    return Cheapest(
        loss=loss,
        C=Interval(value=C, low=low, high=high),
        optimum=asked.optimum(C) if fitted.form.inputs == ("N", "D") else None,
        level=level if isinstance(law, LawPosterior) else None,
        notes=tuple(notes),
    )


def _told(found: float | str, which: str, notes: list[str]) -> float | None:
    if isinstance(found, str):
        notes.append(f"no {which} bound of the compute: {found}")
        return None
    return math.exp(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A law that is asked for its least loss at one compute after another."""

    law: Law
    cost: Cost
    level: float

    def middle(self) -> float:
        """Log C in the middle of the rows."""
        fitted = fitted_of(self.law)
        middles = [math.sqrt(low * high) for low, high in fitted.ranges]
        if fitted.form.inputs == ("C",):
            return math.log(middles[0])
        return math.log(float(self.cost(np.array([middles[0]]))[0]) * middles[1])

    def optimum(self, C: float, *, bounded: bool = True) -> Optimum:
        law = self.law if bounded else fitted_of(self.law)
        return compute_optimal(law, C, flops_per_token=self.cost, level=self.level)

    def loss(self, log_C: float, bound: _Bound) -> float:
        """The law's loss, or a bound of it; NaN where the law has no optimum."""
        C, bounded = math.exp(log_C), bound != "value"
        if fitted_of(self.law).form.inputs == ("C",):
            found = loss_at(self.law if bounded else fitted_of(self.law), level=self.level, C=C)
        else:
            try:
                found = self.optimum(C, bounded=bounded).loss
            except FitError:
                return math.nan
        said = {"value": found.value, "low": found.low, "high": found.high}[bound]
        return math.nan if said is None else said


def _crossing(asked: _Asked, bound: _Bound, loss: float, start: float) -> float | str:
    """Log C where the loss, or its bound, is `loss`; in words why there is none."""
    here = asked.loss(start, bound)
    if math.isnan(here):
        return f"the law has no optimum at {flops_in_words(math.exp(start))} FLOPs"
    step = _STRIDE if here > loss else -_STRIDE
    last, last_loss, flat = start, here, 0
    while abs(last + step - start) <= _FURTHEST:
        following = last + step
        said = asked.loss(following, bound)
        if math.isnan(said):
            return (
                f"at {flops_in_words(math.exp(last))} FLOPs it is {last_loss:.4g}, and beyond that"
                " the law has no optimum"
            )
        if (said > loss) != (here > loss) or said == loss:
            low, high = sorted((last, following))
            return float(
                brentq(lambda log_C: asked.loss(log_C, bound) - loss, low, high, xtol=_CLOSE)
            )
        # Flat to rounding at several steps on end: no further step crosses it.
        flat = flat + 1 if abs(said - last_loss) < 1e-9 * loss else 0
        if flat == 3:
            break
        last, last_loss = following, said
    return f"even with {flops_in_words(math.exp(last))} FLOPs it is {last_loss:.4g}"
