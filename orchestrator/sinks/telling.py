"""What of a journal is told to an experiment tracker: metrics, tags, and how each run stands.

Pure: folds records and collects what changed, run by run, so that the tracker itself is a thin
shell. One run for the sweep (key None) and one for each trial (its id). The step of a trial's
metrics is tokens, that of the sweep's is points; times are those of the journal, in milliseconds,
so that what is told twice is the same to the last bit. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from orchestrator.events import (
    Closed,
    Decided,
    Opened,
    PointReported,
    Record,
    SegmentEnded,
    Started,
    StopAsked,
)
from orchestrator.state import SweepState, apply, is_stale
from orchestrator.trial import Trial
from orchestrator.values import Point, Used

RunStatus = Literal["RUNNING", "SCHEDULED", "FINISHED", "KILLED", "FAILED"]

SWEEP, TRIAL, SENT = "frontrunner.sweep", "frontrunner.trial", "frontrunner.sent"
OUTCOME, REASON = "frontrunner.outcome", "frontrunner.reason"
OUTCOMES_IN_NAMES = ("stopped", "diverged", "failed")

LOSS, ANNEALED = "loss/validation", "loss/validation_annealed"
COMPUTE = "run/log10_flops"
FIGURES = {
    "bits_per_byte": "loss/validation_bits_per_byte",
    "train_loss": "run/train_loss",
    "learning_rate": "run/learning_rate",
    "grad_norm": "run/grad_norm",
    "flops": "run/flops",
    "elapsed_s": "run/attempt_seconds",
}
"""Metric names of a point's further figures. Charts are laid out by the alphabet: with these names
the first one that a newcomer sees is the validation loss of all trials. Compute is told as its
logarithm too, since the UI has no logarithmic axis for a metric."""

SIZES = (
    "#440154", "#482677", "#3f4788", "#32648e", "#277e8e",
    "#1f988b", "#2cb17e", "#5ac864", "#9bd93c",
)  # fmt: skip
"""Small models dark, large ones light, as in the report: nine steps of viridis (van der Walt and
Smith 2015) without its lightest part."""
OUT, BROKEN = "#c9ced6", "#b3261e"
"""Of stopped trials, and of diverged and failed ones."""


UsedOf: TypeAlias = Callable[[SweepState], Used]
"""What of the budget runs out first, FLOPs or hours or money, and how much of it is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A value of a run at a step; `time_ms` since the epoch."""

    key: str
    value: float
    step: int
    time_ms: int


@dataclass(slots=True, kw_only=True)
class Telling:
    """What changed of one run: to be told at once. `began_ms` dates the run where it is new;
    `name` is what it is called from now on."""

    began_ms: int
    name: str | None = None
    metrics: list[Metric] = field(default_factory=list[Metric])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    status: RunStatus | None = None
    ended_ms: int | None = None


class Teller:
    """Folds records in order; `take` collects what they change."""

    def __init__(self, initial: SweepState, used: UsedOf = SweepState.flops_used) -> None:
        self.state = initial
        self.used = used
        sizes = sorted({candidate.params for candidate in initial.pool})
        last = max(1, len(sizes) - 1)
        self._colours = {
            size: SIZES[round(place / last * (len(SIZES) - 1))] for place, size in enumerate(sizes)
        }

    def skip(self, records: Iterable[Record]) -> None:
        """Records that were told before."""
        for record in records:
            self.state = apply(self.state, record.event)

    def take(self, records: Iterable[Record]) -> dict[str | None, Telling]:
        """What the records change, by run. The sweep's run comes first."""
        told: dict[str | None, Telling] = {}
        touched: dict[str, int] = {}
        last_ms, events = 0, 0
        for record in records:
            event, last_ms = record.event, round(record.time * 1000)
            told.setdefault(None, Telling(began_ms=last_ms))
            if isinstance(event, PointReported) and not is_stale(self.state, event):
                self._tell_point(told, event, last_ms)
            before = self.state
            self.state = apply(before, event)
            for trial in _concerned(event):
                touched[trial] = last_ms
            if isinstance(event, Started):
                told.setdefault(event.trial, Telling(began_ms=last_ms))
            if isinstance(event, Opened | StopAsked | Closed):
                for trial in self.state.trials:
                    touched.setdefault(trial, last_ms)
            if isinstance(event, Decided | SegmentEnded | Closed):
                told[None].metrics.extend(_sweep_metrics(self.state, self.used, last_ms))
            events += 1
        if events:
            self._tell_standing(told, touched, last_ms)
        return told

    def _tell_point(
        self, told: dict[str | None, Telling], event: PointReported, time_ms: int
    ) -> None:
        trial = self.state.trials[event.trial]
        index = trial.track_of(event.attempt) or 0
        if event.point.tokens <= trial.tracks[index].curve.last_tokens:
            return
        telling = told.setdefault(event.trial, Telling(began_ms=time_ms))
        telling.metrics.extend(_point_metrics(event.point, branch=index > 0, time_ms=time_ms))

    def _tell_standing(
        self, told: dict[str | None, Telling], touched: dict[str, int], last_ms: int
    ) -> None:
        state = self.state
        for name, time_ms in touched.items():
            trial = state.trials.get(name)
            if trial is None or trial.attempts == 0:
                continue  # decided but never started: not a run yet
            telling = told.setdefault(name, Telling(began_ms=time_ms))
            outcome, telling.status = _standing(state, trial)
            if telling.status not in ("RUNNING", "SCHEDULED"):
                telling.ended_ms = time_ms
            ended_early = outcome in OUTCOMES_IN_NAMES
            reason = _reason(trial) if ended_early else ""
            telling.name = f"{name} ({outcome})" if ended_early else name
            telling.tags |= {
                OUTCOME: outcome,
                REASON: reason,
                "frontrunner.attempts": str(trial.attempts),
                "mlflow.note.content": f"{outcome}: {reason}" if reason else outcome,
                "mlflow.runColor": self._colour(trial, outcome),
            }
        sweep = told[None]
        sweep.status = _sweep_status(state)
        if sweep.status == "FINISHED":
            sweep.ended_ms = last_ms
        sweep.tags[OUTCOME] = state.closed or state.stop_asked or "running"

    def _colour(self, trial: Trial, outcome: str) -> str:
        if outcome in ("diverged", "failed"):
            return BROKEN
        return OUT if outcome == "stopped" else self._colours[trial.candidate.params]


def _concerned(event: object) -> tuple[str, ...]:
    """The trials whose standing an event may change."""
    if isinstance(event, Decided):
        return tuple(decision.trial for decision in event.decisions)
    if isinstance(event, PointReported):
        return ()
    trial = getattr(event, "trial", None)
    return () if trial is None else (trial,)


def _point_metrics(point: Point, *, branch: bool, time_ms: int) -> list[Metric]:
    values: dict[str, float] = {ANNEALED if branch else LOSS: point.loss}
    if not branch:
        for name, key in FIGURES.items():
            value = getattr(point, name)
            if value is not None:
                values[key] = float(value)
        values[COMPUTE] = math.log10(point.flops)
    return [
        Metric(key=key, value=value, step=point.tokens, time_ms=time_ms)
        for key, value in values.items()
        if math.isfinite(value)  # a tracker keeps infinity as 1.8e308, and draws it
    ]


def _sweep_metrics(state: SweepState, used: UsedOf, time_ms: int) -> list[Metric]:
    counts: dict[str, int] = dict.fromkeys(("running", "waiting", "stopped", "finished"), 0)
    for trial in state.trials.values():
        counts[trial.status] = counts.get(trial.status, 0) + 1
    values = {
        "sweep/spent_flops": float(state.ledger.spent),
        "sweep/spent_share": used(state).share,
        "sweep/device_hours": state.ledger.device_s / 3600,
        **{f"sweep/trials_{status}": float(count) for status, count in counts.items()},
    }
    return [
        Metric(key=key, value=value, step=state.points, time_ms=time_ms)
        for key, value in values.items()
    ]


def _standing(state: SweepState, trial: Trial) -> tuple[str, RunStatus]:
    """(outcome, status). Stopped is KILLED, never FAILED: nothing went wrong with it."""
    match trial.status:
        case "diverged" | "failed" as status:
            return status, "FAILED"
        case "stopped":
            return "stopped", "KILLED"
        case "finished":
            return "finished", "FINISHED"
        case "running":
            return ("paused", "SCHEDULED") if state.stop_asked else ("running", "RUNNING")
        case "idle" if state.closed:
            return "survived", "FINISHED"
        case _:
            return ("paused" if state.stop_asked else "waiting"), "SCHEDULED"


def _sweep_status(state: SweepState) -> RunStatus:
    if state.closed:
        return "FINISHED"
    return "SCHEDULED" if state.stop_asked else "RUNNING"


def _reason(trial: Trial) -> str:
    return trial.diverged or trial.failed or trial.stop_reason or ""
