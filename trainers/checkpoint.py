"""Checkpoints: a folder of safetensors and one JSON file, whole or absent.

Touches only the folder it is given. A checkpoint is written under a temporary name, every file and
folder fsynced, then renamed; the JSON holds the SHA-256 of each file, and loading checks them.
Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

VERSION = 1
_PREFIX = "tokens-"
_TEMPORARY = ".unfinished-"
_STATE = "state.json"
_FILES = ("model.safetensors", "optimizer.safetensors")

log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A checkpoint is absent, damaged, or of another run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where training stands beside its tensors; what the next step depends on."""

    tokens: int
    recipe: Mapping[str, Any]
    segment_end: bool
    best_loss: float | None
    rising: int
    annealing: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensors:
    """What a run has learned: weights by parameter, and the rest of its state.

    `kept` holds the optimizer's slots as `parameter/slot` (exp_avg, exp_avg_sq, step) and the
    `generator`.
    """

    weights: Mapping[str, Tensor]
    kept: Mapping[str, Tensor]


def place(folder: Path, tokens: int) -> Path:
    """Where the checkpoint at `tokens` stands, once it is written."""
    return folder / f"{_PREFIX}{tokens:015d}"


def save(folder: Path, position: Position, tensors: Tensors) -> Path:
    """Write a checkpoint into `folder` and return its path, durable when this returns.

    One that stands there already, whole and of the same position, is left as it is.
    """
    final = place(folder, position.tokens)
    if _stands(final, position):
        return final
    temporary = folder / f"{_TEMPORARY}{final.name}-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    save_file(_on_cpu(tensors.weights), temporary / _FILES[0])
    save_file(_on_cpu(tensors.kept), temporary / _FILES[1])
    for name in _FILES:
        _sync(temporary / name)
    state = {
        "version": VERSION,
        "tokens": position.tokens,
        "segment_end": position.segment_end,
        "best_loss": position.best_loss,
        "rising": position.rising,
        "annealing": position.annealing,
        "recipe": position.recipe,
        "sha256": {name: _digest(temporary / name) for name in _FILES},
    }
    (temporary / _STATE).write_text(json.dumps(state, indent=1, allow_nan=False), encoding="utf-8")
    _sync(temporary / _STATE)
    _sync(temporary)
    if final.exists():
        stale = folder / f"{_TEMPORARY}{final.name}-{os.getpid()}-stale"
        final.rename(stale)
        shutil.rmtree(stale)
    temporary.rename(final)
    _sync(folder)
    return final


def read_position(path: Path) -> Position:
    """The JSON of a checkpoint, its files checked against their digests.

    Raises CheckpointError naming the file that is missing or damaged.
    """
    state = _state(path)
    for name in _FILES:
        try:
            actual = _digest(path / name)
        except OSError as error:
            raise CheckpointError(
                f"{path / name} cannot be read ({error.strerror}); {_ADVICE}"
            ) from error
        if actual != state["sha256"][name]:
            raise CheckpointError(f"{path / name} does not match its SHA-256; {_ADVICE}")
    annealing = state["annealing"]
    return Position(
        tokens=state["tokens"],
        recipe=state["recipe"],
        segment_end=state["segment_end"],
        best_loss=state["best_loss"],
        rising=state["rising"],
        annealing=None if annealing is None else (annealing[0], annealing[1]),
    )


def read_tensors(path: Path, names: Collection[str]) -> Tensors:
    """A checkpoint's tensors, of a network whose parameters have these names, on the CPU."""
    try:
        weights = load_file(path / _FILES[0])
        kept = load_file(path / _FILES[1])
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); {_ADVICE}") from error
    odd = sorted(weights.keys() ^ set(names))
    if odd:
        raise CheckpointError(f"{path} is of another model: {odd[0]} is not in both; {_ADVICE}")
    return Tensors(weights=weights, kept=kept)


def checkpoints(folder: Path) -> list[Path]:
    """The finished checkpoints of a folder, by tokens."""
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if path.is_dir())


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that is whole, damaged ones passed over with a warning."""
    for path in reversed(checkpoints(folder)):
        try:
            read_position(path)
        except CheckpointError as error:
            log.warning("passing over a checkpoint: %s", error)
        else:
            return path
    return None


def discard_old(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` of the checkpoints that end no segment; damaged ones stay
    for whoever wants to know, and count for nothing."""
    passing = [path for path in checkpoints(folder) if _passes(path)]
    for path in passing[: max(0, len(passing) - keep)]:
        shutil.rmtree(path)


def _passes(path: Path) -> bool:
    try:
        return not _state(path)["segment_end"]
    except CheckpointError as error:
        log.warning("leaving a checkpoint alone: %s", error)
        return False


_ADVICE = "resume from an earlier checkpoint, or delete this one and start again"


def _state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads((path / _STATE).read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"{path / _STATE} cannot be read ({reason}); {_ADVICE}") from error
    except ValueError as error:
        raise CheckpointError(f"{path / _STATE} is no JSON ({error}); {_ADVICE}") from error
    version = state.get("version") if isinstance(state, dict) else None
    if version != VERSION:
        raise CheckpointError(
            f"{path} has format {version}, this release reads {VERSION}; {_ADVICE}"
        )
    return state


def _stands(path: Path, position: Position) -> bool:
    if not path.exists():
        return False
    try:
        return read_position(path) == position
    except CheckpointError as error:
        log.warning("writing a checkpoint anew: %s", error)
        return False


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
