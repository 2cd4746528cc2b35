"""From a sympy expression to a graph that does not overflow where the law itself is finite.

Powers and exponentials are computed as exp of one sum of logarithms, however many of them are
multiplied: N**-alpha * S**-beta is exp(-alpha log N - beta log S). The logarithm of a sum of
positive powers is the log of a sum of exponentials, taken around its largest term, so
(D**(-p*q) + (k*U)**(-p*q))**(1/q) is finite for a q at which D**(-p*q) is not. Touches nothing.
"""

# sympy tells no types.
# pyright: reportMissingTypeStubs=none, reportUnknownMemberType=none

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sympy

from orchestrator.laws.expression import Magnitude, Maximum, Minimum, Softplus
from orchestrator.laws.graph import Graph

_LARGEST_MULTIPLIED = 4  # whole powers up to here are products


@dataclass(slots=True)
class Lowering:
    """Lowers trees into `graph`.

    places: name to its node. logs: name to a node of its logarithm, for those that have one of
    their own. positive: names that are never negative.
    """

    graph: Graph
    places: Mapping[str, int]
    logs: Mapping[str, int]
    positive: Collection[str]

    def value(self, tree: Any) -> int:
        """The node of the tree's value."""
        graph = self.graph
        if tree.is_number:
            return graph.const(float(tree))
        if tree.is_Symbol:
            return self.places[str(tree.name)]
        if tree.is_Add:
            return graph.sum([self.value(term) for term in tree.args])
        if tree.is_Mul or tree.is_Pow or isinstance(tree, sympy.exp):
            return self._product(tree.args if tree.is_Mul else (tree,))
        if isinstance(tree, sympy.log):
            return self.log(tree.args[0], floored=False)
        for kind, op in _FUNCTIONS.items():
            if isinstance(tree, kind):
                return graph.apply(op, *[self.value(part) for part in tree.args])
        raise ValueError(f"there is no way to compute {tree}")

    def _product(self, factors: Collection[Any]) -> int:
        """Factors multiplied; those that are powers, inside one exponential."""
        graph = self.graph
        plain: list[int] = []
        inside: list[int] = []
        for factor in factors:
            if self._grows(factor):
                inside.append(self.log(factor))
            elif factor.is_Pow:
                plain.append(self._power(factor))
            else:
                plain.append(self.value(factor))
        if inside:
            plain.append(graph.exp(graph.sum(inside)))
        return graph.product(plain)

    def _power(self, tree: Any) -> int:
        """A whole power by multiplication, another one through the logarithm of its base."""
        graph = self.graph
        base, exponent = tree.args
        if exponent.is_number and float(exponent) == int(exponent):
            times = int(exponent)
            if abs(times) <= _LARGEST_MULTIPLIED:
                whole = graph.product([self.value(base)] * abs(times))
                return whole if times > 0 else graph.apply("reciprocal", whole)
        return graph.exp(graph.product([self.value(exponent), self.log(base)]))

    def _grows(self, tree: Any) -> bool:
        """Whether it is a power or an exponential that parameters can make huge or tiny."""
        if isinstance(tree, sympy.exp):
            return True
        if tree.is_Pow:
            exponent = tree.args[1]
            whole = exponent.is_number and float(exponent) == int(exponent)
            return self._grows(tree.args[0]) if whole else True
        return bool(tree.is_Mul) and any(self._grows(factor) for factor in tree.args)

    def log(self, tree: Any, *, floored: bool = True) -> int:
        """The node of the tree's logarithm. floored: of zero it is very small, not -infinity, so
        that 0**c is 0 and has a derivative."""
        graph = self.graph
        if tree.is_Symbol and str(tree.name) in self.logs:
            # An input may be zero; a parameter worked on as its logarithm may not.
            place = self.places[str(tree.name)]
            if floored and graph[place].op == "input":
                return graph.apply("log_floored", place)
            return self.logs[str(tree.name)]
        if tree.is_number and float(tree) > 0.0:
            return graph.const(math.log(float(tree)))
        if isinstance(tree, sympy.exp):
            return self.value(tree.args[0])
        if tree.is_Pow and (self._positive(tree.args[0]) or self._grows(tree)):
            return graph.product([self.value(tree.args[1]), self.log(tree.args[0])])
        if tree.is_Mul and self._positive(tree):
            return graph.sum([self.log(factor) for factor in tree.args])
        if tree.is_Add and self._positive(tree) and any(self._grows(t) for t in tree.args):
            logs = [self.log(term) for term in tree.args]
            total = logs[0]
            for other in logs[1:]:
                total = graph.apply("log_sum", total, other)
            return total
        return graph.apply("log_floored" if floored else "log", self.value(tree))

    def _positive(self, tree: Any) -> bool:
        """Whether it is never negative, as far as its shape tells."""
        if tree.is_number:
            return float(tree) >= 0.0
        if tree.is_Symbol:
            return str(tree.name) in self.positive
        if tree.is_Pow:
            exponent = tree.args[1]
            if not exponent.is_number or float(exponent) != int(exponent):
                return True  # it is real, so its base was not negative
            return float(exponent) % 2.0 == 0.0 or self._positive(tree.args[0])
        if tree.is_Add or tree.is_Mul or isinstance(tree, Minimum):
            return all(self._positive(part) for part in tree.args)
        if isinstance(tree, Maximum):
            return any(self._positive(part) for part in tree.args)
        return isinstance(tree, (sympy.exp, Softplus, Magnitude, sympy.Abs))


_FUNCTIONS: dict[type, str] = {
    sympy.tanh: "tanh",
    Softplus: "softplus",
    Minimum: "min",
    Maximum: "max",
    Magnitude: "abs",
    sympy.Abs: "abs",
}
