"""A trial: a candidate that was started, its trunk and annealing branches, and how it stands.

Frozen values and the few functions that move them; `state.apply` alone decides when. Touches
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from orchestrator.values import Candidate, Checkpoint, Curve

Status = Literal[
    "waiting", "running", "idle", "stopped", "finished", "diverged", "failed", "unstarted"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What one finished segment took: training `seconds` over `tokens`, of which its first point
    came after `opening` (tokens, seconds), its start-up among them; None where it had one point.
    Of a stack of `members` they are its even share of the stack's, which is not what it would take
    alone. `gpus` are those that it counted for."""

    tokens: int
    seconds: float
    members: int = 1
    opening: tuple[int, float] | None = None
    gpus: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """The trunk or one annealing branch of a trial.

    `start`: tokens it begins at; `target`: tokens it was told to reach; `tokens`: how far it got,
    which is what it is charged for; `position`: how far its latest attempt got, which may be
    behind after a resume; `ordered`: place of its target in the order of decisions. Of the latest
    attempt: `begun`, the tokens it began at, `timed`, those of its last point, and `elapsed_s`,
    its training seconds until then; `opening`, both of its first point; `stack`, (trial, attempt)
    of all that train as one with it, None where it trains alone; `slots`, those that it was given,
    none where any would do; `gpus`, what it counts for in hours.
    """

    target: int
    ordered: tuple[int, int]
    start: int = 0
    origin: Checkpoint | None = None
    tokens: int = 0
    position: int = 0
    curve: Curve = field(default_factory=Curve)
    checkpoint: Checkpoint | None = None
    attempt: int = 0
    until: int = 0
    running: bool = False
    stack: tuple[tuple[str, int], ...] | None = None
    slots: tuple[int, ...] = ()
    gpus: float = 1.0
    begun: int = 0
    timed: int = 0
    elapsed_s: float = 0.0
    opening: tuple[int, float] | None = None

    @property
    def resume_from(self) -> Checkpoint | None:
        """The newest journalled checkpoint to go on from; None starts at the beginning."""
        return self.checkpoint or self.origin

    @property
    def unfinished(self) -> bool:
        return self.target > self.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A candidate that was started, or told to: its trunk, its branches, and how it stands;
    `timings` of the segments that ended, in that order.

    `alone`: a stack with it was lost, and no new point has come since. `crowd`: how many were in
    the smallest stack with it that did not fit into memory.
    """

    candidate: Candidate
    trunk: Track
    branches: tuple[Track, ...] = ()
    timings: tuple[Timing, ...] = ()
    attempts: int = 0
    failures: int = 0
    stop_reason: str | None = None
    diverged: str | None = None
    failed: str | None = None
    alone: bool = False
    crowd: int | None = None

    @property
    def id(self) -> str:
        return self.candidate.id

    @property
    def curve(self) -> Curve:
        return self.trunk.curve

    @property
    def tracks(self) -> tuple[Track, ...]:
        return (self.trunk, *self.branches)

    @property
    def out(self) -> bool:
        """Diverged or failed: it will not be trained further."""
        return self.diverged is not None or self.failed is not None

    @property
    def running(self) -> bool:
        return any(track.running for track in self.tracks)

    @property
    def in_flight(self) -> bool:
        """Something of it runs or waits for a slot."""
        return self.running or (not self.out and any(track.unfinished for track in self.tracks))

    @property
    def status(self) -> Status:
        if self.diverged is not None:
            return "diverged"
        if self.failed is not None:
            return "failed"
        if self.running:
            return "running"
        if any(track.unfinished for track in self.tracks):
            return "waiting"
        if self.trunk.tokens >= self.candidate.end:
            return "finished"
        return "stopped" if self.stop_reason is not None else "idle"

    def track_of(self, attempt: int) -> int | None:
        """Which track (0 the trunk) the attempt is the latest of; None for a superseded one."""
        for index, track in enumerate(self.tracks):
            if track.attempt == attempt and attempt > 0:
                return index
        return None

    def with_track(self, index: int, track: Track) -> Trial:
        if index == 0:
            return replace(self, trunk=track)
        branches = (*self.branches[: index - 1], track, *self.branches[index:])
        return replace(self, branches=branches)


def released(trial: Trial) -> Trial:
    """The trial with what is stopped or out, and not running, told to go no further."""
    for index, track in enumerate(trial.tracks):
        held = trial.out or (index == 0 and trial.stop_reason is not None)
        if held and not track.running and track.unfinished:
            trial = trial.with_track(index, replace(track, target=track.tokens))
    return trial


def reached(track: Track, tokens: int) -> Track:
    """The track with its attempt at `tokens`; charged only where nobody was before."""
    return replace(track, position=max(track.position, tokens), tokens=max(track.tokens, tokens))


def timed(trial: Trial, index: int) -> Trial:
    """The trial with what the latest attempt of a track took kept, where its workers told it."""
    track = trial.tracks[index]
    tokens = track.timed - track.begun
    if tokens <= 0 or track.elapsed_s <= 0:
        return trial
    members = len(track.stack) if track.stack is not None else 1
    opening = track.opening
    if opening is not None:
        first, seconds = opening[0] - track.begun, opening[1]
        whole = 0 < first < tokens and 0 < seconds < track.elapsed_s
        opening = (first, seconds) if whole else None
    timing = Timing(
        tokens=tokens,
        seconds=track.elapsed_s,
        members=members,
        opening=opening,
        gpus=track.gpus,
    )
    return replace(trial, timings=(*trial.timings, timing))


def charges(trial: Trial) -> tuple[int, int, int]:
    """FLOPs (spent, reserved, of both on branches) of a trial."""
    cost = trial.candidate.flops
    spent = cost(trial.trunk.tokens)
    reserved = cost(trial.trunk.target) - spent
    branches = 0
    for track in trial.branches:
        done, told = (cost(tokens) - cost(track.start) for tokens in (track.tokens, track.target))
        spent += done
        reserved += told - done
        branches += told
    return spent, reserved, branches
