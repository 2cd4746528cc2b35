"""A law compiled to NumPy: loss and derivatives at many starts and all rows, batch by batch.

What depends on data alone is computed once (`covariates`), what depends on parameters alone once
a start, and the rest as whole arrays of starts by rows, in pieces that stay in the cache. Sums of
parameter times covariate are one matrix product. Nothing is generated as text or executed as
code: the operations are a list. Overflow gives infinities, quietly; who scores a start looks for
them. Touches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.graph import Graph

Array = NDArray[np.float64]

_PIECE = 32_768  # numbers in one array of starts by rows
_LOG_OF_ZERO = -1e4


def _softplus(x: Array) -> Array:
    return np.logaddexp(0.0, x)


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _log_floored(x: Array) -> Array:
    return np.where(x == 0.0, _LOG_OF_ZERO, np.log(x))


def _reciprocal(x: Array) -> Array:
    return np.divide(1.0, x)


def _less(one: Array, other: Array) -> Array:
    return np.less(one, other).astype(np.float64)


OPERATIONS: dict[str, Callable[..., Array]] = {
    "exp": np.exp,
    "log": np.log,
    "log_floored": _log_floored,
    "log_sum": np.logaddexp,
    "reciprocal": _reciprocal,
    "softplus": _softplus,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "abs": np.abs,
    "sign": np.sign,
    "max": np.maximum,
    "min": np.minimum,
    "less": _less,
}


@dataclass(frozen=True, slots=True)
class _Step:
    """One operation. out and args: slots. pairs: (parameter slot, covariate row) of a sum."""

    op: str
    out: int
    args: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Tape:
    """Steps in order, from covariates and parameters to some outputs."""

    steps: tuple[_Step, ...]
    constants: tuple[tuple[int, float], ...]
    parameters: tuple[tuple[int, int], ...]
    covariates: tuple[tuple[int, int], ...]
    outputs: tuple[int, ...]

    def run(self, values: Array, covariates: Array) -> list[Array]:
        """Outputs, each (S, R) or broadcasting to it. values (S, P); covariates (K, [S,] R)."""
        at: dict[int, Array] = {}
        for slot, value in self.constants:
            at[slot] = np.float64(value)  # type: ignore[assignment]
        for slot, number in self.parameters:
            at[slot] = values[:, number, None]
        for slot, row in self.covariates:
            at[slot] = covariates[row]
        for step in self.steps:
            at[step.out] = _performed(step, at, covariates)
        return [at[slot] for slot in self.outputs]


def _performed(step: _Step, at: dict[int, Array], covariates: Array) -> Array:
    if step.op == "sum" or step.op == "product":
        parts = [at[slot] for slot in step.args]
        if step.pairs:
            parts.insert(0, _weighed(step.pairs, at, covariates))
        operation = np.add if step.op == "sum" else np.multiply
        if len(parts) == 2:
            return operation(parts[0], parts[1])
        return reduce(operation, parts)
    return OPERATIONS[step.op](*[at[slot] for slot in step.args])


def _weighed(pairs: tuple[tuple[int, int], ...], at: dict[int, Array], covariates: Array) -> Array:
    """Sum of parameter times covariate, as one matrix product."""
    rows = [row for _, row in pairs]
    weights = np.concatenate([np.atleast_2d(at[slot]) for slot, _ in pairs], axis=1)
    if covariates.ndim == 2:
        return weights @ covariates[rows]
    return np.einsum("sj,jsr->sr", weights, covariates[rows])


@dataclass(frozen=True, slots=True)
class Compiled:
    """A law ready to compute. P parameters, K covariates. rows: covariate by node of the graph.
    of_columns: loss and the slopes by those parameters that least squares can solve for."""

    rows: Mapping[int, int]
    of_data: Tape
    of_loss: Tape
    of_columns: Tape
    of_slopes: Tape

    def covariates(self, inputs: Array) -> Array:
        """What depends on the inputs (I, ...) alone: (K, ...)."""
        with np.errstate(all="ignore"):
            rows = self.of_data.run(np.zeros((1, 0)), inputs)
        shape = inputs.shape[1:]
        return np.stack([np.broadcast_to(row, shape) for row in rows]) if rows else inputs[:0]

    def loss(self, values: Array, covariates: Array) -> Array:
        """Loss (S, R) of values (S, P) at covariates (K, R), or (K, S, R)."""
        out = np.empty((len(values), covariates.shape[-1]))
        with np.errstate(all="ignore"):
            for part in self._parts(len(values), covariates):
                out[part] = self.of_loss.run(values[part], _cut(covariates, part))[0]
        return out

    def jacobian(self, values: Array, covariates: Array) -> tuple[Array, Array]:
        """Loss (S, R) and its derivatives (S, P, R)."""
        return self._sloped(self.of_slopes, values, covariates)

    def columns(self, values: Array, covariates: Array) -> tuple[Array, Array]:
        """Loss (S, R) and its derivatives by what can be solved for (S, M, R)."""
        return self._sloped(self.of_columns, values, covariates)

    def _sloped(self, tape: Tape, values: Array, covariates: Array) -> tuple[Array, Array]:
        rows = covariates.shape[-1]
        loss = np.empty((len(values), rows))
        slopes = np.empty((len(values), len(tape.outputs) - 1, rows))
        with np.errstate(all="ignore"):
            for part in self._parts(len(values), covariates):
                found = tape.run(values[part], _cut(covariates, part))
                loss[part] = found[0]
                for k, slope in enumerate(found[1:]):
                    slopes[part, k] = slope
        return loss, slopes

    @staticmethod
    def _parts(starts: int, covariates: Array) -> list[slice]:
        size = max(1, _PIECE // max(1, covariates.shape[-1]))
        return [slice(k, min(k + size, starts)) for k in range(0, starts, size)]


def _cut(covariates: Array, part: slice) -> Array:
    return covariates if covariates.ndim == 2 else covariates[:, part]


def compiled(graph: Graph, root: int, slopes: list[int], solved: list[int]) -> Compiled:
    """The graph's loss and slopes as tapes. solved: parameters that are solved for."""
    used = graph.needed([root, *slopes])
    rows: dict[int, int] = {}
    for place in [*used, root, *slopes]:
        node = graph[place]
        if node.params or place in (root, *slopes):
            for arg in (*node.args, place):
                if graph[arg].data and not graph[arg].params:
                    rows.setdefault(arg, len(rows))
    of_data = tape_of(graph, list(rows), {})
    return Compiled(
        rows,
        of_data,
        tape_of(graph, [root], rows),
        tape_of(graph, [root, *(slopes[k] for k in solved)], rows),
        tape_of(graph, [root, *slopes], rows),
    )


def tape_of(graph: Graph, outputs: list[int], rows: Mapping[int, int]) -> Tape:
    """Steps to the outputs; nodes in `rows` are covariates, and are not computed again."""
    needed: set[int] = set()
    waiting = list(outputs)
    pairs: dict[int, tuple[list[tuple[int, int]], list[int]]] = {}
    while waiting:
        place = waiting.pop()
        if place in needed:
            continue
        needed.add(place)
        node = graph[place]
        if place in rows:
            continue
        if node.op == "sum" and node.mixed and rows:
            found = [(arg, _pair(graph, arg, rows)) for arg in node.args]
            outer = [pair for _, pair in found if pair is not None]
            if len(outer) > 1:
                plain = [arg for arg, pair in found if pair is None]
                pairs[place] = (outer, plain)
                waiting += [slot for slot, _ in outer] + plain
                continue
        waiting += node.args
    steps: list[_Step] = []
    constants: list[tuple[int, float]] = []
    parameters: list[tuple[int, int]] = []
    covariates: list[tuple[int, int]] = []
    for place in sorted(needed):
        node = graph[place]
        if place in rows:
            covariates.append((place, rows[place]))
        elif node.op == "const":
            constants.append((place, node.value))
        elif node.op == "parameter":
            parameters.append((place, int(node.value)))
        elif node.op == "input":
            covariates.append((place, int(node.value)))
        elif place in pairs:
            outer, plain = pairs[place]
            steps.append(_Step(node.op, place, tuple(plain), tuple(outer)))
        else:
            steps.append(_Step(node.op, place, node.args))
    return Tape(
        tuple(steps), tuple(constants), tuple(parameters), tuple(covariates), tuple(outputs)
    )


def _pair(graph: Graph, place: int, rows: Mapping[int, int]) -> tuple[int, int] | None:
    """(parameter part, covariate row) where a term is their product."""
    node = graph[place]
    if node.op != "product" or len(node.args) != 2:
        return None
    first, second = node.args
    if graph[first].data and not graph[first].params:
        first, second = second, first
    if graph[first].data or not graph[first].params or second not in rows:
        return None
    return first, rows[second]
