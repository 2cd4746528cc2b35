"""The folders of attempts below a sweep's storage, and which of their checkpoints are kept.

    trials/<trial>/attempt-3/                trunk
    trials/<trial>/attempt-4-branch-0/       annealing branch
        origin.json                          the checkpoint it began at; what it names is kept

Touches those folders.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from orchestrator.events import Started

_ATTEMPT = re.compile(r"attempt-(?P<attempt>[0-9]+)(?:-branch-(?P<branch>[0-9]+))?")
_TRIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=,@-]*")
_ORIGIN = "origin.json"


def attempt_folder(segment: Started, storage: Path) -> Path:
    """Where the segment's attempt writes. Raises ValueError for a name that leaves the storage."""
    if not _TRIAL.fullmatch(segment.trial):
        raise ValueError(f"trial {segment.trial!r} is no name for a folder")
    name = f"attempt-{segment.attempt}"
    if segment.branch is not None:
        name += f"-branch-{segment.branch}"
    return storage / "trials" / segment.trial / name


def opened_folder(segment: Started, storage: Path) -> tuple[Path, Path | None]:
    """A new folder for the segment's attempt, and the checkpoint to go on from.

    What the attempt makes superfluous is removed. Raises FileExistsError for an attempt that was
    started before, FileNotFoundError where the checkpoint is gone.
    """
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
    return folder, resume


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
