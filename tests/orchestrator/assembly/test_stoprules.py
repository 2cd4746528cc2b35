"""What may end a sweep early: told in the plan, and where it did not, why not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.assembly.concluding import conclude_sweep
from orchestrator.assembly.folders import find
from orchestrator.assembly.parts import initial_state, policy_of
from orchestrator.assembly.plan import plan_of
from orchestrator.assembly.reading import read_sweep
from orchestrator.assembly.specs import read_spec
from orchestrator.assembly.stoprules import foretold, two_widths, unheard
from orchestrator.cli.app import run
from orchestrator.events import Decided, PointReported, Started
from orchestrator.policies.pricing import NOTHING_FITS
from orchestrator.policies.unheard import Unheard
from orchestrator.recorded import read_recorded
from orchestrator.report.conclusions import Averaged
from orchestrator.spec import SweepSpec
from orchestrator.state import SweepState, fold
from orchestrator.values import NO_MORE, Extend, Point
from tests.orchestrator.assembly import specs

TARGET = "target={params: 10M, tokens: 200M}"
DEPLOYED = "deployment_flops=1e16"
RECOMMEND = "policy={kind: recommend, surrogate: power_law, regret: 0.01, worth: 5%}"


def read(tmp_path: Path, *overrides: str) -> tuple[SweepSpec, SweepState]:
    spec, pool = read_spec(str(specs.recorded(tmp_path)), overrides)
    return spec, initial_state(spec, pool)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((), None),
        ((RECOMMEND, DEPLOYED), "policy.regret and policy.worth may end it earlier, but only"),
        (("policy={kind: frontier, worth: 5%}",), "trusts the forecasts of joint_law"),
        (("policy={kind: frontier, worth: 5%, gate: false}",), "that are not tested"),
        (("policy={kind: active, half_width: 0.1}", TARGET), "once a law can be fitted"),
        (("policy={kind: active, regret: 0.1}", DEPLOYED), "policy.regret may end it earlier"),
    ],
)
def test_a_plan_says_when_they_can_act(
    overrides: tuple[str, ...], said: str | None, tmp_path: Path
) -> None:
    spec, state = read(tmp_path, *overrides)
    notes = foretold(spec)
    assert (said is None) == (not notes)
    assert said is None or said in notes[0]
    assert set(notes) <= set(plan_of(spec, state.pool).notes)
    assert isinstance(policy_of(spec), Unheard) == (said is not None and "trusts" in notes[0])


def seen(spec: SweepSpec, state: SweepState, *, closed: str | None) -> SweepState:
    """The state with two points of one curve: too few for any backtest."""
    assert spec.recorded is not None
    curves = read_recorded(spec.recorded.curves)
    candidate = state.pool.candidates[0]
    curve = curves[candidate.id]
    until = int(curve.tokens[3])
    events = [
        Decided(policy="p", decisions=(Extend(trial=candidate.id, tokens=until, reason="r"),)),
        Started(trial=candidate.id, attempt=1, until=until),
        *(
            PointReported(
                trial=candidate.id,
                attempt=1,
                point=Point(tokens=int(t), flops=float(c), loss=float(v)),
            )
            for t, c, v in zip(curve.tokens[:2], curve.flops[:2], curve.loss[:2], strict=True)
        ),
    ]
    return replace(fold(state, events), closed=closed)


def test_where_they_did_not_end_it_the_reason_is_told(tmp_path: Path) -> None:
    spec, state = read(tmp_path, RECOMMEND, DEPLOYED)
    assert unheard(spec, state) is None, "nothing was seen yet"
    under_way = unheard(spec, seen(spec, state, closed=None))
    assert under_way is not None
    assert under_way.startswith("policy.regret and policy.worth cannot end it as it stands")
    done = unheard(spec, seen(spec, state, closed="the policy has nothing left to decide"))
    assert done is not None and "could not end it, since no forecast is trusted" in done
    assert "could not be tested" in done
    assert unheard(spec, seen(spec, state, closed=NO_MORE + "enough")) is None


def test_a_width_that_was_not_reached_is_told(tmp_path: Path) -> None:
    spec, state = read(tmp_path, "policy={kind: active, half_width: 0.1}", TARGET)
    assert unheard(spec, seen(spec, state, closed=None)) is None, "it may yet be reached"
    said = unheard(spec, seen(spec, state, closed="it is over"))
    rule = "the stop rules that were asked for (half_width 0.1)"
    assert said == f"{rule} were not met by what was bought"
    spent = NO_MORE + NOTHING_FITS + ", 3 GPU-seconds"
    assert unheard(spec, seen(spec, state, closed=spent)) == said


def test_why_the_policys_width_is_not_the_answers_is_told_at_the_end_and_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("policy={kind: active, half_width: 0.1}", "law.forms=[chinchilla]", TARGET)
    assert run(["launch", str(specs.recorded(tmp_path)), "-q", *asked]) == 0
    sweep = read_sweep(find("ladder", str(tmp_path / "sweeps")))
    found = conclude_sweep(sweep)
    answer = found.target
    assert answer is not None and answer.loss.low is not None and answer.loss.high is not None
    why = two_widths(sweep.spec, found)
    half = 0.5 * math.log(answer.loss.high / answer.loss.low)
    assert why is not None and f"± {half:.2g} of log loss (90 %)" in why
    assert f"a factor of {math.exp(half):.2f} either way" in why
    assert "are of its own belief" in why and "plan by the wider" in why
    assert f"widths   {why}" in capsys.readouterr().err
    said = f"{why[0].upper()}{why[1:]}."
    assert said in sweep.folder.report.read_text()
    assert said in sweep.folder.summary.read_text()
    bare = replace(answer, loss=replace(answer.loss, low=None, high=None))
    alone = replace(found, target=bare)
    assert two_widths(sweep.spec, alone) is None, "one width alone needs no explanation"
    other, _ = read(tmp_path, RECOMMEND, DEPLOYED)
    assert two_widths(other, found) is None, "it names no half-width"
    both = Averaged(loss=answer.loss, forms=(("chinchilla", 0.5), ("kaplan", 0.5)))
    together = replace(found, target=replace(answer, by=both.key), averaged=both)
    assert two_widths(sweep.spec, together) is None, "the answer is by the belief that bought"
