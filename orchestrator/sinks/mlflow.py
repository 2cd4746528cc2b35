"""The MLflow window: one run for the sweep and one for each trial, side by side in an experiment.

The only file that imports MLflow, and only in the courier's thread, off the decision path. Runs
are found again by tag, and times are the journal's, so telling twice changes nothing. Touches the
network or a database file.

Runs lie flat, not nested: the UI hides nested ones, and draws none of their curves, until each
parent is opened.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.events import Opened, Record
from orchestrator.sinks import views
from orchestrator.sinks.courier import Conclusion, Courier, to_stderr, without_password
from orchestrator.sinks.telling import LOSS, SENT, SWEEP, TRIAL, Telling, UsedOf
from orchestrator.state import SweepState

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

BATCH_METRICS = 500
_SWEEP = None  # the key of the sweep's own run, beside the ids of trials


class MlflowSink:
    """Tells a sweep to an MLflow tracking server or database.

    `initial` is the state before the first record; `read_after(seq)` reads the journal's records
    beyond `seq`. `close` waits at most `grace_s` for what is not told yet. `used`: what of the
    budget runs out first, and how much of it is used.
    """

    def __init__(
        self,
        *,
        initial: SweepState,
        read_after: Callable[[int], Iterable[Record]],
        tracking_uri: str,
        experiment: str,
        storage: Path,
        spec_text: str | None = None,
        grace_s: float = 30.0,
        say: Callable[[str], None] = to_stderr,
        used: UsedOf = SweepState.flops_used,
    ) -> None:
        self._server = without_password(tracking_uri)
        self._tracker = _Tracker(tracking_uri, experiment, storage, initial, used)
        self._courier = Courier(
            self._tracker,
            initial=initial,
            read_after=read_after,
            name=f"MLflow at {self._server}",
            storage=storage,
            spec_text=spec_text,
            grace_s=grace_s,
            say=say,
            used=used,
        )

    @property
    def charts_url(self) -> str | None:
        """Where the curves are, once the experiment is known; of a database, the part after the
        address of whatever server shows it."""
        path = self._tracker.charts_path
        return f"{self._server}/{path}" if path and self._server.startswith("http") else path

    def show(self, records: Sequence[Record], state: SweepState) -> None:
        self._courier.put(records)

    def publish(
        self, *, law: Mapping[str, float], artifacts: Sequence[Path], answer: str | None = None
    ) -> None:
        """Add the law's figures, its sentence and the files of a report to the sweep's run."""
        self._courier.conclude(Conclusion(law=law, answer=answer, artifacts=tuple(artifacts)))

    def close(self) -> None:
        """Tell what is left, within the grace. Harmless when called twice."""
        self._courier.close()


@dataclass(slots=True, kw_only=True)
class _Run:
    """What MLflow is known to hold of a run."""

    id: str
    name: str
    status: str
    tags: dict[str, str]
    params: set[str]


class _Tracker:
    """A courier's tracker: the calls to MLflow, and the runs they concern."""

    def __init__(
        self, uri: str, experiment: str, storage: Path, initial: SweepState, used: UsedOf
    ) -> None:
        self._uri = uri
        self._name = experiment
        self._storage = storage
        self._initial = initial
        self._used = used
        self._client: MlflowClient | None = None
        self._experiment: str | None = None
        self._sweep_id = ""
        self._runs: dict[str | None, _Run] = {}
        self._unwanted: set[str | None] = set()
        self._sure = False

    @property
    def charts_path(self) -> str | None:
        if self._experiment is None:
            return None
        return views.charts_path(self._experiment, self._sweep_id)

    def open(self, opened: Opened, time: float) -> int:
        """Find or make the experiment, and find the runs of this sweep; the sequence number up to
        which they were told, -1 for a sweep that is new here."""
        client = self._connected()
        made_ms = round(time * 1000)
        self._sweep_id = f"{opened.name}-{made_ms:x}-{opened.digest[:8]}"
        self._experiment = self._found_experiment(client)
        self._look_up(client)
        view = views.saved_view(self._sweep_id, self._initial, made_ms)
        key = views.VIEW_TAG + views.view_id(self._sweep_id)
        client.set_experiment_tag(self._experiment, key, view)
        sweep = self._runs.get(_SWEEP)
        if sweep is None:
            self._head(client, "a law comes when the sweep is done")
            return -1
        return int(sweep.tags.get(SENT, -1))

    def tell(self, told: Mapping[str | None, Telling], state: SweepState, seq: int) -> None:
        """Tell what changed, and last of all up to where."""
        client = self._connected()
        if not self._sure:
            self._look_up(client)
        self._sure = False  # until all of it has gone through
        for key, telling in told.items():
            if key not in self._unwanted:
                run = self._run(client, key, telling)
                self._log(client, run, telling)
                self._stand(client, run, telling)
        note = views.sweep_note(state, answer=None, files=(), used=self._used)
        if _SWEEP not in self._unwanted:
            self._tag(client, self._runs[_SWEEP], {"mlflow.note.content": note, SENT: str(seq)})
        self._sure = True

    def conclude(self, conclusion: Conclusion, state: SweepState, time_ms: int) -> None:
        """The law on the sweep's run and at the head of the experiment."""
        client = self._connected()
        self._look_up(client)  # at last without one that a slow server made late
        if _SWEEP in self._unwanted:
            return
        run = self._runs[_SWEEP]
        for key, value in conclusion.law.items():
            client.log_metric(run.id, f"sweep/law_{key}", value, time_ms, state.points)
        files = [f"{path.name}: among this run's artifacts" for path in conclusion.artifacts]
        note = views.sweep_note(state, answer=conclusion.answer, files=files, used=self._used)
        tags = {"mlflow.note.content": note}
        if conclusion.answer:
            tags["frontrunner.law"] = conclusion.answer
            self._head(client, conclusion.answer)
        self._tag(client, run, tags)

    def attach(self, file: Path | str, name: str) -> None:
        if _SWEEP in self._unwanted:
            return
        client, run = self._connected(), self._runs[_SWEEP]
        if isinstance(file, Path):
            client.log_artifact(run.id, str(file))
        else:
            client.log_text(run.id, file, name)

    def _connected(self) -> MlflowClient:
        client = self._client
        if client is None:
            # Read when MLflow is loaded: a dead server may cost seconds, not minutes.
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
            os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
            mlflow: Any = importlib.import_module("mlflow")
            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.ERROR)
            client = self._client = mlflow.MlflowClient(tracking_uri=self._uri)
        return client

    def _found_experiment(self, client: MlflowClient) -> str:
        known = client.get_experiment_by_name(self._name)
        if known is not None:
            return str(known.experiment_id)
        database = self._uri.startswith("sqlite:")
        folder = self._storage.parent / "mlflow-artifacts" / self._name
        made = client.create_experiment(
            self._name,
            artifact_location=folder.absolute().as_uri() if database else None,
            tags={
                "mlflow.experimentKind": "custom_model_development",
                "mlflow.experiment.primaryMetric.name": LOSS,
                "mlflow.experiment.primaryMetric.greaterIsBetter": "False",
            },
        )
        return str(made)

    def _head(self, client: MlflowClient, answer: str) -> None:
        """The experiment's description, which stands above its runs."""
        charts = views.charts_path(str(self._experiment), self._sweep_id)
        text = views.experiment_note(self._initial.terms.name, charts, answer=answer)
        client.set_experiment_tag(str(self._experiment), "mlflow.note.content", text)

    def _look_up(self, client: MlflowClient) -> None:
        """Find the sweep's runs: at first, and after a failed call, which may have made one.

        A run made twice, by a call that timed out and by its repetition, is told apart by what it
        holds and the empty one deleted. One that somebody deleted is not wanted: it stays so.
        """
        self._runs.clear()
        self._unwanted.clear()
        for run in sorted(self._found_runs(client), key=lambda run: -len(run.data.metrics)):
            key = run.data.tags.get(TRIAL)
            if run.info.lifecycle_stage == "deleted":
                self._unwanted.add(key)
            elif key in self._runs:
                client.delete_run(run.info.run_id)
            else:
                self._runs[key] = _Run(
                    id=run.info.run_id,
                    name=str(run.info.run_name),
                    status=run.info.status,
                    tags=dict(run.data.tags),
                    params=set(run.data.params),
                )
        self._unwanted -= self._runs.keys()

    def _found_runs(self, client: MlflowClient) -> Iterable[Run]:
        entities: Any = importlib.import_module("mlflow.entities")
        token = None
        while True:
            page = client.search_runs(
                [str(self._experiment)],
                filter_string=f"tags.`{SWEEP}` = '{self._sweep_id}'",
                run_view_type=entities.ViewType.ALL,
                max_results=1000,
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _run(self, client: MlflowClient, key: str | None, telling: Telling) -> _Run:
        """The run of the sweep or a trial, made where there is none yet."""
        run = self._runs.get(key)
        if run is None:
            name = f"sweep {self._initial.terms.name}" if key is None else key
            tags = {
                SWEEP: self._sweep_id,
                "frontrunner.name": self._initial.terms.name,
                "frontrunner.kind": "sweep" if key is None else "trial",
                "mlflow.runName": name,
                "mlflow.source.name": "frontrunner",
                "mlflow.source.type": "LOCAL",
                "mlflow.user": os.environ.get("USER", "frontrunner"),
            } | ({} if key is None else {TRIAL: key})
            began_ms = telling.began_ms
            made = client.create_run(str(self._experiment), start_time=began_ms, tags=tags)
            run = _Run(id=made.info.run_id, name=name, status="RUNNING", tags=tags, params=set())
            self._runs[key] = run
        params = views.sweep_params(self._initial)
        if key is not None:
            params = views.trial_params(self._initial.pool[key])
        if not params.keys() <= run.params:
            entities: Any = importlib.import_module("mlflow.entities")
            client.log_batch(run.id, params=[entities.Param(k, v) for k, v in params.items()])
            run.params = set(params)
        return run

    def _log(self, client: MlflowClient, run: _Run, telling: Telling) -> None:
        entities: Any = importlib.import_module("mlflow.entities")
        metrics = [entities.Metric(m.key, m.value, m.time_ms, m.step) for m in telling.metrics]
        for start in range(0, len(metrics), BATCH_METRICS):
            client.log_batch(run.id, metrics=metrics[start : start + BATCH_METRICS])
        self._tag(client, run, telling.tags)

    def _tag(self, client: MlflowClient, run: _Run, tags: Mapping[str, str]) -> None:
        """Set those tags that are not what they were."""
        entities: Any = importlib.import_module("mlflow.entities")
        cut = {key: views.short(value) for key, value in tags.items()}
        new = [entities.RunTag(k, v) for k, v in cut.items() if run.tags.get(k) != v]
        if new:
            client.log_batch(run.id, tags=new)
            run.tags.update(cut)

    def _stand(self, client: MlflowClient, run: _Run, telling: Telling) -> None:
        """The run's name and status, where they are not what they were."""
        name, status = telling.name or run.name, telling.status or run.status
        if name != run.name:
            client.update_run(run.id, name=name)
            run.name = name
        if telling.ended_ms is not None:
            if status != run.status or telling.metrics:
                client.set_terminated(run.id, status=status, end_time=telling.ended_ms)
        elif status != run.status:
            client.update_run(run.id, status=status)
        run.status = status
