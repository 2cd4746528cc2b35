"""What a plan says of its aim: how far off the target lies, what a line fits, likely slips."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.assembly.plan import plan_of
from orchestrator.assembly.specs import read_spec
from orchestrator.cli.app import run
from tests.orchestrator.assembly import specs

ACTIVE = "policy={kind: active, lengths: 3}"
FAR = "target={params: 5M, tokens: 200M}"
LINE = "E + A/N**a + B/T**b + K/D**k"


def notes(folder: Path, *overrides: str) -> str:
    spec, pool = read_spec(str(specs.recorded(folder)), overrides)
    return "\n".join(plan_of(spec, pool).notes)


def test_the_target_is_set_against_the_dearest_candidate(tmp_path: Path) -> None:
    spec, pool = read_spec(str(specs.recorded(tmp_path)), [ACTIVE, FAR])
    told, *_ = plan_of(spec, pool).notes
    largest = max(pool.candidates, key=lambda candidate: candidate.cost)
    per_token = largest.cost / largest.end * 5e6 / largest.params
    reach = per_token * 2e8 / largest.cost
    assert told.startswith("the target, 5M params on 200M tokens, costs about ")
    assert f"FLOPs: {reach:.1f} times the dearest candidate" in told or f"{reach:,.0f} ti" in told
    assert ("a long reach" in told) == (reach > 30)


def test_a_target_within_the_pool_is_told_as_such(tmp_path: Path) -> None:
    _, pool = read_spec(str(specs.recorded(tmp_path)), [])
    one = pool.candidates[0]
    near = f"target={{params: {one.params}, tokens: {one.end}}}"
    assert "lie within the pool, so a run there" in notes(tmp_path, ACTIVE, near)


def test_what_is_bought_run_by_run_has_no_rungs_to_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(specs.recorded(tmp_path))
    for overrides, rungs in (([ACTIVE, FAR], False), (["policy=active"], True), ([], True)):
        assert run(["plan", file, *overrides]) == 0
        said = capsys.readouterr().err
        assert ("rung  trials" in said) is rungs
        assert ("each run is bought for what those before it left open" in said) is not rungs


def test_a_deployment_that_no_candidate_takes_is_told(tmp_path: Path) -> None:
    asked = ("policy={kind: recommend}", "aim=recommend")
    _, pool = read_spec(str(specs.recorded(tmp_path)), [])
    dearest = max(candidate.cost for candidate in pool.candidates)
    for flops, told in ((0.9 * dearest, False), (10 * dearest, True)):
        said = notes(tmp_path, *asked, f"deployment_flops={flops}")
        assert ("no candidate takes deployment_flops" in said) is told


def test_a_law_in_one_line_shows_what_it_fits(tmp_path: Path) -> None:
    told = notes(tmp_path, f"law.forms=['{LINE}', chinchilla]", ACTIVE, FAR)
    assert "takes N and D and fits 8 parameters, E, A, a, B, T, b, K, k" in told
    assert "all 2 forms of law.forms choose the runs" in told
    assert "so many want 12 runs" not in told, "the pool has as many"
    curves = "policy={kind: active, by: curves}"
    assert "choose the runs" not in notes(tmp_path, f"law.forms=['{LINE}', kaplan]", curves, FAR)
    more = notes(tmp_path, f"law.forms=['{LINE} + G/(N*D)**c']", ACTIVE, FAR)
    assert "so many want 15 runs, and the pool has 12 candidates" in more


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("half_width: 2", "policy.half_width 2 is of log loss, where it means a factor of 7.4"),
        ("worth: 10", "policy.worth 10 asks a purchase for 1 % of the budget to save 10 %"),
    ],
)
def test_per_cents_that_lack_their_sign_are_told(setting: str, said: str, tmp_path: Path) -> None:
    told = notes(tmp_path, f"policy={{kind: active, {setting}}}", FAR)
    assert said in told and f"is written {setting.split()[1]}%" in told
    kind = setting.replace(": ", ": 0.0")
    assert said[:20] not in notes(tmp_path, f"policy={{kind: active, {kind}}}", FAR)
