"""A law form written as one line: `E + A/N**alpha + B/D**beta` is all there is to say.

Touches nothing. `law_of` reads the line, finds the parameters that enter linearly, and compiles
the rest. A parameter of a positive, wide box that enters non-linearly is worked on as its
logarithm; every other working value is the published one, so boxes and priors hold as stated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from orchestrator.laws.compiled import Compiled, compiled
from orchestrator.laws.expression import parse
from orchestrator.laws.forms.base import Array, Parameter
from orchestrator.laws.forms.drawing import Sum, drawn, scaled_parameter, sums_of
from orchestrator.laws.graph import Graph
from orchestrator.laws.lowering import Lowering

_USUAL_INPUTS = ("N", "D", "C")
_WIDE = 100.0  # a positive box this many times wide is worked on in logarithms
_SCALE = 10.0  # a bound below this is one of an exponent, not of a scale
_SMALLEST = 1e-9  # of the upper bound: what stands for zero in logarithms


@dataclass(frozen=True, slots=True)
class Known:
    """What may be said of a parameter beside its name. low, high: its bounds; high of "loss" is
    the smallest loss of the rows. meaning, unit: for readers. start: where starts are drawn.
    prior: mean and sd of a normal prior, which then acts in every fit of the form."""

    low: float = -math.inf
    high: float | str = math.inf
    meaning: str = ""
    unit: str = ""
    start: tuple[float, float] | None = None
    prior: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.prior is not None and not self.prior[1] > 0:
            raise ValueError(f"the sd of a prior is above zero, not {self.prior[1]}")
        if self.start is not None and not -math.inf < self.start[0] <= self.start[1] < math.inf:
            raise ValueError(f"starts are drawn between two finite values, not {self.start}")
        if isinstance(self.high, str):
            if self.high != "loss":
                raise ValueError(f"an upper bound is a number or 'loss', not {self.high!r}")
        elif not self.low < self.high:
            raise ValueError(f"the bounds [{self.low:g}, {self.high:g}] hold nothing")
        if math.isnan(self.low) or self.low == math.inf:
            raise ValueError(f"the lower bound {self.low:g} is no bound")


@dataclass(frozen=True, slots=True)
class LineForm:
    """A law form that was read from one line; equal to another one of the same definition."""

    name: str
    expression: str
    source: str
    inputs: tuple[str, ...]
    levels: tuple[int, ...]
    parameters: tuple[Parameter, ...]
    known: tuple[Known, ...]
    _compiled: Compiled = field(repr=False, compare=False)
    _sums: tuple[Sum, ...] = field(repr=False, compare=False)

    def middle(self, inputs: Array, weight: Array) -> Array:
        return np.zeros(0)

    def covariates(self, inputs: Array, centre: Array) -> Array:
        return self._compiled.covariates(inputs)

    def loss(self, working: Array, covariates: Array) -> Array:
        return self._compiled.loss(working, covariates)

    def jacobian(self, working: Array, covariates: Array) -> tuple[Array, Array]:
        return self._compiled.jacobian(working, covariates)

    def columns(self, working: Array, covariates: Array) -> tuple[Array, Array]:
        return self._compiled.columns(working, covariates)

    def publish(self, working: Array, centre: Array) -> Array:
        published = working.copy()
        logs = self._logarithmic
        published[:, logs] = np.exp(working[:, logs])
        return published

    def absorb(self, published: Array, centre: Array) -> Array:
        working = published.copy()
        logs = self._logarithmic
        with np.errstate(divide="ignore"):
            working[:, logs] = np.log(published[:, logs])
        return working

    @property
    def _logarithmic(self) -> list[int]:
        return [k for k, known in enumerate(self.parameters) if known.logarithmic]

    def draw(self, rng: np.random.Generator, count: int, covariates: Array) -> Array:
        return drawn(self.parameters, self._sums, rng, count, covariates)

    def to_json(self) -> dict[str, object]:
        """The definition as plain values: what `law_from` reads, and what a spec may hold."""
        parameters: dict[str, object] = {}
        for parameter, known in zip(self.parameters, self.known, strict=True):
            said: dict[str, object] = {}
            bounds = [known.low, known.high]
            if bounds != [-math.inf, math.inf]:
                said["bounds"] = [None if b in (-math.inf, math.inf) else b for b in bounds]
            for key in ("meaning", "unit"):
                said |= {key: getattr(known, key)} if getattr(known, key) else {}
            for key in ("start", "prior"):
                said |= {key: list(getattr(known, key))} if getattr(known, key) else {}
            parameters[parameter.name] = said
        return {
            "name": self.name,
            "loss": self.expression,
            "source": self.source,
            "inputs": list(self.inputs),
            "levels": list(self.levels),
            "parameters": parameters,
        }


def law_of(
    expression: str,
    *,
    name: str = "",
    parameters: Sequence[str] | Mapping[str, Known] | None = None,
    inputs: Sequence[str] | None = None,
    source: str = "",
    levels: Sequence[int] | None = None,
) -> LineForm:
    """The law form of this line.

    parameters: their names, or what is known of some of them. inputs: the columns that it reads;
    all names but the parameters where these are named as a sequence, else those of N, D and C
    that occur. levels: how many different values of each input the least fit needs (1).
    Raises ExpressionError for a line that is no law, ValueError where names do not fit.
    """
    read = parse(expression)
    known = dict(parameters) if isinstance(parameters, Mapping) else {}
    if inputs is None:
        listed = None if isinstance(parameters, Mapping) or parameters is None else parameters
        inputs = tuple(
            n for n in read.names if (n in _USUAL_INPUTS if listed is None else n not in listed)
        )
    given = tuple(parameters or ())
    names = given + tuple(n for n in read.names if n not in inputs and n not in given)
    _check_names(read.names, names, tuple(inputs), known)
    first = _lowered(read.tree, inputs, names, known, frozenset())
    linear = _linear(first, len(names))
    outside = _outside_sums(first, len(names)) - linear
    logs = frozenset(
        n for k, n in enumerate(names) if k in outside and _wide(known.get(n, Known()))
    )
    graph, root, slopes = last = _lowered(read.tree, inputs, names, known, logs)
    scales = _exponential(last, linear)
    ready = compiled(graph, root, slopes, sorted(linear | scales))
    found = tuple(
        _parameter(
            n,
            known.get(n, Known()),
            linear=k in linear,
            logarithmic=n in logs,
            exponential=k in scales,
        )
        for k, n in enumerate(names)
    )
    return LineForm(
        name=name or expression,
        expression=expression,
        source=source,
        inputs=tuple(inputs),
        levels=tuple(levels) if levels is not None else (1,) * len(inputs),
        parameters=found,
        known=tuple(known.get(n, Known()) for n in names),
        _compiled=ready,
        _sums=sums_of(graph, root, ready.rows, found),
    )


def _check_names(
    met: Sequence[str],
    names: tuple[str, ...],
    inputs: tuple[str, ...],
    known: Mapping[str, Known],
) -> None:
    for asked, what in ((names, "parameter"), (inputs, "input"), (tuple(known), "parameter")):
        twice = [n for n in asked if asked.count(n) > 1]
        if twice:
            raise ValueError(f"the {what} {twice[0]!r} is named twice; name it once")
        strange = [n for n in asked if n not in met]
        if strange:
            raise ValueError(
                f"the law has no {what} {strange[0]!r}; its names are {', '.join(met)}"
            )
    both = [n for n in names if n in inputs]
    if both:
        raise ValueError(f"{both[0]!r} is named as a parameter and as an input; it is one of them")
    missing = [n for n in met if n not in names and n not in inputs]
    if missing:
        raise ValueError(f"{missing[0]!r} is neither a parameter nor an input; name it as one")
    if not names:
        raise ValueError(f"the law has no parameter; its names are {', '.join(met)}")


_Lowered = tuple[Graph, int, list[int]]


def _lowered(
    tree: Any,
    inputs: Sequence[str],
    names: Sequence[str],
    known: Mapping[str, Known],
    logarithmic: frozenset[str],
) -> _Lowered:
    """The law's graph, its root and its slopes."""
    graph = Graph()
    places = {n: graph.input(k) for k, n in enumerate(inputs)}
    logs = {n: graph.apply("log", place) for n, place in places.items()}
    for k, n in enumerate(names):
        place = graph.parameter(k)
        if n in logarithmic:
            logs[n] = place
            place = graph.exp(place)
        places[n] = place
    positive = {*inputs, *(n for n in names if known.get(n, Known()).low >= 0)}
    root = Lowering(graph, places, logs, positive).value(tree)
    return graph, root, graph.derivatives(root, len(names))


def _linear(lowered: _Lowered, count: int) -> frozenset[int]:
    """A large set of parameters in which the law is linear, all together.

    The slope by one must depend on none of them; those with fewest rivals are taken first.
    """
    graph, _, slopes = lowered
    able = [k for k in range(count) if not graph[slopes[k]].params >> k & 1]
    rivals = {k: [j for j in able if j != k and graph[slopes[k]].params >> j & 1] for k in able}
    chosen: list[int] = []
    for k in sorted(able, key=lambda k: (len(rivals[k]), k)):
        if not any(j in rivals[k] or k in rivals[j] for j in chosen):
            chosen.append(k)
    return frozenset(chosen)


def _exponential(lowered: _Lowered, linear: frozenset[int]) -> frozenset[int]:
    """Parameters whose slope is its own slope by them, and that share it with no other scale."""
    graph, _, slopes = lowered
    chosen: list[int] = []
    for k, slope in enumerate(slopes):
        if k in linear or not graph[slope].mixed:
            continue
        others = [*linear, *chosen]
        shared = any(
            graph[slope].params >> j & 1 or graph[slopes[j]].params >> k & 1 for j in others
        )
        if not shared and graph.derivatives(slope, len(slopes))[k] == slope:
            chosen.append(k)
    return frozenset(chosen)


def _outside_sums(lowered: _Lowered, count: int) -> frozenset[int]:
    """Parameters that are no term of a sum with data: those may be scales."""
    graph, root, _ = lowered
    terms = {
        scaled[0]
        for place in graph.needed([root])
        if graph[place].op == "sum" and graph[place].mixed
        for scaled in (scaled_parameter(graph, arg) for arg in graph[place].args)
        if scaled is not None
    }
    return frozenset(range(count)) - terms


def _wide(known: Known) -> bool:
    high = known.high
    if isinstance(high, str) or known.low < 0 or not math.isfinite(high):
        return False
    return high >= _WIDE * max(known.low, _SCALE / _WIDE)


def _parameter(
    name: str, known: Known, *, linear: bool, logarithmic: bool, exponential: bool
) -> Parameter:
    low, high = known.low, None if isinstance(known.high, str) else known.high
    if logarithmic and high is not None:
        low, high = math.log(low if low > 0 else _SMALLEST * high), math.log(high)
        start = (low, high)
    else:
        ends = (low, math.inf if high is None else high)
        start = (max(ends[0], -3.0), min(ends[1], 3.0))
        if math.isfinite(ends[0]) and math.isfinite(ends[1]):
            start = ends
        elif start[0] >= start[1]:
            start = (
                (ends[0], ends[0] + 3.0) if math.isfinite(ends[0]) else (ends[1] - 3.0, ends[1])
            )
    return Parameter(
        name=name,
        meaning=" ".join(word for word in (known.meaning or "a parameter", known.unit) if word),
        lower=low,
        upper=high,
        linear=linear,
        start=known.start or start,
        logarithmic=logarithmic,
        exponential=exponential,
        prior=known.prior,
    )


def law_from(definition: Mapping[str, object]) -> LineForm:
    """The law form of a definition as YAML or JSON holds it.

    `loss` is the line; `name`, `source`, `inputs`, `levels` and `parameters` may be left out.
    `parameters` maps names to what is known: `bounds` of two numbers (nothing for none, `loss`
    for the smallest loss seen), `meaning`, `unit`, `start`, `prior` (mean and sd); or lists names.
    Raises ValueError (ExpressionError for the line) with the key that is wrong.
    """
    strange = set(definition) - {"name", "loss", "source", "inputs", "levels", "parameters"}
    if strange or not isinstance(definition.get("loss"), str):
        wrong = f"it knows no key {min(strange)!r}" if strange else "its key `loss` holds the line"
        raise ValueError(f"a law has loss, name, source, inputs, levels and parameters: {wrong}")
    listed: Any = definition.get("parameters")
    parameters: Any = listed
    if isinstance(listed, Mapping):
        named = cast("Mapping[Any, Any]", listed)
        parameters = {str(name): _known_from(str(name), said) for name, said in named.items()}
    inputs: Any = definition.get("inputs")
    levels: Any = definition.get("levels")
    return law_of(
        str(definition["loss"]),
        name=str(definition.get("name", "")),
        parameters=parameters,
        inputs=None if inputs is None else tuple(map(str, inputs)),
        source=str(definition.get("source", "")),
        levels=None if levels is None else tuple(map(int, levels)),
    )


def _known_from(name: str, given: Any) -> Known:
    if not isinstance(given or {}, Mapping):
        raise ValueError(f"{name}: write `bounds: [low, high]` and the like, not {given!r}")
    said = cast("Mapping[str, Any]", given or {})
    strange = set(said) - {"bounds", "meaning", "unit", "start", "prior"}
    if strange:
        raise ValueError(f"{name}: a parameter has no {min(map(str, strange))!r}")
    low, high = _pair(name, "bounds", said) or (None, None)
    start, prior = (_pair(name, key, said) for key in ("start", "prior"))
    return Known(
        low=-math.inf if low is None else _number(name, "bounds", low),
        high=math.inf
        if high is None
        else high
        if high == "loss"
        else _number(name, "bounds", high),
        meaning=str(said.get("meaning", "")),
        unit=str(said.get("unit", "")),
        start=start and (_number(name, "start", start[0]), _number(name, "start", start[1])),
        prior=prior and (_number(name, "prior", prior[0]), _number(name, "prior", prior[1])),
    )


def _pair(name: str, key: str, said: Mapping[str, Any]) -> tuple[Any, Any] | None:
    pair: Any = said.get(key)
    if pair is None:
        return None
    if (
        not isinstance(pair, Sequence)
        or isinstance(pair, str)
        or len(cast("Sequence[Any]", pair)) != 2
    ):
        raise ValueError(f"{name}: `{key}` holds two values, not {pair!r}")
    low, high = cast("Sequence[Any]", pair)
    return low, high


def _number(name: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name}: `{key}` holds numbers, not {value!r}")
    return float(value)
