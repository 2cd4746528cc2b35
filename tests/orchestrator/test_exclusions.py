"""Conditions are read, evaluated and refused as written, and nothing in them is ever run."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.exclusions import DEEPEST, LONGEST, Exclusion, ExclusionError, parse

NAMES = ("model.width", "model.layers", "lr", "source", "tied")
VALUES = {"model.width": 64, "model.layers": 2, "lr": 3e-3, "source": "code", "tied": True}


def holds(text: str) -> bool:
    return parse(text, NAMES).holds(VALUES)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("model.width == 64", True),
        ("model.width != 64", False),
        ("model.width >= 64 and lr < 3e-3", False),
        ("model.width >= 64 or lr < 3e-3", True),
        ("not model.width > 64", True),
        ("not (model.width == 64 and lr == 0.003)", False),
        ("1e-3 <= lr <= 1e-2", True),
        ("1e-3 <= lr < 3e-3", False),
        ("model.width == 0.0625Ki", True),
        ("model.width < 1M", True),
        ("lr == 0.3%", True),
        ("model.width * model.layers - 28 > 99", True),
        ("model.width / 2 / 2 == 16", True),
        ("2 + 3 * 4 == 14", True),
        ("(2 + 3) * 4 == 20", True),
        ("10 - 4 - 3 == 3", True),
        ("-model.layers * -1 == 2", True),
        ("source == 'code'", True),
        ('source != "code"', False),
        ("tied", True),
        ("tied == false", False),
        ("true or model.width / 0 > 1", True),
        ("false or false or true", True),
        ("lr > 1 or lr < 1 and tied", True),
    ],
)
def test_meaning(text: str, answer: bool) -> None:
    assert holds(text) is answer


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("", 0, "is missing"),
        ("model.width >", 13, "is missing"),
        ("model.width = 64", 12, "write `==`"),
        ("lr > 1 && tied", 7, "write `and`"),
        ("!tied", 0, "write `not`"),
        ("(lr > 1", 0, "add `)`"),
        ("lr > 1)", 6, "does not continue"),
        ("lr > 1 tied", 7, "join conditions"),
        ("widht > 1", 0, "unknown name 'widht'"),
        ("model.widht > 1", 0, "did you mean 'model.width'"),
        ("lr > 3Q", 5, "no known unit"),
        ("source == 'code", 10, "no closing '"),
        ("lr * 2", 0, "compare it"),
        ("-lr", 0, "compare it"),
        ("'text'", 0, "compare it"),
        ("lr == 1 == ", 11, "is missing"),
        ("__import__('os')", 0, "unknown name '__import__'"),
        ("lr.__class__ == 1", 0, "unknown name 'lr.__class__'"),
        ("lr[0] == 1", 2, "remove it"),
        ("lambda: 1", 6, "remove it"),
        ("lr ** 9 > 1", 4, "stands where"),
    ],
)
def test_refusal(text: str, position: int, words: str) -> None:
    with pytest.raises(ExclusionError) as caught:
        parse(text, NAMES)
    assert caught.value.position == position
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("lr / (model.layers - 2) > 1", 6, "division by zero"),
        ("source > 'a'", 9, "only numbers have an order"),
        ("source == 3", 10, "different kinds"),
        ("tied == 1", 8, "different kinds"),
        ("tied + 1 > 1", 0, "only numbers calculate"),
        ("tied and lr", 9, "compare it"),
        ("lr or tied", 0, "compare it"),
        ("1e308 * 1e308 > 1", 8, "too large"),
    ],
)
def test_what_does_not_hold_together(text: str, position: int, words: str) -> None:
    with pytest.raises(ExclusionError) as caught:
        parse(text, NAMES).holds(VALUES)
    assert caught.value.position == position
    assert words in str(caught.value)


@pytest.mark.parametrize("value", [None, [1], math.nan, math.inf, {"a": 1}])
def test_a_value_that_is_no_single_value_is_refused(value: object) -> None:
    with pytest.raises(ExclusionError, match="no single value"):
        parse("lr > 1", NAMES).holds({"lr": value})


def test_names_are_those_mentioned() -> None:
    assert parse("lr > 1 or model.width == 2", NAMES).names == {"lr", "model.width"}


def test_length_and_depth_are_bounded() -> None:
    with pytest.raises(ExclusionError, match="split it"):
        parse("tied or " * LONGEST + "tied", NAMES)
    with pytest.raises(ExclusionError, match="nested more than"):
        parse("(" * (DEEPEST + 1) + "tied" + ")" * (DEEPEST + 1), NAMES)
    with pytest.raises(ExclusionError, match="nested more than"):
        parse("not " * (DEEPEST + 1) + "tied", NAMES)
    assert holds("(" * DEEPEST + "tied" + ")" * DEEPEST)


WORDS = (
    "model.width lr tied source and or not true false ( ) < <= > >= == != + - * / 1 2.5 1e3 256Ki "
    "5% 'a' \" ' = ! __import__ eval exec . , [ ] { } : ; lambda os.system é \n \t \\ # @"
)
PIECES = st.sampled_from(WORDS.split(" "))


@given(st.lists(PIECES, max_size=24).map(" ".join) | st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        condition = parse(text, NAMES)
        answer = condition.holds(VALUES)
    except ExclusionError as error:
        assert 0 <= error.position <= max(len(text), LONGEST)
        return
    assert isinstance(condition, Exclusion)
    assert answer is True or answer is False
    assert condition.names <= set(NAMES)


_watched: list[str] | None = None


def _watch(event: str, _: object) -> None:
    if _watched is not None and event in ("exec", "compile", "import", "open", "os.system"):
        _watched.append(event)


sys.addaudithook(_watch)  # cannot be taken off again, and does nothing while nobody watches


def _events_of(work: Callable[[], object]) -> list[str]:
    global _watched
    _watched = []
    try:
        work()
    except ExclusionError:
        pass
    finally:
        seen, _watched = _watched, None
    return seen


def test_the_watch_sees_execution() -> None:
    assert "exec" in _events_of(lambda: eval("1 + 1"))


@given(st.lists(PIECES, max_size=12).map(" ".join) | st.text(max_size=40))
def test_nothing_is_executed_imported_or_opened(text: str) -> None:
    assert _events_of(lambda: parse(text, NAMES).holds(VALUES)) == []


NUMBERS = st.integers(-50, 50)


@st.composite
def arithmetic(draw: st.DrawFn, depth: int = 0) -> str:
    """A sum, product or bracket of small whole numbers, in Python's own notation."""
    if depth > 3 or draw(st.booleans()):
        return str(draw(NUMBERS)) if draw(st.booleans()) else f"({draw(NUMBERS)})"
    left, right = draw(arithmetic(depth + 1)), draw(arithmetic(depth + 1))
    sign = draw(st.sampled_from(["+", "-", "*"]))
    return draw(st.sampled_from([f"{left} {sign} {right}", f"({left} {sign} {right})"]))


@given(arithmetic(), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), arithmetic())
def test_arithmetic_and_order_agree_with_python(left: str, sign: str, right: str) -> None:
    text = f"{left} {sign} {right}"
    expected = eval(text)  # the text is made of our own digits, signs and brackets
    assert parse(text, ()).holds({}) is expected
