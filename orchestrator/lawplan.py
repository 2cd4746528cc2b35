"""The block of a sweep file that says which laws to fit, and how.

A frozen pydantic model; touches nothing.
"""

from __future__ import annotations

import difflib
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field

from orchestrator.blocks import Block, Share
from trainers.quantity import Count, Fraction

LAW_NAMES = (
    "power",
    "power_irreducible",
    "chinchilla",
    "kaplan",
    "broken_power",
    "farseer",
)
"""Law forms of N and D or of C that ship. What stands in no such name is a law in one line."""


def _law_form(text: str) -> str:
    # Lines are parsed where laws are known: this room knows none.
    if text in LAW_NAMES or any(sign in text for sign in "+-*/^("):
        return text
    close = difflib.get_close_matches(text, LAW_NAMES, n=1, cutoff=0.5)
    near = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(
        f"{text!r} is no law form; {near}One of: {', '.join(LAW_NAMES)}; or a law in one line, "
        "such as E + A/N**alpha + B/D**beta"
    )


LawForm: TypeAlias = Annotated[str, Field(max_length=1000), AfterValidator(_law_form)]


def _one_or_more(value: object) -> object:
    if value in ([], ()):
        raise ValueError("is empty; name a form, such as chinchilla")
    return [value] if isinstance(value, str) else value


class LawPlan(Block):
    """Forms to fit, share of each curve dropped as burn-in, bootstrap draws, interval level."""

    forms: Annotated[tuple[LawForm, ...], BeforeValidator(_one_or_more)] = (
        "power_irreducible",
        "chinchilla",
    )
    burn_in: Annotated[Fraction, Field(lt=1)] = 0.1
    bootstrap: Annotated[Count, Field(le=100_000)] = 200
    level: Share = 0.9
