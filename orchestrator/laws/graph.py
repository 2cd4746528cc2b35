"""A law as a graph of shared operations, and its derivatives as more of the same graph.

Every node is one elementwise operation; equal nodes are one node. `derivatives` applies the chain
rule backwards from the loss (reverse accumulation; Griewank and Walther 2008, section 3.2), on
the graph and not on numbers: a derivative is a few more nodes on top of what the loss computes
anyway, where textbook differentiation of the expression repeats it in quotients that overflow.
Nodes that depend on data alone are kept together, for they are computed once a data set. Touches
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Node:
    """op and the nodes it applies to. value: of a constant, or the number of an input or
    parameter. data: whether it depends on an input. params: bit k set where it depends on
    parameter k."""

    op: str
    args: tuple[int, ...] = ()
    value: float = 0.0
    data: bool = False
    params: int = 0

    @property
    def mixed(self) -> bool:
        return self.data and self.params != 0


@dataclass(slots=True)
class Graph:
    """Nodes in an order in which each comes after what it needs. Built once, then only read."""

    nodes: list[Node] = field(default_factory=list[Node])
    _known: dict[Node, int] = field(default_factory=dict[Node, int])

    def __getitem__(self, node: int) -> Node:
        return self.nodes[node]

    # --- building ---

    def const(self, value: float) -> int:
        return self._add(Node("const", value=float(value)))

    def input(self, number: int) -> int:
        return self._add(Node("input", value=number, data=True))

    def parameter(self, number: int) -> int:
        return self._add(Node("parameter", value=number, params=1 << number))

    def sum(self, terms: Iterable[int]) -> int:
        """The sum, with constants folded and what is of data alone, or of none, put together."""
        total, rest = 0.0, list[int]()
        for term in terms:
            node = self.nodes[term]
            if node.op == "const":
                total += node.value
            elif node.op == "sum":
                rest += node.args
            else:
                rest.append(term)
        folded = [t for t in rest if self.nodes[t].op == "const"]
        total += math.fsum(self.nodes[t].value for t in folded)
        rest = [t for t in rest if self.nodes[t].op != "const"]
        if total != 0.0 or not rest:
            rest.append(self.const(total))
        return self._gathered("sum", rest)

    def product(self, factors: Iterable[int]) -> int:
        """The product, gathered like a sum. Mixed products inside stay as they are, shared."""
        scale, rest = 1.0, list[int]()
        for factor in factors:
            node = self.nodes[factor]
            if node.op == "const":
                scale *= node.value
            elif node.op == "product" and not node.mixed:
                rest += node.args
            else:
                rest.append(factor)
        for factor in [f for f in rest if self.nodes[f].op == "const"]:
            scale *= self.nodes[factor].value
        rest = [f for f in rest if self.nodes[f].op != "const"]
        if scale == 0.0:
            return self.const(0.0)
        if scale != 1.0 or not rest:
            rest.append(self.const(scale))
        return self._gathered("product", rest)

    def _gathered(self, op: str, parts: list[int]) -> int:
        """One node for the parts of parameters and constants, one for those of data, the rest."""
        plain = sorted(p for p in parts if not self.nodes[p].data)
        data = sorted(p for p in parts if self.nodes[p].data and not self.nodes[p].params)
        mixed = sorted(p for p in parts if self.nodes[p].mixed)
        only_const = len(plain) == 1 and self.nodes[plain[0]].op == "const"
        if only_const and data and not mixed:
            data, plain = [*plain, *data], []
        gathered = [self._many(op, group) for group in (plain, data) if group]
        return self._many(op, [*gathered, *mixed])

    def _many(self, op: str, args: list[int]) -> int:
        return args[0] if len(args) == 1 else self.apply(op, *args)

    def apply(self, op: str, *args: int) -> int:
        """A node of any operation of `numeric.OPERATIONS`."""
        params = 0
        for arg in args:
            params |= self.nodes[arg].params
        return self._add(
            Node(op, args, data=any(self.nodes[arg].data for arg in args), params=params)
        )

    def negative(self, node: int) -> int:
        return self.product([self.const(-1.0), node])

    def exp(self, node: int) -> int:
        inner = self.nodes[node]
        return (
            self.const(math.exp(inner.value)) if inner.op == "const" else self.apply("exp", node)
        )

    def _add(self, node: Node) -> int:
        place = self._known.get(node)
        if place is None:
            place = len(self.nodes)
            self.nodes.append(node)
            self._known[node] = place
        return place

    # --- differentiating ---

    def derivatives(self, root: int, count: int) -> list[int]:
        """Nodes of the derivatives of `root` by each of `count` parameters."""
        pushes: dict[int, list[int]] = {root: [self.const(1.0)]}
        found = [self.const(0.0)] * count
        for place in range(root, -1, -1):
            node = self.nodes[place]
            if place not in pushes or not node.params:
                continue
            slope = self.sum(pushes.pop(place))
            if node.op == "parameter":
                found[int(node.value)] = slope
                continue
            for arg, factor in zip(node.args, self._factors(place), strict=True):
                if self.nodes[arg].params and factor is not None:
                    pushes.setdefault(arg, []).append(self.product([slope, factor]))
        return found

    def _factors(self, place: int) -> list[int | None]:
        """Derivatives of a node by each of its arguments; None where it has none."""
        node = self.nodes[place]
        args = node.args
        one = self.const(1.0)
        match node.op:
            case "sum":
                return [one] * len(args)
            case "product":
                return [
                    self.product([*args[:k], *args[k + 1 :]]) if self.nodes[arg].params else None
                    for k, arg in enumerate(args)
                ]
            case "exp":
                return [place]
            case "log" | "log_floored":
                return [self.apply("reciprocal", args[0])]
            case "reciprocal":
                return [self.negative(self.product([place, place]))]
            case "softplus":
                return [self.apply("sigmoid", args[0])]
            case "tanh":
                return [self.sum([one, self.negative(self.product([place, place]))])]
            case "log_sum":
                apart = self.sum([args[0], self.negative(args[1])])
                back = self.negative(apart)
                return [self.apply("sigmoid", apart), self.apply("sigmoid", back)]
            case "abs":
                return [self.apply("sign", args[0])]
            case "max":
                return [self.apply("less", args[1], args[0]), self.apply("less", args[0], args[1])]
            case "min":
                return [self.apply("less", args[0], args[1]), self.apply("less", args[1], args[0])]
            case _:
                return [None] * len(args)

    def needed(self, roots: Iterable[int]) -> list[int]:
        """All nodes that the roots rest on, themselves among them, in order."""
        seen: set[int] = set()
        waiting = list(roots)
        while waiting:
            place = waiting.pop()
            if place not in seen:
                seen.add(place)
                waiting += self.nodes[place].args
        return sorted(seen)
