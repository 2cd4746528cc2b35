"""The walls stand, and they can fall: a planted trespass of each kind breaks its contract.

import-linter reads import statements. What a package's `__init__` drags in, it does not see, so
the last tests import each room in a fresh process and look at what came with it.
"""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINT_IMPORTS = Path(sys.executable).parent / "lint-imports"

FRAMEWORKS = ("torch", "transformers", "datasets", "gpytorch", "ray", "mlflow", "matplotlib")
ENGINES = tuple(
    f"orchestrator.{room}"
    for room in ("backends", "sinks", "report", "driver", "judge", "assembly", "cli")
)
# All that is in the house and is neither an engine nor a wirer of engines is core.
NOT_CORE = ("backends", "sinks", "report", "surrogates", "driver", "judge", "assembly", "cli")
TORCH_FREE = ("quantity", "documents", "findings", "config", "flops")


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "400", "PYTHONPATH": str(root)}
    return subprocess.run(
        [str(LINT_IMPORTS), "--no-cache"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the sources and their contracts, to trespass in."""
    for name in ("orchestrator", "trainers", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def test_the_walls_stand() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("orchestrator/policies/planted.py", "import ray", "The core reaches no engine"),
        ("orchestrator/laws/planted.py", "import torch", "The core reaches no engine"),
        ("orchestrator/values.py", "import scipy", "Each room imports what it may"),
        ("orchestrator/state.py", "from orchestrator import journal", "Each room imports"),
        ("orchestrator/sinks/planted.py", "import mlflow", "is in no room"),
        ("orchestrator/planted.py", "import json", "orchestrator.planted is in no room"),
        ("orchestrator/report/planted.py", "import mlflow", "Each room imports what it may"),
        ("orchestrator/backends/inline.py", "import trainers.loop", "Each room imports"),
        ("trainers/planted.py", "import orchestrator.values", "The trainers reach nothing"),
        ("trainers/planted.py", "import gpytorch", "The trainers reach nothing"),
        ("trainers/quantity.py", "import torch", "reaches no torch"),
    ],
)
def test_a_trespass_breaks_a_wall(house: Path, module: str, line: str, broken: str) -> None:
    with (house / module).open("a") as file:
        file.write(f"\n{line}\n")
    result = lint(house)
    assert result.returncode == 1, result.stdout + result.stderr
    assert broken in result.stdout
    assert Path(module).stem in result.stdout


def test_a_detour_breaks_the_wall_too(house: Path) -> None:
    """The core may not reach torch through a room that it may import."""
    (house / "orchestrator/laws/planted.py").write_text("import torch\n")
    (house / "orchestrator/policies/planted.py").write_text("import orchestrator.laws.planted\n")
    result = lint(house)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "orchestrator.policies is not allowed to import torch" in result.stdout


@pytest.mark.parametrize("room", ["policies", "surrogates", "laws/forms"])
def test_siblings_are_strangers(house: Path, room: str) -> None:
    package = f"orchestrator.{room.replace('/', '.')}"
    (house / "orchestrator" / room / "one.py").write_text(f"import {package}.other\n")
    (house / "orchestrator" / room / "other.py").write_text("import math\n")
    result = lint(house)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{package}.one is not allowed to import {package}.other" in result.stdout


def loaded_by(*modules: str) -> set[str]:
    """Names in sys.modules after importing these in a fresh interpreter."""
    program = f"import sys, {', '.join(modules)}; print('\\n'.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def with_files(package: str) -> list[str]:
    """The package and every module in it, as names."""
    folder = ROOT / package.replace(".", "/")
    if not folder.is_dir():
        return [package]
    files = sorted(folder.rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in names]


def core() -> list[str]:
    """The names of the core's modules and packages, as they are on disk."""
    found = [path for path in (ROOT / "orchestrator").iterdir() if not path.name.startswith("_")]
    rooms = [
        path.stem for path in found if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
    return [f"orchestrator.{room}" for room in sorted(rooms) if room not in NOT_CORE]


def test_the_contract_names_all_of_the_core() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    named = contracts["importlinter:contract:core"]["source_modules"].split()
    assert sorted(named) == core()


def test_the_core_alone_is_light() -> None:
    modules = [name for package in core() for name in with_files(package)]
    loaded = loaded_by(*modules)
    assert "orchestrator.values" in loaded
    assert loaded.isdisjoint(FRAMEWORKS)
    assert not [name for name in loaded if name.startswith(ENGINES)]
    assert "trainers.loop" not in loaded


def test_what_both_sides_read_of_the_trainers_is_light() -> None:
    loaded = loaded_by(*(f"trainers.{name}" for name in TORCH_FREE))
    assert loaded.isdisjoint(FRAMEWORKS)


def test_the_trainers_stand_alone() -> None:
    loaded = loaded_by(*[name for name in with_files("trainers") if "__main__" not in name])
    assert loaded.isdisjoint({"orchestrator", "ray", "mlflow", "gpytorch"})


def test_the_command_answers_before_torch_would_be_there() -> None:
    assert loaded_by("orchestrator.cli.app").isdisjoint(FRAMEWORKS)
