"""The benchmark of annealed losses, on tables of a known law that it has not seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.laws.annealed import fit_annealed
from scripts import bench_annealing
from scripts.annealing_worlds import KINDS, Kind, sweep, world_task
from scripts.bench_annealing import SCHEMA, drawn, main, models_of, parted
from tests.orchestrator.laws.sweeps import true_loss

DECAY = 0.1


def _gain(size: float, tokens: float) -> float:
    return 0.03 * (size / 1e8) ** -0.1 * (tokens / 1e10) ** 0.1


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    """Ten models, each with three cooldowns, and a size without any."""
    curves = ["curve_id,params,tokens,flops,loss"]
    cooldowns = ["curve_id,params,tokens_begin,loss_begin,tokens_end,loss_end"]
    for place, size in enumerate(np.geomspace(1e7, 1e9, 11).round().tolist()):
        for tokens in np.geomspace(1e9, 2e10, 24).round().tolist():
            loss = float(true_loss(size, tokens))
            curves.append(f"m{place},{size:.0f},{tokens:.0f},{6 * size * tokens!r},{loss!r}")
        for begin in (1e10, 1.5e10, 2e10) if place != 4 else ():
            end = round(begin * (1 + DECAY))
            before = float(true_loss(size, begin))
            after = float(true_loss(size, end) * np.exp(-_gain(size, end)))
            cooldowns.append(f"m{place},{size:.0f},{begin:.0f},{before!r},{end},{after!r}")
    found = tmp_path / "curves.csv", tmp_path / "cooldowns.csv"
    for path, lines in zip(found, (curves, cooldowns), strict=True):
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return found


def test_the_largest_with_cooldowns_are_held_out_whole(tables: tuple[Path, Path]) -> None:
    pool, targets = parted(models_of(*tables), 3)
    assert [model.name for model in targets] == ["m8", "m9", "m10"]
    assert [model.name for model in pool] == [f"m{place}" for place in range(8)]
    one, more = drawn(pool, 2, 7).given, drawn(pool, 4, 7).given
    assert one.curves == more.curves
    assert one.cooldowns == more.cooldowns[:2]
    assert len({cooldown.trial for cooldown in more.cooldowns}) == 4


def test_records_of_a_known_law(
    tables: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_annealing, "COUNTS", (4,))
    monkeypatch.setattr(bench_annealing, "HELD", (3,))
    kept = {k: bench_annealing.TELLERS[k] for k in ("corrected", "annealed rows", "stable law")}
    monkeypatch.setattr(bench_annealing, "TELLERS", kept)
    curves, cooldowns = map(str, tables)
    asked = ["--curves", curves, "--cooldowns", cooldowns, "--subsets", "2", "--json"]
    monkeypatch.setattr("sys.argv", ["bench_annealing.py", *asked])
    assert main() == 0
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    assert record["schema"] == SCHEMA
    rows = {(row["task"], row["method"]): row for row in record["rows"]}
    ours, plain = rows["law", "corrected"], rows["law", "stable law"]
    assert ours["error"] < 0.02 < plain["error"]
    assert plain["excess"] == pytest.approx(plain["error"] - ours["error"], abs=2e-4)
    assert plain["excess_low"] <= plain["excess"] <= plain["excess_high"]
    assert rows["law", "annealed rows"]["none"] == 1.0
    assert "at least 6 are needed" in printed.err
    assert rows["gain", "law of the gain"]["error"] < rows["gain", "none"]["error"]


def test_decays_against_the_constant_run_of_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["curve_id,step,lr,loss,size_M,schedule"]
    for size in (25, 100, 400):
        for step in range(1000, 9001, 500):
            lines.append(f"a,{step},3e-4,{3.0 + 100 / step!r},{size},constant_9000")
            rate = 3e-4 if step <= 5000 else 3e-4 * (6000 - step) / 1000 + 1e-5
            loss = (3.0 + 100 / step) * (0.97 if step == 6000 else 1.0)
            if step <= 6000:
                lines.append(f"b,{step},{rate!r},{loss!r},{size},wsd_5000_6000")
    path = tmp_path / "schedules.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["bench_annealing.py", "--schedules", str(path), "--json"])
    assert main() == 0
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["law of the gain"]["error"] < 0.01 < rows["none"]["error"]
    assert rows["none"]["k"] == 2


def test_without_data_it_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench_annealing.py"])
    assert main() == 2
    assert "--cooldowns FILE" in capsys.readouterr().err


@pytest.mark.parametrize("kind", KINDS)
def test_a_generated_sweep_asks_for_what_it_was_made_with(kind: Kind) -> None:
    """The truth is the loss of a run without faults of its own: the law comes near to it."""
    made, again = sweep(3, kind, 6), sweep(3, kind, 6)
    assert made.curves[0].loss.tolist() == again.curves[0].loss.tolist()
    assert len(made.curves) == 13 and len(made.cooldowns) == 6
    assert max(curve.N for curve in made.curves) < made.N.min()
    for cooldown in made.cooldowns:
        trunk = made.curves[cooldown.trial]
        level = np.interp(cooldown.tokens, trunk.tokens, trunk.loss)
        assert 0.0 < np.log(level / cooldown.loss) < 0.2
    law = fit_annealed(made.curves, made.cooldowns, draws=20).posterior.law
    np.testing.assert_allclose(law.predict(made.N, made.D), made.truth, rtol=0.06)


def test_the_records_of_generated_sweeps_say_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.annealing_worlds.KINDS", ("true",))
    monkeypatch.setattr("scripts.annealing_worlds.COUNTS", (6,))
    (record,) = world_task(2)
    assert (record["kind"], record["k"], record["sweeps"]) == ("true", 6, 2)
    assert 0.5 < record["coverage80"] <= record["coverage90"] <= 1.0
    assert ("widened_coverage80" in record) == (record["failed"] > 0)
