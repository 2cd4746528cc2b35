"""Specs as the command reads them: laws in one line are parsed before anything is spent."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.assembly.specs import read_spec
from tests.orchestrator.assembly.specs import recorded
from trainers.documents import SpecError


@pytest.mark.parametrize(
    ("forms", "place", "said"),
    [
        ('[chinchilla, "E + A/N^a + B/D^b"]', "9:27", "a power is written `**`"),
        ('[chinchilla, "E + A/N**a + B/T**b"]', "9:27", "E, A, a, B, T, b are read as param"),
        ('"E + A/T**a"', "9:14", "takes no input at all"),
    ],
)
def test_a_law_that_is_none_is_told_at_its_place(
    forms: str, place: str, said: str, tmp_path: Path
) -> None:
    file = recorded(tmp_path)
    text = file.read_text().replace("law: {bootstrap: 20}", f"law: {{forms: {forms}}}")
    file.write_text(text)
    with pytest.raises(SpecError) as caught:
        read_spec(str(file), ())
    (problem,) = caught.value.problems
    row = text.splitlines().index(f"law: {{forms: {forms}}}") + 1
    assert problem.place == f"{file}:{row}:{place.partition(':')[2]}"
    assert said in problem.message
