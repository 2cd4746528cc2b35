"""A trainer of the user's own from its spec: planned, swept live, stopped, annealed, reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.assembly.folders import find
from orchestrator.assembly.reading import read_sweep
from orchestrator.cli.app import run
from orchestrator.pool import load_sweep
from trainers.documents import SpecError

CONFIG = Path(__file__).parents[2] / "configs" / "own-trainer.yaml"


def test_the_pool_has_the_costs_of_the_class_and_the_settings_as_they_vary() -> None:
    _, pool = load_sweep(CONFIG)
    first = pool.candidates[0]
    assert (first.params, first.flops_per_token, first.tokens_per_step) == (4, 24.0, 32)
    assert dict(first.settings) == {"settings.features": 4, "settings.rate": 0.01}
    _, few = load_sweep(CONFIG, ["trial.horizon={tokens_per_param: 64}"])
    assert few.candidates[0].horizon == 256
    _, fewer = load_sweep(CONFIG, ["space.exclude=features > 8 or params < 5"])
    assert {candidate.params for candidate in fewer} == {8}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("space.settings.features=[4, 5000]", "settings.features is 5000; use 1 to 2048"),
        ("trial.trainer=trainers.power_law:Absent", "has no Absent"),
        ("trial.model.width=8", "is no known key"),
        ("space.optimizer.learning_rate=[0.1]", "is no setting of a trial"),
    ],
)
def test_mistakes_are_told_with_their_place(override: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        load_sweep(CONFIG, [override])


def test_a_sweep_of_it_runs_to_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = ["trial.horizon=2Ki", "space.settings.features=[4, 8]", "law.bootstrap=8"]
    assert run(["launch", str(CONFIG), *overrides]) == 0
    sweep = read_sweep(find("own-trainer"))
    trials = sweep.state.trials.values()
    assert {trial.status for trial in trials} <= {"finished", "stopped", "idle"}
    assert any(trial.branches for trial in trials)
    ends = [branch.curve for trial in trials for branch in trial.branches]
    assert all(curve.phases[-1] == "annealed" for curve in ends)
    facts = dict(sweep.opened.environment.facts)
    assert facts["trainer"].startswith("trainers.power_law:PowerLawRegression of digest ")
    assert run(["launch", str(CONFIG), *overrides]) == 0  # over: goes on with nothing
    assert "report" in capsys.readouterr().err
