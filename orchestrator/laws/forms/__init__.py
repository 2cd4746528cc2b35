"""Law forms: families of laws. One family a file; they are strangers to each other.

`base` says what a form is. `NAMED` lists those that ship, `form_named` finds one by its name.
Touches nothing.
"""

from orchestrator.laws.forms.base import LawForm, Parameter
from orchestrator.laws.forms.chinchilla import CHINCHILLA
from orchestrator.laws.forms.power import POWER
from orchestrator.laws.forms.power_irreducible import POWER_IRREDUCIBLE

NAMED: tuple[LawForm, ...] = (POWER, POWER_IRREDUCIBLE, CHINCHILLA)


def form_named(name: str) -> LawForm:
    """The shipped form of this name. Raises ValueError, which lists the names there are."""
    for form in NAMED:
        if form.name == name:
            return form
    known = ", ".join(form.name for form in NAMED)
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
