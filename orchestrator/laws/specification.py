"""The specification curve: the same question under every defensible way of fitting.

Touches nothing. A law's interval says what other runs would have done to it, not what other
choices would have done: how FLOPs and sizes are counted, where the knee of the Huber loss lies,
how much of each curve's start is dropped, which phases count, whether the smallest size belongs.
Such choices have moved published exponents more than their intervals allow (Porian et al. 2024,
arXiv 2406.19146; Li et al. 2025, arXiv 2502.18969). So all combinations are fitted and the spread
of the answers stands beside the interval (Simonsohn, Simmons and Nelson 2020, Nature Human
Behaviour 4:1208).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np

from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import CHINCHILLA, LawForm
from orchestrator.laws.law import LawFit
from orchestrator.laws.optimum import Interval, compute_optimal
from orchestrator.laws.runs import Array, CurveRows, levels_of, runs_from_curves

Figure: TypeAlias = Literal["loss", "exponent_N", "tokens_per_param"]
FIGURES: tuple[Figure, ...] = ("loss", "exponent_N", "tokens_per_param")
_LEAST = 2  # variants that gave a law, to speak of a spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """A way of counting: sizes and FLOPs per token of every curve, in the order of the curves."""

    name: str
    sizes: tuple[float, ...]
    flops_per_token: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.flops_per_token):
            raise ValueError(
                f"the convention {self.name} counts {len(self.sizes)} sizes and"
                f" {len(self.flops_per_token)} costs; it needs one of each for every curve"
            )
        if not all(math.isfinite(x) and x > 0 for x in (*self.sizes, *self.flops_per_token)):
            raise ValueError(f"a count of the convention {self.name} is not above zero")

    def cost(self, sizes: Array) -> Array:
        """FLOPs per token at any size: the ratio to 6 N is interpolated, and held outside."""
        return 6.0 * sizes * np.exp(_read(self.sizes, self._ratios(), np.log(sizes)))

    def size_of(self, N: float, known: Sequence[float]) -> float:
        """What a size is here that is N where the curves have the sizes `known`."""
        ratios = [mine / its for mine, its in zip(self.sizes, known, strict=True)]
        return N * math.exp(float(_read(known, ratios, np.array([math.log(N)]))[0]))

    def _ratios(self) -> list[float]:
        return [c / (6.0 * N) for N, c in zip(self.sizes, self.flops_per_token, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What is varied; the first of each is the base.

    deltas: knees of the Huber loss on log loss; None for that of the residuals' spread, 1 is as
    good as a squared error. phases: sets of phases, None for all points. smallest: whether the
    smallest size takes part.
    """

    deltas: tuple[float | None, ...] = (None, 1e-3, 1.0)
    burn_ins: tuple[float, ...] = (0.1, 0.0, 0.3)
    phases: tuple[tuple[str, ...] | None, ...] = (None,)
    smallest: tuple[bool, ...] = (True, False)

    def __post_init__(self) -> None:
        for name in ("deltas", "burn_ins", "phases", "smallest"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; it needs at least the base")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way of fitting and its answers: loss at the question, the exponent of N* in C and
    D*/N* at the question's compute, None where it has none, with the reason in why_not."""

    convention: str
    delta: float | None
    burn_in: float
    phases: tuple[str, ...] | None
    smallest: bool
    loss: float | None = None
    exponent_N: float | None = None
    tokens_per_param: float | None = None
    why_not: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Answers over all variants that have one: the base's, least, median, greatest, how many.

    by: each varied choice and how far the means of its values lie apart.
    """

    base: float | None
    low: float
    median: float
    high: float
    count: int
    by: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Specification:
    """All variants of one question, the base first. N, D: the question in the base's counts."""

    N: float
    D: float
    variants: tuple[Variant, ...]
    notes: tuple[str, ...] = field(default=())

    def spread(self, of: Figure) -> Spread | None:
        """Where the variants lie; None where fewer than two have this answer."""
        known = [(v, x) for v in self.variants if (x := _figure(v, of)) is not None]
        if len(known) < _LEAST:
            return None
        values = np.array([x for _, x in known])
        by = [
            (name, apart)
            for name in ("convention", "delta", "burn_in", "phases", "smallest")
            if (apart := _apart([(getattr(v, name), x) for v, x in known])) is not None
        ]
        return Spread(
            base=_figure(self.variants[0], of),
            low=float(values.min()),
            median=float(np.median(values)),
            high=float(values.max()),
            count=len(values),
            by=tuple(sorted(by, key=lambda pair: -pair[1])),
        )

    def warning(self, of: Figure, interval: Interval) -> str | None:
        """A warning where the spread of the choices is wider than the law's own interval."""
        spread = self.spread(of)
        if spread is None or interval.low is None or interval.high is None:
            return None
        width, bounds = spread.high - spread.low, interval.high - interval.low
        if width <= bounds:
            return None
        most = f", most of it by the {spread.by[0][0].replace('_', '-')}" if spread.by else ""
        return (
            f"choices of fitting move the {_WORDS[of]} from {spread.low:.4g} to {spread.high:.4g}"
            f"{most}; that is {width / bounds if bounds > 0 else math.inf:.2g} times the width of"
            f" its interval, {interval.low:.4g} to {interval.high:.4g}, which does not know them"
        )


_WORDS: dict[Figure, str] = {
    "loss": "loss",
    "exponent_N": "exponent of the best size",
    "tokens_per_param": "best tokens a parameter",
}


def specification(
    curves: Sequence[CurveRows],
    N: float,
    D: float,
    *,
    conventions: Sequence[Convention] = (),
    choices: Choices | None = None,
    form: LawForm = CHINCHILLA,
    offsets_sd: float | None = None,
    seed: int = 0,
    starts: int = 16,
) -> Specification:
    """Fit `form` to the curves in every combination and ask each for N parameters on D tokens.

    conventions: the first is the base, in whose counts N is; none: the curves as they are. A
    combination without a law is a variant with a reason. Raises ValueError for a form of other
    inputs than N and D, a question that is not above zero, or conventions of other curves.
    """
    choices = choices or Choices()
    if form.inputs != ("N", "D"):
        raise ValueError(
            f"a specification curve needs a law of N and D; {form.name} is one of"
            f" {', '.join(form.inputs)}"
        )
    if not (math.isfinite(N) and N > 0 and math.isfinite(D) and D > 0):
        raise ValueError(f"the question N = {N}, D = {D} must be finite and above zero")
    ways = tuple(conventions) or (as_recorded(curves),)
    for way in ways:
        if len(way.sizes) != len(curves):
            raise ValueError(
                f"the convention {way.name} counts {len(way.sizes)} curves; there are"
                f" {len(curves)}"
            )
    asked = _Asked(curves=curves, form=form, offsets_sd=offsets_sd, seed=seed, starts=starts)
    variants: list[Variant] = []
    for plain in _combinations(choices):
        # Conventions that count sizes alike share a fit, and differ in the compute alone.
        laws = {way.sizes: way for way in reversed(ways)}
        fitted = {sizes: asked.law(plain, way) for sizes, way in laws.items()}
        for way in ways:
            there = way.size_of(N, ways[0].sizes)
            named = replace(plain, convention=way.name)
            variants.append(_answered(named, fitted[way.sizes], way, there, D))
    failed = [variant for variant in variants if variant.loss is None]
    notes = (
        (f"{len(failed)} of {len(variants)} variants have no law: {failed[0].why_not}",)
        if failed
        else ()
    )
    return Specification(N=N, D=D, variants=tuple(variants), notes=notes)


def as_recorded(curves: Sequence[CurveRows]) -> Convention:
    """The counts that the curves carry."""
    return Convention(
        name="recorded",
        sizes=tuple(float(curve.N) for curve in curves),
        flops_per_token=tuple(float(curve.flops[-1] / curve.tokens[-1]) for curve in curves),
    )


def six_ND(curves: Sequence[CurveRows]) -> Convention:
    """6 N D with the sizes that the curves carry."""
    sizes = tuple(float(curve.N) for curve in curves)
    return Convention(name="6ND", sizes=sizes, flops_per_token=tuple(6.0 * N for N in sizes))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What all variants share."""

    curves: Sequence[CurveRows]
    form: LawForm
    offsets_sd: float | None
    seed: int
    starts: int

    def law(self, plain: Variant, way: Convention) -> LawFit | FitError:
        sized = [
            replace(curve, N=size) for curve, size in zip(self.curves, way.sizes, strict=True)
        ]
        if not plain.smallest:
            level = levels_of(np.array(way.sizes))
            sized = [curve for curve, place in zip(sized, level, strict=True) if place > 0]
        try:
            runs = runs_from_curves(sized, burn_in=plain.burn_in, phases=plain.phases)
        except ValueError as error:
            return FitError(str(error))
        # Offsets need curves: finished runs have one row each.
        offsets = self.offsets_sd if runs.trials < len(runs) else None
        try:
            return fit(
                self.form,
                runs,
                delta=plain.delta,
                offsets_sd=offsets,
                seed=self.seed,
                starts=self.starts,
            )
        except FitError as error:
            return error


def _combinations(choices: Choices) -> Iterator[Variant]:
    for delta, burn_in, phases, smallest in itertools.product(
        choices.deltas, choices.burn_ins, choices.phases, choices.smallest
    ):
        yield Variant(
            convention="", delta=delta, burn_in=burn_in, phases=phases, smallest=smallest
        )


def _answered(
    variant: Variant, law: LawFit | FitError, way: Convention, N: float, D: float
) -> Variant:
    if isinstance(law, FitError):
        return replace(variant, why_not=str(law))
    loss = float(law.predict(N, D))
    try:
        best = compute_optimal(
            law, float(way.cost(np.array([N]))[0]) * D, flops_per_token=way.cost
        )
    except FitError as error:
        return replace(variant, loss=loss, why_not=str(error))
    return replace(
        variant,
        loss=loss,
        exponent_N=best.exponent_N.value,
        tokens_per_param=best.D.value / best.N.value,
    )


def _figure(variant: Variant, of: Figure) -> float | None:
    return {
        "loss": variant.loss,
        "exponent_N": variant.exponent_N,
        "tokens_per_param": variant.tokens_per_param,
    }[of]


def _apart(pairs: Sequence[tuple[object, float]]) -> float | None:
    """How far the means of the groups lie apart; None where there is one group."""
    groups: dict[object, list[float]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    means = [float(np.mean(values)) for values in groups.values()]
    return max(means) - min(means) if len(means) > 1 else None


def _read(sizes: Sequence[float], ratios: Sequence[float], asked: Array) -> Array:
    """Log of the ratio at log sizes: the mean of each known size, straight lines between them."""
    logs, place = np.unique(np.log(sizes), return_inverse=True)
    sums = np.bincount(place, weights=np.log(ratios))
    return np.interp(asked, logs, sums / np.bincount(place))
