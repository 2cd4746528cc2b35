"""A sweep that is to recommend names a candidate, and where its law cannot answer, says so."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from orchestrator.assembly.concluding import conclude_sweep, write_report
from orchestrator.assembly.reading import Sweep, read_sweep
from orchestrator.assembly.recommending import recommendation
from orchestrator.assembly.session import Wishes, drive
from orchestrator.assembly.specs import read_spec
from orchestrator.sinks.mlflow import MlflowSink
from tests.orchestrator.assembly import specs

ASKED = ("policy={kind: recommend, surrogate: power_law}", "aim=recommend")


def swept(folder: Path, *overrides: str) -> Sweep:
    """A sweep that was paused when it had some curves."""
    path = specs.recorded(folder)
    text = path.read_text().replace("{bootstrap: 20}", "{forms: [chinchilla], bootstrap: 0}")
    path.write_text(text)
    calls = iter(range(60))
    wishes = Wishes(
        say=lambda _: None, asked=lambda: None if next(calls, None) is not None else "enough"
    )
    return read_sweep(drive(*read_spec(str(path), ["budget.flops=5%", *overrides]), wishes).folder)


def test_it_names_a_candidate_even_where_the_law_cannot_answer(tmp_path: Path) -> None:
    sweep = swept(tmp_path, *ASKED, "deployment_flops=1e18")
    conclusions = conclude_sweep(sweep)
    named = write_report(sweep, conclusions).recommended
    assert named is not None
    assert named.what.startswith("For 1.00e18 FLOPs the sweep recommends n")
    assert "parameters" in named.what and "rate" in named.what
    text, summary = sweep.folder.report.read_text(), sweep.folder.summary.read_text()
    # It is what was asked, so it stands before the law.
    assert f'<p class="answer">{named.what}.</p>' in text and "Why it is recommended" in text
    assert text.index("the sweep recommends n") < text.index(conclusions.sentence)
    assert summary.index("the sweep recommends n") < summary.index("loss against compute")
    assert "recommend (asked)" in text and "no law reaches so far" in text
    told: list[str] = []
    window = cast(MlflowSink, SimpleNamespace(publish=lambda **said: told.append(said["answer"])))
    write_report(sweep, conclusions).publish(window)
    assert told == [f"{named.what}. {conclusions.sentence}"]
    doubts = conclusions.doubts
    assert any("no answer at the deployment compute of 1.00e18 FLOPs" in each for each in doubts)


def test_the_answer_of_such_a_sweep_is_about_its_deployment(tmp_path: Path) -> None:
    sweep = swept(tmp_path, *ASKED, "deployment_flops=3e13")
    assert conclude_sweep(sweep).sentence.startswith("At the deployment compute (3.00e13 FLOPs)")


@pytest.mark.parametrize("overrides", [(), ("deployment_flops=1e15",)])
def test_who_did_not_ask_is_not_told(overrides: tuple[str, ...], tmp_path: Path) -> None:
    sweep = swept(tmp_path, *overrides)
    assert sweep.state.points and recommendation(sweep.spec, sweep.state) is None
