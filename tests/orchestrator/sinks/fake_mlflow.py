"""An MLflow server in memory that fails at chosen calls, before or after it did what was asked.

It keeps what a database keeps: the same (key, time, step, value) twice is one point, and writing
to a deleted run is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any


@dataclass
class FakeRun:
    id: str
    tags: dict[str, str]
    start_time: int
    status: str = "RUNNING"
    end_time: int | None = None
    stage: str = "active"
    params: dict[str, str] = field(default_factory=dict)
    points: set[tuple[str, int, int, float]] = field(default_factory=set)

    def curve(self, key: str) -> list[tuple[int, float]]:
        return sorted((step, value) for k, _, step, value in self.points if k == key)

    def shown(self) -> Any:
        info = SimpleNamespace(
            run_id=self.id,
            run_name=self.tags["mlflow.runName"],
            status=self.status,
            lifecycle_stage=self.stage,
        )
        metrics = {key: 0.0 for key, *_ in self.points}
        data = SimpleNamespace(tags=dict(self.tags), params=dict(self.params), metrics=metrics)
        return SimpleNamespace(info=info, data=data)


class Page(list[Any]):
    token = None


@dataclass
class FakeServer:
    """`trouble` is the share of calls that fail, half of them after they took effect."""

    trouble: float = 0.0
    random: Random = field(default_factory=lambda: Random(0))
    runs: dict[str, FakeRun] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    made: bool = False
    calls: list[str] = field(default_factory=list)
    takes_files: bool = True

    def client(self) -> FakeClient:
        return FakeClient(self)

    def active(self) -> list[FakeRun]:
        return [run for run in self.runs.values() if run.stage == "active"]


class FakeClient:
    """Those methods of MlflowClient that the sink calls."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server

    def __getattribute__(self, name: str) -> Any:
        method = object.__getattribute__(self, name)
        if name.startswith("_"):
            return method
        server: FakeServer = self._server

        def called(*args: Any, **named: Any) -> Any:
            server.calls.append(name)
            fails = server.random.random() < server.trouble
            if fails and server.random.random() < 0.5:
                raise ConnectionError(f"{name} never arrived")
            answer = method(*args, **named)
            if fails:
                raise TimeoutError(f"{name} arrived, its answer did not")
            return answer

        return called

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="1") if self._server.made else None

    def create_experiment(self, name: str, **how: Any) -> str:
        self._server.made = True
        self._server.tags |= how["tags"]
        return "1"

    def set_experiment_tag(self, experiment: str, key: str, value: str) -> None:
        self._server.tags[key] = value

    def search_runs(self, experiments: list[str], filter_string: str, **how: Any) -> Page:
        wanted = filter_string.split("'")[1]
        runs = self._server.runs.values()
        return Page(r.shown() for r in runs if r.tags["frontrunner.sweep"] == wanted)

    def create_run(self, experiment: str, *, start_time: int, tags: dict[str, str]) -> Any:
        run = FakeRun(id=f"run-{len(self._server.runs)}", tags=dict(tags), start_time=start_time)
        self._server.runs[run.id] = run
        return run.shown()

    def _writable(self, run: str) -> FakeRun:
        found = self._server.runs[run]
        if found.stage == "deleted":
            raise ValueError(f"The run {run} must be in the 'active' state")
        return found

    def log_batch(
        self, run: str, metrics: Any = (), params: Any = (), tags: Any = (), **_: Any
    ) -> None:
        assert len(metrics) <= 1000 and len(params) <= 100 and len(tags) <= 100
        found = self._writable(run)
        found.points |= {(m.key, m.timestamp, m.step, m.value) for m in metrics}
        for param in params:
            assert found.params.get(param.key, param.value) == param.value, "a param changed"
            found.params[param.key] = param.value
        found.tags |= {tag.key: tag.value for tag in tags}

    def log_metric(self, run: str, key: str, value: float, timestamp: int, step: int) -> None:
        self._writable(run).points.add((key, timestamp, step, value))

    def update_run(self, run: str, status: str | None = None, name: str | None = None) -> None:
        found = self._writable(run)
        found.status = status or found.status
        found.tags["mlflow.runName"] = name or found.tags["mlflow.runName"]

    def set_terminated(self, run: str, status: str, end_time: int) -> None:
        found = self._writable(run)
        found.status, found.end_time = status, end_time

    def delete_run(self, run: str) -> None:
        self._writable(run).stage = "deleted"

    def _keep(self, name: str) -> None:
        if not self._server.takes_files:
            raise PermissionError("no credentials for the bucket")
        self._server.files.append(name)

    def log_artifact(self, run: str, path: str) -> None:
        self._keep(Path(path).name)

    def log_text(self, run: str, text: str, name: str) -> None:
        self._keep(name)
