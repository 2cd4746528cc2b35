"""Every policy of a sweep file drives a sweep that really trains, with the parts of `launch`."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.assembly import session
from orchestrator.assembly.specs import read_spec
from orchestrator.events import Decided
from orchestrator.journal import read_records
from tests.orchestrator.assembly import specs

KINDS = {
    "frontier": "{kind: frontier}",
    "halving by forecast": "{kind: successive_halving, surrogate: joint_law}",
    "recommend": "{kind: recommend}",
    "hyperband": "{kind: hyperband}",
    "asha": "{kind: asha}",
    "static_ladder": "{kind: static_ladder}",
    "one_shot": "{kind: one_shot}",
    "by a power law": "{kind: successive_halving, surrogate: power_law}",
    "by the multi-task GP": "{kind: successive_halving, surrogate: multi_task_gp}",
    "by the latent GP": "{kind: successive_halving, surrogate: latent_gp}",
    "by the ensemble": "{kind: successive_halving, surrogate: deep_ensemble}",
}
FAST = ("frontier",)


@pytest.mark.parametrize(
    "kind",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in KINDS],
)
def test_it_runs_live_and_says_why(kind: str, tmp_path: Path) -> None:
    spec, pool = read_spec(
        str(specs.live(tmp_path, horizon=1024)),
        [f"policy={KINDS[kind]}", "deployment_flops=1e12"],
    )
    ended = session.drive(spec, pool, session.Wishes(say=lambda line: None, asked=lambda: None))
    assert ended.outcome.kind == "done"
    state = ended.outcome.state
    assert state.ledger.reserved == 0
    assert state.ledger.spent <= state.terms.budget
    assert any(len(trial.curve) for trial in state.trials.values())
    decided = [
        decision
        for record in read_records(ended.folder.journal)
        if isinstance(record.event, Decided)
        for decision in record.event.decisions
    ]
    assert all(len(decision.reason) > 10 for decision in decided)


@pytest.mark.slow
def test_active_pays_in_hours_from_a_stated_speed_on(tmp_path: Path) -> None:
    spec, pool = read_spec(
        str(specs.live(tmp_path, horizon=1024)),
        [
            "policy={kind: active, lengths: 3}",
            "target={params: 1e5, tokens: 1e6}",
            "budget={gpu_hours: 0.01, flops_per_s: 1e6}",
            "law.forms=[chinchilla]",
            "anneal=null",
        ],
    )
    ended = session.drive(spec, pool, session.Wishes(say=lambda line: None, asked=lambda: None))
    reasons = [
        decision.reason
        for record in read_records(ended.folder.journal)
        if isinstance(record.event, Decided)
        for decision in record.event.decisions
    ]
    assert "GPU-seconds (" in reasons[0]
    assert any(trial.timings for trial in ended.outcome.state.trials.values())
