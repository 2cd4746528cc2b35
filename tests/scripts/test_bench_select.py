"""The benchmark of selection rules on an unseen task of two outputs, with losses below zero."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from scripts.bench_select import main

LINE = "a{k} + b{k}*N**-c"


def write_task(folder: Path) -> None:
    rng = np.random.default_rng(0)
    (folder / "pairs").mkdir()
    for part, sizes in (("train", np.geomspace(1e3, 1e6, 16)), ("test", np.array([3e6, 1e7]))):
        N = np.tile(sizes, 2)
        group = ["one"] * len(sizes) + ["two"] * len(sizes)
        shift = np.repeat([0.0, 0.3], len(sizes))
        first = -1.0 + shift + 20 * N**-0.4 + 0.002 * rng.normal(size=len(N))
        second = 0.5 - shift + 9 * N**-0.4 + 0.002 * rng.normal(size=len(N))
        table = pa.table({"size": N, "group": group, "first": first, "second": second})
        parquet.write_table(table, folder / "pairs" / f"{part}.parquet")
    (folder / "README.md").write_text(
        "| task | rows | groups | features | target | cost | budgets |\n"
        "|---|---|---|---|---|---|---|\n"
        "| pairs | 32 / 4 | `group`: one, two | size N | first, second | 6 * N | 20 % |\n"
    )
    (folder / "laws.yaml").write_text(
        "pairs:\n  sl_1:\n    params: [a0, b0, c, a1, b1]\n"
        "    bounds: [[-5, 5], [0, 1000], [0, 2], [-5, 5], [0, 1000]]\n"
        f"    loss: ['{LINE.format(k=0)}', '{LINE.format(k=1)}']\n"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("bench")
    write_task(found)
    return found


def rows_of(capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str, float], dict[str, float]]:
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "frontrunner.bench_select/1"
    return {(r["task"], r["rule"], r["budget_pct"]): r for r in said["rows"]}


def test_an_unseen_task_is_scored_for_every_rule(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = ["active", "cheapest", "published"]
    averaged = ["active_averaged", "published_averaged"]
    words = [word for rule in (*rules, *averaged) for word in ("--rule", rule)]
    options = ["--folder", str(folder), "--seeds", "1", "--budget", "20", "--json"]
    assert main([*options, *words]) == 0
    rows = rows_of(capsys)
    for rule in (*rules, *averaged):
        row = rows[("pairs", rule, 20.0)]
        assert -1 <= row["ci_low"] <= row["r2_mean"] <= row["ci_high"] <= 1
    assert rows[("pairs", "active", 20.0)]["r2_mean"] > 0.9
    assert ("gain of active", "cheapest", 20.0) in rows
    assert ("gain of active", "published_averaged", 20.0) in rows


def test_what_is_held_is_not_run_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "held.jsonl"
    words = ["--folder", str(folder), "--rule", "cheapest", "--seeds", "1", "--budget", "10,20"]
    assert main([*words, "--out", str(out)]) == 0
    first = out.read_text()
    assert main([*words, "--out", str(out)]) == 0
    assert out.read_text() == first and len(first.splitlines()) == 1
    assert "1 of them held" in capsys.readouterr().err
    out.write_text(first[:-20])
    assert main([*words, "--out", str(out)]) == 0
    assert "0 of them held" in capsys.readouterr().err
    assert main([*words, "--out", str(out)]) == 0
    assert "1 of them held" in capsys.readouterr().err


def test_no_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--folder", str(tmp_path)]) == 2
    assert "laws.yaml" in capsys.readouterr().err


def test_a_fitter_of_one_form_is_asked_for_no_average(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would have told the first form's solutions as those of all."""
    words = ["--folder", str(folder), "--fitter", "lbfgsb", "--rule", "published_averaged"]
    assert main([*words, "--seeds", "1"]) == 2
    assert "fits one form; leave out published_averaged" in capsys.readouterr().err
