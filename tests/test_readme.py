"""The README's commands are run as they stand there, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.assembly.specs import read_spec
from tests.orchestrator.assembly import specs

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNS_THE_TESTS = "scripts/test"
LONG = ("scripts/quickstart", "frontrunner launch")


def commands() -> list[str]:
    """Every line of an indented or fenced shell block that is a command."""
    fenced = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    indented = re.findall(r"^    (\S.*)$", prose, flags=re.MULTILINE)
    lines = [line for block in fenced for line in block.splitlines()] + indented
    starts = ("scripts/", "frontrunner ", "python ", "export ")
    return [line for line in lines if line.startswith(starts) and "  " not in line]


def test_the_two_commands_come_first() -> None:
    found = [line for line in commands() if line.startswith("scripts/")]
    assert found == ["scripts/quickstart", "scripts/test"]
    assert README.index("scripts/quickstart") < 1500


def test_files_that_are_named_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    named = re.findall(r"`((?:configs|docker|scripts)/[\w./-]+)`", README)
    assert ".github/loss-compute.png" in links
    for path in [*links, *named]:
        assert (ROOT / path).exists(), path


def test_every_room_of_the_tree_exists() -> None:
    tree = README[README.index("## The tree") :]
    for line in re.findall(r"^    (\s*)(\S.*?)(?:  +\S.*)?$", tree, flags=re.MULTILINE):
        folder = ROOT / "orchestrator" if line[0] else ROOT
        for name in line[1].split():
            assert (folder / name).exists(), name


def test_every_verb_is_in_the_table() -> None:
    from typer.main import get_command

    from orchestrator.cli.app import build

    group = get_command(build())
    for verb in group.commands:  # type: ignore[attr-defined]
        assert re.search(rf"^\| `{verb} ", README, flags=re.MULTILINE), verb


def test_the_sweep_of_the_readme_can_be_planned(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    assert block is not None
    path = tmp_path / "nano.yaml"
    path.write_text(block[1], encoding="utf-8")
    _, pool = read_spec(str(path), [])
    assert len(pool) == 15


def run_in(folder: Path, command: str, *, timeout_s: float) -> None:
    """A line of the README, in a folder that looks like a clone, with this installation."""
    words = shlex.split(command)
    if words[0] == "frontrunner":
        words = [sys.executable, "-m", "orchestrator", *words[1:]]
    elif words[0] == "python":
        words = [sys.executable, *words[1:]]
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stderr[-3000:]}"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configs, recorded curves, and a sweep named quickstart that is done."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "configs").symlink_to(ROOT / "configs")
    recorded = specs.recorded(folder, name="quickstart")
    run_in(folder, f"frontrunner launch {recorded.name} storage=sweeps -q", timeout_s=100)
    return folder


def short() -> list[str]:
    skipped = (RUNS_THE_TESTS, "export ", *LONG)
    return [line for line in commands() if not line.startswith(skipped)]


def test_the_readme_has_commands_to_run() -> None:
    assert len(short()) >= 5


@pytest.mark.parametrize("command", short())
def test_a_command_of_the_readme_runs(command: str, clone: Path) -> None:
    run_in(clone, command, timeout_s=110)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_quickstart_runs_to_its_law(tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    launch = next(line for line in commands() if line.startswith("frontrunner launch"))
    run_in(tmp_path, launch, timeout_s=850)
    assert (tmp_path / "sweeps" / "quickstart" / "law.json").is_file()
