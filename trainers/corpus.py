"""Token files made once from a source of text, and found again by what they were made from.

Touches the cache folder ($FRONTRUNNER_CACHE, else $XDG_CACHE_HOME/frontrunner, else
~/.cache/frontrunner, unless `data.cache` says otherwise), and reads the source. A corpus is
written under a temporary name and renamed whole, so two processes that prepare the same one at
the same time both end with it. Exact duplicates are dropped; documents are split into training and
held-out data by their own SHA-256, so a document stays on its side whatever else changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from trainers.config import DataConfig
from trainers.data import TOKEN_DTYPE, DataError, Tokens, open_tokens
from trainers.sources import Source, find_source

VERSION = 1
SEPARATOR = b"\x00"
FEWEST_DOCUMENTS = 20
_TRAIN, _HELD_OUT, _MANIFEST = "train.u16", "held-out.u16", "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Two token files and what is known of them."""

    folder: Path
    train_tokens: int
    held_out_tokens: int
    bytes_per_token: float
    digest: str

    def train(self) -> Tokens:
        """Training tokens, memory-mapped uint16."""
        return open_tokens(self.folder / _TRAIN)

    def held_out(self) -> Tokens:
        """Held-out tokens, memory-mapped uint16."""
        return open_tokens(self.folder / _HELD_OUT)


def prepare(data: DataConfig) -> Corpus:
    """The corpus of a configuration, made now if it is not in the cache.

    Raises DataError when the source is missing, empty, or not the bytes it should be.
    """
    source = find_source(data)
    key = _key(data, source)
    cache = _cache_folder(data)
    folder = cache / key
    if not (folder / _MANIFEST).exists():
        _make(source, data, folder)
    return _read(folder)


def _key(data: DataConfig, source: Source) -> str:
    parts = [VERSION, source.identity, data.text_field, data.tokenizer, data.held_out]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return f"{source.name}-{digest[:16]}"


def _cache_folder(data: DataConfig) -> Path:
    if data.cache is not None:
        return data.cache.expanduser()
    if own := os.environ.get("FRONTRUNNER_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "frontrunner"


def _make(source: Source, data: DataConfig, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        manifest = _write(source, data, temporary)
        (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for path in temporary.iterdir():
            _sync(path)
        _sync(temporary)
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / _MANIFEST).exists():
                raise
        _sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(source: Source, data: DataConfig, folder: Path) -> dict[str, Any]:
    """Tokenise every distinct document into one of two files; the manifest."""
    seen: set[bytes] = set()
    whole = hashlib.sha256()
    below = int(data.held_out * 2**64)
    with (folder / _TRAIN).open("wb") as train, (folder / _HELD_OUT).open("wb") as held_out:
        for document in source.documents():
            digest = hashlib.sha256(document).digest()
            if not document or digest in seen:
                continue
            seen.add(digest)
            whole.update(digest)
            held = int.from_bytes(digest[:8], "big") < below
            _append(held_out if held else train, document)
    if not seen:
        raise DataError(f"data.source {source.name!r} holds no text; check the path and the field")
    source.check(whole.hexdigest())
    split = "by document"
    if len(seen) < FEWEST_DOCUMENTS:
        _split_tail(folder, data.held_out)
        split = "tail"
    sizes = {name: (folder / name).stat().st_size // TOKEN_DTYPE.itemsize for name in _FILES}
    return {
        "version": VERSION,
        "source": source.identity,
        "documents": len(seen),
        "split": split,
        "tokenizer": data.tokenizer,
        "train_tokens": sizes[_TRAIN],
        "held_out_tokens": sizes[_HELD_OUT],
        "bytes_per_token": 1.0,
        "digest": whole.hexdigest(),
    }


_FILES = (_TRAIN, _HELD_OUT)


def _append(file: BinaryIO, document: bytes) -> None:
    """Bytes are tokens; a zero byte, which no text holds, ends each document."""
    tokens = np.frombuffer(document + SEPARATOR, dtype=np.uint8)
    file.write(tokens.astype(TOKEN_DTYPE).tobytes())


def _split_tail(folder: Path, share: float) -> None:
    """Too few documents to split between: hold out the end of their joined text instead."""
    tokens = np.concatenate([np.fromfile(folder / name, dtype=TOKEN_DTYPE) for name in _FILES])
    cut = len(tokens) - round(len(tokens) * share)
    tokens[:cut].tofile(folder / _TRAIN)
    tokens[cut:].tofile(folder / _HELD_OUT)


def _read(folder: Path) -> Corpus:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        for name, key in ((_TRAIN, "train_tokens"), (_HELD_OUT, "held_out_tokens")):
            size = (folder / name).stat().st_size
            if size != manifest[key] * TOKEN_DTYPE.itemsize:
                raise DataError(f"{folder / name} has {size} bytes, not what its manifest says")
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"the corpus in {folder} is damaged ({error}); delete that folder"
        ) from error
    return Corpus(
        folder=folder,
        train_tokens=manifest["train_tokens"],
        held_out_tokens=manifest["held_out_tokens"],
        bytes_per_token=manifest["bytes_per_token"],
        digest=manifest["digest"],
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
