"""A law form written as one line: `E + A/N**alpha + B/D**beta` is all there is to say.

Touches nothing. `law_of` reads the line, finds the parameters that enter linearly, and compiles
the rest. A parameter of a positive, wide box that enters non-linearly is worked on as its
logarithm; every other working value is the published one, so boxes and priors hold as stated.

Starts are drawn by what they do to the rows, not by the width of a box: where parameters weigh
covariates in a sum with an intercept (log of a learning rate's optimum, the exponent of a bowl),
the weights are drawn to move the sum by a few units over the rows, and the intercept to put its
middle near zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestrator.laws.compiled import Compiled, Tape, compiled, tape_of
from orchestrator.laws.expression import parse
from orchestrator.laws.forms.base import Array, Parameter, lattice
from orchestrator.laws.graph import Graph
from orchestrator.laws.lowering import Lowering

_USUAL_INPUTS = ("N", "D", "C")
_WIDE = 100.0  # a positive box this many times wide is worked on in logarithms
_SMALLEST = 1e-9  # of the upper bound: what stands for zero in logarithms
_LARGE = 5.0  # a two-sided box beyond this is drawn over magnitudes
_MOVES = (0.03, 2.0)  # how far drawn weights move a sum over the rows, in its units
_FEW_ROWS = 64  # rows that a drawn sum is judged on
_MIDDLE = 3.0  # where the middle of a drawn sum lies, about zero


@dataclass(frozen=True, slots=True)
class Known:
    """What may be said of a parameter beside its name: bounds, what it means, its unit, and where
    starts are drawn. upper of "loss": the smallest loss of the rows."""

    low: float = -math.inf
    high: float | str = math.inf
    meaning: str = ""
    unit: str = ""
    start: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.high, str):
            if self.high != "loss":
                raise ValueError(f"an upper bound is a number or 'loss', not {self.high!r}")
        elif not self.low < self.high:
            raise ValueError(f"the bounds [{self.low:g}, {self.high:g}] hold nothing")
        if math.isnan(self.low) or self.low == math.inf:
            raise ValueError(f"the lower bound {self.low:g} is no bound")


@dataclass(frozen=True, slots=True)
class _Sum:
    """A sum inside the law: intercept + parameter times something, each with a factor, + rest.

    tape: gives what each weight multiplies, then what is added as it is.
    """

    intercept: tuple[int, float] | None
    weights: tuple[tuple[int, float], ...]
    tape: Tape


@dataclass(frozen=True, slots=True)
class LineForm:
    """A law form that was read from one line; equal to another one of the same definition."""

    name: str
    expression: str
    source: str
    inputs: tuple[str, ...]
    levels: tuple[int, ...]
    parameters: tuple[Parameter, ...]
    _compiled: Compiled = field(repr=False, compare=False)
    _sums: tuple[_Sum, ...] = field(repr=False, compare=False)

    def middle(self, inputs: Array, weight: Array) -> Array:
        return np.zeros(0)

    def covariates(self, inputs: Array, centre: Array) -> Array:
        return self._compiled.covariates(inputs)

    def loss(self, working: Array, covariates: Array) -> Array:
        return self._compiled.loss(working, covariates)

    def jacobian(self, working: Array, covariates: Array) -> tuple[Array, Array]:
        return self._compiled.jacobian(working, covariates)

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
        values = lattice(self.parameters, rng, count)
        for k, known in enumerate(self.parameters):
            if not known.linear and not known.logarithmic and known.start[1] > _LARGE:
                values[:, k] = _over_magnitudes(rng, count, *known.start)
        rows = covariates.shape[1]
        few = covariates[:, :: max(1, rows // _FEW_ROWS)]
        with np.errstate(all="ignore"):
            for group in self._sums:
                self._draw_sum(group, values, rng, few)
        return values

    def _draw_sum(
        self, group: _Sum, values: Array, rng: np.random.Generator, covariates: Array
    ) -> None:
        count = len(values)
        reach = np.exp(rng.uniform(math.log(_MOVES[0]), math.log(_MOVES[1]), count))
        middle = rng.uniform(-_MIDDLE, _MIDDLE, count)
        found = group.tape.run(values, covariates)
        for column, (k, factor) in zip(found, group.weights, strict=False):
            spread = np.std(column, axis=-1) * abs(factor)
            drawn = rng.uniform(-1.0, 1.0, count) * reach / spread
            values[:, k] = self._boxed(k, np.where(np.isfinite(drawn), drawn, values[:, k]))
            middle = middle - factor * np.mean(column, axis=-1) * values[:, k]
        if group.intercept is None:
            return
        for column in found[len(group.weights) :]:
            middle = middle - np.mean(column, axis=-1)
        k, sign = group.intercept
        values[:, k] = self._boxed(k, np.where(np.isfinite(middle), middle / sign, values[:, k]))

    def _boxed(self, k: int, values: Array) -> Array:
        known = self.parameters[k]
        return np.clip(values, known.lower, math.inf if known.upper is None else known.upper)


def _over_magnitudes(rng: np.random.Generator, count: int, low: float, high: float) -> Array:
    """Values in [low, high], even over magnitudes down to a millionth, of either sign if both."""
    size = np.exp(rng.uniform(math.log(1e-6 * high), math.log(high), count))
    if low >= 0:
        return np.maximum(size, low)
    return np.where(rng.random(count) < 0.5, size, np.maximum(low, size * low / high))


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
    names = tuple(parameters or ()) if not known else ()
    names = names or tuple(n for n in read.names if n not in inputs)
    _check_names(read.names, names, inputs, known)
    first = _lowered(read.tree, inputs, names, known, frozenset())
    linear = _linear(first, len(names))
    outside = _outside_sums(first, len(names)) - linear
    logs = frozenset(
        n for k, n in enumerate(names) if k in outside and _wide(known.get(n, Known()))
    )
    graph, root, slopes = last = _lowered(read.tree, inputs, names, known, logs)
    ready = compiled(graph, root, len(names), slopes)
    scales = _exponential(last, linear)
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
        _compiled=ready,
        _sums=_sums(graph, root, ready.rows, found),
    )


def _check_names(
    met: Sequence[str], names: Sequence[str], inputs: Sequence[str], known: Mapping[str, Known]
) -> None:
    for asked, what in ((names, "parameter"), (inputs, "input"), (tuple(known), "parameter")):
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
        for scaled in (_scaled(graph, arg) for arg in graph[place].args)
        if scaled is not None
    }
    return frozenset(range(count)) - terms


def _wide(known: Known) -> bool:
    high = known.high
    if isinstance(high, str) or known.low < 0 or not math.isfinite(high):
        return False
    return high >= _WIDE * max(known.low, 2.0 * _LARGE / _WIDE)


def _parameter(
    name: str, known: Known, *, linear: bool, logarithmic: bool, exponential: bool
) -> Parameter:
    low, high = known.low, None if isinstance(known.high, str) else known.high
    if logarithmic and high is not None:
        low, high = math.log(max(low, _SMALLEST * high)), math.log(high)
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
    )


def _sums(
    graph: Graph, root: int, rows: Mapping[int, int], parameters: Sequence[Parameter]
) -> tuple[_Sum, ...]:
    """Sums with an intercept inside the law, innermost first, a parameter in at most one."""
    taken = {k for k, known in enumerate(parameters) if known.linear or known.logarithmic}
    found: list[_Sum] = []
    for place in graph.needed([root]):
        if graph[place].op == "sum" and graph[place].mixed:
            group = _sum_at(graph, place, rows, taken, parameters)
            if group is not None:
                found.append(group)
                taken |= {k for k, _ in group.weights}
                taken |= set() if group.intercept is None else {group.intercept[0]}
    return tuple(found)


def _sum_at(
    graph: Graph,
    place: int,
    rows: Mapping[int, int],
    taken: set[int],
    parameters: Sequence[Parameter],
) -> _Sum | None:
    intercept: tuple[int, float] | None = None
    weights: list[tuple[int, float]] = []
    multiplied: list[int] = []
    added: list[int] = []
    for arg in graph[place].args:
        node = graph[arg]
        scaled = _scaled(graph, arg)
        if scaled is not None and scaled[0] not in taken and intercept is None:
            intercept = scaled
            continue
        scaled = _scaled(graph, node.args[0]) if node.op == "product" else None
        if scaled is None or scaled[0] in taken:
            added.append(arg)
            continue
        weights.append(scaled)
        multiplied.append(graph.product(node.args[1:]))
    if not any(graph[arg].data for arg in (*multiplied, *added)):
        return None
    if intercept is None:
        # Without an intercept, only weights of both signs are drawn by what they do.
        kept = [
            i
            for i, (k, _) in enumerate(weights)
            if parameters[k].lower < 0 < (parameters[k].upper or 0.0)
        ]
        if not kept:
            return None
        weights, multiplied = [weights[i] for i in kept], [multiplied[i] for i in kept]
        added = []
    return _Sum(intercept, tuple(weights), tape_of(graph, [*multiplied, *added], rows))


def _scaled(graph: Graph, place: int) -> tuple[int, float] | None:
    """(parameter, factor) where a node is a parameter times a number."""
    node = graph[place]
    if node.op == "parameter":
        return int(node.value), 1.0
    if node.op == "product" and len(node.args) == 2:
        one, other = (graph[arg] for arg in node.args)
        for number, rest in ((one, other), (other, one)):
            if number.op == "const" and rest.op == "parameter":
                return int(rest.value), number.value
    return None
