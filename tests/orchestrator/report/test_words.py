import math

import pytest

from orchestrator.report import words


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (950, "950"), (999.6, "1K"), (131072, "131K"), (1.5e6, "1.5M"), (7e9, "7B")],
)
def test_amounts_have_three_digits_and_a_letter(value: float, said: str) -> None:
    assert words.amount(value) == said


@pytest.mark.parametrize(("value", "said"), [(0, "0"), (2.314e15, "2.31e15"), (12, "1.20e1")])
def test_flops_have_plain_exponents(value: float, said: str) -> None:
    assert words.flops(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (4.2, "4.2 s"),
        (59.4, "59 s"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (11_520, "3 h 12 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


def test_control_characters_are_not_passed_on() -> None:
    assert "\x1b" not in words.plain("\x1b[31mred\x07")
    assert words.plain("a b-c_d é") == "a b-c_d é"


def test_what_is_not_finite_is_not_dressed_up() -> None:
    assert words.loss(math.nan) == "none"
    assert words.loss(math.inf) == "none"
    assert words.amount(math.inf) == "inf"


def test_shares_keep_a_digit_where_they_are_small() -> None:
    assert words.share(0.0312) == "3.1 %"
    assert words.share(0.9) == "90 %"
