"""Decays that their share does not pay for are told before anything is spent."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.assembly.plan import plan_of
from orchestrator.assembly.specs import read_spec
from tests.orchestrator.assembly import specs


@pytest.mark.parametrize(("decay", "said"), [("20%", True), ("5%", False)])
def test_a_share_that_pays_for_no_decay_of_the_longest_trial(
    decay: str, said: bool, tmp_path: Path
) -> None:
    path = specs.live(tmp_path)
    text = path.read_text().replace("decay: 20%", f"decay: {decay}")
    path.write_text(text)
    planned = plan_of(*read_spec(str(path), ["policy=one_shot", "budget.flops=30%"]))
    assert any("would get no annealed loss" in each for each in planned.warnings) is said
