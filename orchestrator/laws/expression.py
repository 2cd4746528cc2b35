"""Read a law written as one line, such as `E + A/N**alpha + B/D**beta`, into a sympy expression.

A tokenizer and a recursive descent over a closed grammar. Nothing of the text is executed, looked
up or imported: a name is a symbol and nothing else (so E, N, S, I and Q are ordinary names), and
only the functions listed in `FUNCTIONS` can be called. Arithmetic of literal numbers is done here
in floats, so that no text makes sympy compute a number with a billion digits. Touches nothing.
Grammar, loosest first:

    sum     := product (("+" | "-") product)*
    product := unary (("*" | "/") unary)*
    unary   := ("-" | "+") unary | power
    power   := atom ("**" unary)?                  right to left, and tighter than a minus before
    atom    := number | name | function "(" sum ("," sum)* ")" | "(" sum ")"
"""

# sympy tells no types.
# pyright: reportMissingTypeStubs=none, reportUnknownMemberType=none
# pyright: reportUnknownVariableType=none, reportUnknownArgumentType=none

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import sympy

LONGEST = 4000
DEEPEST = 40
MOST_NAMES = 100
LARGEST_EXPONENT = 100.0

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)
      | (?P<name>[A-Za-z_][A-Za-z_0-9]*)
      | (?P<sign>\*\*|[-+*/(),])""",
    re.VERBOSE | re.ASCII,
)
_SLIPS = {
    "^": "a power is written `**`",
    "=": "write the right-hand side alone, without `loss =`",
    "[": "use round brackets",
    "{": "use round brackets",
    "×": "write `*`",
    "·": "write `*`",
    "−": "write `-`",
}


class ExpressionError(ValueError):
    """A line that is no law. `position` counts characters of the text from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} (at character {position + 1})")
        self.position = position


class _Known(sympy.Function):
    """A function that sympy shall keep as it stands, without simplifying anything."""

    @classmethod
    def eval(cls, *args: object) -> None:
        return None


class Softplus(_Known):
    """log(1 + exp(x))."""


class Minimum(_Known):
    """The smaller of two."""


class Maximum(_Known):
    """The larger of two."""


class Magnitude(_Known):
    """The size of a number without its sign."""


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@dataclass(frozen=True, slots=True)
class _Function:
    arguments: int
    symbolic: Callable[..., Any]
    of_numbers: Callable[..., float]


def _log10(x: Any) -> Any:
    return sympy.log(x) * sympy.Float(1.0 / math.log(10.0))


def _square_root(x: Any) -> Any:
    return x ** sympy.Float(0.5)


FUNCTIONS: dict[str, _Function] = {
    "exp": _Function(1, sympy.exp, math.exp),
    "log": _Function(1, sympy.log, math.log),
    "log10": _Function(1, _log10, math.log10),
    "sqrt": _Function(1, _square_root, math.sqrt),
    "abs": _Function(1, Magnitude, math.fabs),
    "tanh": _Function(1, sympy.tanh, math.tanh),
    "softplus": _Function(1, Softplus, _softplus),
    "min": _Function(2, Minimum, min),
    "max": _Function(2, Maximum, max),
}


@dataclass(frozen=True, slots=True)
class Expression:
    """A line that was read: its text, its names in order of first use, and its sympy tree."""

    text: str
    names: tuple[str, ...]
    tree: Any

    def symbol(self, name: str) -> Any:
        """The sympy symbol of a name, as in `tree`."""
        return _symbol(name)


def _symbol(name: str) -> Any:
    return sympy.Symbol(name, real=True)


def parse(text: str) -> Expression:
    """The expression written in `text`. Raises ExpressionError with the place and the remedy."""
    if len(text) > LONGEST:
        raise ExpressionError(
            f"the law has {len(text)} characters, at most {LONGEST} are read; shorten it", LONGEST
        )
    parser = _Parser(_tokens(text), len(text))
    tree = parser.whole()
    if isinstance(tree, float):
        raise ExpressionError(
            f"the law is the number {tree:g}; a law has at least one parameter", 0
        )
    for number in tree.atoms(sympy.Float):
        if abs(number) > 1e300:
            raise ExpressionError("a number in the law grows too large; rescale an input", 0)
    return Expression(text=text, names=tuple(parser.met), tree=tree)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            slip = text[position]
            remedy = _SLIPS.get(slip, "only numbers, names, + - * / ** and ( ) are read")
            raise ExpressionError(f"{slip!r} has no meaning here; {remedy}", position)
        if match.lastgroup != "space":
            tokens.append(_Token(match.lastgroup or "", match.group(), position))
        position = match.end()
    return tokens


class _Parser:
    """One pass over the tokens. A part is a float while it has no names, else a sympy tree."""

    def __init__(self, tokens: list[_Token], end: int) -> None:
        self._tokens = tokens
        self._end = end
        self._next = 0
        self._depth = 0
        self.met: dict[str, None] = {}

    def whole(self) -> Any:
        root = self._sum()
        left = self._peek()
        if left is not None:
            what = "a bracket is closed that was never opened" if left.text == ")" else ""
            raise ExpressionError(
                what or f"{left.text!r} does not continue the law; is a `*` missing before it?",
                left.position,
            )
        return root

    def _peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _take(self, *signs: str) -> _Token | None:
        token = self._peek()
        if token is None or token.kind != "sign" or token.text not in signs:
            return None
        self._next += 1
        return token

    def _deeper(self, position: int) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ExpressionError(f"nested more than {DEEPEST} deep; flatten the law", position)

    def _sum(self) -> Any:
        total = self._product()
        while token := self._take("+", "-"):
            total = _combined(token, total, self._product())
        return total

    def _product(self) -> Any:
        total = self._unary()
        while token := self._take("*", "/"):
            total = _combined(token, total, self._unary())
        return total

    def _unary(self) -> Any:
        token = self._take("-", "+")
        if token is None:
            return self._power()
        self._deeper(token.position)
        inner = self._unary()
        self._depth -= 1
        return -inner if token.text == "-" else inner

    def _power(self) -> Any:
        base = self._atom()
        token = self._take("**")
        if token is None:
            return base
        self._deeper(token.position)
        exponent = self._unary()
        self._depth -= 1
        if isinstance(exponent, float) and abs(exponent) > LARGEST_EXPONENT:
            raise ExpressionError(
                f"the exponent {exponent:g} is beyond {LARGEST_EXPONENT:g}; rescale the input",
                token.position,
            )
        return _combined(token, base, exponent)

    def _atom(self) -> Any:
        token = self._peek()
        if token is None:
            raise ExpressionError("the law stops here; a name or a number is missing", self._end)
        self._next += 1
        if token.kind == "number":
            return _finite(float(token.text), token)
        if token.kind == "name":
            following = self._peek()
            called = following is not None and following.text == "("
            return self._call(token) if called else self._name(token)
        if token.text != "(":
            raise ExpressionError(
                f"{token.text!r} stands where a name or a number belongs", token.position
            )
        self._deeper(token.position)
        inner = self._sum()
        self._close(token)
        return inner

    def _close(self, opened: _Token) -> None:
        if not self._take(")"):
            raise ExpressionError("this bracket is never closed; add `)`", opened.position)
        self._depth -= 1

    def _name(self, token: _Token) -> Any:
        if token.text in FUNCTIONS:
            raise ExpressionError(
                f"{token.text} is a function; write `{token.text}(...)`", token.position
            )
        self.met[token.text] = None
        if len(self.met) > MOST_NAMES:
            raise ExpressionError(
                f"more than {MOST_NAMES} names; simplify the law", token.position
            )
        return _symbol(token.text)

    def _call(self, token: _Token) -> Any:
        function = FUNCTIONS.get(token.text)
        if function is None:
            raise ExpressionError(
                f"there is no function {token.text!r}; there are: {', '.join(FUNCTIONS)}"
                " (a product needs its `*`)",
                token.position,
            )
        opened = cast(_Token, self._take("("))
        self._deeper(opened.position)
        parts = [self._sum()]
        while self._take(","):
            parts.append(self._sum())
        self._close(opened)
        if len(parts) != function.arguments:
            raise ExpressionError(
                f"{token.text} takes {function.arguments}"
                f" argument{'s' if function.arguments > 1 else ''}, here are {len(parts)}",
                token.position,
            )
        if all(isinstance(part, float) for part in parts):
            return _folded(token, function.of_numbers, *parts)
        return _built(token, function.symbolic, *parts)


def _combined(token: _Token, left: Any, right: Any) -> Any:
    """Two parts joined by a sign: in floats where both are numbers, else in sympy."""
    operation = _OPERATIONS[token.text]
    if isinstance(left, float) and isinstance(right, float):
        return _folded(token, operation, left, right)
    if token.text == "/" and isinstance(right, float) and right == 0.0:
        raise ExpressionError("division by zero", token.position)
    return _built(token, operation, left, right)


_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda one, other: one + other,
    "-": lambda one, other: one - other,
    "*": lambda one, other: one * other,
    "/": lambda one, other: one / other,
    "**": lambda one, other: one**other,
}


def _folded(token: _Token, operation: Callable[..., Any], *numbers: float) -> float:
    try:
        value = operation(*numbers)
    except (ArithmeticError, ValueError) as error:
        raise ExpressionError(
            f"{token.text!r} of these numbers: {error}", token.position
        ) from None
    if isinstance(value, complex):
        raise ExpressionError("a root of a negative number is not real", token.position)
    return _finite(float(value), token)


def _finite(value: float, token: _Token) -> float:
    if not math.isfinite(value):
        raise ExpressionError(f"{token.text!r} gives a number that is too large", token.position)
    return value


_UNREAL: tuple[Any, ...] = (sympy.zoo, sympy.nan, sympy.oo, -sympy.oo, sympy.I)
_LARGEST_TOWER = 1e4


def _number(value: float, *, exponent: bool) -> Any:
    """Whole exponents and units as such, so that squares are squares; the rest as floats, whose
    powers never grow long."""
    whole = value == int(value) and (exponent or abs(value) <= 1.0)
    return sympy.Integer(int(value)) if whole else sympy.Float(value)


def _built(token: _Token, operation: Callable[..., Any], *parts: Any) -> Any:
    """A sympy tree from parts; what has no real finite value there is refused."""
    ready = [
        _number(part, exponent=token.text == "**" and place == 1)
        if isinstance(part, float)
        else part
        for place, part in enumerate(parts)
    ]
    try:
        tree = operation(*ready)
    except (ArithmeticError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ExpressionError(
            f"{token.text!r} cannot be applied here: {error}", token.position
        ) from None
    if tree.has(*_UNREAL):
        raise ExpressionError(
            f"{token.text!r} gives no real number here: a division by zero, or a root or"
            " logarithm of nothing",
            token.position,
        )
    if tree.is_Pow and tree.exp.is_number and abs(float(tree.exp)) > _LARGEST_TOWER:
        raise ExpressionError("powers of powers this large overflow; simplify", token.position)
    if not tree.is_number:
        return tree
    # What cancelled to a number (x - x) is a number from here on.
    return _folded(token, lambda: float(tree.evalf()))
