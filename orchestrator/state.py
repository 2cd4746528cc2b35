"""What a sweep looks like after its events: `state = fold(apply, events)`.

Pure and total over what a journal may hold. Resuming is folding again. The budget ledger is
derived here and nowhere else: reserved when decided, charged as points arrive, released when a
segment ends; work that must be done again is counted apart. Touches nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from orchestrator.events import (
    AttemptLost,
    Closed,
    Decided,
    Diverged,
    Event,
    Opened,
    PointReported,
    SegmentEnded,
    Started,
    StopAsked,
)
from orchestrator.ledger import Ledger, Terms
from orchestrator.pool import Pool
from orchestrator.trial import Status, Track, Trial, charges, reached, released, timed
from orchestrator.values import (
    NO_MORE,
    Anneal,
    Decision,
    Environment,
    Stop,
    Used,
    flops_in_words,
)


class DecisionError(ValueError):
    """A policy decided what cannot be: an unknown trial, a broken step, more than the budget."""


_NO_TRIALS: Mapping[str, Trial] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepState:
    """All that a policy may know.

    `decided` counts the journalled decisions of the policy; `barren` holds (trial, reason) of the
    attempts that failed in this session since anybody's last point.
    """

    pool: Pool
    terms: Terms
    trials: Mapping[str, Trial] = field(default_factory=lambda: _NO_TRIALS)
    ledger: Ledger = field(default_factory=Ledger)
    environment: Environment | None = None
    session: int = 0
    decided: int = 0
    points: int = 0
    stale: int = 0
    barren: tuple[tuple[str, str], ...] = ()
    stop_asked: str | None = None
    closed: str | None = None

    @property
    def remaining(self) -> int:
        """FLOPs that are neither spent nor reserved."""
        return self.terms.budget - self.ledger.spent - self.ledger.reserved

    def flops_used(self) -> Used:
        """What is used of a budget of FLOPs alone."""
        return Used(unit="FLOPs", amount=self.ledger.spent, budget=self.terms.budget)

    @property
    def in_flight(self) -> bool:
        return any(trial.in_flight for trial in self.trials.values())

    @property
    def running(self) -> int:
        """How many segments run."""
        return sum(track.running for trial in self.trials.values() for track in trial.tracks)

    @property
    def taken(self) -> int:
        """How many slots they take: those that train as one take theirs together."""
        running = [t for trial in self.trials.values() for t in trial.tracks if t.running]
        stacks = {track.stack: len(track.slots) or 1 for track in running if track.stack}
        alone = sum(len(track.slots) or 1 for track in running if track.stack is None)
        return alone + sum(stacks.values())

    @property
    def unclaimed(self) -> int:
        """How many slots are left beside what runs and what waits, each trial once; below 0 where
        more waits than there is room for."""
        slots = self.environment.slots if self.environment is not None else 1
        return slots - sum(self._claimed(t) for t in self.trials.values() if t.in_flight)

    def _claimed(self, trial: Trial) -> int:
        demand = self.terms.demand
        if (
            demand is None
            or not demand.varies
            or not (self.environment and self.environment.blocks)
        ):
            return 1
        ends = [
            t.until if t.running else t.target for t in trial.tracks if t.running or t.unfinished
        ]
        return max(demand.slots(trial.candidate, end) for end in ends)

    def status(self, trial: str) -> Status:
        return self.trials[trial].status if trial in self.trials else "unstarted"


def fold(state: SweepState, events: Iterable[Event]) -> SweepState:
    """The state after all `events`."""
    for event in events:
        state = apply(state, event)
    return state


def apply(state: SweepState, event: Event) -> SweepState:
    """The state after one event. Raises DecisionError for decisions that cannot be."""
    match event:
        case Opened():
            return _opened(state, event)
        case Decided():
            return _decided(state, event)
        case StopAsked():
            return replace(state, stop_asked=event.reason)
        case Closed():
            return replace(state, closed=event.reason)
        case Started():
            return _started(state, event)
        case PointReported() | SegmentEnded() | AttemptLost() | Diverged():
            return _reported(state, event)


def _opened(state: SweepState, event: Opened) -> SweepState:
    """A new session. Under a raised budget the end of all buying is lifted; whoever was stopped
    for what it showed stays stopped."""
    trials = state.trials
    if event.raised:
        trials = MappingProxyType({name: _for_sale(trial) for name, trial in trials.items()})
    budget = state.terms.budget if event.budget is None else event.budget
    return replace(
        state,
        trials=trials,
        terms=replace(state.terms, budget=budget),
        session=event.session,
        environment=event.environment,
        barren=(),
        stop_asked=None,
        closed=None,
    )


def _for_sale(trial: Trial) -> Trial:
    if trial.stop_reason is None or not trial.stop_reason.startswith(NO_MORE):
        return trial
    return replace(trial, stop_reason=None)


def pending(state: SweepState) -> Iterator[tuple[Trial, int]]:
    """(trial, track index) that were decided and neither run nor are finished: in the order of
    decisions, those that failed behind those that did not."""
    waiting = [
        (trial.failures, track.ordered, index, trial)
        for trial in state.trials.values()
        if not trial.out
        for index, track in enumerate(trial.tracks)
        if track.unfinished and not track.running
    ]
    waiting.sort(key=lambda entry: entry[:3])
    return ((trial, index) for _, _, index, trial in waiting)


def is_stale(
    state: SweepState, event: PointReported | SegmentEnded | AttemptLost | Diverged
) -> bool:
    """Whether the event comes from an attempt that was superseded or has ended."""
    trial = state.trials.get(event.trial)
    index = None if trial is None else trial.track_of(event.attempt)
    return trial is None or index is None or not trial.tracks[index].running


def _with_trial(state: SweepState, trial: Trial) -> SweepState:
    """The state with the trial replaced, and the ledger moved by the difference."""
    old = state.trials.get(trial.id)
    spent, reserved, branches = charges(trial)
    if old is not None:
        spent, reserved, branches = (
            new - was for new, was in zip((spent, reserved, branches), charges(old), strict=True)
        )
    ledger = replace(
        state.ledger,
        spent=state.ledger.spent + spent,
        reserved=state.ledger.reserved + reserved,
        branches=state.ledger.branches + branches,
    )
    trials = MappingProxyType({**state.trials, trial.id: trial})
    return replace(state, trials=trials, ledger=ledger)


def _decided(state: SweepState, event: Decided) -> SweepState:
    for place, decision in enumerate(event.decisions):
        trial = _obey(state, decision, (state.decided, place))
        state = _with_trial(state, trial)
    if state.remaining < 0:
        raise DecisionError(
            f"{event.policy} reserved {flops_in_words(-state.remaining)} FLOPs more than the "
            "budget of "
            f"{flops_in_words(state.terms.budget)} allows"
        )
    return replace(state, decided=state.decided + 1)


def _obey(state: SweepState, decision: Decision, ordered: tuple[int, int]) -> Trial:
    """The trial after a decision about it."""
    if decision.trial not in state.pool:
        raise DecisionError(f"no candidate {decision.trial!r} in the pool")
    candidate = state.pool[decision.trial]
    trial = state.trials.get(decision.trial)
    if isinstance(decision, Stop):
        if trial is None:
            raise DecisionError(f"{decision.trial} was never started, so it cannot be stopped")
        return released(replace(trial, stop_reason=decision.reason))
    if decision.tokens % candidate.tokens_per_step:
        raise DecisionError(
            f"{decision.trial}: {decision.tokens} tokens are not whole steps of "
            f"{candidate.tokens_per_step}"
        )
    if trial is not None and trial.out:
        raise DecisionError(f"{decision.trial} is {trial.status} and cannot be trained further")
    if isinstance(decision, Anneal):
        return _branched(trial, decision, ordered)
    if decision.tokens > candidate.end:
        raise DecisionError(
            f"{decision.trial}: {decision.tokens} tokens lie past its horizon of {candidate.end}"
        )
    if trial is None:
        return Trial(candidate=candidate, trunk=Track(target=decision.tokens, ordered=ordered))
    if decision.tokens <= trial.trunk.tokens:
        raise DecisionError(
            f"{decision.trial} has already seen {trial.trunk.tokens} tokens: extending it to "
            f"{decision.tokens} does nothing"
        )
    if trial.trunk.running and decision.tokens < trial.trunk.until:
        raise DecisionError(
            f"{decision.trial} is running to {trial.trunk.until} tokens: stop it to end it at "
            f"{decision.tokens}"
        )
    trunk = replace(trial.trunk, target=decision.tokens, ordered=ordered)
    return replace(trial, trunk=trunk, stop_reason=None)


def _branched(trial: Trial | None, decision: Anneal, ordered: tuple[int, int]) -> Trial:
    if trial is None or trial.trunk.checkpoint is None:
        raise DecisionError(f"{decision.trial} has no checkpoint to anneal from")
    origin = trial.trunk.checkpoint
    if decision.tokens <= origin.tokens:
        raise DecisionError(
            f"{decision.trial}: a branch off {origin.tokens} tokens cannot end at "
            f"{decision.tokens}"
        )
    branch = Track(
        target=decision.tokens,
        ordered=ordered,
        start=origin.tokens,
        origin=origin,
        tokens=origin.tokens,
        position=origin.tokens,
    )
    return replace(trial, branches=(*trial.branches, branch))


def _started(state: SweepState, event: Started) -> SweepState:
    trial = state.trials[event.trial]
    index = 0 if event.branch is None else event.branch + 1
    track = trial.tracks[index]
    at = event.resume_from.tokens if event.resume_from else 0
    again = trial.candidate.flops(track.position) - trial.candidate.flops(at)
    track = replace(
        track,
        attempt=event.attempt,
        until=event.until,
        running=True,
        stack=event.stack,
        slots=event.slots or (),
        gpus=_gpus(state, trial, event),
        position=at,
        begun=at,
        timed=at,
        elapsed_s=0.0,
        opening=None,
    )
    trial = replace(trial.with_track(index, track), attempts=max(trial.attempts, event.attempt))
    lost = state.ledger.lost + max(0, again)
    return _with_trial(replace(state, ledger=replace(state.ledger, lost=lost)), trial)


def _gpus(state: SweepState, trial: Trial, event: Started) -> float:
    """As recorded; what the spec says now of a segment that an older release started."""
    if event.gpus is not None or state.terms.demand is None:
        return 1.0 if event.gpus is None else event.gpus
    return state.terms.demand.takes(trial.candidate, event.until).size


def _reported(
    state: SweepState, event: PointReported | SegmentEnded | AttemptLost | Diverged
) -> SweepState:
    """What an attempt said; of a superseded attempt it is only counted."""
    if is_stale(state, event):
        return replace(state, stale=state.stale + 1)
    trial = state.trials[event.trial]
    index = trial.track_of(event.attempt) or 0
    match event:
        case PointReported():
            return _point(state, trial, index, event)
        case SegmentEnded():
            trial = _ended(trial, index, event)
        case AttemptLost():
            if event.cause in ("died", "error") and trial.tracks[index].stack is None:
                failure = (trial.id, event.reason)
                state = replace(state, barren=(*state.barren, failure))
            trial = _lost(state.terms, trial, index, event)
        case Diverged():
            trial = _diverged(trial, index, event)
    return _with_trial(state, released(trial))


def _point(state: SweepState, trial: Trial, index: int, event: PointReported) -> SweepState:
    point, track = event.point, trial.tracks[index]
    elapsed = max(0.0, (point.elapsed_s or 0.0) - track.elapsed_s)
    fresh = point.tokens > track.curve.last_tokens
    if fresh:
        track = replace(track, curve=track.curve.append(point))
    track = replace(
        reached(track, point.tokens),
        elapsed_s=track.elapsed_s + elapsed,
        timed=point.tokens,
        opening=track.opening or (point.tokens, track.elapsed_s + elapsed),
        checkpoint=event.checkpoint or track.checkpoint,
    )
    trial = replace(trial, failures=0, alone=False) if fresh else trial
    ledger = replace(
        state.ledger,
        device_s=state.ledger.device_s + elapsed,
        gpu_s=state.ledger.gpu_s + elapsed * track.gpus,
        branch_gpu_s=state.ledger.branch_gpu_s + (elapsed * track.gpus if index else 0.0),
    )
    barren = () if fresh else state.barren
    state = replace(state, ledger=ledger, points=state.points + fresh, barren=barren)
    return _with_trial(state, trial.with_track(index, track))


def _ended(trial: Trial, index: int, event: SegmentEnded) -> Trial:
    """A segment that was not stopped is as long as it will be: what it did not use is released."""
    track = reached(replace(trial.tracks[index], running=False), event.tokens)
    track = replace(track, checkpoint=event.checkpoint or track.checkpoint)
    if not event.stopped and track.target <= track.until:
        track = replace(track, target=track.tokens)
    return timed(trial.with_track(index, track), index)


def _diverged(trial: Trial, index: int, event: Diverged) -> Trial:
    """A branch that diverges ends alone: the trunk and its losses stand."""
    track = reached(replace(trial.tracks[index], running=False), event.tokens)
    if index > 0:
        return trial.with_track(index, replace(track, target=track.tokens))
    return replace(trial.with_track(index, track), diverged=event.reason)


def _lost(terms: Terms, trial: Trial, index: int, event: AttemptLost) -> Trial:
    track = reached(replace(trial.tracks[index], running=False), event.reached)
    trial = trial.with_track(index, track)
    if event.cause == "interrupted":
        return trial
    if event.cause == "crowded":
        size = len(track.stack or ())
        return replace(trial, crowd=min(size, trial.crowd or size))
    if track.stack is not None:  # nobody knows whose fault it was
        return replace(trial, alone=True)
    failures = trial.failures + 1
    if failures < terms.max_failures:
        return replace(trial, failures=failures)
    if index > 0:
        given_up = replace(track, target=track.tokens)
        return replace(trial.with_track(index, given_up), failures=0)
    return replace(trial, failures=failures, failed=event.reason)
