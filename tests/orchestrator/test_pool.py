"""Candidates: which, in what order, at what cost, under what name; recorded ones too."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.naming import candidate_ids, safe_ids
from orchestrator.pool import Pool, budget_flops, build_pool, load_sweep
from orchestrator.recorded import RecordedError, read_recorded
from orchestrator.spec import SweepSpec
from orchestrator.values import Candidate, Scalar
from trainers.documents import SpecError

SAFE = re.compile(r"[a-z0-9][a-z0-9._-]*")
CURVES = Path(__file__).parents[3] / "shared/data/curves"


def spec_of(space: dict[str, Any] | None, **changes: Any) -> SweepSpec:
    data: dict[str, Any] = {
        "version": 1,
        "name": "small",
        "trial": {
            "model": {"context": 128, "layers": 2},
            "batch_tokens": 4096,
            "horizon": {"tokens_per_param": 20},
        },
        "space": space,
        "budget": {"flops": "20%"},
        "policy": {"kind": "uniform"},
    }
    return SweepSpec.model_validate({**data, **changes})


def test_what_the_file_leaves_to_a_rule_is_told_with_its_figures() -> None:
    space = {"model.width": [64, 256], "optimizer.beta2": [0.9]}
    (note,) = build_pool(
        spec_of(space, trial={"model": {"context": 128, "layers": 2}, "horizon": "1G"})
    ).notes
    assert "by the rule porian_olmo, smallest to largest" in note
    assert "batch_tokens 4.1K to 16.4K, optimizer.learning_rate 0.01 to 0.0" in note
    assert "schedule.warmup 115K to 1.64M" in note
    assert "beta2" not in note
    (same,) = build_pool(spec_of({"model.width": [64]})).notes
    assert same.startswith("by the rule porian_olmo: optimizer.learning_rate 0.01, ")
    said = spec_of({"model.width": [64]}).trial or {}
    whole = {"optimizer": {"learning_rate": 1e-3, "beta2": 0.9}, "schedule": {"warmup": 0.1}}
    assert build_pool(spec_of({"model.width": [64]}, trial={**said, **whole})).notes == ()


def test_the_grid_in_order_with_exact_costs() -> None:
    pool = build_pool(
        spec_of({"model.width": [32, 64], "optimizer.learning_rate": [1e-3, 1e-2, 0.1]})
    )
    assert [candidate.id for candidate in pool] == [
        "w32-lr0.001",
        "w32-lr0.01",
        "w32-lr0.1",
        "w64-lr0.001",
        "w64-lr0.01",
        "w64-lr0.1",
    ]
    small = pool["w32-lr0.01"]
    params = 2 * 12 * 32**2 + 256 * 32
    assert small.params == params == 32768
    assert small.flops_per_token == 6 * params + 12 * 2 * 32 * 128
    assert small.horizon == 20 * params // 4096 * 4096
    assert small.tokens_per_step == 4096
    assert small.settings == (("model.width", 32), ("optimizer.learning_rate", 0.01))
    assert pool.exhaustive_flops == sum(candidate.cost for candidate in pool)
    assert pool.position("w64-lr0.001") == 3
    config = pool.train_config("w64-lr0.1")
    assert (config.model.width, config.optimizer.learning_rate) == (64, 0.1)
    assert config.horizon == pool["w64-lr0.1"].horizon


def test_zip_blocks_advance_together_and_vary_slowest() -> None:
    pool = build_pool(
        spec_of(
            {
                "optimizer.learning_rate": [1e-3, 1e-2],
                "zip": {"model.width": [32, 64, 96], "model.heads": [1, 2, 3]},
            }
        )
    )
    assert [candidate.id for candidate in pool] == [
        "w32-lr0.001",
        "w32-lr0.01",
        "w64-lr0.001",
        "w64-lr0.01",
        "w96-lr0.001",
        "w96-lr0.01",
    ]
    assert [key for key, _ in pool.candidates[0].settings] == [
        "model.width",
        "model.heads",
        "optimizer.learning_rate",
    ]


def test_several_zip_blocks_multiply() -> None:
    blocks = [
        {"model.width": [32, 64], "model.heads": [1, 2]},
        {"optimizer.learning_rate": [1e-3, 1e-2], "optimizer.beta2": [0.9, 0.99]},
    ]
    pool = build_pool(spec_of({"zip": blocks}))
    assert len(pool) == 4
    assert pool.candidates[1].id == "w32-lr0.01"


@pytest.mark.parametrize(
    ("conditions", "left"),
    [
        (["width == 32"], 2),
        (["width == 32 and learning_rate > 5e-3"], 3),
        (["params > 40K"], 2),
        (["flops < 1e12"], 2),
        (["model.context == 128 and model.width >= 64"], 2),
        (["optimizer.beta2 == 0.99 and width == 64"], 2),
        (["width == 32 and learning_rate == 1e-3", "width == 64 and learning_rate == 1e-2"], 2),
        (["horizon < 0"], 4),
    ],
)
def test_exclusions(conditions: list[str], left: int) -> None:
    pool = build_pool(
        spec_of(
            {
                "model.width": [32, 64],
                "optimizer.learning_rate": [1e-3, 1e-2],
                "exclude": conditions,
            }
        )
    )
    assert (len(pool), pool.excluded) == (left, 4 - left)


def test_a_condition_can_leave_out_what_would_be_invalid() -> None:
    space: dict[str, Any] = {"model.width": [32, 48], "model.heads": [2, 3]}
    with pytest.raises(SpecError, match="3 heads do not divide width 32"):
        build_pool(spec_of(space))
    pool = build_pool(spec_of({**space, "exclude": ["width == 32 and heads == 3"]}))
    assert [candidate.id for candidate in pool] == ["w32-h2", "w48-h2", "w48-h3"]


def test_the_horizon_varies_as_a_count_or_per_parameter() -> None:
    trial = {"model": {"context": 128, "layers": 2, "width": 32}, "batch_tokens": 4096}
    pool = build_pool(spec_of({"horizon": ["64Ki", "1M"]}, trial=trial))
    assert [(c.id, c.horizon, c.end) for c in pool] == [
        ("d64ki", 65536, 65536),
        ("d1m", 1_000_000, 999_424),
    ]
    pool = build_pool(spec_of({"horizon.tokens_per_param": [5, 20]}, trial=trial))
    assert [candidate.horizon // 4096 for candidate in pool] == [40, 160]
    assert [candidate.id for candidate in pool] == ["dn5", "dn20"]


def test_a_trial_without_space_is_a_pool_of_one() -> None:
    spec = spec_of(
        None,
        trial={"model": {"context": 128, "layers": 1, "width": 32}}
        | {"batch_tokens": 4096, "horizon": "1M"},
    )
    pool = build_pool(spec)
    assert [candidate.id for candidate in pool] == ["only"]
    assert pool.candidates[0].settings == ()


def test_the_sweeps_seed_is_the_trials_unless_they_have_one() -> None:
    space = {"model.width": [32, 64]}
    pool = build_pool(spec_of(space, seed=5))
    assert {config.seed for config in pool.configs} == {5}
    pool = build_pool(spec_of({**space, "seed": [1, 2]}, seed=5))
    assert [config.seed for config in pool.configs] == [1, 2, 1, 2]


def test_settings_hold_what_the_trainers_understood() -> None:
    pool = build_pool(spec_of({"model.width": ["32", "0.0625Ki"], "model.tied": [True, False]}))
    assert pool.candidates[2].settings == (("model.width", 64), ("model.tied", True))
    assert pool.candidates[2].id == "w64-tiedon"


@pytest.mark.parametrize(
    ("flops", "expected"), [("20%", 0.2), ("100%", 1.0), ("1/3", 1 / 3), (1e11, None)]
)
def test_the_budget_in_flops(flops: object, expected: float | None) -> None:
    spec = spec_of({"model.width": [32, 64]}, budget={"flops": flops})
    pool = build_pool(spec)
    budget = budget_flops(spec, pool)
    assert isinstance(budget, int)
    if expected is None:
        assert budget == 10**11
    else:
        assert budget == pytest.approx(expected * pool.exhaustive_flops, rel=1e-11)
    assert budget <= pool.exhaustive_flops
    assert expected != 1.0 or budget == pool.exhaustive_flops


def test_the_same_spec_gives_the_same_pool() -> None:
    spec = spec_of({"model.width": [32, 64], "optimizer.learning_rate": [1e-3, 1e-2]})
    assert build_pool(spec) == build_pool(SweepSpec.model_validate(spec.model_dump(mode="json")))


def test_a_subset_keeps_order_and_configurations() -> None:
    pool = build_pool(spec_of({"model.width": [32, 64, 96]}))
    part = pool.subset(["w96", "w32"])
    assert [candidate.id for candidate in part] == ["w96", "w32"]
    assert part.train_config("w96").model.width == 96


def test_an_unknown_candidate_is_told() -> None:
    pool = build_pool(spec_of({"model.width": [32, 64]}))
    with pytest.raises(KeyError, match="no candidate 'w31'"):
        pool["w31"]
    assert "w32" in pool and "w31" not in pool


def test_a_pool_refuses_what_it_cannot_be() -> None:
    one = Candidate(id="a", params=1, horizon=1, flops_per_token=1.0)
    with pytest.raises(ValueError, match="at least one candidate"):
        Pool(candidates=())
    with pytest.raises(ValueError, match="id of its own"):
        Pool(candidates=(one, one))
    with pytest.raises(LookupError, match="cannot be trained"):
        Pool(candidates=(one,)).train_config("a")


def test_problems_without_a_file_carry_their_key() -> None:
    with pytest.raises(SpecError) as caught:
        build_pool(spec_of({"model.width": [32, 64], "model.heads": [2, 3]}))
    assert [problem.key for problem in caught.value.problems] == ["space.model.heads.1"]


def test_a_pool_of_thousands_is_built_in_seconds(tmp_path: Path) -> None:
    pool = build_pool(
        spec_of(
            {
                "model.width": {"linear": [32, 1600], "count": 50},
                "optimizer.learning_rate": {"log": [1e-4, 1e-1], "count": 40},
            }
        )
    )
    assert len(pool) == 2000
    assert len({candidate.id for candidate in pool}) == 2000


SCALARS = (
    st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30)
)


@given(st.lists(st.tuples(SCALARS, SCALARS), min_size=1, max_size=12, unique_by=repr))
def test_ids_are_unique_and_safe_paths(values: list[tuple[Scalar, Scalar]]) -> None:
    rows = [(("model.width", a), ("optimizer.what", b)) for a, b in values]
    kinds = {tuple((type(v), v) for _, v in row) for row in rows}
    ids = candidate_ids(rows)
    assert len(set(ids)) == len(kinds)
    assert all(SAFE.fullmatch(name) and ".." not in name for name in ids)


def test_colliding_abbreviations_are_written_out() -> None:
    rows = [(("a.size", i), ("b.size", -j)) for i in (1, 2) for j in (1, 2)]
    assert candidate_ids(rows)[:2] == ["a.size1-b.sizem1", "a.size1-b.sizem2"]


def test_what_the_other_settings_tell_is_left_out_of_an_id() -> None:
    shapes = [(64, 2), (64, 3), (96, 3)]
    rows = [(("model.width", w), ("model.layers", n), ("model.heads", w // 32)) for w, n in shapes]
    assert candidate_ids(rows) == ["w64-l2", "w64-l3", "w96-l3"]


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=10, unique=True))
def test_safe_ids_are_distinct(names: list[str]) -> None:
    ids = safe_ids(names)
    assert len(set(ids)) == len(names)
    assert all(SAFE.fullmatch(name) and ".." not in name for name in ids)


TABLE = """\
curve_id,tokens,flops,loss,params,width,step
A b,1000,6e9,5.0,1000,8,1
c,500,6e9,5.5,2000,16,1
A b,2000,12e9,4.0,1000,8,2
c,1000,12e9,4.5,2000,16,2
"""


def test_recorded_curves(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv.gz"
    path.write_bytes(gzip.compress(TABLE.encode()))
    curves = read_recorded(path)
    assert list(curves) == ["a-b", "c"]
    curve = curves["a-b"]
    assert (curve.curve_id, curve.params, curve.settings) == ("A b", 1000, (("width", 8),))
    np.testing.assert_array_equal(curve.tokens, [1000, 2000])
    np.testing.assert_array_equal(curve.flops, [6e9, 12e9])
    np.testing.assert_array_equal(curve.loss, [5.0, 4.0])
    candidate = curve.candidate("a-b")
    assert (candidate.end, candidate.cost, candidate.setting("width")) == (2000, 12 * 10**9, 8)


def test_a_recorded_sweep_is_a_pool(tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_text(TABLE)
    file = tmp_path / "replay.yaml"
    file.write_text(
        "version: 1\nname: again\nrecorded: {curves: curves.csv}\nbudget: {flops: 50%}\n"
        "policy: {kind: successive_halving, group_by: width}\n"
    )
    spec, pool = load_sweep(file)
    assert [candidate.id for candidate in pool] == ["a-b", "c"]
    assert pool.exhaustive_flops == 24 * 10**9
    assert budget_flops(spec, pool) == 12 * 10**9
    assert pool.notes == ()


def test_without_a_params_column_the_pool_says_so(tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_text("curve_id,tokens,flops,loss\na,10,1e3,5.0\n")
    recorded = {"curves": str(tmp_path / "curves.csv")}
    spec = SweepSpec.model_validate(
        {"version": 1, "name": "again", "recorded": recorded}
        | {"budget": {"flops": "100%"}, "policy": {"kind": "exhaustive"}}
    )
    pool = build_pool(spec)
    assert pool.candidates[0].params == 1
    assert "no params column" in pool.notes[0]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("c,1500,18e9,nan,2000,16,3", "line 6: loss is nan"),
        ("c,1500,18e9,inf,2000,16,3", "line 6: loss is inf"),
        ("c,1500,18e9,-4,2000,16,3", "line 6: loss is -4"),
        ("c,0,18e9,4,2000,16,3", "line 6: tokens is 0"),
        ("c,1500.5,18e9,4,2000,16,3", "line 6: tokens '1500.5' is no whole number"),
        ("c,1500,many,4,2000,16,3", "line 6: flops 'many' is no number"),
        ("c,1000,18e9,4,2000,16,3", "line 6: curve 'c' was at 1000 tokens"),
        ("c,1500,11e9,4,2000,16,3", "line 6: curve 'c' was at 1000 tokens"),
        ("c,1500,18e9,4,2001,16,3", "line 6: curve 'c' had 2000 params, now 2001"),
        (",1500,18e9,4,2000,16,3", "line 6: has no curve_id"),
        ("c,1500,18e9", "line 6: has another number of cells"),
        ("c,1500,18e9,4,2000,16,3,9", "line 6: has another number of cells"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: str, words: str) -> None:
    path = tmp_path / "curves.csv"
    path.write_text(f"{TABLE}{row}\n")
    with pytest.raises(RecordedError, match=re.escape(words)):
        read_recorded(path)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "lacks the column 'curve_id'"),
        (b"curve_id,tokens,flops\n", "lacks the column 'loss'"),
        (b"curve_id,tokens,flops,loss\n", "holds no points"),
        (b"curve_id,tokens,flops,loss,loss\na,1,1,1,1\n", "names a column twice"),
        (b"\x1f\x8bnonsense", "no CSV table"),
        (b"\xff\xfe\x00", "no CSV table"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, raw: bytes, words: str) -> None:
    path = tmp_path / "curves.csv"
    path.write_bytes(raw)
    with pytest.raises(RecordedError, match=words):
        read_recorded(path)


@pytest.mark.skipif(not CURVES.is_dir(), reason="the recorded benchmark curves are not here")
@pytest.mark.parametrize(
    ("name", "count"), [("schram-nanogpt", 30), ("gemstones", 22), ("gemstones-long", 22)]
)
def test_the_benchmark_tables_are_read(name: str, count: int) -> None:
    curves = read_recorded(CURVES / f"{name}.csv.gz")
    assert len(curves) == count
    assert all(curve.params and curve.settings for curve in curves.values())
