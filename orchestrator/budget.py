"""The block of a sweep file that says what may be spent: FLOPs, hours, money.

Frozen pydantic models; touches nothing.
"""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from orchestrator.blocks import Above0, Block
from trainers.findings import FieldError
from trainers.quantity import Fraction, Number, parse_number

_IN_HOURS = {"s": 3600.0, "m": 60.0, "h": 1.0, "d": 1 / 24}


def _hours(value: object) -> object:
    """Refuses what is no number of hours, although it is a quantity: a share, or minutes."""
    if not isinstance(value, str):
        return value
    if "%" in value:
        raise ValueError(
            f"{value!r} of what? Hours are a number, such as 4 or 0.5; a share of what all would "
            "cost is for budget.flops"
        )
    timed = re.fullmatch(r"([0-9.]+) ?([smhd])[a-z]*", value.strip())
    if timed is not None and timed[1].count(".") <= 1 and timed[1] != ".":
        hours = float(timed[1]) / _IN_HOURS[timed[2]]
        raise ValueError(f"{value!r} has a unit, and this is in hours: write {hours:.4g}")
    return value


def _dollars(value: object) -> object:
    if not isinstance(value, str):
        return value
    if "%" in value:
        raise ValueError(f"{value!r} of what? Dollars are a number, such as 50")
    if "$" in value:
        raise ValueError(f"{value!r} has a sign, and this is in dollars: write the number alone")
    return value


GpuHours: TypeAlias = Annotated[Number, BeforeValidator(_hours), Field(gt=0)]
Dollars: TypeAlias = Annotated[Number, BeforeValidator(_dollars), Field(gt=0)]


def _amount(value: object) -> float | str:
    """FLOPs as a number, a share of the exhaustive cost as `20%`."""
    number = parse_number(value)
    if isinstance(value, str) and ("%" in value or "/" in value):
        if not 0 < number <= 10:
            raise ValueError(
                f"{value!r} of the exhaustive cost is out of range; write a share such as 20%"
            )
        return f"{number * 100:.12g}%"
    if number < 1:
        raise ValueError(
            f"{value!r} FLOPs buy nothing; write a number such as 1e18, or a share of the "
            "exhaustive cost such as 20%"
        )
    return number


class Budget(Block):
    """What may be spent. FLOPs are always accounted; hours and money are further caps, and where
    they would run out first, policies that weigh gain against cost weigh it against them.

    Hours are GPU-hours; of a trial without GPUs each process counts as one.
    `flops_per_s`: of one worker, as far as is known before segments were timed. `lost` is the
    ceiling, as a share of the FLOPs, on work that crashes may waste beside them.
    """

    flops: Annotated[float | str, BeforeValidator(_amount)]
    gpu_hours: GpuHours | None = None
    dollars: Dollars | None = None
    dollars_per_gpu_hour: Dollars | None = None
    flops_per_s: Above0 | None = None
    lost: Fraction = 0.1

    @property
    def share(self) -> float | None:
        """The share of the exhaustive cost, where the budget is stated as one."""
        return parse_number(self.flops) if isinstance(self.flops, str) else None

    @model_validator(mode="after")
    def _priced(self) -> Budget:
        if self.dollars is not None and self.dollars_per_gpu_hour is None:
            raise FieldError(
                "dollars", "needs a price; add budget.dollars_per_gpu_hour, such as 3"
            )
        return self
