"""A law form as people state it: the name of one that ships, or a law in one line.

Touches nothing.
"""

from __future__ import annotations

from orchestrator.laws.forms import LawForm, form_named
from orchestrator.laws.forms.line import law_of

_OPERATORS = "+-*/^("
USUAL_FORMS = ("power_irreducible", "chinchilla")
"""The forms of a sweep or a table that states none."""
ASKED = (("C",), ("N", "D"))
"""Inputs that a law of a sweep, or of a table of runs, may have."""


def is_line(text: str) -> bool:
    """Whether this is a law in one line rather than a name."""
    return any(sign in text for sign in _OPERATORS)


def form_stated(text: str) -> LawForm:
    """The form of a name, or of a line such as "E + A/N**alpha + B/D**beta".

    In a line N, D and C are parameters, tokens and FLOPs, and all other names are fitted. Raises
    ValueError where there is no such form, the line is no law, or it asks for other inputs than
    C, or N and D.
    """
    if not is_line(text):
        form = form_named(text)
    else:
        inputs = law_of(text).inputs
        # Of one size alone no law of size is known, whatever the line.
        form = law_of(
            text, inputs=tuple(sorted(inputs, key="NDC".index)), levels=(2,) * len(inputs)
        )
    if form.inputs not in ASKED:
        needs = " and ".join(form.inputs) or "no input at all"
        raise ValueError(
            f"the law {text!r} takes {needs}; one of sweeps and tables takes N and D (params and"
            " tokens), or C (FLOPs): write one such as E + A/N**alpha + B/D**beta"
        )
    return form
