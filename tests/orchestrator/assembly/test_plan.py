from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.assembly.plan import kept_sizes, plan_of
from orchestrator.assembly.refusal import Refused
from orchestrator.assembly.specs import read_spec
from orchestrator.pool import budget_flops
from tests.orchestrator.assembly import specs
from trainers.documents import SpecError


def test_the_plan_adds_up(tmp_path: Path) -> None:
    spec, pool = read_spec(str(specs.recorded(tmp_path)), [])
    plan = plan_of(spec, pool, workers=3)
    assert sum(row.candidates for row in plan.sizes) == plan.candidates == 12
    assert sum(row.flops for row in plan.sizes) == plan.exhaustive == pool.exhaustive_flops
    assert plan.budget == budget_flops(spec, pool)
    assert sum(row.cost for row in plan.rungs) <= plan.budget
    assert plan.share == pytest.approx(0.4, rel=1e-6)


def test_more_workers_never_beat_the_longest_path(tmp_path: Path) -> None:
    spec, pool = read_spec(str(specs.recorded(tmp_path)), ["policy.group_by=null"])
    paths = [plan_of(spec, pool, workers=n).path_here for n in (1, 2, 5, 100)]
    assert paths == sorted(paths, reverse=True)  # type: ignore[type-var]
    assert paths[-1] == plan_of(spec, pool).path


def test_time_and_money_follow_from_a_workers_speed_alone(tmp_path: Path) -> None:
    extra = "budget: {flops: 40%, gpu_hours: 1, dollars: 5, dollars_per_gpu_hour: 2}\n"
    path = specs.recorded(tmp_path)
    path.write_text(path.read_text().replace("budget: {flops: 40%}\n", extra))
    spec, pool = read_spec(str(path), [])
    blind = plan_of(spec, pool)
    assert blind.gpu_hours is None
    assert blind.dollars is None
    assert any("--flops-per-s" in warning for warning in blind.warnings)
    slow = plan_of(spec, pool, flops_per_s=blind.planned / 36000)
    assert slow.gpu_hours == pytest.approx(10)
    assert slow.dollars == pytest.approx(20)
    assert any("10 GPU-hours" in warning for warning in slow.warnings)
    assert any("20 dollars" in warning for warning in slow.warnings)


def test_a_policy_that_weighs_hours_is_planned_within_them(tmp_path: Path) -> None:
    path = specs.recorded(tmp_path)
    path.write_text(path.read_text().replace("budget: {flops: 40%}", "budget: {gpu_hours: 1}"))
    overrides = ["policy={kind: active, lengths: 4}", "target={params: 1e9, tokens: 2e10}"]
    spec, pool = read_spec(str(path), overrides)
    blind = plan_of(spec, pool)
    assert blind.budget == pool.exhaustive_flops and blind.gpu_hours is None
    assert any("is learned from the first segments" in warning for warning in blind.warnings)
    speed = pool.exhaustive_flops / 36000
    stated, _ = read_spec(str(path), [*overrides, f"budget.flops_per_s={speed}"])
    for known in (plan_of(stated, pool), plan_of(spec, pool, flops_per_s=speed)):
        assert known.budget == pytest.approx(pool.exhaustive_flops / 10)
        assert known.gpu_hours is not None and known.gpu_hours <= 1.0
        assert not any("gpu_hours" in warning for warning in known.warnings)


def test_annealing_is_paid_from_the_same_budget(tmp_path: Path) -> None:
    spec, pool = read_spec(str(specs.live(tmp_path)), [])
    plan = plan_of(spec, pool)
    assert plan.annealing == int(plan.budget * 0.1)
    assert sum(row.cost for row in plan.rungs) + plan.annealing <= plan.budget


def test_the_time_counts_a_decay_and_what_spends_the_budget_out(tmp_path: Path) -> None:
    spec, pool = read_spec(str(specs.live(tmp_path)), [])
    without, _ = read_spec(str(specs.live(tmp_path)), ["anneal=null", "budget.flops=54%"])
    plan, bare = plan_of(spec, pool, workers=2), plan_of(without, pool, workers=2)
    last = plan.rungs[-1].flops
    assert plan.path - bare.path == pytest.approx(0.2 * last, rel=1e-3)
    assert plan.path_here is not None and bare.path_here is not None
    assert plan.path_here >= plan.planned / 2
    assert bare.path_here >= bare.planned / 2
    single, _ = read_spec(str(specs.live(tmp_path)), ["resources.workers=1"])
    alone = plan_of(single, pool)
    assert alone.path_here is not None and alone.path_here >= alone.planned


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("policy.group_by=params", "all 6 sizes reach the last rung"),
        ("policy.group_by=null", "the losses decide"),
        ("policy={kind: uniform}", "each trial with an even share"),
        ("policy={kind: exhaustive}", "to their end"),
    ],
)
def test_what_the_law_rests_on_is_said(policy: str, said: str, tmp_path: Path) -> None:
    spec, pool = read_spec(str(specs.recorded(tmp_path)), [policy])
    assert said in kept_sizes(plan_of(spec, pool), spec)


def test_ungrouped_halving_is_warned_about(tmp_path: Path) -> None:
    spec, pool = read_spec(str(specs.recorded(tmp_path)), ["policy.group_by=null"])
    assert any("lose its spread" in warning for warning in plan_of(spec, pool).warnings)


def test_an_override_without_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is no override"):
        read_spec(str(specs.recorded(tmp_path)), ["other.yaml"])


def test_several_processes_a_trial_are_told_and_their_gpus_counted(tmp_path: Path) -> None:
    path = str(specs.live(tmp_path))
    alone = plan_of(*read_spec(path, ["resources.backend=ray"]), flops_per_s=1e12)
    both = plan_of(
        *read_spec(path, ["resources.backend=ray", "resources.gpus_per_trial=2"]), flops_per_s=1e12
    )
    assert alone.gpu_hours is not None
    assert both.gpu_hours == pytest.approx(2 * alone.gpu_hours)
    (note,) = set(both.notes) - set(alone.notes)
    assert note.startswith("each trial is trained by 2 processes on one node, a GPU each")


def test_gpus_by_size_are_told_for_each_size(tmp_path: Path) -> None:
    path = str(specs.live(tmp_path))
    alone = plan_of(*read_spec(path, ["resources.backend=ray"]), flops_per_s=1e12)
    middle = alone.sizes[len(alone.sizes) // 2].params
    rule = f"resources.gpus_per_trial={{by: params, 0: 1, {middle}: 2}}"
    sized = plan_of(
        *read_spec(path, ["resources.backend=ray", "resources.workers=2", rule]), flops_per_s=1e12
    )
    assert sized.gpu_hours == alone.gpu_hours
    each, slots = (note for note in sized.notes if note not in alone.notes)
    assert each.startswith("what a trial takes, by its size: 1 GPU: ")
    assert "2 GPUs: " in each
    assert slots.startswith("the 2 workers are places of 1 GPU, as the smallest trials take; the ")
    assert "the largest takes 2 of them, all on one node" in slots
    rung = "resources.gpus_per_trial={by: tokens, 0: 1, 1K: 2}"
    by_rung = plan_of(*read_spec(path, ["resources.backend=ray", rung]))
    assert any("1 GPU to 2 GPUs" in note for note in by_rung.notes)


@pytest.mark.parametrize(
    ("gpus", "largest", "hours"),
    [
        ("0.25", "4 of them share a GPU", "a worker counts as 0.25"),
        ("0.6", "takes 0.6 of a GPU, and so does a worker", "a worker counts as 0.6"),
        ("1", "", ""),
        ("0", "", "no GPU is taken, so a worker counts as 1, one for each process"),
        # A block is a whole GPU, four places, and still the largest trial takes two of them.
        (
            "{by: params, 0: 0.25, 5K: 0.5}",
            "the 4 workers are places of 0.25 of a GPU, as the smallest trials take; the largest "
            "takes 2 of them, all on one GPU",
            "the smallest worker counts as 0.25",
        ),
        (
            "{by: params, 0: 0.5, 5K: 1}",
            "takes 2 of them, all on one GPU",
            "the smallest worker counts as 0.5",
        ),
    ],
)
def test_parts_of_a_gpu_are_told(gpus: str, largest: str, hours: str, tmp_path: Path) -> None:
    path = str(specs.live(tmp_path))
    rule = ["resources.backend=ray", "resources.workers=4", f"resources.gpus_per_trial={gpus}"]
    plan = plan_of(*read_spec(path, rule))
    assert plan.hours_count == hours
    assert largest in " ".join(plan.notes) and bool(largest) == ("GPU" in " ".join(plan.notes))


def test_fewer_workers_than_a_whole_gpu_are_told_why(tmp_path: Path) -> None:
    rule = "resources.gpus_per_trial={by: params, 0: 0.25, 5K: 0.5}"
    overrides = ["resources.backend=ray", "resources.workers=2", rule]
    with pytest.raises(SpecError, match=r"2 make no whole GPU, .* 0.25 of a GPU; use 4 or more"):
        read_spec(str(specs.live(tmp_path)), overrides)


def test_lockstep_is_told(tmp_path: Path) -> None:
    path = str(specs.live(tmp_path))
    alone = plan_of(*read_spec(path, []))
    stacked = plan_of(*read_spec(path, ["resources.lockstep=8"]))
    (note,) = set(stacked.notes) - set(alone.notes)
    assert note.startswith("up to 2 trials of one shape train as one stacked model in a slot")
    asha = plan_of(*read_spec(path, ["resources.lockstep=8", "policy={kind: asha}"]))
    assert any("asha starts a trial for each free slot" in note for note in asha.notes)


LARGE = ["trial.batch_tokens=4Mi", "trial.horizon=64Mi", "trial.device=cpu"]


def test_lockstep_auto_is_told_by_shape(tmp_path: Path) -> None:
    path = str(specs.live(tmp_path))
    alone = plan_of(*read_spec(path, []))

    def told(*overrides: str) -> str:
        stacked = plan_of(*read_spec(path, ["resources.lockstep=auto", *overrides]))
        (note,) = set(stacked.notes) - set(alone.notes)
        return note

    here = r"up to 2 \(.* parameters\) on a CPU"
    assert re.match(here + " trials of one shape", told("trial.device=cpu"))
    assert re.match(here + " trials of one shape", told("resources.gpus_per_trial=0"))
    assert re.match(here + r", 2 \(.* parameters\) on a GPU trials", told("trial.device=auto"))
    shared = "resources.processes_per_trial={by: params, 0: 1, 5K: 2}"
    on_two = plan_of(*read_spec(path, ["resources.backend=ray", shared]))
    stacked = plan_of(
        *read_spec(path, ["resources.backend=ray", shared, "resources.lockstep=auto"])
    )
    (note,) = set(stacked.notes) - set(on_two.notes)
    assert note.startswith("up to 2 (2.82K parameters) on a CPU trials")
    large = [*LARGE, "resources.lockstep=auto"]
    assert any("auto stacks nothing" in note for note in plan_of(*read_spec(path, large)).notes)
