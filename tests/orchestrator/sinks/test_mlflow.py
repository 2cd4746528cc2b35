"""MLflow: one run a trial whatever happens, and a tracker in trouble troubles nobody."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.events import Record
from orchestrator.journal import MemoryJournal
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.sinks.mlflow import MlflowSink
from orchestrator.sinks.telling import LOSS
from orchestrator.state import SweepState, fold
from tests.orchestrator.worlds import drive, fresh, small_pool

POOL, CURVES = small_pool(sizes=(1000, 2000), rates=(1, 3, 9))
BUDGET = 0.3 * POOL.exhaustive_flops


def sweep(began: float = 1.79e9) -> tuple[list[Record], SweepState]:
    """A sweep's records, a tenth of a second apart, and its end."""
    journal = MemoryJournal()
    outcome = drive(POOL, CURVES, SuccessiveHalving(group_by="params"), BUDGET, journal=journal)
    return [replace(r, time=began + 0.1 * r.seq) for r in journal.records], outcome.state


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose database is made once: that takes seconds."""
    return tmp_path_factory.mktemp("mlflow")


def sink(store: Path, records: list[Record], uri: str | None = None, **how: Any) -> MlflowSink:
    made = MlflowSink(
        initial=fresh(POOL, BUDGET),
        read_after=lambda seq: [r for r in records if r.seq > seq],
        tracking_uri=uri or f"sqlite:///{store}/mlflow.db",
        experiment=how.pop("experiment", "small"),
        storage=store / "small",
        **{"grace_s": 100.0} | how,  # a busy machine is no failure
    )
    if records:
        made.show(records, fresh(POOL, BUDGET))
    return made


def runs(store: Path, experiment: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id], max_results=1000))


def history(store: Path, run: Any, key: str = LOSS) -> list[tuple[int, float, int]]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    return [
        (m.step, m.value, m.timestamp) for m in client.get_metric_history(run.info.run_id, key)
    ]


def check_whole(store: Path, experiment: str, state: SweepState) -> None:
    """One run for the sweep and one a trial, each with exactly its points."""
    found = runs(store, experiment)
    by_trial = {run.data.tags.get("frontrunner.trial"): run for run in found}
    assert len(found) == len(by_trial) == len(state.trials) + 1
    for trial in state.trials.values():
        run = by_trial[trial.id]
        told = sorted((step, value) for step, value, _ in history(store, run))
        assert told == list(
            zip(trial.curve.tokens.tolist(), trial.curve.loss.tolist(), strict=True)
        )
        assert run.info.status in ("KILLED", "FINISHED")
        assert (run.info.status == "KILLED") == (trial.status == "stopped")
        stopped = " (stopped)" if trial.status == "stopped" else ""
        assert run.info.run_name == trial.id + stopped
        assert run.data.params["rate"] == str(trial.candidate.setting("rate"))
    assert by_trial[None].info.status == "FINISHED"


def test_a_sweep_is_told_whole_with_the_times_of_its_journal(store: Path) -> None:
    records, state = sweep()
    window = sink(store, records, experiment="whole", spec_text='{"name": "small"}')
    law = store / "law.json"
    law.write_text("{}")
    window.publish(law={"alpha": 0.34}, artifacts=[law], answer="L = 1.8 at 1e20")
    window.close()
    check_whole(store, "whole", state)
    told = next(run for run in runs(store, "whole") if "frontrunner.trial" not in run.data.tags)
    assert told.data.metrics["sweep/law_alpha"] == 0.34
    assert told.data.tags["frontrunner.law"] == "L = 1.8 at 1e20"
    assert told.info.start_time == round(records[0].time * 1000)
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    assert {f.path for f in client.list_artifacts(told.info.run_id)} == {"law.json", "spec.json"}
    head = client.get_experiment_by_name("whole").tags["mlflow.note.content"]
    assert "L = 1.8 at 1e20" in head and "compareRunsMode=CHART" in head


@pytest.mark.parametrize("told_before_the_kill", [0, 1, 2])
def test_a_killed_session_leaves_no_double_runs_or_points(
    store: Path, told_before_the_kill: int
) -> None:
    """The driver dies after any record; MLflow had heard all of it, some of it, or nothing."""
    name = f"killed-{told_before_the_kill}"
    records, state = sweep(1.7e9 + told_before_the_kill)
    cuts = [len(records) // 5, len(records) // 2, len(records) - 3, len(records)]
    for cut in cuts:
        heard = cut if told_before_the_kill == 2 else cut // 2
        if told_before_the_kill or cut == len(records):
            heard = cut if cut == len(records) else heard
            sink(store, records[:heard], experiment=name).close()
    check_whole(store, name, state)


def test_telling_everything_again_changes_nothing(store: Path) -> None:
    records, state = sweep(1.6e9)
    sink(store, records, experiment="again").close()
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    for run in runs(store, "again"):
        if "frontrunner.sent" in run.data.tags:
            client.set_tag(run.info.run_id, "frontrunner.sent", "-1")
    sink(store, records, experiment="again").close()
    check_whole(store, "again", state)


def test_two_sweeps_of_one_experiment_keep_apart(store: Path) -> None:
    for began in (1.5e9, 1.55e9):
        sink(store, sweep(began)[0], experiment="shared").close()
    found = runs(store, "shared")
    assert len({run.data.tags["frontrunner.sweep"] for run in found}) == 2
    assert len(found) == 2 * (len(POOL) + 1)


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        for connection in held:
            connection.close()


def refused() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_a_server_that_refuses_costs_the_driver_nothing_and_is_told_once(store: Path) -> None:
    heard: list[str] = []
    records, state = sweep()
    window = sink(store, records, uri=refused(), grace_s=1.0, say=heard.append)
    began = time.monotonic()
    for record in records:
        window.show([record], state)
    assert time.monotonic() - began < 0.5
    deadline = time.monotonic() + 30
    while not heard and time.monotonic() < deadline:
        time.sleep(0.1)
    window.close()
    assert "does not answer" in heard[0] and "the sweep goes on" in heard[0]
    assert len(heard) == 2 and f"{len(records)} records are left" in heard[1]


def test_a_server_that_never_answers_delays_the_end_by_the_grace_alone(store: Path) -> None:
    heard: list[str] = []
    records, _ = sweep()
    with black_hole() as uri:
        window = sink(store, records, uri=uri, grace_s=2.0, say=heard.append)
        time.sleep(1.0)
        began = time.monotonic()
        window.close()
        assert time.monotonic() - began < 6.0
    assert "records are left" in heard[-1]


def test_a_tracker_that_recovers_is_told_what_it_missed(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, state = sweep(1.4e9)
    heard: list[str] = []
    from mlflow import MlflowClient

    real: Callable[..., Any] = MlflowClient.log_batch
    failures = iter(range(4))

    def flaky(self: Any, *args: Any, **named: Any) -> Any:
        if next(failures, None) is not None:
            raise ConnectionError("the cable was pulled")
        return real(self, *args, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", flaky)
    monkeypatch.setattr("orchestrator.sinks.courier.FIRST_RETRY_S", 0.01)
    window = sink(store, records, experiment="flaky", say=heard.append)
    deadline = time.monotonic() + 60
    while len(heard) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    window.close()
    assert "the cable was pulled" in heard[0] and "answers again" in heard[1]
    check_whole(store, "flaky", state)


def test_without_the_package_the_sweep_goes_on(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    heard: list[str] = []
    window = sink(store, sweep()[0], say=heard.append, grace_s=5.0)
    window.close()
    assert "cannot be loaded" in heard[0]


def test_passwords_are_shown_nowhere(store: Path) -> None:
    heard: list[str] = []
    uri = refused().replace("http://", "http://ada:secret@")
    window = sink(store, sweep()[0], uri=uri, say=heard.append, grace_s=1.0)
    time.sleep(2.0)
    window.close()
    assert heard and all("secret" not in line for line in heard)


def test_an_unpublished_law_is_said(store: Path) -> None:
    def broken(seq: int) -> Iterable[Record]:
        raise OSError("the disk is gone")

    heard: list[str] = []
    window = MlflowSink(
        initial=fresh(POOL, BUDGET),
        read_after=broken,
        tracking_uri=f"sqlite:///{store}/mlflow.db",
        experiment="gone",
        storage=store,
        grace_s=2.0,
        say=heard.append,
    )
    window.show(sweep()[0][5:], fresh(POOL, BUDGET))  # what came before must be read
    window.publish(law={}, artifacts=[])
    window.close()
    assert "the disk is gone" in heard[0] and "not been told everything" in heard[-1]
    assert fold(fresh(POOL, BUDGET), []) == fresh(POOL, BUDGET)
