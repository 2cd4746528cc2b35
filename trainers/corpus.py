"""Token files made once from a source of text, and found again by what they were made from.

Touches the cache folder ($FRONTRUNNER_CACHE, else $XDG_CACHE_HOME/frontrunner, else
~/.cache/frontrunner, unless `data.cache` says otherwise), and reads the source. Exact duplicates
are dropped; documents are split into training and held-out data by their own SHA-256, so a
document stays on its side whatever else changes.

A corpus grows in a folder of its own name, shard by shard, each recorded with its digests once it
is on the disk (`trainers.shards`); one process at a time, under a lock. Killed, or its stream
broken off, the next one goes on after the last whole shard. Finished, the folder is renamed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from trainers.config import DataConfig, trained_vocab
from trainers.data import DataError, Tokens, open_tokens
from trainers.shards import HELD_OUT, TRAIN, Growing, Shard, dtype_of, has_shards, sync
from trainers.sources import BrokenOff, Source, find_source
from trainers.tokenizer import Tokenizer, find_tokenizer, read_trained, train_bpe

VERSION = 1
FEWEST_DOCUMENTS = 20
SHARD_BYTES = 16_000_000
_MANIFEST, _TOKENIZER = "manifest.json", "tokenizer.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Two token files and what is known of them. `vocab`: every token is below it; `digest`: of
    the text, and of the tokenizer unless it is bytes."""

    folder: Path
    train_tokens: int
    held_out_tokens: int
    bytes_per_token: float
    digest: str
    vocab: int

    def train(self) -> Tokens:
        """Training tokens, memory-mapped."""
        return open_tokens(self.folder / f"{TRAIN}{dtype_of(self.vocab)[1]}")

    def held_out(self) -> Tokens:
        """Held-out tokens, memory-mapped."""
        return open_tokens(self.folder / f"{HELD_OUT}{dtype_of(self.vocab)[1]}")


def prepare(data: DataConfig) -> Corpus:
    """The corpus of a configuration, made now if it is not in the cache.

    Raises DataError when the source is missing, empty, or not the bytes it should be.
    """
    source = find_source(data)
    tokenizer = find_tokenizer(data.tokenizer)
    folder = _cache_folder(data) / _key(data, source, tokenizer)
    if not (folder / _MANIFEST).exists():
        with _alone(folder):
            if not (folder / _MANIFEST).exists():
                _make(source, tokenizer, data, folder)
    return _read(folder)


def _key(data: DataConfig, source: Source, tokenizer: Tokenizer | None) -> str:
    name = data.tokenizer if tokenizer is None else tokenizer.identity
    parts: list[object] = [VERSION, source.identity, data.text_field, name, data.held_out]
    if data.limit is not None:
        parts.append(data.limit)
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return f"{source.name}-{digest[:16]}"


def _cache_folder(data: DataConfig) -> Path:
    if data.cache is not None:
        return data.cache.expanduser()
    if own := os.environ.get("FRONTRUNNER_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "frontrunner"


@contextlib.contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Wait until no other process prepares this corpus. The lock ends with its process."""
    path = folder.parent / f".{folder.name}.lock"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise DataError(
            f"the cache {folder.parent} cannot be written ({error.strerror}); set data.cache or "
            "FRONTRUNNER_CACHE to a folder that can"
        ) from error
    while True:
        with path.open("w", encoding="utf-8") as file:
            _lock(file, folder)
            if not _stands_at(file, path):
                continue  # who held it took it away, and others may hold the next one
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _lock(file: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        raise DataError(f"{folder.parent} knows no locks; set data.cache to a disk") from error


def _stands_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _make(source: Source, tokenizer: Tokenizer | None, data: DataConfig, folder: Path) -> None:
    growing = folder.parent / f".{folder.name}.partial"
    growing.mkdir(exist_ok=True)
    try:
        manifest = _write(source, tokenizer, data, growing)
    except DataError as error:
        if not (isinstance(error, BrokenOff) and has_shards(growing)):
            shutil.rmtree(growing)
        raise
    (growing / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in growing.iterdir():
        sync(path)
    sync(growing)
    growing.rename(folder)
    sync(folder.parent)


def _write(
    source: Source, tokenizer: Tokenizer | None, data: DataConfig, folder: Path
) -> dict[str, Any]:
    """Tokenise what is not yet; the manifest."""
    used = tokenizer or _trained(source, data, folder)
    growing = Growing(folder, used.vocab)
    whole = hashlib.sha256()
    documents = made = 0
    for number, texts in enumerate(_shards(source)):
        for text in texts:
            whole.update(hashlib.sha256(text).digest())
        growing.shard(number, texts, lambda text: _held(text, data.held_out), used, data.limit)
        documents += len(texts)
        made = number + 1
        if data.limit is not None and growing.shards[number].train_tokens >= data.limit:
            break
    growing.end(made)
    if not documents:
        raise DataError(f"data.source {source.name!r} holds no text; check the path and the field")
    if data.limit is None:
        source.check(whole.hexdigest())
    totals = growing.totals
    split = "by document"
    if documents < FEWEST_DOCUMENTS:
        totals = growing.split_tail(data.held_out)
        split = "tail"
    if (text := used.to_json()) is not None:
        (folder / _TOKENIZER).write_text(text, encoding="utf-8")
    return {
        "version": VERSION,
        "source": source.identity,
        "documents": documents,
        "split": split,
        "tokenizer": data.tokenizer,
        "vocab": used.vocab,
        "train_tokens": totals.train_tokens,
        "held_out_tokens": totals.held_out_tokens,
        "bytes_per_token": _bytes_per_token(totals),
        "digest": _digest(whole.hexdigest(), used),
        "shards": [shard.to_json() for shard in growing.shards],
    }


def _bytes_per_token(totals: Shard) -> float:
    """Of the held-out text where there is some, since the losses are of that; a document's end
    counts as a byte, as it is one for the bytes."""
    if totals.held_out_tokens and totals.held_out_bytes:
        return totals.held_out_bytes / totals.held_out_tokens
    return (totals.train_bytes + totals.held_out_bytes) / max(
        1, totals.train_tokens + totals.held_out_tokens
    )


def _digest(text: str, tokenizer: Tokenizer) -> str:
    if tokenizer.identity == "bytes":
        return text
    return hashlib.sha256(f"{text}:{tokenizer.identity}".encode()).hexdigest()


def _held(text: bytes, share: float) -> bool:
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") < int(share * 2**64)


def _distinct(source: Source) -> Iterator[bytes]:
    """Every document that has text, and that none before it was."""
    seen: set[bytes] = set()
    for document in source.documents():
        digest = hashlib.sha256(document).digest()[:16]
        if document and digest not in seen:
            seen.add(digest)
            yield document


def _shards(source: Source) -> Iterator[list[bytes]]:
    texts: list[bytes] = []
    size = 0
    for document in _distinct(source):
        texts.append(document)
        size += len(document)
        if size >= SHARD_BYTES:
            yield texts
            texts, size = [], 0
    if texts:
        yield texts


def _trained(source: Source, data: DataConfig, folder: Path) -> Tokenizer:
    """The BPE that the configuration asks for: trained now, unless it was before a kill."""
    vocab = trained_vocab(data.tokenizer)
    if vocab is None:
        raise DataError(f"data.tokenizer {data.tokenizer!r} cannot be trained")
    path = folder / _TOKENIZER
    if path.exists():
        return read_trained(path.read_text(encoding="utf-8"))
    tokenizer = train_bpe(vocab, _training_texts(source, data.held_out))
    unfinished = folder / f"{_TOKENIZER}.unfinished"
    unfinished.write_text(tokenizer.to_json(), encoding="utf-8")
    sync(unfinished)
    unfinished.rename(path)
    return tokenizer


def _training_texts(source: Source, share: float) -> Iterator[bytes]:
    """What a BPE may learn from: the training documents, or, where the tail of the joined text
    will be held out, text well before it."""
    texts = _distinct(source)
    first = list(itertools.islice(texts, FEWEST_DOCUMENTS))
    if len(first) == FEWEST_DOCUMENTS:
        yield from (t for t in itertools.chain(first, texts) if not _held(t, share))
        return
    # The tail is cut in tokens, which the tokenizer has yet to make: twice its share, about.
    left = int(sum(map(len, first)) * (1 - share) ** 2)
    for text in sorted(first, key=lambda text: _held(text, share)):  # as they will be joined
        yield text[:left]
        left = max(0, left - len(text))


def _read(folder: Path) -> Corpus:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        vocab = manifest.get("vocab", 256)
        dtype, suffix = dtype_of(vocab)
        for name, key in ((TRAIN, "train_tokens"), (HELD_OUT, "held_out_tokens")):
            path = folder / f"{name}{suffix}"
            size = path.stat().st_size
            if size != manifest[key] * np.dtype(dtype).itemsize:
                raise DataError(f"{path} has {size} bytes, not what its manifest says")
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
        vocab=vocab,
    )
