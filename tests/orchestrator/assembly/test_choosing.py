"""Every way of fitting, beside the interval of the one that is quoted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.assembly.choosing import choices_about
from orchestrator.assembly.refusal import Refused
from orchestrator.assembly.specs import read_spec
from orchestrator.assembly.tables import conclude_table, question_about
from orchestrator.report.conclusions import Conclusions
from orchestrator.report.evidence import TrialEvidence
from tests.orchestrator.assembly import specs


def concluded(folder: Path, forms: str = "chinchilla") -> tuple[str, Conclusions]:
    specs.recorded(folder)
    path = str(folder / "curves.csv")
    return path, conclude_table(
        path, question_about(forms.split(","), burn_in=0.1, draws=30, level=0.9)
    )


def test_the_ways_of_a_table(tmp_path: Path) -> None:
    path, conclusions = concluded(tmp_path)
    made = choices_about(path, conclusions)
    # Its FLOPs are 6 N D: to count them so is no other way.
    assert len(made.variants) == 18
    assert {variant.convention for variant in made.variants} == {"recorded"}
    loss = made.rows[0]
    assert conclusions.target is not None
    # The first way is the law that is quoted, and the others lie on both sides or at it.
    assert loss.base == pytest.approx(conclusions.target.loss.value, rel=1e-3)
    assert loss.low <= loss.base <= loss.high
    assert loss.interval != "none"
    assert [row.what for row in made.rows] == ["loss", "N* ~ C^a", "D* / N*"]
    record = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert record["law"] == "chinchilla" and len(record["variants"]) == 18


def test_ways_that_make_no_difference_are_not_counted(tmp_path: Path) -> None:
    """Finished runs have no start to be dropped; FLOPs that were counted differ from 6 N D."""
    rows = ["params,tokens,flops,loss"]
    for size in (1e7, 3e7, 1e8, 3e8):
        for tokens in (1e9, 3e9, 9e9):
            loss = 1.7 + 400 / size**0.34 + 400 / tokens**0.28
            rows.append(f"{size:.0f},{tokens:.0f},{7 * size * tokens!r},{loss!r}")
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    question = question_about(["chinchilla"], burn_in=0.1, draws=5, level=0.9)
    made = choices_about(str(path), conclude_table(str(path), question))
    assert len(made.variants) == len({str(variant) for variant in made.variants}) == 12
    assert {variant.convention for variant in made.variants} == {"recorded", "6ND"}
    assert {variant.burn_in for variant in made.variants} == {0.1}


def test_a_law_of_compute_leaves_nothing_to_choose(tmp_path: Path) -> None:
    path, conclusions = concluded(tmp_path, "power_irreducible")
    with pytest.raises(Refused, match="needs a law of params and tokens"):
        choices_about(path, conclusions)


def test_what_was_trained_is_counted_in_every_convention(tmp_path: Path) -> None:
    from orchestrator.assembly import choosing
    from orchestrator.laws.runs import CurveRows

    _, pool = read_spec(str(specs.live(tmp_path)), [])
    trials = tuple(
        TrialEvidence(
            id=c.id,
            params=c.params,
            flops_per_token=c.flops_per_token,
            stable=CurveRows(N=c.params, tokens=[1.0], flops=[c.flops_per_token], loss=[1.0]),
        )
        for c in pool
    )
    ways = {way.name: way for way in choosing._conventions(trials, pool)}
    assert list(ways) == ["exact", "causal", "active", "body", "all"]
    assert ways["exact"].sizes == tuple(float(c.params) for c in pool)
    assert ways["exact"].flops_per_token == tuple(c.flops_per_token for c in pool)
    assert all(b < n for b, n in zip(ways["body"].sizes, ways["exact"].sizes, strict=True))
    assert choosing._conventions(trials, None) == ()
