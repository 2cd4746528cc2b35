"""The house's own curves: the spec expands as it says; a toy of it runs, exports and replays."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from orchestrator.pool import budget_flops, load_sweep
from orchestrator.recorded import read_recorded
from orchestrator.spec import load_spec
from scripts import house_curves

TOY = """\
version: 1
name: toy
seed: 1
trial:
  model: {layers: 1, context: 16}
  data: {source: SOURCE, held_out: 0.2, cache: CACHE, max_epochs: 1000}
  batch_tokens: 64
  evaluation: {tokens: 64, points: 4}
  schedule: {warmup: 64}
  device: cpu
space:
  model.width: [4, 8, 12, 16]
  horizon: [320, 640]
  optimizer.learning_rate: [1e-3, 1e-2]
  exclude: model.width == 16 and (horizon != 640 or learning_rate != 1e-2)
budget: {flops: 125%}
policy: exhaustive
anneal: {share: 20%, decay: 20%, stopped: 0}
law: {bootstrap: 8}
resources: {backend: inline}
storage: STORAGE
tracking: {mlflow: false}
"""


def test_the_sweep_is_what_the_issue_asks_for() -> None:
    spec, pool = load_sweep(house_curves.CONFIG)
    sizes = sorted({candidate.params for candidate in pool})
    target = [candidate for candidate in pool if candidate.params == sizes[-1]]
    trunks = [
        (config.model.width, config.optimizer.learning_rate)
        for config in pool.configs
        if config.horizon == 4 * 2**20 and config.seed == 1
    ]
    assert len(set(trunks)) == len(trunks) == 42
    assert len(target) == 2
    assert len(sizes) == 8
    assert 3e14 <= budget_flops(spec, pool) <= 1e15
    horizons = Counter((c.params, c.horizon) for c in pool)
    assert all(len({h for p, h in horizons if p == size}) == 3 for size in sizes[:-1])
    largest = max(candidate.horizon for candidate in pool)
    assert largest < 33_900_000  # below one epoch of the source


@pytest.mark.slow
def test_a_sweep_becomes_tables_that_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = tmp_path / "text"
    source.mkdir()
    chance = np.random.default_rng(3)
    for i in range(30):
        words = chance.choice(["law", "of", "loss", "and", "compute"], size=150)
        (source / f"{i}.txt").write_text(" ".join(words), encoding="utf-8")
    config = tmp_path / "toy.yaml"
    places = {"SOURCE": source, "CACHE": tmp_path / "cache", "STORAGE": tmp_path / "sweeps"}
    text = TOY
    for name, path in places.items():
        text = text.replace(name, str(path))
    config.write_text(text, encoding="utf-8")
    out = tmp_path / "tables"

    assert house_curves.run(config, out, []) == 0

    curves = read_recorded(out / house_curves.CURVES)
    assert len(curves) == 6  # three sizes, two rates, the longest horizon; not the target
    assert {int(curve.tokens[-1]) for curve in curves.values()} == {640}
    ends = house_curves.read_ends(out / house_curves.ENDS)
    assert len(ends) == 3 * 2 * 2 + 1
    assert [end.params for end in ends if end.held_out] == [max(end.params for end in ends)]
    assert {end.tokens for end in ends if end.held_out} == {640 + 128}
    facts = json.loads((out / house_curves.FACTS).read_text(encoding="utf-8"))
    assert facts["spec"]["name"] == "toy"
    assert len(facts["commits"]) == 1
    assert load_spec(config).seed == facts["seed"]

    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert house_curves.run(config, out, []) == 0  # it is over: nothing is trained again
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before

    from orchestrator.assembly.replaying import replay_table

    (row,) = replay_table(
        str(out / house_curves.CURVES), policies=["successive_halving"], budgets=["50%"], seeds=1
    )
    assert row.spent_share > 0.5
    capsys.readouterr()


def test_the_law_finds_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A known law, with a worse rate at each end that must not count, and another seed."""
    rows: list[dict[str, object]] = []
    sizes = [1e4, 2e4, 4e4, 8e4, 1.6e5, 3.2e5, 6.4e5]
    for params in sizes:
        for tokens in (5e5, 1.5e6, 4e6) if params < 6e5 else (8e6,):
            loss = 1.0 + 30 / params**0.4 + 60 / tokens**0.35
            for rate, seed, factor in ((3e-3, 1, 1.0), (3e-4, 1, 1.1), (3e-3, 2, 1.01)):
                rows.append(
                    {
                        "curve_id": f"{params:.0f}-{tokens:.0f}-{rate}-{seed}",
                        "params": int(params),
                        "tokens": int(tokens),
                        "flops": 6 * params * tokens,
                        "loss": loss * factor,
                        "learning_rate": rate,
                        "seed": seed,
                        "held_out": int(params == sizes[-1]),
                    }
                )
    (tmp_path / house_curves.ENDS).write_text(house_curves.table(rows), encoding="utf-8")
    assert house_curves.law(tmp_path, as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ends"] == 18
    law = said["law"]
    assert law["residual_worst_pct"] < 0.01
    assert said["seed_sd_pct"] == pytest.approx(100 * np.log(1.01) / np.sqrt(2), rel=1e-6)
    (target,) = law["target"]
    assert abs(target["error_pct"]) < 0.05
    assert law["parameters"]["E"] == pytest.approx(1.0, abs=0.01)
    (other,) = said["with_interaction"]["target"]
    assert abs(other["error_pct"]) < 0.5


def test_the_tables_in_the_package_are_those_of_the_record() -> None:
    facts = json.loads((house_curves.TABLES / house_curves.FACTS).read_text(encoding="utf-8"))
    assert set(facts["sha256"]) == {house_curves.CURVES, house_curves.ENDS}
    for name, digest in facts["sha256"].items():
        content = (house_curves.TABLES / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
    curves = read_recorded(house_curves.TABLES / house_curves.CURVES)
    ends = house_curves.read_ends(house_curves.TABLES / house_curves.ENDS)
    assert len(curves) == 42
    assert len({curve.params for curve in curves.values()}) == 7
    assert sum(end.held_out for end in ends) == 2
    assert 3e14 < facts["flops"] < 1e15
