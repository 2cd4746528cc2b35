"""Law forms as people state them."""

from __future__ import annotations

import pytest

from orchestrator.lawplan import LAW_NAMES, LawPlan
from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import NAMED
from orchestrator.laws.forms.published import published, published_names
from orchestrator.laws.runs import finished_runs
from orchestrator.laws.stated import ASKED, USUAL_FORMS, form_stated


def test_names_and_lines():
    assert form_stated("chinchilla").name == "chinchilla"
    assert form_stated("B/D**beta + A/N**alpha + E").inputs == ("N", "D")
    assert form_stated("a*C**-b").inputs == ("C",)


def test_a_line_needs_more_than_one_value_of_an_input():
    once = finished_runs([1e8] * 9, [2e9] * 9, [3.0] * 9)
    with pytest.raises(FitError, match="2 different values of N, and the rows have 1"):
        fit(form_stated("E + A/N**alpha + B/D**beta"), once)


@pytest.mark.parametrize("text", ["E + A/N**alpha", "mixture_of_experts", "a + b", "N**", "open"])
def test_others_are_refused(text):
    with pytest.raises(ValueError, match=r"law|expression|N|takes"):
        form_stated(text)


def test_a_sweep_accepts_every_form_of_its_inputs_and_lines():
    ship = [*NAMED, *(published(name) for name in published_names())]
    assert set(LAW_NAMES) == {form.name for form in ship if form.inputs in ASKED}
    assert LawPlan().forms == USUAL_FORMS
    plan = LawPlan.model_validate({"forms": [*LAW_NAMES, "E + A/N**alpha + B/D**beta"]})
    assert len(plan.forms) == len(LAW_NAMES) + 1
    with pytest.raises(ValueError, match="did you mean 'chinchilla'"):
        LawPlan.model_validate({"forms": ["chinchila"]})
