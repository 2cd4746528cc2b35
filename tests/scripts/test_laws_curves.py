"""The benchmark of laws of curves, on a folder of tables that it has not seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.laws_curves import SCHEMA, bench_curves, main
from tests.orchestrator.laws.sweeps import curves_of_truth

HEADER = "curve_id,params,tokens,flops,loss"


def _table(path: Path) -> None:
    rows = [
        f"run{k},{round(curve.N)},{round(d)},{c!r},{loss!r}"
        for k, curve in enumerate(curves_of_truth(sizes=12, per_size=1, points=12, trial_sd=0.003))
        for d, c, loss in zip(curve.tokens, map(float, curve.flops), map(float, curve.loss),
                              strict=True)
    ]  # fmt: skip
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")


def test_records_of_a_strange_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _table(tmp_path / "ladder.csv")
    (tmp_path / "sizeless.csv").write_text("curve_id,tokens,flops,loss\na,1,1,3\n")
    (tmp_path / "few.csv").write_text(f"{HEADER}\na,5,1,1,3\n")
    records = bench_curves(tmp_path, count=1)
    told = capsys.readouterr().err
    assert "sizeless.csv: left out: it has no params column" in told
    assert "few.csv: left out: it has 1 curves of 1 sizes" in told
    usual = [record for record in records if record["priors"] == "usual"]
    assert [(record["task"], record["held_out"]) for record in usual] == [
        ("ladder", 3),
        ("ladder", 6),
    ]
    for record in usual:
        assert record["target_error"] < 0.04 < record["prior_only_error"]
        assert {"ends_only_error", "pool_error", "coverage", "cpu_s"} <= set(record)


def test_nothing_to_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path, as_json=True) == 2
    assert "holds no CSV table" in capsys.readouterr().err


def test_records_are_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "few.csv").write_text(f"{HEADER}\na,5,1,1,3\n")
    assert main(tmp_path, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": SCHEMA, "rows": []}
