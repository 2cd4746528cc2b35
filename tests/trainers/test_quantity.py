"""Quantities: known readings, refusals that say what to write, and properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from trainers.quantity import (
    Count,
    Fraction,
    Number,
    format_quantity,
    parse_count,
    parse_fraction,
    parse_number,
)


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("1e18", 10**18),
        (1e18, 10**18),
        (1e23, 10**23),
        ("7B", 7 * 10**9),
        ("140M", 140 * 10**6),
        ("256Ki", 262144),
        ("1.5k", 1500),
        ("1.1M", 1_100_000),
        ("1_000", 1000),
        ("2 Mi", 2 * 2**20),
        ("10.", 10),
        (12, 12),
        ("6/2", 3),
    ],
)
def test_counts(written: object, count: int) -> None:
    assert parse_count(written) == count


@pytest.mark.parametrize(
    ("written", "number"),
    [("3e-4", 3e-4), ("5%", 0.05), ("1/3", 1 / 3), ("-2", -2.0), (".5", 0.5), ("1e18", 1e18)],
)
def test_numbers(written: object, number: float) -> None:
    assert parse_number(written) == number


@pytest.mark.parametrize(
    ("parse", "bad", "says"),
    [
        (parse_count, "1.5", "whole"),
        (parse_count, 2.5, "whole"),
        (parse_count, -3, "negative"),
        (parse_count, True, "truth value"),
        (parse_count, None, "not a number"),
        (parse_count, "1e31", "1e30"),
        (parse_count, "7Q", "no known unit"),
        (parse_count, "7m", "no known unit"),
        (parse_number, "seven", "not a quantity"),
        (parse_number, "1/0", "divides by zero"),
        (parse_number, float("nan"), "not finite"),
        (parse_number, "1e999", "too large"),
        (parse_number, "1e999999999", "not a quantity"),
        (parse_number, "9" * 100, "not a quantity"),
        (parse_number, "", "not a quantity"),
        (parse_fraction, "105%", "between 0 and 1"),
        (parse_fraction, -0.1, "between 0 and 1"),
        (parse_fraction, [1], "not a number"),
    ],
)
def test_refusals_say_value_and_rule(parse, bad: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(bad)


@given(st.integers(0, 10**24), st.sampled_from([("K", 1000), ("M", 10**6), ("Ki", 1024), ("", 1)]))
def test_count_with_unit_is_exact(base: int, unit: tuple[str, int]) -> None:
    assert parse_count(f"{base}{unit[0]}") == base * unit[1]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_number_reads_back_every_float(value: float) -> None:
    assert parse_number(value) == value
    assert parse_number(repr(value)) == value


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_fraction_forms_agree(a: int, b: int) -> None:
    if a <= b:
        assert parse_fraction(f"{a}/{b}") == a / b
    else:
        with pytest.raises(ValueError, match="between"):
            parse_fraction(f"{a}/{b}")


@given(st.floats(1e-12, 1e25))
def test_format_reads_back_within_half_a_percent(value: float) -> None:
    assert math.isclose(parse_number(format_quantity(value)), value, rel_tol=5.1e-3)


def test_format_looks() -> None:
    values = [0, 5, 999, 1000, 131072, 7e9, 1.5e6, 999_999, 2e18, 3e-4, 0.05, 1e15]
    looks = ["0", "5", "999", "1K", "131K", "7B", "1.5M", "1M", "2e18", "3e-4", "0.05", "1e15"]
    assert [format_quantity(value) for value in values] == looks


def test_pydantic_types() -> None:
    class Model(BaseModel):
        tokens: Count
        rate: Number
        share: Fraction

    model = Model.model_validate({"tokens": "256Ki", "rate": "3e-4", "share": "5%"})
    assert (model.tokens, model.rate, model.share) == (262144, 3e-4, 0.05)
    with pytest.raises(ValidationError, match="not whole"):
        Model.model_validate({"tokens": 1.5, "rate": 1, "share": 0})
