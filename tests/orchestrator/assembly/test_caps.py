"""Caps: told when they are spent, and raised by assignments that leave room again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.assembly.caps import cap_of, raised, used_of
from orchestrator.assembly.parts import initial_state
from orchestrator.assembly.reading import under
from orchestrator.assembly.specs import read_spec
from orchestrator.resources import Resources
from orchestrator.state import Ledger, SweepState
from tests.orchestrator.assembly import specs


def case(
    tmp_path: Path, *overrides: str, hours: float = 0.0, lost: float = 0.0
) -> tuple[str | None, tuple[str, ...], SweepState]:
    """(cap, raised, state) after so many hours, with a share of the budget lost."""
    spec, pool = read_spec(str(specs.recorded(tmp_path)), overrides)
    state = initial_state(spec, pool)
    ledger = Ledger(gpu_s=3600 * hours, lost=int(lost * state.terms.budget))
    state = under(spec, replace(state, ledger=ledger))
    return cap_of(spec)(state), raised(spec, state), state


def test_with_room_left_nothing_is_said(tmp_path: Path) -> None:
    cap, more, _ = case(tmp_path, "budget.gpu_hours=3", hours=2.9, lost=0.09)
    assert (cap, more) == (None, ())


@pytest.mark.parametrize(
    ("overrides", "hours", "said", "more"),
    [
        (("budget.gpu_hours=3",), 3.0, "budget.gpu_hours 3", "budget.gpu_hours=6"),
        (("budget.gpu_hours=3",), 10.0, "budget.gpu_hours 3", "budget.gpu_hours=15"),
        (
            ("budget.dollars=6", "budget.dollars_per_gpu_hour=2"),
            3.0,
            "6 dollars are spent",
            "budget.dollars=12",
        ),
    ],
)
def test_a_spent_cap_is_doubled_or_more(
    overrides: tuple[str, ...], hours: float, said: str, more: str, tmp_path: Path
) -> None:
    cap, assignments, _ = case(tmp_path, *overrides, hours=hours)
    assert said in (cap or "")
    assert assignments == (more,)
    again, _, _ = case(tmp_path, *overrides, *assignments, hours=hours)
    assert again is None


@pytest.mark.parametrize(
    ("resources", "counted"),
    [
        ({}, 1.0),
        ({"gpus_per_trial": 0.25}, 0.25),
        ({"gpus_per_trial": 4}, 4.0),
        ({"processes_per_trial": 4}, 4.0),
        # A trial of four processes takes the place of four trials of one, and as many hours.
        ({"gpus_per_trial": 0, "processes_per_trial": 4}, 4.0),
        ({"gpus_per_trial": 0, "processes_per_trial": {"by": "params", "0": 2, "1M": 4}}, 2.0),
        ({"gpus_per_trial": 0}, 1.0),
    ],
)
def test_hours_count_the_gpus_that_a_trial_may_get(
    resources: dict[str, float], counted: float
) -> None:
    # Four processes take four GPUs where there are any and nobody said none.
    assert Resources.model_validate({"backend": "ray", **resources}).gpus_counted == counted


def test_a_spent_ceiling_on_lost_work_is_raised_beyond_what_was_lost(tmp_path: Path) -> None:
    _, assignments, _ = case(tmp_path, lost=0.3)
    assert assignments == ("budget.lost=0.45",)
    _, none, state = case(tmp_path, *assignments, lost=0.3)
    assert none == ()
    assert state.ledger.lost <= state.terms.lost_ceiling


def test_all_of_the_budget_is_the_most_that_may_be_lost(tmp_path: Path) -> None:
    _, assignments, _ = case(tmp_path, lost=0.9)
    assert assignments == ("budget.lost=1",)
    _, none, _ = case(tmp_path, "budget.lost=100%", lost=1.1)
    assert none == ()


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ((), "75 % of 3 GPU-hours"),
        (("budget.gpu_hours=30",), "10 % of "),
        (("budget.dollars=5", "budget.dollars_per_gpu_hour=2"), "90 % of 5 dollars"),
    ],
)
def test_what_runs_out_first_is_what_is_told(
    extra: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    spec, pool = read_spec(str(specs.recorded(tmp_path)), ["budget.gpu_hours=3", *extra])
    state = initial_state(spec, pool)
    ledger = Ledger(gpu_s=3600 * 2.25, spent=int(0.1 * state.terms.budget))
    used = used_of(spec)(replace(state, ledger=ledger))
    assert used.said.startswith(said)
    assert (used.unit == "FLOPs") is (said == "10 % of ")
