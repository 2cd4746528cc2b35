"""Law forms: families of laws, strangers to each other.

`base` says what a form is, `line` makes one of a single line, `published` holds the literature's.
`NAMED` lists those that a sweep of N, D and C is fitted with; `form_named` finds any that ships.
Touches nothing.
"""

from orchestrator.laws.forms.base import LawForm, Parameter
from orchestrator.laws.forms.chinchilla import CHINCHILLA
from orchestrator.laws.forms.power import POWER
from orchestrator.laws.forms.power_irreducible import POWER_IRREDUCIBLE
from orchestrator.laws.forms.published import published, published_names

NAMED: tuple[LawForm, ...] = (POWER, POWER_IRREDUCIBLE, CHINCHILLA)


def form_named(name: str) -> LawForm:
    """The shipped form of this name. Raises ValueError, which lists the names there are."""
    for form in NAMED:
        if form.name == name:
            return form
    if name in published_names():
        return published(name)
    known = ", ".join([*(form.name for form in NAMED), *published_names()])
    raise ValueError(f"there is no law form {name!r}; there are: {known}")


__all__ = [
    "CHINCHILLA",
    "NAMED",
    "POWER",
    "POWER_IRREDUCIBLE",
    "LawForm",
    "Parameter",
    "form_named",
]
