"""One segment of one trial: the only caller of `trainers.loop.train`.

Turns the trainer's reports into the events of the house, its exceptions into a lost attempt, and
keeps each attempt in a folder of its own below the sweep's storage:

    trials/<trial>/attempt-3/                trunk
    trials/<trial>/attempt-4-branch-0/       annealing branch
        origin.json                          the checkpoint it began at; what it names is kept

Touches those folders, and through the trainer the device. Imports torch only when asked to train.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from orchestrator.backends.base import Report
from orchestrator.events import AttemptLost, Diverged, PointReported, SegmentEnded, Started
from orchestrator.pool import Pool
from orchestrator.values import Checkpoint, Phase, Point

if TYPE_CHECKING:
    from trainers.config import DataConfig
    from trainers.own import RunConfig

_ATTEMPT = re.compile(r"attempt-(?P<attempt>[0-9]+)(?:-branch-(?P<branch>[0-9]+))?")
_TRIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=,@-]*")
_HOME = Path(__file__).resolve().parents[2]
_ORIGIN = "origin.json"
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
    asked = _Asked(stop)
    start = segment.resume_from
    reached = start.tokens if start else 0
    checkpoint: Checkpoint | None = start
    try:
        for report in _reports(segment, config, storage, asked, train or trainer(config)):
            trouble = _trouble(report)
            reached = report.tokens
            if trouble is None or math.isfinite(report.loss):
                checkpoint = _checkpoint(report, storage)
                yield _point(segment, report, checkpoint)
            if trouble is not None:
                yield Diverged(
                    trial=segment.trial, attempt=segment.attempt, tokens=reached, reason=trouble
                )
                return
        yield SegmentEnded(
            trial=segment.trial,
            attempt=segment.attempt,
            tokens=reached,
            checkpoint=checkpoint,
            stopped=asked.heard and reached < segment.until,
        )
    except Exception as error:  # told as an event: the sweep decides what a failure costs
        yield AttemptLost(
            trial=segment.trial,
            attempt=segment.attempt,
            reached=reached,
            cause="error",
            reason=reason_of(error),
        )


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


def attempt_folder(segment: Started, storage: Path) -> Path:
    """Where the segment's attempt writes. Raises ValueError for a name that leaves the storage."""
    if not _TRIAL.fullmatch(segment.trial):
        raise ValueError(f"trial {segment.trial!r} is no name for a folder")
    name = f"attempt-{segment.attempt}"
    if segment.branch is not None:
        name += f"-branch-{segment.branch}"
    return storage / "trials" / segment.trial / name


class _Asked:
    """The stop request, remembered once it was heard."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop
        self.heard = False

    def __call__(self) -> bool:
        self.heard = self.heard or self._stop()
        return self.heard


def _reports(
    segment: Started, config: RunConfig, storage: Path, stop: _Asked, train: Train
) -> Iterator[TrainReport]:
    """What the trainer reports, from a folder of its own and the checkpoint to go on from."""
    folder = attempt_folder(segment, storage)
    resume = _resumable(segment, storage)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise FileExistsError(
            f"{folder} exists already: attempt {segment.attempt} was started before, or the "
            "storage belongs to another sweep"
        ) from None
    if segment.resume_from is not None:
        origin = {"checkpoint": segment.resume_from.path, "tokens": segment.resume_from.tokens}
        (folder / _ORIGIN).write_text(json.dumps(origin) + "\n", encoding="utf-8")
        if segment.branch is None:
            remove_superseded(segment, storage)
    if config.checkpoint.keep < 2:
        # The newest checkpoint may not be journalled yet when the next is written.
        keep_two = config.checkpoint.model_copy(update={"keep": 2})
        config = config.model_copy(update={"checkpoint": keep_two})
    return train(
        config,
        until=segment.until,
        folder=folder,
        resume=resume,
        anneal=segment.branch is not None,
        stop=stop,
    )


def _resumable(segment: Started, storage: Path) -> Path | None:
    if segment.resume_from is None:
        return None
    path = _inside(storage, segment.resume_from.path)
    if not path.is_dir():
        raise FileNotFoundError(
            f"checkpoint {segment.resume_from.path} is not in {storage}: was it removed, or is "
            "the storage not mounted here?"
        )
    return path


def _inside(storage: Path, relative: str) -> Path:
    """A path of the journal below the storage. Raises ValueError where it leads out of it."""
    parts = Path(relative).parts
    if not parts or Path(relative).is_absolute() or ".." in parts:
        raise ValueError(f"checkpoint path {relative!r} leads out of the sweep's storage")
    return storage / relative


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


def remove_superseded(segment: Started, storage: Path) -> None:
    """Free the disk of a trunk's checkpoints that nothing can need any more.

    `segment` resumes from a checkpoint that some attempt wrote. Of the trunk's attempts before
    that one, every checkpoint goes but the last of each (segments end there, and branches are
    decided there) and those at which any attempt began. Later attempts are left alone: a killed
    driver's worker may write to them for seconds. A branch removes nothing, and what cannot be
    read keeps everything.
    """
    if segment.resume_from is None or segment.branch is not None:
        return
    attempts = list(_attempts(attempt_folder(segment, storage).parent))
    source = _inside(storage, segment.resume_from.path)
    written_by = next((number for number, _, at in attempts if source.is_relative_to(at)), 0)
    try:
        needed = {_origin(folder, storage) for _, _, folder in attempts}
    except (OSError, ValueError, KeyError, TypeError):
        return
    for number, branch, folder in attempts:
        if number < written_by and branch is None:
            for checkpoint in _checkpoints(folder)[:-1]:
                if checkpoint not in needed:
                    shutil.rmtree(checkpoint, ignore_errors=True)


def _attempts(trial: Path) -> Iterator[tuple[int, int | None, Path]]:
    """(attempt, branch, folder) of a trial's attempts; links are no folders."""
    for folder in trial.iterdir():
        match = _ATTEMPT.fullmatch(folder.name)
        if match and folder.is_dir() and not folder.is_symlink():
            branch = match["branch"]
            yield int(match["attempt"]), None if branch is None else int(branch), folder


def _origin(folder: Path, storage: Path) -> Path | None:
    """The checkpoint at which an attempt began, or None where it began from nothing."""
    path = folder / _ORIGIN
    if not path.exists():
        return None
    return _inside(storage, json.loads(path.read_text(encoding="utf-8"))["checkpoint"])


def _checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints in an attempt's folder, by tokens; links are none."""
    from trainers.checkpoint import checkpoints

    return [path for path in checkpoints(folder) if not path.is_symlink()]
