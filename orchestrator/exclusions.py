"""Read the conditions under `space.exclude`, such as `width > 128 and learning_rate >= 3e-3`.

A tokenizer and a recursive descent over a closed grammar: nothing of the text is ever executed,
and only the names given to `parse` exist. Touches nothing. Grammar, loosest first:

    or_       := and_ ("or" and_)*
    and_      := not_ ("and" not_)*
    not_      := "not" not_ | comparison
    comparison:= sum (("<" | "<=" | ">" | ">=" | "==" | "!=") sum)*      chains as in Python
    sum       := product (("+" | "-") product)*
    product   := unary (("*" | "/") unary)*
    unary     := "-" unary | atom
    atom      := quantity | 'text' | "text" | true | false | name | "(" or_ ")"
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from trainers.quantity import parse_number

Value: TypeAlias = bool | float | str

LONGEST = 500
DEEPEST = 30

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?:[A-Za-z]+|%)?)
      | (?P<name>[A-Za-z_]\w*(?:\.\w+)*)
      | (?P<text>'[^'\n]*'|"[^"\n]*")
      | (?P<sign><=|>=|==|!=|<|>|\+|-|\*|/|\(|\))""",
    re.VERBOSE | re.ASCII,
)
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS = {"and", "or", "not", "true", "false"}
_SLIPS = {
    "=": "==",
    "&": "and",
    "&&": "and",
    "|": "or",
    "||": "or",
    "!": "not",
    "**": "*",
    "%": "/",
}


class ExclusionError(ValueError):
    """A condition that cannot be read or does not hold together.

    `position` counts characters of the text from 0; the message does not repeat it.
    """

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


@dataclass(frozen=True, slots=True)
class _Node:
    """Value and arguments by kind: constant, name, negative, not, and, or, compare, arithmetic."""

    kind: str
    position: int
    value: Value = ""
    parts: tuple[_Node, ...] = ()
    signs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A condition over a candidate's settings; `names` are those it mentions."""

    text: str
    names: frozenset[str]
    _root: _Node

    def holds(self, values: Mapping[str, object]) -> bool:
        """Whether the condition holds.

        `values` needs an entry for each of `names`: a number, a truth value or a text. Raises
        ExclusionError where the kinds do not fit, a value is missing, or a division is by zero.
        """
        answer = _evaluate(self._root, values)
        if not isinstance(answer, bool):
            raise _not_a_condition(self._root)
        return answer


def parse(text: str, known_names: Collection[str]) -> Exclusion:
    """The condition written in `text`, in which only `known_names` may occur.

    Raises ExclusionError with the position of the first mistake.
    """
    if len(text) > LONGEST:
        raise ExclusionError(
            f"the condition has {len(text)} characters, at most {LONGEST} are read; "
            "split it over several entries of the list",
            LONGEST,
        )
    parser = _Parser(_tokens(text), len(text), frozenset(known_names))
    root = parser.whole()
    if root.kind in ("arithmetic", "negative") or (
        root.kind == "constant" and not isinstance(root.value, bool)
    ):
        raise _not_a_condition(root)
    return Exclusion(text, frozenset(parser.met), root)


def _not_a_condition(node: _Node) -> ExclusionError:
    return ExclusionError(
        "this is a value, not a condition; compare it, as in `model.width > 128`", node.position
    )


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _unreadable(text, position)
        kind = match.lastgroup or ""
        if kind == "name" and match.group() in _WORDS:
            kind = "word"
        if kind != "space":
            tokens.append(_Token(kind, match.group(), position))
        position = match.end()
    return tokens


def _unreadable(text: str, position: int) -> ExclusionError:
    slip = text[position : position + 2]
    slip = slip if slip in _SLIPS else text[position]
    if slip in "'\"":
        return ExclusionError(f"the text that starts here has no closing {slip}", position)
    remedy = f"write `{_SLIPS[slip]}`" if slip in _SLIPS else "remove it"
    return ExclusionError(f"{slip!r} has no meaning here; {remedy}", position)


class _Parser:
    """One pass over the tokens; `met` collects the names."""

    def __init__(self, tokens: list[_Token], end: int, known: frozenset[str]) -> None:
        self._tokens = tokens
        self._end = end
        self._known = known
        self._next = 0
        self._depth = 0
        self.met: set[str] = set()

    def whole(self) -> _Node:
        root = self._or()
        left = self._peek()
        if left is not None:
            raise ExclusionError(
                f"{left.text!r} does not continue the condition; join conditions with "
                "`and` or `or`",
                left.position,
            )
        return root

    def _peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take(self, *texts: str) -> _Token | None:
        """The next token, consumed, if it is one of these words or signs."""
        token = self._peek()
        if token is None or token.kind not in ("word", "sign") or token.text not in texts:
            return None
        self._next += 1
        return token

    def _deeper(self, position: int) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ExclusionError(
                f"nested more than {DEEPEST} deep; split it over several entries of the list",
                position,
            )

    def _or(self) -> _Node:
        return self._joined("or", self._and)

    def _and(self) -> _Node:
        return self._joined("and", self._not)

    def _joined(self, word: str, part: Callable[[], _Node]) -> _Node:
        parts = [part()]
        while self._take(word):
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        return _Node(word, parts[0].position, parts=tuple(parts))

    def _not(self) -> _Node:
        token = self._take("not")
        if token is None:
            return self._comparison()
        self._deeper(token.position)
        inner = self._not()
        self._depth -= 1
        return _Node("not", token.position, parts=(inner,))

    def _comparison(self) -> _Node:
        parts = [self._sum()]
        signs: list[str] = []
        while token := self._take(*_COMPARE, "==", "!="):
            signs.append(token.text)
            parts.append(self._sum())
        if not signs:
            return parts[0]
        return _Node("compare", parts[0].position, parts=tuple(parts), signs=tuple(signs))

    def _sum(self) -> _Node:
        return self._arithmetic(("+", "-"), self._product)

    def _product(self) -> _Node:
        return self._arithmetic(("*", "/"), self._unary)

    def _arithmetic(self, known: tuple[str, str], part: Callable[[], _Node]) -> _Node:
        parts = [part()]
        signs: list[str] = []
        while token := self._take(*known):
            signs.append(token.text)
            parts.append(part())
        if not signs:
            return parts[0]
        return _Node("arithmetic", parts[0].position, parts=tuple(parts), signs=tuple(signs))

    def _unary(self) -> _Node:
        token = self._take("-")
        if token is None:
            return self._atom()
        self._deeper(token.position)
        inner = self._unary()
        self._depth -= 1
        return _Node("negative", token.position, parts=(inner,))

    def _atom(self) -> _Node:
        opened = self._take("(")
        if opened is not None:
            return self._bracket(opened)
        token = self._peek()
        if token is None:
            raise ExclusionError(
                "the condition stops here; a name, a number or a text is missing", self._end
            )
        if token.kind == "sign" or token.text in ("and", "or", "not"):
            raise ExclusionError(
                f"{token.text!r} stands where a name, a number or a text belongs", token.position
            )
        self._next += 1
        return self._leaf(token)

    def _bracket(self, opened: _Token) -> _Node:
        self._deeper(opened.position)
        inner = self._or()
        if not self._take(")"):
            raise ExclusionError("this bracket is never closed; add `)`", opened.position)
        self._depth -= 1
        return inner

    def _leaf(self, token: _Token) -> _Node:
        if token.kind == "number":
            try:
                return _Node("constant", token.position, value=parse_number(token.text))
            except ValueError as error:
                raise ExclusionError(str(error), token.position) from None
        if token.kind == "text":
            return _Node("constant", token.position, value=token.text[1:-1])
        if token.text in ("true", "false"):
            return _Node("constant", token.position, value=token.text == "true")
        return self._name(token)

    def _name(self, token: _Token) -> _Node:
        if token.text not in self._known:
            near = difflib.get_close_matches(token.text, self._known, n=1)
            known = ", ".join(sorted(self._known)[:12]) or "none"
            remedy = f"did you mean {near[0]!r}?" if near else f"known: {known}"
            raise ExclusionError(f"unknown name {token.text!r}; {remedy}", token.position)
        self.met.add(token.text)
        return _Node("name", token.position, value=token.text)


def _evaluate(node: _Node, values: Mapping[str, object]) -> Value:
    if node.kind == "constant":
        return node.value
    if node.kind == "name":
        return _looked_up(node, values)
    if node.kind == "negative":
        return -_number(node.parts[0], values)
    if node.kind == "not":
        return not _truth(node.parts[0], values)
    if node.kind == "and":
        return all(_truth(part, values) for part in node.parts)
    if node.kind == "or":
        return any(_truth(part, values) for part in node.parts)
    if node.kind == "compare":
        return _compared(node, values)
    return _calculated(node, values)


def _looked_up(node: _Node, values: Mapping[str, object]) -> Value:
    value = values.get(str(node.value))
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    raise ExclusionError(
        f"{node.value!r} has no single value here ({value!r}); conditions can only use settings "
        "that are numbers, truth values or texts",
        node.position,
    )


def _number(node: _Node, values: Mapping[str, object]) -> float:
    value = _evaluate(node, values)
    if isinstance(value, (bool, str)):
        raise ExclusionError(
            f"{value!r} is not a number, and only numbers calculate", node.position
        )
    return value


def _truth(node: _Node, values: Mapping[str, object]) -> bool:
    value = _evaluate(node, values)
    if not isinstance(value, bool):
        raise _not_a_condition(node)
    return value


def _compared(node: _Node, values: Mapping[str, object]) -> bool:
    sides = [_evaluate(part, values) for part in node.parts]
    for i, sign in enumerate(node.signs):
        left, right = sides[i], sides[i + 1]
        place = node.parts[i + 1].position
        if type(left) is not type(right):
            raise ExclusionError(
                f"{left!r} and {right!r} are of different kinds and never compare", place
            )
        if sign in ("==", "!="):
            if (left == right) != (sign == "=="):
                return False
        elif isinstance(left, (bool, str)) or isinstance(right, (bool, str)):
            raise ExclusionError(
                f"{left!r} {sign} {right!r}: only numbers have an order; use == or !=", place
            )
        elif not _COMPARE[sign](left, right):
            return False
    return True


def _calculated(node: _Node, values: Mapping[str, object]) -> float:
    total = _number(node.parts[0], values)
    for sign, part in zip(node.signs, node.parts[1:], strict=True):
        operand = _number(part, values)
        if sign == "/" and operand == 0:
            raise ExclusionError("division by zero", part.position)
        if sign == "+":
            total += operand
        elif sign == "-":
            total -= operand
        else:
            total = total * operand if sign == "*" else total / operand
        if not math.isfinite(total):
            raise ExclusionError("the result is too large for a number", part.position)
    return total
