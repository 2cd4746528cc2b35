"""A Ray cluster as the backend needs it: opened, looked over, proven, and let go.

Without an address a cluster of this machine alone is started: on the loopback device, with a
token of its own, no dashboard and no usage reports. One that runs already, in this process or at
an address, is used and left running. Touches processes, environment variables named RAY_*, the
handler of SIGTERM (which Ray replaces, and this puts back), and, to prove that every node shares
it, the sweep's storage.
"""

from __future__ import annotations

import math
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.backends import joining
from orchestrator.backends.base import BackendError, TooLargeError, UnavailableError
from orchestrator.resources import Steps

ANSWER_S = 60.0
ARRIVAL_OF_FILES_S = 15.0
CLOSE_S = 10.0
TELL_EVERY_S = 15.0
_SLACK = 1e-9

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine of the cluster and all that it has, free or not."""

    id: str
    name: str
    cpus: float
    gpus: float

    def room(self, cpus: float, gpus: float) -> int:
        """How many trials of that size fit when nothing else runs there; a part of a GPU is on
        one."""
        by_gpus = math.inf if gpus == 0 else self.gpus / gpus
        if 0 < gpus < 1:
            by_gpus = self.gpus * math.floor(1 / gpus + _SLACK)
        by_cpus = math.inf if cpus == 0 else self.cpus / cpus
        room = min(by_gpus, by_cpus)
        return 1 if room == math.inf else math.floor(room + _SLACK)


class Cluster:
    """The cluster in use; `own` says that it was started here and ends with `close`."""

    def __init__(self, *, own: bool, connected: bool, tell: Tell) -> None:
        import ray

        self.own = own
        self._connected = connected
        self._tell = tell
        self.nodes = [_node(entry) for entry in ray.nodes() if entry["Alive"]]
        self._proven: set[str] = set()

    @classmethod
    def open(cls, address: str | None, slots: int | None, cpus: float, tell: Tell) -> Cluster:
        """The cluster of this process, at the address, at $RAY_ADDRESS, or a new one: the first
        that there is. Raises UnavailableError where nothing answers or Ray does not start,
        BackendError where the cluster does not take us."""
        address = address or os.environ.get("RAY_ADDRESS") or None
        address = None if address == "local" else address
        joining.quieten(local=address is None)
        import ray

        if ray.is_initialized():
            return cls(own=False, connected=False, tell=tell)
        handler = signal.getsignal(signal.SIGTERM)
        try:
            if address is None:
                tell("starting Ray on this machine")
                joining.start(slots, cpus)
            else:
                tell(f"connecting to Ray at {address}")
                joining.connect(address)
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)
        return cls(own=address is None, connected=True, tell=tell)

    @property
    def has_gpus(self) -> bool:
        return any(node.gpus > 0 for node in self.nodes)

    @property
    def told(self) -> str:
        """What the cluster has, in words."""
        if not self.nodes:
            return "the cluster has no nodes"
        each = (f"{node.name} {node.cpus:g} CPUs and {node.gpus:g} GPUs" for node in self.nodes)
        return "the cluster has " + ", ".join(each)

    def nodes_for(self, cpus: float, gpus: float) -> list[Node]:
        """The nodes on which a trial can run. Raises TooLargeError where there is none."""
        nodes = [node for node in self.nodes if node.room(cpus, gpus) > 0]
        if not nodes:
            scarce = gpus > max((node.gpus for node in self.nodes), default=0.0)
            raise TooLargeError(
                f"resources.{'gpus' if scarce else 'cpus'}_per_trial",
                f"a trial asks for {gpus:g} GPUs and {cpus:g} CPUs, and no node has them: "
                f"{self.told}; lower gpus_per_trial or cpus_per_trial, or start such a node first",
            )
        return nodes

    def prove(self, nodes: Sequence[Node], storage: Path, ours: Mapping[str, str]) -> None:
        """Have each node run the same versions as `ours`, and read and write the storage.

        Nodes on which no trial can run (a head without GPUs) need neither. Raises BackendError
        naming the node and the path, or the version.
        """
        self._tell(f"asking {len(nodes)} nodes for their versions and for {storage}")
        storage.mkdir(parents=True, exist_ok=True)
        nonce = secrets.token_hex(8)
        question = storage / f".proof-{nonce}"
        question.write_text(nonce, encoding="utf-8")
        answers = {node.name: storage / f".proof-{nonce}-{node.id}" for node in nodes}
        try:
            found = self.on_each(
                nodes,
                _look(),
                lambda node: (str(question), str(answers[node.name])),
                timeout_s=ANSWER_S,
            )
            for node in nodes:
                _judge(node.name, found[node.name], ours, storage)
                _await_file(node.name, answers[node.name], nonce, storage)
                self._proven.add(node.id)
        finally:
            for path in (question, *answers.values()):
                path.unlink(missing_ok=True)

    def admit(self, node_id: str, storage: Path, ours: Mapping[str, str]) -> None:
        """Prove a node that has joined since the start. Raises BackendError as `prove` does."""
        import ray

        if self.own or node_id in self._proven:
            return
        self.nodes = [_node(entry) for entry in ray.nodes() if entry["Alive"]]
        self.prove([node for node in self.nodes if node.id == node_id], storage, ours)

    def on_each(
        self,
        nodes: Sequence[Node],
        work: Callable[..., Any],
        arguments: Callable[[Node], tuple[Any, ...]],
        *,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """What `work` returns on each node, or the exception that it raised there, by name."""
        import ray
        from ray.exceptions import RayError, RayTaskError
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        calls: dict[Any, str] = {}
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node.id, soft=False)
            task = ray.remote(work).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
            calls[task.remote(*arguments(node))] = node.name
        began = time.monotonic()
        turn_s = min(TELL_EVERY_S, timeout_s or TELL_EVERY_S)
        answers: dict[str, Any] = {}
        while len(answers) < len(calls):
            waiting = [call for call, name in calls.items() if name not in answers]
            for call in ray.wait(waiting, num_returns=1, timeout=turn_s)[0]:
                try:
                    answers[calls[call]] = ray.get(call)
                except RayTaskError as error:
                    answers[calls[call]] = error.cause
                except RayError as error:
                    answers[calls[call]] = error
            waited = time.monotonic() - began
            if timeout_s is not None and waited > timeout_s:
                for name in calls.values():
                    late = TimeoutError(f"no answer within {waited:.0f} s")
                    answers.setdefault(name, late)
            elif waited > TELL_EVERY_S and len(answers) < len(calls):
                self._tell(f"waiting for {len(calls) - len(answers)} nodes since {waited:.0f} s")
        return answers

    def kill(self, actor: Any, ground: Any = None) -> None:
        """End an actor's process now, and all that sit in its placement group, which is given
        back; nothing where they are gone, or were never there."""
        import ray
        from ray.util.placement_group import remove_placement_group

        if actor is not None:
            ray.kill(actor, no_restart=True)
        if ground is not None:
            remove_placement_group(ground)

    def close(self, seats: Sequence[tuple[Any, Any]]) -> None:
        """Kill the actors in their placement groups, wait a bounded time for their end, and let
        go of the cluster."""
        import ray

        if not ray.is_initialized():
            return
        for actor, ground in seats:
            self.kill(actor, ground)
        actors = [actor for actor, _ in seats if actor is not None]
        if not self.own and actors:
            # A call to a dead actor fails at once, so its failing is the news of its death.
            calls = [actor.stop.remote("", 0) for actor in actors]
            ray.wait(calls, num_returns=len(calls), timeout=CLOSE_S)
        if self._connected:
            ray.shutdown()


def _node(entry: Mapping[str, Any]) -> Node:
    resources: Mapping[str, float] = entry["Resources"]
    name = f"{entry['NodeManagerHostname']} ({entry['NodeManagerAddress']}, {entry['NodeID'][:6]})"
    return Node(
        id=entry["NodeID"],
        name=name,
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
    )


def _look() -> Callable[[str, str], dict[str, str]]:
    """A task that needs nothing of ours on the node, since that is what it looks for."""

    def look(question: str, answer: str) -> dict[str, str]:
        found: dict[str, str] = {}
        try:
            from orchestrator.backends import worker

            found.update(worker.handshake())
        except (ImportError, AttributeError) as error:  # none, or one of another release
            found["missing"] = str(error)
        try:
            with open(question, encoding="utf-8") as file:
                nonce = file.read()
            with open(answer, "w", encoding="utf-8") as file:
                file.write(nonce)
        except OSError as error:
            found["unreachable"] = str(error)
        return found

    return look


def no_answer(found: Exception) -> type[BackendError]:
    """Of which kind it is that a node gave an exception for an answer: one that is gone, or slow,
    may be back; what failed there will fail again."""
    from ray.exceptions import RayError

    return UnavailableError if isinstance(found, RayError | TimeoutError) else BackendError


def _judge(name: str, found: Any, ours: Mapping[str, str], storage: Path) -> None:
    if isinstance(found, Exception):
        raise no_answer(found)(
            f"node {name} cannot be asked whether it is fit: {type(found).__name__}: {found}"
        ) from found
    if "missing" in found:
        raise BackendError(
            f"node {name} cannot import frontrunner ({found['missing']}): install the release "
            f"that runs here ({ours['frontrunner']}) on it"
        )
    for part, version in ours.items():
        if found.get(part) != version:
            raise BackendError(
                f"node {name} has {part} {found.get(part, 'none')} and the driver has {version}: "
                "install the same on both"
            )
    if "unreachable" in found:
        raise BackendError(
            f"node {name} does not reach the sweep's storage {storage}: {found['unreachable']}. "
            "It must be a folder that every node shares, under the same path"
        )


def _await_file(name: str, path: Path, nonce: str, storage: Path) -> None:
    """A network's file system may show a new file only after seconds."""
    deadline = time.monotonic() + ARRIVAL_OF_FILES_S
    while time.monotonic() < deadline:
        try:
            if path.read_text(encoding="utf-8") == nonce:
                return
        except FileNotFoundError:
            pass
        time.sleep(0.1)
    raise BackendError(
        f"what node {name} writes to the sweep's storage {storage} does not arrive here: it must "
        "be a folder that every node shares, writable for all"
    )


def check_request(
    slots: int | None,
    gpus: float | Steps | None,
    cpus: float | Steps,
    processes: int | Steps | None,
) -> None:
    """Refuse numbers that Ray would only refuse later, or never."""
    if slots is not None and slots < 1:
        raise BackendError(f"slots must be at least 1, not {slots}")
    for what, number in (("GPUs", gpus), ("CPUs", cpus)):
        if isinstance(number, float | int) and number < 0:
            raise BackendError(f"a trial cannot take {number} {what}: give 0 or more")
    whole = isinstance(gpus, Steps) or gpus is None or gpus <= 1 or gpus == int(gpus)
    if not whole:
        raise BackendError(f"gpus_per_trial {gpus:g}: above one GPU, whole ones only")
    if isinstance(processes, int) and processes < 1:
        raise BackendError(f"processes_per_trial must be at least 1, not {processes}")
