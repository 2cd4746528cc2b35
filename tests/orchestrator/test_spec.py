"""The sweep file: read, resolved, written as one canonical text, and compared with a later one."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.blocks import Active
from orchestrator.pool import load_sweep
from orchestrator.ranges import Span, plain
from orchestrator.spec import (
    SuccessiveHalving,
    SweepSpec,
    canonical_json,
    differences,
    frozen_differences,
    json_schema,
    load_spec,
    spec_digest,
    spec_from_json,
)
from trainers.documents import SpecError

ROOT = Path(__file__).parents[2]
TEXT = """\
version: 1
name: small
trial:
  model: {context: 128, layers: 2}
  batch_tokens: 4Ki
  horizon: {tokens_per_param: 20}
space:
  model.width: [32, 64]
  optimizer.learning_rate: {log: [1e-3, 1e-2], count: 2}
budget: {flops: 20%}
policy: {kind: successive_halving, group_by: params}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(TEXT)
    return path


def test_defaults_are_the_documented_ones(file: Path) -> None:
    spec = load_spec(file)
    assert (spec.seed, spec.aim, spec.failures, spec.storage) == (0, "frontier", 3, "sweeps")
    assert spec.policy == SuccessiveHalving(eta=2, spend_out=True, group_by="params")
    assert spec.anneal is None
    assert (spec.budget.share, spec.budget.lost) == (0.2, 0.1)
    assert spec.law.forms == ("power_irreducible", "chinchilla")
    assert (spec.law.burn_in, spec.law.bootstrap, spec.law.level) == (0.1, 200, 0.9)
    assert (spec.resources.backend, spec.resources.workers) == ("ray", None)
    assert spec.tracking.mlflow


def test_an_empty_anneal_block_asks_for_the_usual_one(file: Path) -> None:
    anneal = load_spec(file, ["anneal={}"]).anneal
    assert anneal is not None
    assert (anneal.share, anneal.decay, anneal.stopped) == (0.1, 0.2, 2)


@pytest.mark.parametrize(
    ("written", "share", "kept"),
    [("20%", 0.2, "20%"), ("1/5", 0.2, "20%"), ("12.5%", 0.125, "12.5%"), ("1e18", None, 1e18)],
)
def test_a_budget_is_a_number_or_a_share(
    file: Path, written: str, share: float | None, kept: object
) -> None:
    budget = load_spec(file, [f"budget.flops={written}"]).budget
    assert budget.share == share
    assert budget.flops == kept


def test_overrides_reach_into_blocks_lists_and_the_space(file: Path) -> None:
    spec = load_spec(
        file,
        [
            "policy.eta=4",
            "trial.model.layers=3",
            "space.model.width=[16, 48, 96]",
            "space.optimizer.learning_rate={log: [1e-3, 1], count: 4}",
            "resources.workers=2",
        ],
    )
    assert isinstance(spec.policy, SuccessiveHalving) and spec.policy.eta == 4
    assert spec.trial is not None and spec.trial["model"] == {"context": 128, "layers": 3}
    assert spec.space is not None
    assert spec.space.axes["model.width"] == (16, 48, 96)
    assert spec.space.keys == ("model.width", "optimizer.learning_rate")
    assert spec.resources.workers == 2


def test_one_condition_and_a_bare_policy_need_no_brackets(file: Path) -> None:
    spec, pool = load_sweep(
        file, ["policy=uniform", "space.exclude=width == 32", "law.forms=kaplan"]
    )
    assert spec.policy.kind == "uniform" and spec.law.forms == ("kaplan",)
    assert (len(pool), pool.excluded) == (2, 2)
    with pytest.raises(SpecError, match="did you mean 'uniform'"):
        load_sweep(file, ["policy=unifrom"])


def test_a_bad_override_is_told_as_such(file: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_sweep(file, ["space.model.width=[32, 33]", "space.model.heads=[2]"])
    (problem,) = caught.value.problems
    assert problem.place == "--set space.model.heads"
    assert "2 heads do not divide width 33" in problem.message


def test_the_spec_is_frozen(file: Path) -> None:
    with pytest.raises(ValidationError):
        load_spec(file).budget.lost = 0.5  # type: ignore[misc]


def test_canonical_json_returns_the_same_spec_and_digest(file: Path) -> None:
    spec = load_spec(file)
    text = canonical_json(spec)
    again = spec_from_json(text)
    assert again == spec
    assert canonical_json(again) == text
    assert spec_digest(spec) == hashlib.sha256(text.encode()).hexdigest()
    assert "\n" not in text


def test_the_order_of_a_mapping_is_no_difference_but_in_the_space(file: Path) -> None:
    spec = load_spec(file)
    file.write_text(
        TEXT.replace("{context: 128, layers: 2}", "{layers: 2, context: 128}")
        .replace("version: 1\nname: small\n", "name: small\nversion: 1\n")
        .replace("flops: 20%", "flops: 1/5")
    )
    assert spec_digest(load_spec(file)) == spec_digest(spec)
    first, second = (line for line in TEXT.splitlines() if "model.width" in line or "rate" in line)
    file.write_text(TEXT.replace(f"{first}\n{second}", f"{second}\n{first}"))
    turned = load_spec(file)
    assert spec_digest(turned) != spec_digest(spec)
    ((key, _, _),) = frozen_differences(spec, turned)
    assert key.startswith("space")


def test_differences_name_the_key_and_both_values(file: Path) -> None:
    spec = load_spec(file)
    other = load_spec(
        file, ["policy.eta=3", "resources.workers=8", "storage=/elsewhere", "failures=5"]
    )
    assert differences(spec, spec) == []
    assert set(differences(spec, other)) == {
        ("policy.eta", 2, 3),
        ("resources.workers", None, 8),
        ("storage", "sweeps", "/elsewhere"),
        ("failures", 3, 5),
    }
    assert frozen_differences(spec, other) == [("policy.eta", 2, 3)]


@pytest.mark.parametrize(
    "allowed",
    [
        "budget.lost=20%",
        "budget.flops=30%",
        "budget.gpu_hours=3",
        "tracking.mlflow=false",
        "resources.backend=inline",
    ],
)
def test_a_resume_may_change_where_and_how(file: Path, allowed: str) -> None:
    assert differences(load_spec(file), load_spec(file, [allowed]))
    assert frozen_differences(load_spec(file), load_spec(file, [allowed])) == []


@pytest.mark.parametrize(
    "frozen",
    [
        "seed=1",
        "deployment_flops=1e20",
        "trial.batch_tokens=2048",
        "space.model.width=[32]",
        "name=b",
    ],
)
def test_a_resume_may_not_change_what_is_tried(file: Path, frozen: str) -> None:
    assert len(frozen_differences(load_spec(file), load_spec(file, [frozen]))) == 1


def test_recorded_curves_are_found_beside_the_file_and_pinned(tmp_path: Path) -> None:
    table = tmp_path / "curves.csv"
    table.write_text("curve_id,tokens,flops,loss\na,1000,1e9,5.0\na,2000,2e9,4.0\n")
    file = tmp_path / "replay.yaml"
    file.write_text(
        "version: 1\nname: again\nrecorded: {curves: curves.csv}\nbudget: {flops: 50%}\n"
        "policy: {kind: uniform}\n"
    )
    spec = load_spec(file)
    assert spec.resources.backend == "replay"
    assert spec.recorded is not None
    assert spec.recorded.curves == str(table)
    assert spec.recorded.sha256 == hashlib.sha256(table.read_bytes()).hexdigest()
    moved = table.rename(tmp_path / "moved.csv")
    file.write_text(file.read_text().replace("curves.csv", "moved.csv"))
    assert frozen_differences(spec, load_spec(file)) == []
    moved.write_text(moved.read_text().replace("4.0", "3.9"))
    ((key, _, _),) = frozen_differences(spec, load_spec(file))
    assert key == "recorded.sha256"


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ({"log": [1e-4, 1e-2], "count": 3}, (1e-4, 1e-3, 1e-2)),
        ({"log2": [32, 256]}, (32, 64, 128, 256)),
        ({"log2": [0.5, 2], "count": 3}, (0.5, 1, 2)),
        ({"linear": [1, 5], "count": 5}, (1, 2, 3, 4, 5)),
        ({"linear": ["1Ki", "2Ki"], "count": 3}, (1024, 1536, 2048)),
        ({"log": [32, 128], "count": 4, "multiple_of": 16}, (32, 48, 80, 128)),
        ({"linear": [0, 0.3], "count": 4}, (0, 0.1, 0.2, 0.3)),
    ],
)
def test_ranges(written: dict[str, Any], values: tuple[float, ...]) -> None:
    span = Span.model_validate(written)
    assert span.values() == values
    assert [type(value) for value in span.values()] == [type(value) for value in values]


@given(
    st.floats(1e-12, 1e12),
    st.floats(1.001, 1e6),
    st.integers(2, 50),
    st.sampled_from(["log", "linear", "log2"]),
)
def test_ranges_hold_both_ends_and_increase(
    low: float, factor: float, count: int, way: str
) -> None:
    low, high = float(f"{low:.6g}"), float(f"{low * factor:.6g}")
    values = Span.model_validate({way: [low, high], "count": count}).values()
    assert len(values) == count
    assert values[0] == low and values[-1] == high
    assert all(a < b for a, b in pairwise(values))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("written", "read"),
    [("256Ki", 262144), ("5%", 0.05), (3, 3), (True, True), ("gpt", "gpt"), ("7Q", "7Q")],
)
def test_written_quantities_are_read_and_words_left_alone(written: object, read: object) -> None:
    assert plain(written) == read
    assert type(plain(written)) is type(read)


def test_the_json_schema_knows_every_block() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == set(SweepSpec.model_fields)
    assert json.loads(json.dumps(schema)) == schema


def test_reading_a_sweep_loads_no_engine(file: Path) -> None:
    code = (
        "import sys; from orchestrator.pool import load_sweep; load_sweep(sys.argv[1]); "
        "print([m for m in ('torch', 'ray', 'mlflow', 'scipy', 'datasets') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(file)], cwd=ROOT, capture_output=True, text=True
    )
    assert run.stdout.strip() == "[]", run.stderr


AT = "target={params: 1B, tokens: 20B}"
DEPLOYED = "deployment_flops=1e21"


@pytest.mark.parametrize(
    ("asked", "aim"),
    [([AT], "target"), ([DEPLOYED], "recommend"), ([], "frontier")],
)
def test_the_aim_of_active_follows_from_what_is_asked(
    asked: list[str], aim: str, file: Path
) -> None:
    spec = load_spec(file, ["policy=active", *asked])
    assert spec.aim == aim
    assert spec_from_json(canonical_json(spec)) == spec
    assert load_spec(file, ["policy=uniform", *asked]).aim == "frontier"


def test_with_two_places_the_aim_of_active_is_the_users_to_say(file: Path) -> None:
    with pytest.raises(SpecError, match="add aim: target, aim: recommend or aim: frontier"):
        load_spec(file, ["policy=active", AT, DEPLOYED])
    for aim in ("target", "recommend", "frontier"):
        assert load_spec(file, ["policy=active", AT, DEPLOYED, f"aim={aim}"]).aim == aim


def test_a_stated_aim_stands(file: Path) -> None:
    spec = load_spec(file, ["policy={kind: active, worth: 1%}", "aim=recommend", AT, DEPLOYED])
    assert isinstance(spec.policy, Active)
    assert (spec.aim, spec.policy.worth) == ("recommend", 0.01)


def test_hours_alone_allow_the_whole_pool(file: Path) -> None:
    file.write_text(TEXT.replace("budget: {flops: 20%}", "budget: {gpu_hours: 4}"))
    spec = load_spec(file, ["policy=frontier"])
    assert (spec.budget.flops, spec.budget.gpu_hours) == ("100%", 4.0)
    with pytest.raises(SpecError, match=r"policy successive_halving lays its runs out in FLOPs"):
        load_spec(file)


@pytest.mark.parametrize("kind", ["active", "random"])
def test_a_journal_from_before_the_aims_were_one_family_is_read(kind: str, file: Path) -> None:
    spec = load_spec(file, [f"policy={kind}", AT])
    data = json.loads(canonical_json(spec))
    data["policy"] = {"kind": kind, "by": "forms", "lengths": 1, "half_width": None, "worth": 0.0}
    data["aim"] = "frontier"
    old = spec_from_json(json.dumps(data))
    assert old.aim == ("target" if kind == "active" else "frontier")
    assert old.policy.kind == kind
    assert not frozen_differences(old, spec.model_copy(update={"aim": old.aim}))
