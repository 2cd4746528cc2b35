"""A cluster that is away, slow or unfit, and nodes that do not answer: told apart, without one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import WorkerCrashedError

from orchestrator.backends import joining
from orchestrator.backends.base import BackendError, UnavailableError
from orchestrator.backends.cluster import Cluster, Node
from orchestrator.backends.staffing import prepare_data
from tests.orchestrator.backends.fakes import pool


def test_a_node_that_does_not_answer_is_waited_for_no_longer_than_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Silent:
        def options(self, **_: Any) -> Silent:
            return self

        def remote(self, *_: Any) -> object:
            return object()

    def wait(calls: list[object], *, num_returns: int, timeout: float) -> tuple[Any, Any]:
        time.sleep(timeout)
        return [], calls

    for name, twin in (("nodes", list), ("remote", lambda _: Silent()), ("wait", wait)):
        monkeypatch.setattr(ray, name, twin)
    cluster = Cluster(own=False, connected=False, tell=lambda _: None)
    nodes = [Node(id=id * 56, name=id, cpus=1.0, gpus=0.0) for id in "ab"]
    began = time.monotonic()
    answers = cluster.on_each(nodes, print, lambda _: (), timeout_s=0.2)
    assert time.monotonic() - began < 5.0
    assert {name: type(found) for name, found in answers.items()} == dict.fromkeys(
        "ab", TimeoutError
    )


@pytest.mark.parametrize(
    ("found", "kind", "words"),
    [
        (WorkerCrashedError(), UnavailableError, "node a cannot be asked .* died unexpectedly"),
        (TimeoutError("no answer within 60 s"), UnavailableError, "no answer within 60 s"),
        (KeyError("PATH"), BackendError, r"cannot be asked .* KeyError: 'PATH"),
        ({"torch": "2.10"}, BackendError, "node a has frontrunner none and the driver has 1"),
    ],
)
def test_a_node_that_is_gone_is_told_from_one_that_fails(
    found: Any, kind: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    node = Node(id="0" * 6, name="a", cpus=1.0, gpus=0.0)
    monkeypatch.setattr(ray, "nodes", list)
    cluster = Cluster(own=False, connected=False, tell=lambda _: None)
    monkeypatch.setattr(Cluster, "on_each", lambda *_, **__: {"a": found})
    with pytest.raises(kind, match=words) as raised:
        cluster.prove([node], tmp_path, {"frontrunner": "1"})
    assert type(raised.value) is kind
    if isinstance(found, Exception):
        with pytest.raises(kind, match="cannot be prepared on node a") as raised:
            prepare_data(cluster, pool(), [node])
        assert type(raised.value) is kind


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "nothing answers at 127.0.0.1:1"),
        ("ray://head:10001", "is not HOST:PORT"),
        ("http://head:8265", "is not HOST:PORT"),
    ],
)
def test_an_address_where_no_cluster_is_says_so_at_once(address: str, words: str) -> None:
    with pytest.raises(BackendError, match=words):
        joining.check_address(address)


# What Ray raises of a slow start, and of a head whose node is not up yet, is a bare Exception.
SLOW = Exception("The current node timed out during startup.")
CAUSED = ConnectionError("Failed to connect")
CAUSED.__cause__ = RuntimeError("No node info found")


@pytest.mark.parametrize(
    ("address", "error", "kind", "words"),
    [
        (None, SLOW, UnavailableError, r"timed out during startup\. .* busy, try again"),
        (None, OSError(28, "No space left"), UnavailableError, "No space left"),
        (
            None,
            PermissionError(13, "denied: /tmp/ray"),
            BackendError,
            "does not start .* /tmp/ray",
        ),
        (None, ValueError("exceeds /dev/shm"), BackendError, "does not start .* exceeds /dev/shm"),
        (None, TypeError("no argument"), TypeError, "no argument"),
        ("auto", ConnectionError("no running Ray"), UnavailableError, "no running Ray"),
        ("auto", SLOW, UnavailableError, "timed out during startup"),
        ("auto", CAUSED, BackendError, "cannot join .* Failed to connect"),
        ("auto", RuntimeError("Version mismatch"), BackendError, "Version mismatch"),
        ("auto", TypeError("no argument"), TypeError, "no argument"),
    ],
)
def test_what_may_be_there_later_is_told_from_what_never_will(
    address: str | None,
    error: Exception,
    kind: type[Exception],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def init(**_: Any) -> None:
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "x" * 64)
    with pytest.raises(kind, match=words) as raised:
        Cluster.open(address, 1, 1.0, lambda _: None)
    assert type(raised.value) is kind
