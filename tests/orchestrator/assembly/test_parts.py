from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.assembly import parts
from orchestrator.assembly.folders import folder_of
from orchestrator.assembly.plan import plan_of
from orchestrator.assembly.refusal import Refused
from orchestrator.assembly.specs import read_spec
from orchestrator.blocks import SURROGATES
from orchestrator.policies.successive_halving import SuccessiveHalving
from tests.orchestrator.assembly import specs

KINDS = (
    "successive_halving",
    "hyperband",
    "asha",
    "one_shot",
    "static_ladder",
    "frontier",
    "recommend",
    "uniform",
    "exhaustive",
)


@pytest.mark.parametrize("kind", KINDS)
def test_each_policy_of_a_spec_is_built(kind: str, tmp_path: Path) -> None:
    spec, _ = read_spec(
        str(specs.recorded(tmp_path)), [f"policy={{kind: {kind}}}", "deployment_flops=1e15"]
    )
    assert parts.policy_of(spec).name == kind
    assert kind.split("_")[0] in parts.in_words(spec)


def test_recommend_needs_to_know_what_would_be_deployed(tmp_path: Path) -> None:
    spec, _ = read_spec(str(specs.recorded(tmp_path)), ["policy={kind: recommend}"])
    with pytest.raises(Refused, match="add deployment_flops"):
        parts.policy_of(spec)


AIMS = {
    "target": ("target={params: 1e9, tokens: 2e10}", "active", "right at the target"),
    "recommend": ("deployment_flops=1e15", "recommend", "tells most about the deployment"),
    "frontier": ("aim=frontier", "frontier", "the lowest loss for the compute"),
}


@pytest.mark.parametrize("aim", AIMS)
def test_active_serves_the_aim_of_the_sweep(aim: str, tmp_path: Path) -> None:
    asked, name, words = AIMS[aim]
    spec, pool = read_spec(str(specs.recorded(tmp_path)), ["policy=active", asked])
    assert spec.aim == aim
    assert parts.policy_of(spec).name == name
    assert parts.in_words(spec).startswith("active (") and words in parts.in_words(spec)
    assert plan_of(spec, pool).rungs


def test_hours_hold_policies_that_lay_out_shares(tmp_path: Path) -> None:
    from orchestrator.policies.annealed import Annealed
    from orchestrator.policies.within import Within

    path = str(specs.live(tmp_path))
    spec, _ = read_spec(path, ["policy=frontier", "budget={flops: 60%, gpu_hours: 2}"])
    policy = parts.policy_of(spec)
    assert isinstance(policy, Annealed) and isinstance(policy.policy, Within)
    assert policy.purse.gpu_hours == 2.0
    assert policy.policy.purse.gpu_hours == pytest.approx(1.8)
    alone, _ = read_spec(path, ["policy=frontier"])
    bare = parts.policy_of(alone)
    assert isinstance(bare, Annealed) and not isinstance(bare.policy, Within)


WITH_TORCH = ("multi_task_gp", "latent_gp", "deep_ensemble")


@pytest.mark.parametrize(
    "surrogate",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in WITH_TORCH else name
        for name in SURROGATES
    ],
)
def test_each_surrogate_of_a_spec_ranks(surrogate: str, tmp_path: Path) -> None:
    spec, _ = read_spec(
        str(specs.recorded(tmp_path)),
        [f"policy={{kind: successive_halving, surrogate: {surrogate}}}"],
    )
    policy = parts.policy_of(spec)
    assert isinstance(policy, SuccessiveHalving)
    assert policy.ranking.name.startswith(surrogate)
    assert surrogate in parts.in_words(spec)


def test_annealing_is_put_around_the_policy(tmp_path: Path) -> None:
    from orchestrator.policies.annealed import Annealed

    spec, _ = read_spec(str(specs.live(tmp_path)), ["anneal.share=20%", "anneal.stopped=3"])
    policy = parts.policy_of(spec)
    assert isinstance(policy, Annealed)
    assert (policy.share, policy.stopped) == (0.2, 3)
    assert "20 % of the budget" in parts.in_words(spec)


def test_terms_are_those_of_the_spec(tmp_path: Path) -> None:
    spec, pool = read_spec(
        str(specs.recorded(tmp_path)), ["budget.lost=5%", "failures=7", "seed=9"]
    )
    terms = parts.terms_of(spec, pool)
    assert terms.lost_ceiling == int(terms.budget * 0.05)
    assert (terms.max_failures, terms.seed) == (7, 9)


def test_records_go_to_a_database_beside_the_sweeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    spec, _ = read_spec(str(specs.recorded(tmp_path)), ["tracking.mlflow=true"])
    uri = parts.tracking_uri(spec, folder_of(spec))
    assert uri == f"sqlite:///{tmp_path / 'sweeps' / 'mlflow.db'}"


def test_the_environment_names_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("OURS", "http://ours:5000")
    path = str(specs.recorded(tmp_path))
    spec, _ = read_spec(path, ["tracking.mlflow=true"])
    assert parts.tracking_uri(spec, folder_of(spec)) == "http://mlflow:5000"
    spec, _ = read_spec(path, ["tracking.mlflow=true", "tracking.uri=env:OURS"])
    assert parts.tracking_uri(spec, folder_of(spec)) == "http://ours:5000"
    monkeypatch.delenv("OURS")
    with pytest.raises(Refused, match="env:OURS, and that variable is not set"):
        parts.tracking_uri(spec, folder_of(spec))


def test_no_record_is_kept_where_none_is_wanted(tmp_path: Path) -> None:
    spec, _ = read_spec(str(specs.recorded(tmp_path)), [])
    assert parts.tracking_uri(spec, folder_of(spec)) is None
