"""Starts of a law written as a line, drawn by what they do to the rows.

The width of a box says little of where a parameter lies. Where parameters weigh covariates in a
sum (the logarithm of the best learning rate, the exponent of a bowl), the weights are drawn to
move the sum by a few units over the rows, and its intercept to put its middle near zero: the
covariates count from their centre, whatever their units. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.compiled import Tape, tape_of
from orchestrator.laws.forms.base import Array, Parameter, lattice
from orchestrator.laws.graph import Graph

_LARGE = 5.0  # a box that reaches beyond this is drawn over magnitudes
_MOVES = (0.03, 2.0)  # how far drawn weights move a sum over the rows, in its units
_FEW_ROWS = 64  # rows that a drawn sum is judged on
_MIDDLE = 3.0  # where the middle of a drawn sum lies, about zero


@dataclass(frozen=True, slots=True)
class Sum:
    """A sum inside the law: intercept + parameter times something, each with a factor, + rest.

    tape: gives what each weight multiplies, then what is added as it is.
    """

    intercept: tuple[int, float] | None
    weights: tuple[tuple[int, float], ...]
    tape: Tape


def drawn(
    parameters: Sequence[Parameter],
    sums: Sequence[Sum],
    rng: np.random.Generator,
    count: int,
    covariates: Array,
) -> Array:
    """Working values (count, P): from start ranges, and where a sum says so, from its effect."""
    values = lattice(parameters, rng, count)
    for k, known in enumerate(parameters):
        if not known.linear and not known.logarithmic and known.start[1] > _LARGE:
            values[:, k] = _over_magnitudes(rng, count, *known.start)
    rows = covariates.shape[1]
    few = covariates[:, :: max(1, rows // _FEW_ROWS)]
    with np.errstate(all="ignore"):
        for group in sums:
            _draw_sum(parameters, group, values, rng, few)
    return values


def _draw_sum(
    parameters: Sequence[Parameter],
    group: Sum,
    values: Array,
    rng: np.random.Generator,
    covariates: Array,
) -> None:
    count = len(values)
    reach = np.exp(rng.uniform(math.log(_MOVES[0]), math.log(_MOVES[1]), count))
    middle = rng.uniform(-_MIDDLE, _MIDDLE, count)
    found = group.tape.run(values, covariates)
    for column, (k, factor) in zip(found, group.weights, strict=False):
        spread = np.std(column, axis=-1) * abs(factor)
        drawn = rng.uniform(-1.0, 1.0, count) * reach / spread
        values[:, k] = _boxed(parameters[k], np.where(np.isfinite(drawn), drawn, values[:, k]))
        middle = middle - factor * np.mean(column, axis=-1) * values[:, k]
    if group.intercept is None:
        return
    for column in found[len(group.weights) :]:
        middle = middle - np.mean(column, axis=-1)
    k, sign = group.intercept
    values[:, k] = _boxed(
        parameters[k], np.where(np.isfinite(middle), middle / sign, values[:, k])
    )


def _boxed(known: Parameter, values: Array) -> Array:
    return np.clip(values, known.lower, math.inf if known.upper is None else known.upper)


def _over_magnitudes(rng: np.random.Generator, count: int, low: float, high: float) -> Array:
    """Values in [low, high], even over magnitudes down to a millionth, of either sign if both."""
    size = np.exp(rng.uniform(math.log(1e-6 * high), math.log(high), count))
    if low >= 0:
        return np.maximum(size, low)
    return np.where(rng.random(count) < 0.5, size, np.maximum(low, size * low / high))


def sums_of(
    graph: Graph, root: int, rows: Mapping[int, int], parameters: Sequence[Parameter]
) -> tuple[Sum, ...]:
    """Sums with an intercept inside the law, innermost first, a parameter in at most one."""
    taken = {k for k, known in enumerate(parameters) if known.linear or known.logarithmic}
    found: list[Sum] = []
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
) -> Sum | None:
    intercept: tuple[int, float] | None = None
    weights: list[tuple[int, float]] = []
    multiplied: list[int] = []
    added: list[int] = []
    for arg in graph[place].args:
        node = graph[arg]
        scaled = scaled_parameter(graph, arg)
        if scaled is not None and scaled[0] not in taken and intercept is None:
            intercept = scaled
            continue
        scaled = scaled_parameter(graph, node.args[0]) if node.op == "product" else None
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
    return Sum(intercept, tuple(weights), tape_of(graph, [*multiplied, *added], rows))


def scaled_parameter(graph: Graph, place: int) -> tuple[int, float] | None:
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
