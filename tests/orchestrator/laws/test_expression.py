"""The parser of laws: what it reads means what it says, and nothing else gets through."""

from __future__ import annotations

import math
import sys

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.laws.expression import LONGEST, ExpressionError, parse


def value(text, **at):
    read = parse(text)
    found = read.tree.subs({read.symbol(name): number for name, number in at.items()})
    return float(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("E + A/N**alpha", 1.5 + 400 / 1e6**0.3),
        ("-N**2", -1e12),
        ("A*2**-1", 200.0),
        ("2**3**0.5*A", 2 ** (3**0.5) * 400),
        ("A - E - E", 397.0),
        ("A/4/E", 400 / 4 / 1.5),
        ("(A + E)*-E", -(401.5 * 1.5)),
        (
            "exp(-E) + log(A) + log10(A) + sqrt(A)",
            math.exp(-1.5) + math.log(400) + math.log10(400) + 20,
        ),
        ("tanh(E)*1e3 + .5*A + 2.*A", math.tanh(1.5) * 1e3 + 1000.0),
    ],
)
def test_it_means_what_python_would(text, expected):
    at = {"E": 1.5, "A": 400.0, "N": 1e6, "alpha": 0.3}
    used = {name: at[name] for name in parse(text).names}
    assert value(text, **used) == pytest.approx(expected, rel=1e-12)


def test_letters_that_sympy_takes_are_ordinary_names():
    read = parse("E + N + S + I + Q + O + C + pi + beta + gamma + zeta + lambda_")
    assert set(read.names) == {str(symbol) for symbol in read.tree.free_symbols}
    assert value("I*I", I=3.0) == 9.0
    assert value("E*pi", E=2.0, pi=5.0) == 10.0


@pytest.mark.parametrize(
    ("text", "position", "said"),
    [
        ("", 0, "is missing"),
        ("E +", 3, "is missing"),
        ("3", 0, "at least one parameter"),
        ("x - x", 0, "at least one parameter"),
        ("A/N^alpha", 3, r"written `\*\*`"),
        ("loss = E", 5, "right-hand side"),
        ("2 A", 2, r"missing before it"),
        ("f(x)", 0, "no function 'f'"),
        ("log x", 0, r"write `log\(...\)`"),
        ("max(x)", 0, "takes 2 arguments"),
        ("(x + 1", 0, "never closed"),
        ("x)", 1, "never opened"),
        ("x/0", 1, "division by zero"),
        ("x/(y - y)", 1, "division by zero"),
        ("log(-1) + x", 0, "domain"),
        ("x**1e9", 1, "exponent"),
        ("((2*x)**100)**100*((y**100)**100)**100", 33, "overflow"),
        ("x + 1e999", 4, "too large"),
        ("x.__class__", 1, "no meaning"),
        ("x['y']", 1, "round brackets"),
        ("__import__('os')", 11, "no meaning"),
        ("(" * 60 + "x" + ")" * 60, 40, "nested"),
        ("x + " * LONGEST, LONGEST, "shorten"),
    ],
)
def test_what_is_no_law_is_told_with_its_place(text, position, said):
    with pytest.raises(ExpressionError, match=said) as caught:
        parse(text)
    assert caught.value.position == position


WORDS = st.sampled_from(
    [
        *"ENSIQxy0123456789.()+-*/,^ \n'\"[]{}=:;@\\é",
        *("**", "exp", "log", "min", "abs", "softplus", "1e9", "1e-9", "100"),
        *("__import__", "lambda", "eval", "os.system", "open", "oo", "zoo", "nan"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(WORDS, max_size=30).map("".join))
def test_no_text_crashes_it_or_is_executed(text):
    before = set(sys.modules)
    try:
        read = parse(text)
    except ExpressionError as error:
        assert 0 <= error.position <= max(len(text), 1)
    else:
        assert all(type(symbol) is sympy.Symbol for symbol in read.tree.free_symbols)
        assert read.tree.has(*read.tree.free_symbols)
    assert not any(
        name.split(".")[0] not in {"sympy", "mpmath"} for name in set(sys.modules) - before
    )


@st.composite
def laws(draw, depth=4):
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(["E", "N", "a", "b", "0", "1", "2", "0.5", "1e8", "-1"]))
    inner = laws(depth=depth - 1)
    kind = draw(st.sampled_from(["+", "-", "*", "/", "**", "f", "m"]))
    if kind == "f":
        name = draw(st.sampled_from(["exp", "log", "sqrt", "abs", "tanh", "softplus", "log10"]))
        return f"{name}({draw(inner)})"
    if kind == "m":
        return f"{draw(st.sampled_from(['min', 'max']))}({draw(inner)}, {draw(inner)})"
    return f"({draw(inner)}){kind}({draw(inner)})"


@settings(max_examples=300, deadline=None)
@given(laws())
def test_well_formed_laws_are_read_or_refused(text):
    try:
        read = parse(text)
    except ExpressionError:
        return
    assert set(map(str, read.tree.free_symbols)) <= set(read.names)
