"""One segment of one trial: the only caller of `trainers.loop.train`.

Turns the trainer's reports into the events of the house, and its exceptions into a lost attempt.
Touches the attempt's folder (`attempts`), and through the trainer the device. Imports torch only
when asked to train.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from orchestrator.backends.attempts import opened_folder
from orchestrator.backends.base import Report
from orchestrator.events import (
    AttemptLost,
    Cause,
    Diverged,
    PointReported,
    SegmentEnded,
    Started,
)
from orchestrator.pool import Pool
from orchestrator.values import Checkpoint, Phase, Point

if TYPE_CHECKING:
    from trainers.config import DataConfig
    from trainers.own import RunConfig

_HOME = Path(__file__).resolve().parents[2]
_LONGEST_REASON = 400
_DIGEST_SHOWN = 16


class TrainReport(Protocol):
    """What the trainer says at an evaluation; see trainers.loop.Report."""

    @property
    def tokens(self) -> int: ...
    @property
    def flops(self) -> float: ...
    @property
    def loss(self) -> float: ...
    @property
    def bits_per_byte(self) -> float | None: ...
    @property
    def train_loss(self) -> float | None: ...
    @property
    def phase(self) -> Phase: ...
    @property
    def learning_rate(self) -> float | None: ...
    @property
    def grad_norm(self) -> float | None: ...
    @property
    def elapsed_s(self) -> float | None: ...
    @property
    def checkpoint(self) -> Path | None: ...
    @property
    def diverged(self) -> bool: ...


class Train(Protocol):
    """The trainer's door. A test may hand in another behind it."""

    def __call__(
        self,
        config: RunConfig,
        *,
        until: int,
        folder: Path,
        resume: Path | None,
        anneal: bool,
        stop: Callable[[], bool],
    ) -> Iterator[TrainReport]: ...


def run_segment(
    segment: Started,
    *,
    config: RunConfig,
    storage: Path,
    stop: Callable[[], bool],
    train: Train | None = None,
) -> Generator[Report]:
    """Train a journalled segment; one event at a time, the end last.

    `stop` turning true ends it, checkpointed, at the next point. Ends with exactly one of
    SegmentEnded, Diverged, or AttemptLost with cause `error` where anything raised; only
    KeyboardInterrupt and its kind pass through. Checkpoint paths are relative to `storage`.
    """
    account = Account(segment, storage, stop)
    try:
        folder, resume = opened_folder(segment, storage)
        for report in (train or trainer(config))(
            keeping_two(config),
            until=segment.until,
            folder=folder,
            resume=resume,
            anneal=segment.branch is not None,
            stop=account.asked,
        ):
            yield from account.told(report)
            if account.over:
                return
        yield account.ended()
    except Exception as error:  # told as an event: the sweep decides what a failure costs
        yield account.lost(error)


class Account:
    """What is said of one attempt: the trainer's reports as events, and how it ended.

    `asked` is the trainer's to call: whether to stop, remembered once it was heard. `over` says
    that the attempt has ended.
    """

    def __init__(self, segment: Started, storage: Path, stop: Callable[[], bool]) -> None:
        start = segment.resume_from
        self.segment = segment
        self.reached = start.tokens if start else 0
        self.heard = False
        self.over = False
        self._storage = storage
        self._stop = stop
        self._checkpoint = start

    def asked(self) -> bool:
        self.heard = self.heard or self._stop()
        return self.heard

    def told(self, report: TrainReport) -> Iterator[Report]:
        """A point, or a divergence, or both."""
        trouble = _trouble(report)
        self.reached = report.tokens
        if trouble is None or math.isfinite(report.loss):
            self._checkpoint = _checkpoint(report, self._storage)
            yield _point(self.segment, report, self._checkpoint)
        if trouble is not None:
            self.over = True
            yield Diverged(
                trial=self.segment.trial,
                attempt=self.segment.attempt,
                tokens=self.reached,
                reason=trouble,
            )

    def ended(self) -> SegmentEnded:
        self.over = True
        return SegmentEnded(
            trial=self.segment.trial,
            attempt=self.segment.attempt,
            tokens=self.reached,
            checkpoint=self._checkpoint,
            stopped=self.heard and self.reached < self.segment.until,
        )

    def lost(self, error: BaseException, cause: Cause = "error") -> AttemptLost:
        self.over = True
        return AttemptLost(
            trial=self.segment.trial,
            attempt=self.segment.attempt,
            reached=self.reached,
            cause=cause,
            reason=reason_of(error),
        )


def keeping_two(config: RunConfig) -> RunConfig:
    """The newest checkpoint may not be journalled yet when the next is written."""
    if config.checkpoint.keep >= 2:
        return config
    checkpoint = config.checkpoint.model_copy(update={"keep": 2})
    return config.model_copy(update={"checkpoint": checkpoint})


def trainer(config: RunConfig) -> Train:
    """What trains such a configuration: ours, whose first call loads torch, or the user's own."""
    from trainers.config import TrainConfig

    if isinstance(config, TrainConfig):
        from trainers import loop

        return cast("Train", loop.train)
    from trainers import own

    return cast("Train", own.train)


def prepare_data(data: DataConfig) -> str:
    """Make the tokens of a source ready to read, unless they are; the digest of its text.

    Safe to call from several processes at once. Raises trainers.data.DataError.
    """
    from trainers.corpus import prepare

    return prepare(data).digest


def facts(config: RunConfig) -> tuple[tuple[str, str], ...]:
    """(name, value) pairs on which losses may depend: versions, device, precision, threads.

    Raises trainers.device.DeviceError where the configuration asks for a device that is not here.
    """
    from trainers.own import OwnConfig, identity

    if isinstance(config, OwnConfig):
        return (*versions(), ("trainer", identity(config)))
    from trainers.device import choose_device

    described = choose_device(config).describe()
    known = ((name, str(value)) for name, value in described.items() if value is not None)
    return (("frontrunner", _version_of("frontrunner")), *known)


def device_fault() -> str | None:
    """Why this process can do nothing more on its GPU; None where it can, or has none."""
    if "torch" not in sys.modules:
        return None
    from trainers.device import fault

    return fault()


def data_facts(digests: Iterable[tuple[DataConfig, str]]) -> tuple[tuple[str, str], ...]:
    """(name, value) pairs for data and their digests as `prepare_data` gave them, one a source.

    Told beside the versions, since a sweep that is resumed on other text has to be refused before
    its trials fail one by one. Candidates that read one source differently share its line.
    """
    told: dict[str, set[str]] = {}
    for data, digest in digests:
        told.setdefault(f"data {data.source}", set()).add(digest[:_DIGEST_SHOWN])
    return tuple((name, ", ".join(sorted(found))) for name, found in told.items())


def versions() -> tuple[tuple[str, str], ...]:
    """Versions of frontrunner and torch, told without loading torch."""
    return tuple((name, _version_of(name)) for name in ("frontrunner", "torch"))


def handshake() -> dict[str, str]:
    """What must be the same on all machines of a sweep: releases, and our very sources.

    The build of torch may differ (a head without a GPU); a checkout ahead of another may not.
    """
    told = {name: version.partition("+")[0] for name, version in versions()}
    digest = hashlib.sha256()
    for package in ("orchestrator", "trainers"):
        for path in sorted((_HOME / package).rglob("*.py")):
            digest.update(path.relative_to(_HOME).as_posix().encode() + b"\0" + path.read_bytes())
    return told | {"frontrunner sources of digest": digest.hexdigest()[:12]}


def sources(pool: Pool) -> tuple[DataConfig, ...]:
    """The distinct sources of text that the candidates of a pool read."""
    from trainers.config import TrainConfig

    ours = (config for config in pool.configs if isinstance(config, TrainConfig))
    return tuple(dict.fromkeys(config.data for config in ours))


def reason_of(error: BaseException) -> str:
    """One short line: the exception's type and message, and the line of ours it came from."""
    message = " ".join(str(error).split()) or "no message"
    if len(message) > _LONGEST_REASON:
        message = message[:_LONGEST_REASON] + "..."
    return f"{type(error).__name__}: {message}{_place_of(error)}"


def _checkpoint(report: TrainReport, storage: Path) -> Checkpoint | None:
    if report.checkpoint is None:
        return None
    path = report.checkpoint.relative_to(storage).as_posix()
    return Checkpoint(tokens=report.tokens, path=path)


def _trouble(report: TrainReport) -> str | None:
    """Why the run has diverged, or None."""
    if not math.isfinite(report.loss):
        return f"the loss was {report.loss} after {report.tokens} tokens"
    if report.diverged and report.train_loss is not None and _finite(report.train_loss) is None:
        return (
            f"the training loss was {report.train_loss} on the way to {report.tokens} tokens, "
            f"where the held-out loss was still {report.loss:.4g}"
        )
    if report.diverged:
        return f"the loss rose to {report.loss:.4g} after {report.tokens} tokens and stayed up"
    return None


def _point(segment: Started, report: TrainReport, checkpoint: Checkpoint | None) -> PointReported:
    point = Point(
        tokens=report.tokens,
        flops=report.flops,
        loss=report.loss,
        phase=report.phase,
        train_loss=_finite(report.train_loss),
        bits_per_byte=_finite(report.bits_per_byte),
        learning_rate=_finite(report.learning_rate),
        grad_norm=_finite(report.grad_norm),
        elapsed_s=_finite(report.elapsed_s),
    )
    return PointReported(
        trial=segment.trial, attempt=segment.attempt, point=point, checkpoint=checkpoint
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _place_of(error: BaseException) -> str:
    """` (trainers/loop.py:88)`: the innermost frame of the trainers, or else of anybody."""
    frames = [
        (frame.f_globals.get("__name__", ""), frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    ours = [frame for frame in frames if str(frame[0]).startswith("trainers.")]
    if not frames:
        return ""
    _, filename, line = (ours or frames)[-1]
    return f" ({os.path.join(*Path(filename).parts[-2:])}:{line})"
