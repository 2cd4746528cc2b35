"""The replay benchmark as a command: its records, its picks, and that it goes on."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.bench_replay import main
from scripts.replay_contestants import contestants
from scripts.replay_suites import NAMED, SUITES, suite
from scripts.replay_views import promises, worse_than_safe
from scripts.replay_worlds import Cell, Source, about, world

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
    assert record["schema"] == "frontrunner.bench_replay/2"
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


def test_several_processes_and_shared_fits_say_what_one_replay_at_a_time_says(
    tmp_path: Path, bench: Bench
) -> None:
    args = ["--crossing", "0.5", "--pool", "6", "--budget", "10%", "--subsets", "2", "--json"]
    args += ["--policy", "successive_halving", "--policy", "successive_halving_literal"]
    args += ["--surrogate", "power_law"]
    _, both, _ = bench(*args, "--jobs", "2")
    alone = [bench(*args, "--policy", "uniform")[1], bench(*args)[1]]
    timeless = [
        [
            {key: value for key, value in row.items() if key != "cpu_s" and "uniform" not in key}
            for row in json.loads(said)["rows"]
            if row["policy"] != "uniform"
        ]
        for said in (both, *alone)
    ]
    assert timeless[0] == timeless[2]
    assert [(row["policy"], row["best_loss"]) for row in timeless[1]] == [
        (row["policy"], row["best_loss"]) for row in timeless[0]
    ]
    assert any(row["coverage"] for row in timeless[0])


def test_what_is_kept_can_be_seen_without_a_replay(tmp_path: Path, bench: Bench) -> None:
    out = tmp_path / "kept.jsonl"
    args = ["--crossing", "0,0.5", "--noise", "none,white", "--pool", "5", "--budget", "10%"]
    args += ["--policy", "oracle_halving", "--surrogate", "none", "--out", str(out)]
    assert bench(*args, "--subsets", "2")[0] == 0
    lines = out.read_text().splitlines()
    code, said, _ = bench(*args, "--subsets", "3", "--kept", "--view", "crossings")
    assert code == 0 and out.read_text().splitlines() == lines
    head, *body = said.splitlines()[1:]
    assert head.split()[-2:] == ["0%", "50%"]
    assert [line.split()[0] for line in body] == ["none", "none", "white", "white"]


def test_the_cells_of_gated_policies_are_marked_where_they_are_worse(bench: Bench) -> None:
    args = ["--crossing", "0.3", "--pool", "5", "--budget", "10%", "--subsets", "2"]
    args += ["--policy", "successive_halving", "--policy", "static_ladder"]
    code, said, _ = bench(*args, "--surrogate", "power_law", "--view", "worse")
    assert code == 0
    assert said.splitlines()[-1].startswith("1 cells; wholly below -0.3 %: ")


def test_worse_is_an_interval_that_lies_below() -> None:
    record = {"policy": "frontier", "surrogate": "joint_law", "gain_vs_safe_pct": -1.0}
    assert worse_than_safe(record | {"gain_vs_safe_high": -0.31})
    assert not worse_than_safe(record | {"gain_vs_safe_high": -0.29})
    assert not worse_than_safe(record | {"gain_vs_safe_high": None})
    assert promises(record) and not promises({"policy": "uniform", "surrogate": None})


def test_every_suite_names_cells_that_can_be_replayed(tmp_path: Path) -> None:
    rows = "".join(
        f"{name},{n},{d},{6 * n * d},{3 + 1e6 / n + 1e6 / d}\n"
        for name, n in [(f"m{k}", 1_000_000 * (k + 1)) for k in range(24)]
        for d in (10**6, 10**7, 10**8)
    )
    for name in NAMED:
        with gzip.open(tmp_path / f"{name}.csv.gz", "wt") as file:
            file.write("curve_id,params,tokens,flops,loss\n" + rows)
    for name in SUITES:
        found = suite(name, tmp_path, 0)
        assert len(set(found.cells)) == len(found.cells) > 5
        assert contestants(list(found.policies), list(found.surrogates))
        for cell in {cell.source: cell for cell in found.cells}.values():
            said = about(cell)
            assert said["budget_flops"] == cell.flops(0) > 0
    half = Cell(source=suite("bars", tmp_path, 0).cells[0].source, budget="50%")
    assert (
        half.flops(0)
        == half.flops(3)
        == pytest.approx(0.5 * 20 / 24 * sum(6e8 * (k + 1) * 10**6 for k in range(24)))
    )


def test_curves_of_no_stated_size_are_as_large_as_their_compute(
    tmp_path: Path, bench: Bench
) -> None:
    rows = [
        f"m{n},{d},{6 * n * d},{2 + (1e6 / n) ** 0.3 + (1e6 / d) ** 0.3}"
        for n in (10**6, 3 * 10**6, 10**7)
        for d in (10**6, 10**7, 10**8)
    ]
    file = tmp_path / "unsized.csv"
    file.write_text("curve_id,tokens,flops,loss\n" + "\n".join(rows))
    source = Source(files=(str(file),))
    assert [c.params for c in world(source, 0)[0].candidates] == [10**6, 3 * 10**6, 10**7]
    args = ["--curves", str(file), "--budget", "20%", "--subsets", "2", "--json"]
    code, said, _ = bench(*args, "--policy", "static_ladder", "--surrogate", "none")
    assert code == 0
    assert json.loads(said)["rows"][1]["best_loss"] > 2


def test_nonsense_is_refused_in_words(bench: Bench) -> None:
    for args, said in (
        ([], "name one source"),
        (["--crossing", "0.5", "--policy", "best"], "'best' is no policy here"),
        (["--crossing", "2", "--surrogate", "none"], "share, from 0 to 1"),
        (["--rates", "5", "--surrogate", "none"], "write sizes x rates"),
        (["--crossing", "0.5", "--surrogate", "oracle"], "is no surrogate"),
        (["--crossing", "0.5", "--noise", "pink"], "is no noise"),
        (["--suite", "bars", "--data", "nowhere"], "--data names the folder"),
        (["--suite", "bars", "--rates", "5x4"], "name one source"),
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
