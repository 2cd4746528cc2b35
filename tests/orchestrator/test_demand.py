"""What a segment takes by its size or rung, and how much of that is a slot."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.demand import Demand, Takes, demand_of
from orchestrator.resources import Resources, Steps
from orchestrator.spec import SweepSpec, canonical_json, spec_from_json
from orchestrator.values import Candidate
from trainers.findings import FieldError

SIZES = (10, 100, 1000)


def candidate(params: int) -> Candidate:
    return Candidate(
        id=f"n{params}", params=params, horizon=1000, flops_per_token=6.0, tokens_per_step=10
    )


POOL = tuple(map(candidate, SIZES))


def steps(by: str, **numbers: object) -> Steps:
    return Steps.model_validate({"by": by, **{k.removeprefix("n"): n for k, n in numbers.items()}})


def demand(**given: Any) -> Demand:
    return demand_of(POOL, (), **given)


def slots(found: Demand, tokens: int = 1000) -> list[int]:
    return [found.slots(each, tokens) for each in POOL]


def test_a_number_holds_from_its_step_on() -> None:
    by_size = steps("params", n0=1, n100=2, n1K=8)
    assert [by_size.of(each, 10) for each in POOL] == [1, 2, 8]
    by_tokens = steps("tokens", n200=4, n0=1)
    assert [by_tokens.of(POOL[0], tokens) for tokens in (10, 199, 200, 1000)] == [1, 1, 4, 4]
    by_flops = steps("flops", n0=1, n600=2)
    assert [by_flops.of(POOL[0], tokens) for tokens in (90, 100)] == [1, 2]


def test_who_takes_one_number_takes_one_slot_of_it() -> None:
    for given in ({}, {"gpus": 0.25}, {"gpus": 4}, {"processes": 2, "gpus": 0.0}):
        found = demand(**given)
        assert not found.varies
        assert slots(found) == [1, 1, 1]
        assert found.slot == found.smallest
    assert demand(gpus=4).smallest == Takes(processes=4, gpus=4.0)


@pytest.mark.parametrize(
    ("numbers", "taken", "slot"),
    [
        ((1, 2, 4), [1, 2, 4], 1.0),
        ((2, 4, 8), [1, 2, 4], 2.0),
        ((2, 2, 3), [2, 2, 3], 1.0),
        ((0.5, 1, 4), [1, 2, 8], 0.5),
        ((0.25, 0.4, 1), [1, 2, 4], 0.25),
        ((0.4, 1, 2), [1, 2, 4], 0.5),
        ((0.7, 1, 2), [1, 1, 2], 1.0),
    ],
)
def test_a_slot_is_what_all_are_multiples_of(
    numbers: tuple[float, ...], taken: list[int], slot: float
) -> None:
    small, middle, large = numbers
    found = demand(gpus=steps("params", n0=small, n100=middle, n1000=large))
    assert found.varies
    assert slots(found) == taken
    assert found.slot.gpus == pytest.approx(slot)
    assert found.largest_slots == taken[-1]


def test_a_part_of_a_gpu_beside_a_larger_one_fills_no_more_than_whole_gpus() -> None:
    """Slots are counted by GPU: where two of 0.4 sit on one, the rest of it is nobody's, and a
    block of slots is a whole GPU even where none takes one."""
    found = demand(gpus=steps("params", n0=0.25, n100=0.5, n1000=0.75))
    assert slots(found) == [1, 2, 3]
    assert found.largest_slots == 4


def test_only_what_the_pool_can_take_is_a_kind() -> None:
    found = demand(gpus=steps("params", n0=1, n5000=8))
    assert not found.varies
    by_rung = demand(processes=steps("tokens", n0=1, n500=2, n2000=4), gpus=0.0)
    assert [kind.processes for kind in by_rung.kinds] == [1, 2]
    assert (slots(by_rung, 490), slots(by_rung, 500)) == ([1] * 3, [2] * 3)
    assert slots(by_rung, 5000) == [2, 2, 2], "a branch past the end takes what the end takes"


def test_a_slot_has_the_cpus_that_any_of_its_kind_needs() -> None:
    by_size = steps("params", n0=1, n1000=4)
    assert demand(gpus=by_size, cpus=3.0).slot.cpus == 3
    assert demand(gpus=by_size, cpus=steps("params", n0=1, n1000=8)).slot.cpus == 2


@pytest.mark.parametrize(
    ("takes", "counted", "said"),
    [
        (Takes(), 1.0, "1 process"),
        (Takes(processes=4), 4.0, "4 processes"),
        (Takes(processes=4, gpus=0.0), 4.0, "4 processes"),
        (Takes(gpus=0.25), 0.25, "0.25 of a GPU"),
        (Takes(gpus=1.0), 1.0, "1 GPU"),
        (Takes(processes=4, gpus=4.0), 4.0, "4 GPUs"),
    ],
)
def test_hours_count_what_a_segment_takes(takes: Takes, counted: float, said: str) -> None:
    assert (takes.size, takes.said) == (counted, said)


def test_processes_and_gpus_that_do_not_fit_are_refused() -> None:
    with pytest.raises(FieldError, match="each process takes one GPU"):
        demand(gpus=steps("params", n0=1, n1000=4), processes=steps("params", n0=1, n1000=2))
    fits = demand(gpus=steps("params", n0=1, n1000=4), processes=steps("params", n0=1, n1000=4))
    assert fits.kinds[-1] == Takes(processes=4, gpus=4.0)


@pytest.mark.parametrize(
    ("given", "key", "words"),
    [
        ({"by": "params", "0": 1, "10": 1.5}, "gpus_per_trial.10", "round it"),
        ({"by": "params", "0": 0, "10": 1}, "gpus_per_trial", "some on none"),
        ({"by": "params", "10": 1}, "gpus_per_trial", "what the smallest take"),
        ({"by": "params", "0": 1, "1K": 2, "1000": 4}, "1000", "is 1K once more"),
        ({"by": "params", "0": 1, "many": 2}, "many", "no place to begin"),
        ({"by": "params"}, "gpus_per_trial", "what the smallest take"),
    ],
)
def test_steps_that_mean_nothing_are_refused(
    given: dict[str, object], key: str, words: str
) -> None:
    with pytest.raises(ValidationError) as refusal:
        Resources.model_validate({"gpus_per_trial": given})
    assert words in str(refusal.value)
    assert key in str(refusal.value)


def test_steps_survive_the_journal() -> None:
    data = {
        "version": 1,
        "name": "x",
        "trial": {},
        "budget": {"flops": 1e9},
        "policy": {"kind": "exhaustive"},
        "resources": {"gpus_per_trial": {"by": "params", "0": 0.5, "300M": 4}, "lockstep": 4},
    }
    spec = SweepSpec.model_validate(data)
    again = spec_from_json(canonical_json(spec))
    assert again == spec
    read = again.resources.gpus_per_trial
    assert isinstance(read, Steps)
    assert read.levels == ((0, 0.5), (300_000_000, 4.0))
    assert again.resources.gpus_counted == 0.5
