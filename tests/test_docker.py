"""docker/ says what the rest of the repository says, and opens no door by accident.

No engine here: the files are read, and their commands are held against the installed programs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
RAY_SERVICES = ("head", "worker")
PROGRAMS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(DOCKER / "compose.yaml")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def dockerfile() -> str:
    """The Dockerfile with continued lines joined and comments left out."""
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    return text.replace("\\\n", " ")


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def test_everything_runs_one_image_built_from_the_dockerfile(compose: dict[str, Any]) -> None:
    assert {service["image"] for service in compose["services"].values()} == {
        "${FRONTRUNNER_IMAGE:-frontrunner:latest}"
    }
    built = [service["build"] for service in compose["services"].values() if "build" in service]
    assert built == [{"context": "..", "dockerfile": "docker/Dockerfile"}]


def test_the_image_holds_the_tested_set_and_nothing_else() -> None:
    installs = re.findall(r"pip install[^\n&]*", dockerfile())
    assert len(installs) == 2
    assert "-c constraints.txt -r requirements.txt" in installs[0]
    assert "--no-deps ." in installs[1]
    assert "pip check" in dockerfile()


def test_the_image_runs_the_projects_python_command_and_no_root(project: dict[str, Any]) -> None:
    base = re.search(r"^ARG BASE=python:(\d+)\.(\d+)-slim", dockerfile(), re.MULTILINE)
    least = re.fullmatch(r">=(\d+)\.(\d+)", project["requires-python"])
    assert base and least
    assert tuple(map(int, base.groups())) >= tuple(map(int, least.groups()))
    entry = re.search(r'^ENTRYPOINT \["(.*)"\]$', dockerfile(), re.MULTILINE)
    assert entry and entry[1] in project["scripts"]
    users = re.findall(r"^USER (.*)$", dockerfile(), re.MULTILINE)
    assert users == ["1000:1000"]
    assert "useradd --uid 1000" in dockerfile()


def test_the_image_gets_no_secret_and_no_checkout() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "an allow-list, not a list of what to remember to leave out"
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copies = re.findall(r"^COPY ((?:\S+ )+)\S+$", dockerfile(), re.MULTILINE)
    copied = {source for sources in copies for source in sources.split()}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
    ignored = (DOCKER / ".gitignore").read_text().split()
    assert {".env", "ray-token"} <= set(ignored)


def test_what_is_pinned_satisfies_the_ranges(project: dict[str, Any]) -> None:
    from packaging.requirements import Requirement

    pinned = pins()
    extras = project["optional-dependencies"].values()
    for line in [*project["dependencies"], *(line for extra in extras for line in extra)]:
        requirement = Requirement(line)
        name = requirement.name.lower().replace("_", "-")
        assert name in pinned, f"{line} is not in constraints.txt"
        assert requirement.specifier.contains(pinned[name]), f"{line} against {pinned[name]}"


def test_the_build_backend_is_the_pinned_one() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]
    assert build["requires"] == [f"setuptools=={pins()['setuptools']}"]


def test_torch_is_pinned_without_a_local_part_and_the_corpus_exactly() -> None:
    assert pins()["torch"] == "2.13.0"
    assert not [name for name, version in pins().items() if "+" in version]
    assert {"sympy", "networkx", "mpmath"} <= pins().keys()


def test_ray_asks_for_the_token_everywhere(compose: dict[str, Any]) -> None:
    assert compose["secrets"] == {"ray_token": {"file": "./ray-token"}}
    for name in RAY_SERVICES:
        service = compose["services"][name]
        assert service["secrets"] == ["ray_token"]
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
        assert service["environment"]["RAY_USAGE_STATS_ENABLED"] == "0"


def test_no_port_but_mlflows_on_loopback(compose: dict[str, Any]) -> None:
    published = {name: service.get("ports") for name, service in compose["services"].items()}
    assert published == {"head": None, "worker": None, "mlflow": ["127.0.0.1:5000:5000"]}
    assert all("network_mode" not in service for service in compose["services"].values())
    assert "--dashboard-host=127.0.0.1" in compose["services"]["head"]["entrypoint"]


def test_secrets_come_from_outside_and_have_no_default(compose: dict[str, Any]) -> None:
    text = (DOCKER / "compose.yaml").read_text()
    for name in ("MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY"):
        assert re.findall(rf"\$\{{{name}(.)", text) == [":"]
        assert f"${{{name}:?" in text, f"{name} must be refused when it is missing"
    mlflow = compose["services"]["mlflow"]["environment"]
    head = compose["services"]["head"]["environment"]
    assert mlflow["MLFLOW_AUTH_ADMIN_PASSWORD"] == head["MLFLOW_TRACKING_PASSWORD"]
    assert not [key for key in compose["services"]["worker"]["environment"] if "MLFLOW" in key]
    example = (DOCKER / ".env.example").read_text()
    assert re.findall(r"^[A-Z].*=(.+)$", example, re.MULTILINE) == []


def test_every_variable_is_in_the_example(compose: dict[str, Any]) -> None:
    text = (DOCKER / "compose.yaml").read_text()
    used = set(re.findall(r"\$\{([A-Z_]+)", text))
    told = set(re.findall(r"^#?([A-Z_]+)=", (DOCKER / ".env.example").read_text(), re.MULTILINE))
    assert used == told


def test_sweeps_lie_under_one_path_on_every_node(compose: dict[str, Any]) -> None:
    storages = [compose["services"][name]["volumes"] for name in RAY_SERVICES]
    assert storages == [["${FRONTRUNNER_STORAGE:-shared}:/shared"]] * 2
    assert {"shared", "mlflow"} == compose["volumes"].keys()
    # A named volume takes its owner from the image's folder: without it, user 1000 cannot write.
    assert (
        "install -d -o frontrunner -g frontrunner /shared /shared/sweeps /mlflow" in dockerfile()
    )


def test_the_cluster_config_fits_this_cluster(compose: dict[str, Any]) -> None:
    spec = YAML(typ="safe", pure=True).load(ROOT / "configs" / "gpu-cluster.yaml")
    assert spec["resources"]["address"] == "auto"
    assert spec["storage"].startswith("/shared/")
    assert spec["trial"]["data"]["source"].startswith("/shared/")
    variable = spec["tracking"]["uri"].removeprefix("env:")
    assert compose["services"]["head"]["environment"][variable] == "http://mlflow:5000"


def test_the_worker_has_the_gpus_and_the_head_none(compose: dict[str, Any]) -> None:
    head, worker = (compose["services"][name] for name in RAY_SERVICES)
    devices = worker["deploy"]["resources"]["reservations"]["devices"]
    assert [device["driver"] for device in devices] == ["nvidia"]
    assert devices[0]["capabilities"] == ["gpu"]
    assert "deploy" not in head
    assert {"--num-gpus=0", "--num-cpus=0"} <= set(head["entrypoint"])
    assert worker["depends_on"] == {"head": {"condition": "service_healthy"}}
    assert f"--address={head['hostname']}:6379" in worker["entrypoint"]
    assert "--port=6379" in head["entrypoint"]


def test_every_service_is_watched(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == "unless-stopped", name


@pytest.mark.parametrize("name", ["head", "worker", "mlflow"])
def test_the_commands_know_their_options(compose: dict[str, Any], name: str) -> None:
    program, command, *options = compose["services"][name]["entrypoint"]
    result = subprocess.run(
        [str(PROGRAMS / program), command, "--help"], capture_output=True, text=True, timeout=90
    )
    known = set(re.findall(r"--[a-z][a-z-]*", result.stdout))
    assert {option.partition("=")[0] for option in options} <= known, result.stderr


def test_mlflow_asks_who_you_are_and_who_it_is(compose: dict[str, Any]) -> None:
    options = compose["services"]["mlflow"]["entrypoint"]
    assert "--app-name=basic-auth" in options
    hosts = next(option for option in options if option.startswith("--allowed-hosts="))
    assert "mlflow:5000" in hosts and "*" not in hosts
    assert any(
        option.startswith("--backend-store-uri=${MLFLOW_STORE:-sqlite:////mlflow/")
        for option in options
    )
    # The store of users lies in the working directory, which must be the volume.
    assert compose["services"]["mlflow"]["working_dir"] == "/mlflow"
    assert compose["services"]["mlflow"]["volumes"] == ["mlflow:/mlflow"]
