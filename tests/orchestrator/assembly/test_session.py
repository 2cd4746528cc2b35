"""Sessions over recorded curves: the parts put together, without a trainer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.assembly import session, stopping
from orchestrator.assembly.folders import SweepFolder, find, folder_of
from orchestrator.assembly.reading import moved_to, read_sweep
from orchestrator.assembly.refusal import Interrupted, Refused
from orchestrator.assembly.specs import changed, read_spec
from orchestrator.assembly.standing import standing_of, to_json
from orchestrator.backends.base import BackendError, Report
from orchestrator.backends.replay import ReplayBackend
from orchestrator.events import Opened, Record
from orchestrator.journal import FileJournal, JournalError, read_records
from orchestrator.state import SweepState
from orchestrator.values import Environment
from tests.orchestrator.assembly import specs
from trainers.documents import SpecError


def wishes(
    asked: Callable[[], str | None] = lambda: None, *, allow_drift: bool = False
) -> session.Wishes:
    return session.Wishes(say=lambda line: None, asked=asked, allow_drift=allow_drift)


def driven(path: Path, *overrides: str, **kwargs: object) -> session.Ended:
    spec, pool = read_spec(str(path), overrides)
    return session.drive(spec, pool, wishes(**kwargs))  # type: ignore[arg-type]


def after(calls: int) -> Callable[[], str | None]:
    """Asks for a pause from the given call on."""
    left = [calls]

    def asked() -> str | None:
        left[0] -= 1
        return "enough" if left[0] < 0 else None

    return asked


def test_a_sweep_is_driven_to_its_end_and_reported(tmp_path: Path) -> None:
    ended = driven(specs.recorded(tmp_path))
    assert ended.outcome.kind == "done"
    assert ended.written is not None
    for path in (ended.written.report, ended.written.law, ended.written.plane):
        assert path.is_file()
        assert path.is_relative_to(tmp_path / "sweeps" / "ladder")
    law = json.loads(ended.written.law.read_text())
    assert law["sweep"] == "ladder"
    assert law["headline"] is not None


def test_a_paused_sweep_goes_on_to_the_same_end(tmp_path: Path) -> None:
    whole = driven(specs.recorded(tmp_path, name="whole"))
    path = specs.recorded(tmp_path, name="parts")
    first = driven(path, asked=after(4))
    assert first.outcome.kind == "paused"
    assert first.outcome.reason == "enough"
    assert first.written is None
    last = driven(path)
    assert last.outcome.kind == "done"
    one, other = whole.outcome.state, last.outcome.state
    assert one.ledger.spent == other.ledger.spent
    assert {t: x.trunk.tokens for t, x in one.trials.items()} == {
        t: x.trunk.tokens for t, x in other.trials.items()
    }


def test_a_stop_request_pauses_and_is_gone_when_it_is_answered(tmp_path: Path) -> None:
    path = specs.recorded(tmp_path)
    folder = SweepFolder(tmp_path / "sweeps" / "ladder")
    calls = 0

    def leave_a_request() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            assert stopping.ask_to_stop(folder, "asked to stop") is not None

    ended = driven(path, asked=leave_a_request)
    # The folder is looked at twice a second, and this replay may be over before.
    if ended.outcome.kind == "paused":
        assert "asked to stop" in ended.outcome.reason
        assert driven(path).outcome.kind == "done"
    assert not folder.stop_request.exists()


def test_a_stop_request_made_before_the_driver_began_to_look_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`launch &` and `stop` at once: the lock names a driver that has not read its journal yet."""
    path = specs.recorded(tmp_path)
    folder = SweepFolder(tmp_path / "sweeps" / "ladder")
    real = session.check_resumable

    def asked_meanwhile(*args: object) -> object:
        stopping.ask_to_stop(folder, "asked to stop")
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(session, "check_resumable", asked_meanwhile)
    ended = driven(path)
    assert ended.outcome.kind == "paused"
    assert "asked to stop" in ended.outcome.reason
    monkeypatch.undo()
    assert driven(path).outcome.kind == "done"


def test_a_backend_that_breaks_in_mid_sweep_pauses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = specs.recorded(tmp_path)
    real, calls = ReplayBackend.poll, [0]

    def gone(self: ReplayBackend, timeout_s: float) -> list[Report]:
        calls[0] += 1
        if calls[0] > 4:
            raise BackendError("the cluster at 10.0.0.1 is gone: start it again, and resume")
        return real(self, timeout_s)

    monkeypatch.setattr(ReplayBackend, "poll", gone)
    ended = driven(path)
    assert ended.outcome.kind == "paused"
    monkeypatch.undo()
    standing = standing_of(read_sweep(ended.folder))
    assert (standing.condition, standing.why) == ("paused", ended.outcome.reason)
    assert "the cluster at 10.0.0.1 is gone" in ended.outcome.reason
    assert driven(path).outcome.kind == "done"


def test_a_replay_is_dated_when_it_was_made_and_never_goes_back(tmp_path: Path) -> None:
    before = time.time()
    path = specs.recorded(tmp_path)
    folder = driven(path, asked=after(4)).folder
    driven(path)
    times = [record.time for record in read_records(folder.journal)]
    assert times[0] >= before - 1
    assert times == sorted(times)


def test_a_sweep_that_is_done_is_told_again_to_whoever_missed_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = driven(specs.recorded(tmp_path))
    told: list[Any] = []

    class Window:
        charts_url = None

        def __init__(self, *, read_after: Callable[[int], Iterable[Record]], **_: object) -> None:
            self._read_after = read_after

        def show(self, records: Sequence[Record], state: SweepState) -> None:
            told.append([record.seq for record in records])
            told.append([record.seq for record in self._read_after(-1)])

        def publish(self, *, answer: str | None, **_: object) -> None:
            told.append(answer)

        def close(self) -> None:
            told.append("closed")

    monkeypatch.setattr("orchestrator.sinks.mlflow.MlflowSink", Window)
    spec, _ = read_spec(str(tmp_path / "ladder.yaml"), ["tracking={mlflow: true}"])
    sweep = read_sweep(ended.folder)
    again = session.tell_again(sweep, spec, wishes())
    with (
        FileJournal(ended.folder.journal, owner="ada, fitting the laws"),
        pytest.raises(Refused, match="ada, fitting the laws"),
    ):
        session.tell_again(sweep, spec, wishes())
    last = sweep.records - 1
    assert again.written is not None
    assert told == [[last], [*range(last + 1)], again.written.conclusions.sentence, "closed"]
    assert again.tracking_uri is not None and again.tracking_uri.endswith("mlflow.db")


def test_nobody_is_asked_where_nobody_drives(tmp_path: Path) -> None:
    ended = driven(specs.recorded(tmp_path))
    assert stopping.ask_to_stop(ended.folder, "asked to stop") is None
    assert not ended.folder.stop_request.exists()


def test_a_second_driver_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = specs.recorded(tmp_path)
    driven(path, asked=after(2))
    folder = find("ladder", str(tmp_path / "sweeps"))
    with (
        FileJournal(folder.journal, owner="ada on node7, process 12"),
        pytest.raises(Refused, match="ada on node7, process 12"),
    ):
        driven(path)


def test_another_spec_of_that_name_is_refused_with_the_differences(tmp_path: Path) -> None:
    path = specs.recorded(tmp_path)
    driven(path, asked=after(2))
    with pytest.raises(Refused) as refused:
        driven(path, "seed=9", "policy.eta=3")
    assert "seed: 0 then, 9 now" in str(refused.value)
    assert "policy.eta: 2 then, 3 now" in str(refused.value)


def test_where_it_runs_may_change(tmp_path: Path) -> None:
    path = specs.recorded(tmp_path)
    driven(path, asked=after(2))
    ended = driven(path, "resources.workers=2", allow_drift=True)
    assert ended.outcome.kind == "done"
    assert read_sweep(ended.folder).spec.resources.workers == 2


def forged(folder: SweepFolder, **facts: str) -> None:
    """A session under other facts, as another machine would have left it."""
    last = [r for r in read_records(folder.journal) if isinstance(r.event, Opened)][-1].event
    assert isinstance(last, Opened)
    known = {**dict(last.environment.facts), **facts}
    environment = Environment(slots=last.environment.slots, facts=tuple(known.items()))
    from dataclasses import replace

    with FileJournal(folder.journal, owner="other") as journal:
        journal.append(replace(last, session=last.session + 1, environment=environment), 2e9)
        journal.sync()


def test_another_device_is_refused_until_it_is_allowed(tmp_path: Path) -> None:
    path = specs.recorded(tmp_path)
    ended = driven(path, asked=after(2))
    forged(ended.folder, device="H100", precision="bf16")
    with pytest.raises(Refused) as refused:
        driven(path)
    assert "device: H100 then, recorded curves now" in str(refused.value)
    assert "precision: bf16 then, None now" in str(refused.value)
    assert "--allow-drift" in str(refused.value)
    assert driven(path, allow_drift=True).outcome.kind == "done"


def test_a_disk_that_fails_interrupts_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = specs.recorded(tmp_path)
    real, calls = FileJournal.sync, [0]

    def full(self: FileJournal) -> None:
        calls[0] += 1
        if calls[0] > 3:
            raise JournalError("journal.jsonl: cannot write (No space left on device)")
        real(self)

    monkeypatch.setattr(FileJournal, "sync", full)
    with pytest.raises(Interrupted, match="No space left"):
        driven(path)
    monkeypatch.undo()
    assert driven(path).outcome.kind == "done"


def test_a_torn_last_line_is_cut_and_told(tmp_path: Path) -> None:
    path = specs.recorded(tmp_path)
    ended = driven(path, asked=after(2))
    with ended.folder.journal.open("ab") as file:
        file.write(b'{"seq":99,"ti')
    said: list[str] = []
    spec, pool = read_spec(str(path), [])
    told = session.Wishes(say=said.append, asked=lambda: None)
    assert session.drive(spec, pool, told).outcome.kind == "done"
    assert any("torn last line" in line for line in said)


def test_a_moved_sweep_goes_on_where_it_lies(tmp_path: Path) -> None:
    path = specs.recorded(tmp_path)
    driven(path, asked=after(2))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sweeps" / "ladder").rename(tmp_path / "elsewhere" / "ladder")
    sweep = read_sweep(find(str(tmp_path / "elsewhere" / "ladder")))
    spec = moved_to(sweep)
    assert folder_of(spec).path == tmp_path / "elsewhere" / "ladder"
    assert session.drive(spec, sweep.pool, wishes()).outcome.kind == "done"
    assert not (tmp_path / "sweeps" / "ladder").exists()


def test_a_renamed_sweep_is_not_driven_under_its_old_name(tmp_path: Path) -> None:
    driven(specs.recorded(tmp_path), asked=after(2))
    (tmp_path / "sweeps" / "ladder").rename(tmp_path / "sweeps" / "other")
    with pytest.raises(Refused, match="name the folder ladder again"):
        moved_to(read_sweep(find("other", str(tmp_path / "sweeps"))))


def test_the_standing_tells_a_pause_from_a_lost_driver(tmp_path: Path) -> None:
    ended = driven(specs.recorded(tmp_path), asked=after(2))
    paused = standing_of(read_sweep(ended.folder))
    assert paused.condition == "paused"
    assert paused.why == "enough"
    forged(ended.folder)
    assert standing_of(read_sweep(ended.folder)).condition == "interrupted"
    with FileJournal(ended.folder.journal, owner="ada"):
        running = standing_of(read_sweep(ended.folder))
    assert running.condition == "running"
    assert running.held_by == "ada"
    record = to_json(running)
    assert json.loads(json.dumps(record, allow_nan=False))["counts"]


def test_hours_and_money_are_caps_too(tmp_path: Path) -> None:
    path = specs.recorded(tmp_path)
    path.write_text(path.read_text().replace("{flops: 40%}", "{flops: 40%, gpu_hours: 0.0000001}"))
    ended = driven(path)
    assert ended.outcome.kind == "paused"
    assert "budget.gpu_hours" in ended.outcome.reason
    assert len(ended.raised) == 1
    sweep = read_sweep(ended.folder)
    on = session.drive(changed(sweep, ended.raised), sweep.pool, wishes())
    assert on.outcome.kind == "done" or on.outcome.state.ledger.spent > sweep.state.ledger.spent


def test_only_where_a_sweep_runs_and_its_caps_change_on_a_resume(tmp_path: Path) -> None:
    sweep = read_sweep(driven(specs.recorded(tmp_path), asked=after(2)).folder)
    new = changed(sweep, ["budget.lost=30%", "resources.workers=3", "budget.gpu_hours=7"])
    assert (new.budget.lost, new.resources.workers, new.budget.gpu_hours) == (0.3, 3, 7)
    with pytest.raises(Refused, match=r"policy\.eta is settled .* budget\.lost"):
        changed(sweep, ["policy.eta=3"])
    with pytest.raises(Refused, match=r"move .*ladder"):
        changed(sweep, [f"storage={tmp_path / 'elsewhere'}"])
    with pytest.raises(Refused, match="is no override"):
        changed(sweep, ["budget.lost"])
    with pytest.raises(SpecError, match=r"--set budget\.lost"):
        changed(sweep, ["budget.lost=many"])
