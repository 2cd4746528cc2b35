"""The MLflow window: one run for the sweep and one for each trial, side by side in an experiment.

The only file that imports MLflow, and only in a thread of its own, off the decision path. Its
queue is the journal: `show` wakes the thread, which reads on from the last record that was told,
so a tracking server that fails, hangs or is absent stops nothing and loses nothing. Runs are found
again by tag, and times are the journal's, so telling twice changes nothing. Touches the network or
a database file.

Runs lie flat, not nested: the UI hides nested ones, and draws none of their curves, until each
parent is opened.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.events import Opened, Record
from orchestrator.sinks.telling import LOSS, Teller, Telling
from orchestrator.state import SweepState
from orchestrator.values import Candidate

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH_RECORDS = 400
BATCH_METRICS = 500
LINGER_S = 1.0
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
LONGEST_VALUE = 5000
OUTCOMES_IN_NAMES = ("stopped", "diverged", "failed")
_CREDENTIALS = re.compile(r"//[^/@\s]+@")

SWEEP, TRIAL, SENT = "frontrunner.sweep", "frontrunner.trial", "frontrunner.sent"
CHARTS = "#/experiments/{experiment}/runs?workflowType=machine_learning&compareRunsMode=CHART"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What is told of a sweep that is done: law figures, one sentence, and files."""

    law: Mapping[str, float]
    answer: str | None
    artifacts: tuple[Path, ...]


class MlflowSink:
    """Tells a sweep to an MLflow tracking server or database.

    `initial` is the state before the first record; `read_after(seq)` reads the journal's records
    beyond `seq`. `close` waits at most `grace_s` for what is not told yet.
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
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._read_after = read_after
        self._uri = tracking_uri
        self._grace_s = grace_s
        self._say = say or _to_stderr
        self._tracker = _Tracker(tracking_uri, experiment, storage, initial, spec_text)
        self._teller = Teller(initial)
        self._told = -1
        self._known = -1
        self._conclusion: Conclusion | None = None
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._in_trouble = False
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def charts_url(self) -> str | None:
        """Where the curves are, once the experiment is known; of a database, the part after the
        address of whatever server shows it."""
        return self._tracker.charts_url

    def show(self, records: Sequence[Record], state: SweepState) -> None:
        self._known = max(self._known, records[-1].seq)
        self._wake.set()

    def publish(
        self, *, law: Mapping[str, float], artifacts: Sequence[Path], answer: str | None = None
    ) -> None:
        """Add the law's figures, its sentence and the files of a report to the sweep's run."""
        self._conclusion = Conclusion(law=law, answer=answer, artifacts=tuple(artifacts))
        self._wake.set()

    def close(self) -> None:
        """Tell what is left, within the grace. Harmless when called twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake.set()
        self._thread.join(self._grace_s)
        left = self._known - self._told
        if left > 0 or self._conclusion is not None:
            self._say(
                f"MLflow at {_without_password(self._uri)} has not been told everything "
                f"({left} records are left). The journal keeps them: resuming the sweep tells them"
            )

    def _work(self) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            try:
                self._tell_all()
            except ImportError as error:
                self._trouble(f"cannot be loaded ({error}); the sweep goes on without it")
                return
            except Exception as error:  # whatever a tracker raises must not reach the sweep
                self._trouble(
                    f"at {_without_password(self._uri)} does not answer ({_brief(error)}); the "
                    "sweep goes on, and the journal is told again later"
                )
                if self._closing.wait(retry_s):
                    return
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)
                continue
            if self._in_trouble:
                self._say("MLflow answers again; it has been told everything so far")
                self._in_trouble, retry_s = False, FIRST_RETRY_S
            if self._closing.is_set():
                return
            self._wake.wait()
            self._wake.clear()
            self._closing.wait(LINGER_S)  # let points gather: one call tells many

    def _trouble(self, what: str) -> None:
        if not self._in_trouble:
            self._say(f"MLflow {what}")
        self._in_trouble = True

    def _tell_all(self) -> None:
        """Everything in the journal beyond what was told, batch by batch."""
        while batch := list(islice(self._read_after(self._told), BATCH_RECORDS)):
            opened = batch[0].event
            if self._told < 0 and isinstance(opened, Opened):
                sent = self._tracker.open(opened, batch[0].time)
                if sent >= 0:
                    self._catch_up(sent)
                    continue
            teller = Teller(self._teller.state)
            self._tracker.tell(teller.take(batch), teller.state, batch[-1].seq)
            self._teller, self._told = teller, batch[-1].seq
        conclusion = self._conclusion
        if conclusion is not None and self._told >= self._known:
            self._tracker.conclude(conclusion)
            self._conclusion = None

    def _catch_up(self, sent: int) -> None:
        """Fold what an earlier session told, and repair the standing that it left behind."""
        records = [record for record in self._read_after(-1) if record.seq <= sent]
        teller = Teller(self._teller.state)
        teller.skip(records)
        self._teller, self._told = teller, records[-1].seq if records else -1


class _Tracker:
    """The calls to MLflow, and the runs they concern. Every call may be repeated."""

    def __init__(
        self,
        uri: str,
        experiment: str,
        storage: Path,
        initial: SweepState,
        spec_text: str | None,
    ) -> None:
        self._uri = uri
        self._name = experiment
        self._storage = storage
        self._initial = initial
        self._spec_text = spec_text
        self._client: MlflowClient | None = None
        self._experiment: str | None = None
        self._sweep_id = ""
        self._runs: dict[str | None, str] = {}
        self._standing: dict[str | None, tuple[str, str]] = {}

    @property
    def charts_url(self) -> str | None:
        if self._experiment is None:
            return None
        path = CHARTS.format(experiment=self._experiment)
        return f"{_without_password(self._uri)}/{path}" if self._uri.startswith("http") else path

    def open(self, opened: Opened, time: float) -> int:
        """Find or make the experiment, and find the runs of this sweep; the sequence number up to
        which they were told, -1 for a sweep that is new here."""
        client = self._connected()
        self._sweep_id = f"{opened.name}-{round(time * 1000):x}-{opened.digest[:8]}"
        self._experiment = self._found_experiment(client)
        self._runs.clear()
        sent, token = -1, None
        while True:
            page = client.search_runs(
                [self._experiment],
                filter_string=f"tags.`{SWEEP}` = '{self._sweep_id}'",
                max_results=1000,
                page_token=token,
            )
            for run in page:
                trial = run.data.tags.get(TRIAL)
                self._runs[trial] = run.info.run_id
                if trial is None:
                    sent = int(run.data.tags.get(SENT, -1))
            token = page.token
            if not token:
                return sent

    def tell(self, told: Mapping[str | None, Telling], state: SweepState, seq: int) -> None:
        """Tell what changed, and last of all up to where."""
        client = self._connected()
        entities: Any = importlib.import_module("mlflow.entities")
        for key, telling in told.items():
            run = self._run(client, key, telling.began_ms)
            metrics = [entities.Metric(m.key, m.value, m.time_ms, m.step) for m in telling.metrics]
            tags = [entities.RunTag(k, _short(v)) for k, v in telling.tags.items()]
            for start in range(0, max(1, len(metrics)), BATCH_METRICS):
                client.log_batch(
                    run,
                    metrics=metrics[start : start + BATCH_METRICS],
                    tags=tags if not start else (),
                )
            self._set_status(client, key, telling)
        sweep = self._runs[None]
        client.set_tag(sweep, "mlflow.note.content", _note(state))
        client.set_tag(sweep, SENT, str(seq))

    def conclude(self, conclusion: Conclusion) -> None:
        """The law on the sweep's run and at the head of the experiment, and the files."""
        client, run = self._connected(), self._runs[None]
        for key, value in conclusion.law.items():
            client.log_metric(run, f"sweep/law_{key}", value)
        for path in conclusion.artifacts:
            client.log_artifact(run, str(path))
        if conclusion.answer:
            client.set_tag(run, "frontrunner.law", _short(conclusion.answer))
            self._head(client, conclusion.answer)

    def _connected(self) -> MlflowClient:
        client = self._client
        if client is None:
            # Read when MLflow is loaded: a dead server may cost seconds, not minutes.
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
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
        self._experiment = str(made)
        self._head(client, "a law comes when the sweep is done")
        return str(made)

    def _head(self, client: MlflowClient, answer: str) -> None:
        """The experiment's description, which stands above its runs."""
        charts = CHARTS.format(experiment=self._experiment)
        text = f"**{self._name}**: {answer}. [Live curves of all trials]({charts})"
        client.set_experiment_tag(str(self._experiment), "mlflow.note.content", text)

    def _run(self, client: MlflowClient, key: str | None, began_ms: int) -> str:
        """The run of the sweep (None) or a trial, made where there is none yet."""
        if key in self._runs:
            return self._runs[key]
        tags = {
            SWEEP: self._sweep_id,
            "frontrunner.name": self._initial.terms.name,
            "frontrunner.kind": "sweep" if key is None else "trial",
            "mlflow.runName": f"sweep {self._initial.terms.name}" if key is None else key,
            "mlflow.source.name": "frontrunner",
            "mlflow.source.type": "LOCAL",
            "mlflow.user": os.environ.get("USER", "frontrunner"),
        }
        if key is not None:
            tags[TRIAL] = key
        run = client.create_run(str(self._experiment), start_time=began_ms, tags=tags)
        run_id = str(run.info.run_id)
        self._runs[key] = run_id
        params = _sweep_params(self._initial) if key is None else _params(self._initial.pool[key])
        entities: Any = importlib.import_module("mlflow.entities")
        client.log_batch(run_id, params=[entities.Param(k, _short(v)) for k, v in params.items()])
        if key is None and self._spec_text is not None:
            client.log_text(run_id, self._spec_text, "spec.json")
        return run_id

    def _set_status(self, client: MlflowClient, key: str | None, telling: Telling) -> None:
        """The run's status, and what came of a trial in its name, which charts and lists show."""
        status = telling.status
        outcome = telling.tags.get("frontrunner.outcome", "")
        if status is None or self._standing.get(key) == (status, outcome):
            return
        run = self._runs[key]
        if key is None:
            client.update_run(run, status=status)
        else:
            name = f"{key} ({outcome})" if outcome in OUTCOMES_IN_NAMES else key
            client.update_run(run, status=status, name=name)
        if telling.ended_ms is not None:
            client.set_terminated(run, status=status, end_time=telling.ended_ms)
        self._standing[key] = (status, outcome)


def _params(candidate: Candidate) -> dict[str, str]:
    return {
        "params": str(candidate.params),
        "horizon_tokens": str(candidate.horizon),
        "flops_per_token": f"{candidate.flops_per_token:.6g}",
        **{key: str(value) for key, value in candidate.settings},
    }


def _sweep_params(state: SweepState) -> dict[str, str]:
    return {
        "candidates": str(len(state.pool)),
        "budget_flops": f"{state.terms.budget:.6g}",
        "exhaustive_flops": f"{state.pool.exhaustive_flops:.6g}",
        "seed": str(state.terms.seed),
    }


def _note(state: SweepState) -> str:
    """How the sweep stands, in Markdown."""
    counts: dict[str, int] = {}
    for trial in state.trials.values():
        counts[trial.status] = counts.get(trial.status, 0) + 1
    stands = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    share = 100 * state.ledger.spent / state.terms.budget if state.terms.budget else 0.0
    how = state.closed or (f"paused: {state.stop_asked}" if state.stop_asked else "running")
    return (
        f"**{state.terms.name}**: {how}\n\n"
        f"- trials: {stands or 'none yet'}, of {len(state.pool)} candidates\n"
        f"- budget: {share:.0f} % of {state.terms.budget:.3g} FLOPs spent\n"
        f"- to go on after an interruption: `frontrunner resume {state.terms.name}`\n"
    )


def _short(value: str) -> str:
    return value if len(value) <= LONGEST_VALUE else value[: LONGEST_VALUE - 3] + "..."


def _brief(error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return _CREDENTIALS.sub("//", f"{type(error).__name__}: {first}")[:200]


def _without_password(uri: str) -> str:
    """The address as it may be shown: user and password, if any, left out."""
    return _CREDENTIALS.sub("//", uri).rstrip("/")


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)
