"""The values along one axis of a space: a list, or a range that is written instead of one.

Touches nothing. `{log: [1e-4, 1e-2], count: 3}` is 1e-4, 1e-3, 1e-2; `{log2: [32, 256]}` doubles
from 32 to 256; `{linear: [1, 5], count: 5}` steps evenly. Both ends always belong to the range,
and are values, never exponents.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Annotated, TypeAlias, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from orchestrator.values import Scalar
from trainers.findings import FieldError
from trainers.quantity import Count, Number, parse_number

LONGEST = 10_000
_DIGITS = 10
_WAYS = ("log", "log2", "linear")

Ends: TypeAlias = tuple[Number, Number]


class Span(BaseModel):
    """A range of numbers, evenly spaced in the logarithm (`log`, `log2`) or itself (`linear`).

    `count` counts the values, both ends included; `log2` may leave it out and doubles then.
    `multiple_of` rounds each value to the nearest multiple, for widths and counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    log: Ends | None = None
    log2: Ends | None = None
    linear: Ends | None = None
    count: Annotated[Count, Field(ge=2, le=LONGEST)] | None = None
    multiple_of: Annotated[Number, Field(gt=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: object) -> object:
        for key in cast("dict[object, object]", data) if isinstance(data, dict) else ():
            if key not in cls.model_fields:
                near = difflib.get_close_matches(str(key), cls.model_fields, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else "remove it"
                valid = ", ".join(cls.model_fields)
                raise FieldError(str(key), f"is no key of a range; {hint} (valid: {valid})")
        return cast("object", data)

    @model_validator(mode="after")
    def _holds_together(self) -> Span:
        given = [way for way in _WAYS if getattr(self, way) is not None]
        if len(given) != 1:
            said = "none is" if not given else f"{' and '.join(given)} are"
            raise ValueError(f"a range needs one of log, log2 and linear; {said} given")
        way, (low, high) = self._ends()
        if not low < high:
            raise FieldError(way, f"runs from {low:g} to {high:g}; put the smaller end first")
        if way != "linear" and low <= 0:
            raise FieldError(
                way,
                f"starts at {low:g}, but the ends of a logarithmic range are values above 0, "
                "not exponents; write [0.5, 2] for 2**-1 to 2**1",
            )
        if self.count is None and way != "log2":
            raise FieldError("count", "is required and not given; add count: 5 for five values")
        self.values()
        return self

    def _ends(self) -> tuple[str, Ends]:
        for way in _WAYS:
            ends: Ends | None = getattr(self, way)
            if ends is not None:
                return way, ends
        raise AssertionError("unreachable: a range has a way from birth")

    def values(self) -> tuple[Scalar, ...]:
        """The values, increasing; whole ones as int. Raises ValueError where two coincide."""
        way, (low, high) = self._ends()
        count = self.count or self._doublings(low, high) + 1
        steps = [i / (count - 1) for i in range(count)]
        if way == "linear":
            raw = [low + (high - low) * step for step in steps]
        else:
            raw = [low * (high / low) ** step for step in steps]
        raw[-1] = high
        values = tuple(_rounded(value, self.multiple_of) for value in raw)
        if len(set(values)) < count:
            raise FieldError(
                "count",
                f"{count} values from {low:g} to {high:g} coincide once rounded "
                f"({_listed(values)}); ask for fewer",
            )
        return values

    @staticmethod
    def _doublings(low: float, high: float) -> int:
        doublings = math.log2(high / low)
        if abs(doublings - round(doublings)) > 1e-9:
            raise FieldError(
                "log2",
                f"{high:g} is not {low:g} doubled a whole number of times; end at "
                f"{low * 2 ** math.floor(doublings):g} or give a count",
            )
        return round(doublings)


def _rounded(value: float, multiple_of: float | None) -> Scalar:
    """To the multiple, or to ten digits: 0.0010000000000000002 would be nobody's learning rate."""
    if multiple_of is not None:
        value = round(value / multiple_of) * multiple_of
    value = float(f"{value:.{_DIGITS}g}")
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _listed(values: tuple[Scalar, ...]) -> str:
    shown = ", ".join(map(str, values[:8]))
    return shown if len(values) <= 8 else f"{shown}, ..."


def _kind(value: object) -> str:
    return "range" if isinstance(value, (Mapping, Span)) else "list"


def _several(value: object) -> object:
    if not isinstance(value, (list, tuple)):
        raise ValueError(
            f"{value!r} does not vary; write a list, a range such as {{log2: [32, 256]}}, or move "
            "the key under trial"
        )
    if not value:
        raise ValueError("is an empty list; give a value, or remove the key")
    return cast("object", value)


def _single(value: object) -> object:
    if not isinstance(value, (bool, int, float, str)):
        raise ValueError("must be a number, a truth value or a text; write one value an entry")
    return value


Single: TypeAlias = Annotated[Scalar, BeforeValidator(_single)]
Listed: TypeAlias = Annotated[
    tuple[Single, ...], Field(max_length=LONGEST), BeforeValidator(_several)
]
Axis: TypeAlias = Annotated[
    Annotated[Listed, Tag("list")] | Annotated[Span, Tag("range")], Discriminator(_kind)
]


def axis_values(axis: Axis) -> tuple[Scalar, ...]:
    """The values of a list or a range, in order."""
    return axis.values() if isinstance(axis, Span) else axis


def plain(value: object) -> object:
    """A written quantity (`256Ki`) as the number it stands for; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        number = parse_number(value)
    except ValueError:
        return value
    return int(number) if number.is_integer() and abs(number) < 2**53 else number
