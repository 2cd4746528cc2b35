"""MLflow under every kind of failing call, on a server in memory: nothing twice, nothing lost."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from orchestrator.events import Record
from orchestrator.sinks import courier, mlflow
from orchestrator.sinks.mlflow import MlflowSink
from orchestrator.state import SweepState
from tests.orchestrator.sinks.fake_mlflow import FakeRun, FakeServer
from tests.orchestrator.sinks.test_mlflow import BUDGET, POOL, sweep
from tests.orchestrator.worlds import fresh

RECORDS, END = sweep()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(courier, "LONGEST_RETRY_S", 0.002)
    monkeypatch.setattr(courier, "LINGER_S", 0.0)


class Session:
    """A session whose sink speaks with `server`."""

    def __init__(self, server: FakeServer, folder: Path, **how: Any) -> None:
        self.heard: list[str] = []
        self.records: list[Record] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mlflow._Tracker, "_connected", lambda _: server.client())
        self.sink = MlflowSink(
            initial=fresh(POOL, BUDGET),
            read_after=lambda seq: [r for r in self.records if r.seq > seq],
            tracking_uri="http://nowhere",
            experiment="small",
            storage=folder,
            spec_text="{}",
            say=self.heard.append,
            grace_s=60.0,
            **how,
        )

    def show(self, before: list[Record], new: list[Record]) -> None:
        self.records = before + new
        self.sink.show(new, END)

    def settle(self) -> None:
        """Wait until all that was shown has been told."""
        deadline = time.monotonic() + 60
        while self.sink._courier._outbox.left and time.monotonic() < deadline:
            time.sleep(0.002)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    made = FakeServer()
    monkeypatch.setattr(mlflow._Tracker, "_connected", lambda _: made.client())
    return made


def by_trial(server: FakeServer) -> dict[str | None, FakeRun]:
    return {run.tags.get("frontrunner.trial"): run for run in server.active()}


def check(server: FakeServer, state: SweepState = END) -> None:
    found = by_trial(server)
    assert len(found) == len(server.active()) == len(state.trials) + 1
    for trial in state.trials.values():
        run = found[trial.id]
        points = zip(trial.curve.tokens.tolist(), trial.curve.loss.tolist(), strict=True)
        assert run.curve("loss/validation") == list(points)
        assert run.params["rate"] == str(trial.candidate.setting("rate"))
        assert run.status == ("KILLED" if trial.status == "stopped" else "FINISHED")
        name = f"{trial.id} (stopped)" if trial.status == "stopped" else trial.id
        assert run.tags["mlflow.runName"] == name
    assert found[None].status == "FINISHED"


@pytest.mark.parametrize("seed", range(30))
def test_any_failing_call_and_any_kill_leave_one_run_a_trial_and_each_point_once(
    server: FakeServer, tmp_path: Path, seed: int
) -> None:
    """One call in twelve fails, half of those after it took effect, over three sessions of which
    the first two die at any record, told or not."""
    random = Random(seed)
    server.random = random
    first, second = sorted(random.sample(range(1, len(RECORDS)), 2))
    shown = 0
    for cut in (first, second):
        server.trouble = 0.08
        session = Session(server, tmp_path)
        while shown < cut:
            step = random.randint(1, cut - shown)
            session.show(RECORDS[:shown], RECORDS[shown : shown + step])
            shown += step
        if random.random() < 0.5:
            session.settle()
        session.sink._courier._closing.set()  # it goes no further, as after a kill
        session.sink._courier._wake.set()
        session.sink._courier._thread.join(60)
    session = Session(server, tmp_path)
    session.show(RECORDS[:shown], RECORDS[shown:])
    session.settle()
    server.trouble = 0.0
    session.sink.close()
    check(server)
    assert not session.sink._courier._outbox.left and server.files[-1] == "spec.json"


@pytest.mark.parametrize("seed", range(10))
def test_a_call_that_arrived_and_whose_answer_did_not_makes_no_second_run(
    server: FakeServer, tmp_path: Path, seed: int
) -> None:
    server.random, server.trouble = Random(seed), 0.08
    session = Session(server, tmp_path)
    for shown in range(0, len(RECORDS), 5):
        session.show(RECORDS[:shown], RECORDS[shown : shown + 5])
        session.settle()
    server.trouble = 0.0
    session.sink.close()
    check(server)
    assert len(session.heard) <= 2 * server.calls.count("search_runs"), "each trouble once"


def test_a_run_that_a_slow_server_made_late_is_taken_away(
    server: FakeServer, tmp_path: Path
) -> None:
    session = Session(server, tmp_path)
    session.show([], RECORDS)
    session.settle()
    for run in server.active():
        late = replace(run, id=f"late-{run.id}", tags=dict(run.tags), params={}, points=set())
        server.runs = {late.id: late, **server.runs}
    session.sink.publish(law={}, artifacts=[])
    session.sink.close()
    check(server)
    assert not any(run.id.startswith("late") for run in server.active())


def test_a_session_that_finds_everything_told_sends_no_point_again(
    server: FakeServer, tmp_path: Path
) -> None:
    for _ in range(2):
        server.calls.clear()
        session = Session(server, tmp_path)
        session.show(RECORDS[:-1], RECORDS[-1:])
        session.sink.close()
    check(server)
    assert "create_run" not in server.calls and "log_batch" not in server.calls
    assert len(server.calls) < 8


def test_a_run_that_somebody_deleted_stays_deleted_and_holds_nothing_up(
    server: FakeServer, tmp_path: Path
) -> None:
    half = len(RECORDS) // 2
    session = Session(server, tmp_path)
    session.show([], RECORDS[:half])
    session.settle()
    gone = next(run for run in server.active() if "frontrunner.trial" in run.tags)
    gone.stage = "deleted"
    session.show(RECORDS[:half], RECORDS[half:])
    session.sink.close()
    assert not session.sink._courier._outbox.left
    found = by_trial(server)
    assert gone.tags["frontrunner.trial"] not in found
    assert len(found) == len(END.trials) and found[None].status == "FINISHED"


def test_a_store_that_takes_no_files_keeps_no_curve_back(
    server: FakeServer, tmp_path: Path
) -> None:
    server.takes_files = False
    session = Session(server, tmp_path)
    session.show([], RECORDS)
    session.sink.publish(law={"alpha": 0.3}, artifacts=[tmp_path / "law.json"], answer="L = 2")
    session.sink.close()
    check(server)
    run = by_trial(server)[None]
    assert run.curve("sweep/law_alpha") == [(END.points, 0.3)]
    assert "law: L = 2" in run.tags["mlflow.note.content"]
    said = [line for line in session.heard if "takes no files" in line]
    assert len(said) == 1 and "no credentials" in said[0]
    assert "has not been told everything (0 records" in session.heard[-1]


def test_the_law_of_a_sweep_told_twice_is_one_value(server: FakeServer, tmp_path: Path) -> None:
    for _ in range(2):
        session = Session(server, tmp_path)
        session.show(RECORDS[:-1], RECORDS[-1:])
        session.sink.publish(law={"alpha": 0.3}, artifacts=[], answer="L = 2")
        session.sink.close()
    assert by_trial(server)[None].curve("sweep/law_alpha") == [(END.points, 0.3)]


def test_the_head_of_the_experiment_leads_to_a_view_of_all_curves(
    server: FakeServer, tmp_path: Path
) -> None:
    session = Session(server, tmp_path)
    session.show([], RECORDS)
    session.sink.close()
    charts = session.sink.charts_url
    assert charts is not None and charts.startswith("http://nowhere/#/experiments/1/runs?")
    key = charts.split("viewStateShareKey=")[1].split("&")[0]
    assert charts.removeprefix("http://nowhere/") in server.tags["mlflow.note.content"]
    saved = json.loads(server.tags[f"mlflow.sharedViewState.{key}"])
    assert saved["name"] == "Live curves of small" and isinstance(saved["createdAt"], int)
    view = json.loads(saved["state"])
    told = {point[0] for run in server.active() for point in run.points}
    drawn = {chart["metricKey"] for chart in view["compareRunCharts"]} - {
        "loss/validation_annealed"  # told of branches, of which this sweep has none
    }
    assert drawn <= told and view["compareRunCharts"][1]["selectedXAxisMetricKey"] in told
    assert view["runsHiddenMode"] == "SHOW_ALL"
    assert {run.tags["frontrunner.sweep"] for run in server.active()} == {
        view["searchFilter"].split("'")[1]
    }
