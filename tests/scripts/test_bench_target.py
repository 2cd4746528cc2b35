"""The benchmark of the aim target, end to end on a small table of curves."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from scripts import bench_target
from scripts.curve_worlds import world
from scripts.target_records import NO_LAW, REFERENCES, rows


def table(path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["curve_id", "params", "tokens", "flops", "loss"])
        for name, curve in world(3, curves=10, points=12).items():
            for tokens, flops, loss in zip(curve.tokens, curve.flops, curve.loss, strict=True):
                writer.writerow([name, curve.params, int(tokens), float(flops), float(loss)])
    return path


def ran(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["bench_target", *arguments])
    return bench_target.main()


def test_a_table_it_has_never_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = str(table(tmp_path / "unseen.csv")), str(tmp_path / "out.jsonl")
    wanted = ["--curves", file, "--policy", "active", "--policy", "smallest_first", "--json"]
    wanted += ["--budgets", "5,20", "--subsets", "2", "--out", out]
    assert ran(wanted, monkeypatch) == 0
    printed = capsys.readouterr().out
    records = json.loads(printed)["rows"]
    assert [r["policy"] for r in records[:2]] == ["whole pool", "subset's pool"]
    active = [r for r in records if r["policy"] == "active"]
    assert [r["budget_pct"] for r in active] == [5.0, 20.0]
    for record in active:
        assert record["targets"] == 6 and record["subsets"] == 2
        assert record["target_error"] < NO_LAW
        assert 0 < record["coverage80"] <= 1 or record["coverage80"] == 0
    singles = [json.loads(line) for line in Path(out).read_text().splitlines()]
    assert all(s["spent"] is None or s["spent"] <= 1 for s in singles)
    assert ran(wanted, monkeypatch) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == records
    assert len(Path(out).read_text().splitlines()) == len(singles)


def test_a_table_that_is_too_small_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tiny.csv"
    path.write_text("curve_id,params,tokens,flops,loss\na,10,100,6000,3.0\na,10,200,12000,2.9\n")
    assert ran(["--curves", str(path)], monkeypatch) == 2
    assert "too few" in capsys.readouterr().err


def result(policy: str, pct: float, loss: float | None, subset: int = 0) -> dict[str, Any]:
    given = None if loss is None else [[loss]]
    return {
        "source": "s",
        "policy": policy,
        "budget_pct": pct,
        "subset": subset,
        "asked": [f"large-{subset}"],
        "truth": [3.0],
        "loss": given,
        "sd": None if loss is None else [[0.01]],
        "spent": 1.0,
        "trials": 2,
        "cpu_s": 0.1,
    }


def test_records_on_known_errors() -> None:
    results = [result("whole pool", 100.0, 3.01), result("subset's pool", 100.0, 3.02)]
    results += [result("a", 1.0, None), result("a", 2.0, 3.05), result("a", 4.0, 2.995)]
    found = {(r["policy"], r["budget_pct"]): r for r in rows(results)}
    assert found["a", 1.0]["target_error"] == NO_LAW and found["a", 1.0]["no_law"] == 1.0
    assert found["a", 2.0]["excess_error"] == pytest.approx(0.04)
    assert found["a", 2.0]["excess_over_subset"] == pytest.approx(0.03)
    assert found["a", 4.0]["agreement_with_whole_pool"] == pytest.approx(0.015)
    assert (found["a", 2.0]["targets"], found["a", 2.0]["distinct_targets"]) == (1, 1)
    assert found["a", 2.0]["coverage80"] == 0.0 and found["a", 4.0]["coverage80"] == 1.0
    assert found["a", 4.0]["within_0.01_pct"] == pytest.approx(2 * 2 ** (0.03 / 0.045), abs=0.01)


def test_the_interval_of_coverage_resamples_targets_and_not_subsets() -> None:
    """Twenty subsets that ask the same curve know its coverage as one does: not at all."""
    given = [result(name, 100.0, 3.0, k) for name in REFERENCES for k in range(20)]
    one = [{**result("a", 2.0, 3.0 if k % 2 else 3.5, k), "asked": ["one"]} for k in range(20)]
    many = [result("a", 2.0, 3.0 if k % 2 else 3.5, k) for k in range(20)]
    alike, apart = rows([*given, *one])[-1], rows([*given, *many])[-1]
    assert (alike["targets"], alike["distinct_targets"], apart["distinct_targets"]) == (20, 1, 20)
    assert alike["coverage80"] == alike["coverage_low"] == alike["coverage_high"] == 0.5
    assert apart["coverage_low"] < 0.45 and apart["coverage_high"] > 0.55
