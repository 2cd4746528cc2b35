"""Laws on disk: what is damaged is refused when read, and never answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.assembly.lawfiles import read_laws
from orchestrator.assembly.refusal import Refused
from orchestrator.laws.curves import fit_rows
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import CHINCHILLA
from orchestrator.laws.uncertainty import bootstrap
from tests.orchestrator.laws.sweeps import runs_of_truth

Record = dict[str, Any]


@pytest.fixture(scope="module")
def printed() -> str:
    """As `fit --json` prints it."""
    runs = runs_of_truth(count=30, noise=0.003)
    posterior = bootstrap(fit(CHINCHILLA, runs, starts=8), runs, draws=10).to_json()
    entry = {"form": "chinchilla", "phases": [], "doubts": [], "posterior": posterior}
    record = {
        "schema": "frontrunner.fit/1",
        "headline": "chinchilla",
        "largest_flops": 1e20,
        "laws": [entry],
        "curves": {"law": fit_rows(runs).to_json()},
    }
    return json.dumps(record)


def _drawn(record: Record) -> Record:
    return record["laws"][0]["posterior"]


def test_what_is_whole_is_read(printed: str, tmp_path: Path) -> None:
    path = tmp_path / "law.json"
    path.write_text(printed, encoding="utf-8")
    found = read_laws(str(path))
    assert [law.key for law in found.laws] == ["chinchilla"]
    assert found.largest_flops == 1e20 and found.curves is not None
    path.write_text(json.dumps(_drawn(json.loads(printed))), encoding="utf-8")
    assert [law.key for law in read_laws(str(path)).laws] == ["chinchilla"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: _drawn(r).update(draws=[]),
        lambda r: _drawn(r).update(draws=[draw[:-1] for draw in _drawn(r)["draws"]]),
        lambda r: _drawn(r).update(draws=[[float("nan")] * 5]),
        lambda r: _drawn(r).update(widening="wide"),
        lambda r: _drawn(r)["law"].update(centre=[]),
        lambda r: _drawn(r)["law"].update(ranges={"N": [5, 1], "D": [5, 1]}),
        lambda r: r.update(largest_flops=-1.0),
        lambda r: r["curves"]["law"].update(weight=[1.0]),
    ],
)
def test_what_is_damaged_is_refused(
    damage: Callable[[Record], None], printed: str, tmp_path: Path
) -> None:
    record = json.loads(printed)
    damage(record)
    path = tmp_path / "law.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(Refused, match=r"law\.json holds no law that this release reads"):
        read_laws(str(path))
