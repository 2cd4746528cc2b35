"""Read the quantities people write: `1e18`, `7B`, `140M`, `256Ki`, `5%`, `1/3`, plain numbers.

Touches nothing. Arithmetic is exact (rationals) until the last conversion, so `1.1M` is 1100000
and not 1100000.0000000002. Prefixes: SI powers of 1000 (K, M, G or B, T, P) and IEC 80000-13
powers of 1024 (Ki, Mi, Gi, Ti).
"""

from __future__ import annotations

import math
import re
from fractions import Fraction as Rational
from typing import Annotated

from pydantic import BeforeValidator

_SCALES: dict[str, int] = {
    "": 1,
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "B": 10**9,
    "T": 10**12,
    "P": 10**15,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_EXAMPLES = "1000, 1e18, 7B, 140M, 256Ki, 5%, 1/3"
_SHAPE = re.compile(
    r"""(?P<sign>[-+]?)
        (?P<digits>\d[\d_]*(?:\.\d*)?|\.\d+)
        (?:[eE](?P<exponent>[-+]?\d{1,3}))?
        (?:/(?P<divisor>\d{1,18}))?
        \s?(?P<suffix>[A-Za-z]*%?)""",
    re.VERBOSE,
)
_LONGEST = 48
_LARGEST_COUNT = 10**30


def _rational(value: object) -> Rational:
    """The exact value of a number or of its written form; ValueError otherwise."""
    if isinstance(value, bool):
        raise ValueError(
            f"{value!r} is a truth value, not a number; write one such as {_EXAMPLES}"
        )
    if isinstance(value, int):
        return Rational(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value!r} is not finite; write a number such as {_EXAMPLES}")
        return Rational(repr(value))
    if isinstance(value, str):
        return _written(value)
    raise ValueError(f"{value!r} is not a number; write one such as {_EXAMPLES}")


def _written(text: str) -> Rational:
    match = _SHAPE.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if match is None:
        raise ValueError(f"{text[:_LONGEST]!r} is not a quantity; write one such as {_EXAMPLES}")
    suffix = match["suffix"]
    percent = suffix == "%"
    if not percent and suffix not in _SCALES:
        known = ", ".join(name for name in _SCALES if name)
        raise ValueError(f"{text!r} ends in {suffix!r}, which is no known unit; use {known} or %")
    number = Rational(match["digits"].replace("_", "").rstrip(".") or "0")
    number *= Rational(10) ** int(match["exponent"] or 0)
    if match["divisor"] is not None:
        divisor = int(match["divisor"])
        if divisor == 0:
            raise ValueError(f"{text!r} divides by zero; write a fraction such as 1/3")
        number /= divisor
    number = number / 100 if percent else number * _SCALES[suffix]
    return -number if match["sign"] == "-" else number


def parse_count(value: object) -> int:
    """A whole number of things, zero or more (tokens, layers). Raises ValueError."""
    number = _rational(value)
    if number.denominator != 1:
        raise ValueError(f"{value!r} is not whole; a count is a whole number such as 256Ki or 7B")
    if number < 0:
        raise ValueError(f"{value!r} is negative; a count is zero or more")
    if number > _LARGEST_COUNT:
        raise ValueError(f"{value!r} is above 1e30; no count is that large, look for a slip")
    return int(number)


def parse_number(value: object) -> float:
    """Any finite number, as a float (FLOPs, learning rates). Raises ValueError."""
    try:
        return float(_rational(value))
    except OverflowError:
        raise ValueError(f"{value!r} is too large for a number; the limit is 1.8e308") from None


def parse_fraction(value: object) -> float:
    """A share from 0 to 1, written `5%`, `1/3` or `0.05`. Raises ValueError."""
    number = _rational(value)
    if not 0 <= number <= 1:
        raise ValueError(
            f"{value!r} is not between 0 and 1; write a share such as 5%, 1/3 or 0.05"
        )
    return float(number)


def format_quantity(value: float) -> str:
    """Three significant digits, to be read by people: 131072 is `131K`, 2e18 is `2e18`."""
    if not math.isfinite(value):
        return str(value)
    magnitude = abs(value)
    if magnitude >= 999.5e12 or (magnitude and magnitude < 0.001):
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{_trim(mantissa)}e{int(exponent)}"
    for suffix, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if magnitude >= scale * 0.9995:
            return _three_digits(value / scale) + suffix
    return _three_digits(value)


def _three_digits(value: float) -> str:
    whole_digits = len(str(int(abs(value) + 0.5)))
    if abs(value) < 1:
        return f"{value:.3g}"
    return _trim(f"{value:.{max(0, 3 - whole_digits)}f}")


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


Count = Annotated[int, BeforeValidator(parse_count)]
Number = Annotated[float, BeforeValidator(parse_number)]
Fraction = Annotated[float, BeforeValidator(parse_fraction)]
