"""What must be true of a sweep that was killed again and again; see chaos.py.

Reads the journal record by record, with arithmetic of its own. Each function yields what breaks
its promise, and nothing where it is kept.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from orchestrator.assembly import parts
from orchestrator.assembly.reading import Sweep
from orchestrator.events import AttemptLost, Closed, Opened, PointReported, SegmentEnded, Started
from orchestrator.sinks.telling import LOSS


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, and what breaks it; nothing does where `broken` is empty."""

    promise: str
    broken: tuple[str, ...] = ()


def checks(
    sweep: Sweep, snapshots: Sequence[bytes], processes: Iterable[psutil.Process]
) -> Iterator[Check]:
    """All promises; `snapshots` are the journal at each kill, `processes` all that were seen."""
    closed = [r.seq for r in sweep.story() if isinstance(r.event, Closed)]
    yield Check("the sweep is closed, once", () if len(closed) == 1 else (f"closed at {closed}",))
    yield Check("no trial failed", tuple(t.id for t in sweep.state.trials.values() if t.failed))
    yield Check(
        "no journalled record lost",
        tuple(lost_records(sweep.folder.journal.read_bytes(), snapshots)),
    )
    yield Check("no point counted twice", tuple(miscounted(sweep)))
    yield Check("a point is repeated only by a later resume", tuple(unearned(sweep)))
    yield Check("a repeated step has the same loss", tuple(unlike(sweep)))
    yield Check("every journalled point is in its curve", tuple(missing(sweep)))
    yield Check("the ledger is the sum of points and lost work", tuple(unbalanced(sweep)))
    yield Check("every resume is from a journalled checkpoint", tuple(unjournalled(sweep)))
    yield Check("attempts are numbered once", tuple(reused(sweep)))
    yield Check("one MLflow run a trial, with its points", tuple(unlike_mlflow(sweep)))
    yield Check("no process is left", tuple(left(processes)))


def lost_records(final: bytes, snapshots: Sequence[bytes]) -> Iterator[str]:
    """What a kill found on disk must begin the final journal; a torn last line may be cut off."""
    for number, snapshot in enumerate(snapshots, start=1):
        whole = snapshot[: snapshot.rfind(b"\n") + 1]
        if not final.startswith(whole):
            yield f"the {len(whole)} bytes of kill {number} do not begin the journal"


def _points(sweep: Sweep) -> Iterator[tuple[PointReported, int | None]]:
    """Every journalled point with its branch, None on the trunk."""
    branch: dict[tuple[str, int], int | None] = {}
    for record in sweep.story():
        event = record.event
        if isinstance(event, Started):
            branch[event.trial, event.attempt] = event.branch
        elif isinstance(event, PointReported):
            yield event, branch[event.trial, event.attempt]


def unearned(sweep: Sweep) -> Iterator[str]:
    """A point may be repeated by a later attempt, which began at a checkpoint before it."""
    begun: dict[tuple[str, int], int] = {}
    reported: dict[tuple[str, int | None, int], int] = {}
    branch: dict[tuple[str, int], int | None] = {}
    for record in sweep.story():
        event = record.event
        if isinstance(event, Started):
            attempt = (event.trial, event.attempt)
            begun[attempt] = event.resume_from.tokens if event.resume_from else 0
            branch[attempt] = event.branch
        elif isinstance(event, PointReported):
            attempt = (event.trial, event.attempt)
            key = (event.trial, branch[attempt], event.point.tokens)
            before, start = reported.get(key), begun[attempt]
            if before == event.attempt:
                yield f"{key}: attempt {event.attempt} reported it twice"
            elif before is not None and event.attempt < before:
                yield f"{key}: attempt {event.attempt} repeats what attempt {before} reported"
            elif event.point.tokens <= start:
                yield f"{key}: attempt {event.attempt} began at {start} tokens"
            reported[key] = max(event.attempt, before or 0)


def miscounted(sweep: Sweep) -> Iterator[str]:
    """Each point that was ever reported is counted once, in its curve and in all."""
    reached = Counter((trial, branch) for trial, branch, _ in _places(sweep))
    for (trial, branch), count in reached.items():
        track = sweep.state.trials[trial].tracks[0 if branch is None else branch + 1]
        if len(track.curve) != count:
            yield f"{trial}: {count} points were reported, its curve has {len(track.curve)}"
    if sweep.state.points != reached.total():
        yield f"{reached.total()} points were reported, {sweep.state.points} are counted"


def _places(sweep: Sweep) -> set[tuple[str, int | None, int]]:
    return {(event.trial, branch, event.point.tokens) for event, branch in _points(sweep)}


def unlike(sweep: Sweep) -> Iterator[str]:
    losses: dict[tuple[str, int | None, int], float] = {}
    for event, branch in _points(sweep):
        key = (event.trial, branch, event.point.tokens)
        if losses.setdefault(key, event.point.loss) != event.point.loss:
            yield f"{key}: {losses[key]!r}, and {event.point.loss!r} in attempt {event.attempt}"


def missing(sweep: Sweep) -> Iterator[str]:
    for event, branch in _points(sweep):
        trial = sweep.state.trials[event.trial]
        track = trial.tracks[0 if branch is None else branch + 1]
        if event.point.tokens not in track.curve.tokens:
            yield f"{event.trial} at {event.point.tokens} tokens, attempt {event.attempt}"


def unbalanced(sweep: Sweep) -> Iterator[str]:
    """Spent: as far as each track ever got. Lost: what each start goes back from."""
    spent = lost = 0
    furthest: dict[tuple[str, int | None], int] = {}
    origins: dict[tuple[str, int | None], int] = {}
    at: dict[tuple[str, int | None], int] = {}
    running: dict[tuple[str, int], tuple[str, int | None]] = {}
    for record in sweep.story():
        event = record.event
        if isinstance(event, Opened):
            running = {}
        elif isinstance(event, Started):
            key = (event.trial, event.branch)
            begin = event.resume_from.tokens if event.resume_from else 0
            origins.setdefault(key, 0 if event.branch is None else begin)
            cost = sweep.pool[event.trial].flops
            lost += max(0, cost(at.get(key, begin)) - cost(begin))
            at[key] = begin
            furthest.setdefault(key, begin)
            running[event.trial, event.attempt] = key
        elif isinstance(event, PointReported | SegmentEnded | AttemptLost):
            key = running.get((event.trial, event.attempt))
            if key is not None:
                at[key] = max(at[key], _tokens(event))
                furthest[key] = max(furthest[key], at[key])
    for key, tokens in furthest.items():
        cost = sweep.pool[key[0]].flops
        spent += cost(tokens) - cost(origins[key])
    ledger = sweep.state.ledger
    if ledger.spent != spent:
        yield f"spent is {ledger.spent}, the points make {spent}"
    if ledger.lost != lost:
        yield f"lost is {ledger.lost}, the starts make {lost}"
    if ledger.reserved != 0:
        yield f"{ledger.reserved} FLOPs are still reserved"
    if ledger.spent > sweep.state.terms.budget:
        yield f"spent {ledger.spent} of a budget of {sweep.state.terms.budget}"


def _tokens(event: PointReported | SegmentEnded | AttemptLost) -> int:
    if isinstance(event, PointReported):
        return event.point.tokens
    return event.reached if isinstance(event, AttemptLost) else event.tokens


def unjournalled(sweep: Sweep) -> Iterator[str]:
    known: set[tuple[str, str]] = set()
    for record in sweep.story():
        event = record.event
        if isinstance(event, Started) and event.resume_from is not None:
            if (event.trial, event.resume_from.path) not in known:
                yield f"record {record.seq}: {event.resume_from.path}"
        elif isinstance(event, PointReported | SegmentEnded) and event.checkpoint is not None:
            known.add((event.trial, event.checkpoint.path))


def reused(sweep: Sweep) -> Iterator[str]:
    counted = Counter(
        (r.event.trial, r.event.attempt) for r in sweep.story() if isinstance(r.event, Started)
    )
    return (f"{key} {n} times" for key, n in counted.items() if n > 1)


def left(processes: Iterable[psutil.Process], *, wait_s: float = 10.0) -> Iterator[str]:
    """Ray's two agents of a killed cluster ask for its whereabouts for up to two minutes before
    they go; they hold nothing, and are not waited for."""
    _, alive = psutil.wait_procs(list(processes), timeout=wait_s)
    names = {process.pid: name_of(process) for process in alive}
    return (f"{pid} {name}" for pid, name in names.items() if name and "Agent" not in name)


def unlike_mlflow(sweep: Sweep) -> Iterator[str]:
    """One ended run for the sweep and one for each trial, with the points of its trunk."""
    uri = parts.tracking_uri(sweep.spec, sweep.folder)
    if uri is None:
        return
    mlflow: Any = importlib.import_module("mlflow")
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(sweep.spec.tracking.experiment or sweep.spec.name)
    if experiment is None:
        yield f"{uri} has no experiment of this sweep"
        return
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    counted = Counter(run.data.tags.get("frontrunner.trial") for run in runs)
    trials = {trial.id: trial for trial in sweep.state.trials.values() if trial.attempts}
    for name in {None, *trials} | counted.keys():
        if counted[name] != 1 or (name is not None and name not in trials):
            yield f"{counted[name]} runs of {name or 'the sweep'}"
    for run in runs:
        name = run.data.tags.get("frontrunner.trial")
        if run.info.status in ("RUNNING", "SCHEDULED"):
            yield f"the run of {name or 'the sweep'} is still {run.info.status}"
        if name in trials:
            told = [metric.step for metric in client.get_metric_history(run.info.run_id, LOSS)]
            if sorted(told) != trials[name].curve.tokens.tolist():
                yield f"{name} has {len(trials[name].curve)} points, its run {len(told)}"


def name_of(process: psutil.Process) -> str:
    """What a process calls itself; empty for one that is gone."""
    try:
        return " ".join(process.cmdline())[:80].strip()
    except psutil.NoSuchProcess:
        return ""
