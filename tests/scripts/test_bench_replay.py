"""The replay benchmark as a command: its records, its picks, and that it goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.bench_replay import main

Bench = Callable[..., tuple[int, str, str]]
KEPT = {
    "policy",
    "surrogate",
    "pool",
    "budget_flops",
    "subsets",
    "gain_vs_halving_pct",
    "ci_low",
    "ci_high",
    "best_loss",
    "regret_to_hindsight_pct",
    "frontier_regret_pct",
    "recommend_regret_pct",
    "law_error",
    "spent_share",
    "cpu_s",
}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bench:
    """The command, in this process: (exit code, stdout, stderr)."""

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bench_replay.py", *args])
        code = main()
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_generated_curves_are_judged_and_a_second_run_reads_what_the_first_kept(
    tmp_path: Path, bench: Bench
) -> None:
    out = tmp_path / "kept.jsonl"
    args = ["--crossing", "0.5", "--pool", "6", "--budget", "10%", "--subsets", "2", "--json"]
    args += ["--policy", "uniform", "--policy", "static_ladder", "--surrogate", "none"]
    code, said, _ = bench(*args, "--out", str(out))
    assert code == 0
    record = json.loads(said)
    assert record["schema"] == "frontrunner.bench_replay/1"
    names = [(row["policy"], row["surrogate"]) for row in record["rows"]]
    assert names == [
        ("successive_halving_literal", None),
        ("uniform", None),
        ("static_ladder", None),
    ]
    assert set(record["rows"][0]) >= KEPT
    assert len(out.read_text().splitlines()) == 6
    with out.open("a") as file:
        file.write('{"key": "cut sho')
    _, again, _ = bench(*args, "--out", str(out))
    assert json.loads(again) == record
    assert len(out.read_text().splitlines()) == 7


def test_nonsense_is_refused_in_words(bench: Bench) -> None:
    for args, said in (
        ([], "name one source"),
        (["--crossing", "0.5", "--policy", "best"], "'best' is no policy here"),
        (["--crossing", "2", "--surrogate", "none"], "share, from 0 to 1"),
        (["--rates", "5", "--surrogate", "none"], "write sizes x rates"),
        (["--crossing", "0.5", "--surrogate", "oracle"], "is no surrogate"),
    ):
        code, _, told = bench(*args)
        assert code == 2
        assert said in told


def test_replays_that_bought_no_point_are_counted_and_null(bench: Bench) -> None:
    args = ["--crossing", "0.5", "--pool", "4", "--budget", "1e9,10%", "--subsets", "2", "--json"]
    code, said, _ = bench(*args, "--policy", "uniform", "--surrogate", "none")
    assert code == 0
    rows = [row for row in json.loads(said)["rows"] if row["policy"] == "uniform"]
    assert [row["without_loss"] for row in rows] == [2, 0]
    assert rows[0]["best_loss"] is None and rows[0]["gain_vs_halving_pct"] is None
    assert rows[1]["best_loss"] > 0
