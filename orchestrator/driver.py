"""The driver: carries values from room to room and keeps nothing of its own.

Each event is journalled, folded, and answered by the policy; what was decided is made durable
before anything acts on it. One loop serves a fresh sweep, a resumed one and a replay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.backends.base import Backend, BackendError, Report
from orchestrator.events import (
    AttemptLost,
    Closed,
    Decided,
    Event,
    Opened,
    PointReported,
    Record,
    Started,
    StopAsked,
)
from orchestrator.journal import Journal
from orchestrator.placing import starts
from orchestrator.policies.base import Policy, ended, exhausted
from orchestrator.sinks.base import Sink
from orchestrator.state import DecisionError, SweepState, apply, is_stale
from orchestrator.values import Stop, flops_in_words

_ROUNDS = 10_000
_FAILURES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a session ended: `done` (nothing left to decide) or `paused` (resumable)."""

    kind: Literal["done", "paused"]
    reason: str
    state: SweepState


def never() -> str | None:
    """Nobody asks for a pause."""
    return None


class Driver:
    """Drives one session of a sweep, from a folded state to done or paused.

    `clock` gives UNIX seconds (a replay's virtual ones); `pause` gives the reason to pause, or
    None, and is asked between polls; `patience_s` bounds one poll; `grace_s` how long a pause
    waits for running segments to checkpoint; `cap` names a cap that is spent (GPU-hours,
    money); up to `lockstep` trials that are alike train as one in a slot.
    """

    def __init__(
        self,
        *,
        state: SweepState,
        policy: Policy,
        backend: Backend,
        journal: Journal,
        sinks: Sequence[Sink] = (),
        clock: Callable[[], float],
        pause: Callable[[], str | None] = never,
        cap: Callable[[SweepState], str | None] = lambda _: None,
        patience_s: float = 0.5,
        lockstep: int | Literal["auto"] = 1,
    ) -> None:
        self.state = state
        self._policy = policy
        self._backend = backend
        self._journal = journal
        self._sinks = sinks
        self._clock = clock
        self._pause = pause
        self._cap = cap
        self._patience_s = patience_s
        self._lockstep: int | Literal["auto"] = lockstep
        self._unshown: list[Record] = []
        self._to_stop: list[str] = []

    def run(self, opened: Opened) -> Outcome:
        """Take the sweep up where its journal left it and drive it until done or paused.

        A backend that breaks pauses the sweep: its attempts are taken up by the next session.
        """
        try:
            return self._driven(opened)
        except BackendError as error:
            self._record(StopAsked(by="backend", reason=str(error)))
            self._sync()
            return Outcome(kind="paused", reason=str(error), state=self.state)

    def _driven(self, opened: Opened) -> Outcome:
        self._record(opened)
        self._mark_interrupted()
        self._decide()
        while True:
            reason = self._reason_to_pause()
            if reason is not None:
                return self._paused(reason)
            self._act()
            if not self.state.in_flight:
                return self._done(ended(self.state) or exhausted(self.state))
            for report in self._backend.poll(self._patience_s):
                self._receive(report)

    def _record(self, event: Event) -> None:
        """Fold, then write: what cannot be folded never reaches the journal."""
        self.state = apply(self.state, event)
        self._unshown.append(self._journal.append(event, self._clock()))

    def _sync(self) -> None:
        if not self._unshown:
            return
        self._journal.sync()
        shown, self._unshown = self._unshown, []
        for sink in self._sinks:
            sink.show(shown, self.state)

    def _mark_interrupted(self) -> None:
        """Attempts that the last session left running will never report again."""
        for trial in list(self.state.trials.values()):
            for track in trial.tracks:
                if track.running:
                    self._record(
                        AttemptLost(
                            trial=trial.id,
                            attempt=track.attempt,
                            reached=track.position,
                            cause="interrupted",
                            reason="the driver went away",
                        )
                    )

    def _decide(self) -> None:
        """Ask the policy until it has nothing to add."""
        for _ in range(_ROUNDS):
            decisions = self._policy.decide(self.state)
            if not decisions:
                return
            for decision in decisions:
                trial = self.state.trials.get(decision.trial)
                if isinstance(decision, Stop) and trial is not None and trial.trunk.running:
                    self._to_stop.append(decision.trial)
            self._record(Decided(policy=self._policy.name, decisions=tuple(decisions)))
        raise DecisionError(f"{self._policy.name} never came to an end of its decisions")

    def _act(self) -> None:
        """Start and stop what the journal holds as decided, once it is durable."""
        segments: list[Started] = []
        for start in starts(self.state, most=self._lockstep):
            job = start.job
            attempts = [(t.id, self.state.trials[t.id].attempts + 1) for t, _ in job]
            for (trial, index), (_, attempt) in zip(job, attempts, strict=True):
                track = trial.tracks[index]
                segment = Started(
                    trial=trial.id,
                    attempt=attempt,
                    until=track.target,
                    resume_from=track.resume_from,
                    branch=index - 1 if index else None,
                    stack=tuple(attempts) if len(job) > 1 else None,
                    slots=start.slots,
                    gpus=start.gpus,
                )
                self._record(segment)
                segments.append(segment)
        self._sync()
        stops, self._to_stop = self._to_stop, []
        for trial_id in stops:
            self._backend.stop(trial_id)
        for segment in segments:
            self._backend.start(segment)

    def _receive(self, report: Report) -> None:
        """Journal a report and let the policy answer it."""
        stale = is_stale(self.state, report)
        self._record(report)
        if stale or (isinstance(report, PointReported) and not self._policy.watches_points):
            return
        self._decide()

    def _reason_to_pause(self) -> str | None:
        asked = self._pause()
        if asked is not None:
            return asked
        lost, ceiling = self.state.ledger.lost, self.state.terms.lost_ceiling
        if lost > ceiling:
            return (
                f"{flops_in_words(lost)} FLOPs of work were lost and repeated, more than the "
                "ceiling of "
                f"{flops_in_words(ceiling)}: find out why, or raise budget.lost, then go on"
            )
        return self._common_fault() or self._cap(self.state)

    def _common_fault(self) -> str | None:
        """Several trials failing in turn, with no point from anyone between, have one cause."""
        failures = self.state.barren
        trials = {trial for trial, _ in failures}
        if len(failures) < max(_FAILURES, self.state.terms.max_failures) or len(trials) < 2:
            return None
        return (
            f"the last {len(failures)} attempts, of {len(trials)} trials, failed without a point, "
            f"so it is hardly the trials' fault: {failures[-1][1]}. Mend the cause, then go on"
        )

    def _paused(self, reason: str) -> Outcome:
        """Let running segments checkpoint and end; the backend kills what does not."""
        self._record(StopAsked(by="driver", reason=reason))
        self._sync()
        for trial in self.state.trials.values():
            if trial.running:
                self._backend.stop(trial.id)
        while self.state.running:
            for report in self._backend.poll(self._patience_s):
                self._record(report)
            self._sync()
        return Outcome(kind="paused", reason=reason, state=self.state)

    def _done(self, reason: str) -> Outcome:
        self._record(Closed(reason=reason))
        self._sync()
        return Outcome(kind="done", reason=reason, state=self.state)
