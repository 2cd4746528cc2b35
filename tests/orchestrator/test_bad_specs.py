"""Forty and more bad sweep files: each is refused at its place, with its remedy, starting nothing.

Every file opens with what is expected of it: `# remedy: words of the message`, then
`# place: line:column`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.pool import load_sweep
from trainers.documents import SpecError

FOLDER = Path(__file__).parent / "bad_specs"
FILES = sorted(FOLDER.glob("*.yaml"))
THROUGH_THE_COMMAND = (
    "unknown_policy_key",
    "space_key_typo",
    "heads_do_not_divide",
    "exclude_runs_code",
    "recorded_not_finite",
)


def _expected(file: Path) -> tuple[str, str]:
    remedy, place = file.read_text().splitlines()[:2]
    assert remedy.startswith("# remedy: ") and place.startswith("# place: ")
    return remedy.removeprefix("# remedy: "), f"{file}:{place.removeprefix('# place: ')}"


def test_there_are_at_least_forty() -> None:
    assert len(FILES) >= 40


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_refused_at_its_place_with_its_remedy(file: Path) -> None:
    remedy, place = _expected(file)
    with pytest.raises(SpecError) as caught:
        load_sweep(file)
    told = [problem.message for problem in caught.value.problems if problem.place == place]
    assert any(remedy in message for message in told), str(caught.value)
    assert str(caught.value).endswith("Nothing was started.")


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_told_once_and_in_the_words_of_the_house(file: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_sweep(file)
    assert len(caught.value.problems) <= 2
    for problem in caught.value.problems:
        for foreign in ("pydantic", "Traceback", "tuple", "validation error", "Input should"):
            assert foreign not in str(problem)


def test_a_misspelt_part_of_the_budget_is_the_only_problem() -> None:
    beside = ["budget={gpu_hours: 4, flop: 20%}", "policy={kind: uniform}"]
    for overrides in ([], beside):
        with pytest.raises(SpecError, match="is no known key") as caught:
            load_sweep(FOLDER / "hours_misspelt.yaml", overrides)
        assert len(caught.value.problems) == 1


@pytest.mark.parametrize("verb", ["plan", "launch"])
@pytest.mark.parametrize("name", THROUGH_THE_COMMAND)
def test_the_command_exits_2_and_starts_nothing(name: str, verb: str, tmp_path: Path) -> None:
    file = FOLDER / f"{name}.yaml"
    remedy, place = _expected(file)
    run = subprocess.run(
        [sys.executable, "-m", "orchestrator", verb, str(file)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(FOLDER.parents[2]), "COLUMNS": "400"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2, run.stderr
    assert place in run.stderr
    assert remedy in run.stderr
    assert "Nothing was started." in run.stderr
    assert list(tmp_path.iterdir()) == []
