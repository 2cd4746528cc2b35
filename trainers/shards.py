"""Token files that grow shard by shard, each shard recorded once it is whole on the disk.

Touches the folder it is given. A record holds how far the two files reached and the SHA-256 of the
shard's tokens in each and of its text, so that a later process knows what it may keep: it checks
what lies there against the records, cuts off the rest, and goes on behind it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.tokenizer import Tokenizer

TRAIN, HELD_OUT = "train", "held-out"
_RECORDS = "shards.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """How far the two files reach with this shard (tokens, and bytes of text they stand for), and
    the SHA-256 of its text and of its tokens in each file."""

    train_tokens: int = 0
    held_out_tokens: int = 0
    train_bytes: int = 0
    held_out_bytes: int = 0
    text_sha256: str = ""
    train_sha256: str = ""
    held_out_sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def dtype_of(vocab: int) -> tuple[str, str]:
    """The numpy type of a token file for this vocabulary, and the ending of its name."""
    return ("<u2", ".u16") if vocab <= 2**16 else ("<u4", ".u32")


def has_shards(folder: Path) -> bool:
    """Whether a growing corpus has a shard recorded."""
    records = folder / _RECORDS
    return records.exists() and records.stat().st_size > 0


class Growing:
    """The two files of a corpus while they grow. Opened on what a killed process left, it keeps
    the shards that are whole."""

    def __init__(self, folder: Path, vocab: int) -> None:
        self._folder = folder
        dtype, suffix = dtype_of(vocab)
        self._dtype = np.dtype(dtype)
        self._paths = (folder / f"{TRAIN}{suffix}", folder / f"{HELD_OUT}{suffix}")
        self._records = folder / _RECORDS
        self.shards: list[Shard] = self._whole()
        self._cut()

    @property
    def totals(self) -> Shard:
        """The last shard's record, which says how far the files reach."""
        return self.shards[-1] if self.shards else Shard()

    def shard(
        self,
        number: int,
        texts: Sequence[bytes],
        held: Callable[[bytes], bool],
        tokenizer: Tokenizer,
        limit: int | None,
    ) -> None:
        """Make sure of shard `number`: nothing to do where it is there and of the same text.

        The training file ends at `limit` tokens.
        """
        text_sha256 = _digest_of(texts)
        if number < len(self.shards):
            if self.shards[number].text_sha256 == text_sha256:
                return
            del self.shards[number:]  # the source changed since
            self._cut()
        parts: tuple[list[NDArray[np.int64]], ...] = ([], [])
        sizes = [0, 0]
        room = None if limit is None else limit - self.totals.train_tokens
        for text, tokens in zip(texts, tokenizer.encode(texts), strict=True):
            side = int(held(text))
            parts[side].append(tokens)
            sizes[side] += len(text) + 1
        arrays = [
            np.concatenate(part).astype(self._dtype) if part else self._none for part in parts
        ]
        if room is not None and len(arrays[0]) > room:
            sizes[0] = round(sizes[0] * room / len(arrays[0]))
            arrays[0] = arrays[0][:room]
        for path, array in zip(self._paths, arrays, strict=True):
            with path.open("ab") as file:
                file.write(array.tobytes())
            sync(path)
        self.shards.append(
            Shard(
                train_tokens=self.totals.train_tokens + len(arrays[0]),
                held_out_tokens=self.totals.held_out_tokens + len(arrays[1]),
                train_bytes=self.totals.train_bytes + sizes[0],
                held_out_bytes=self.totals.held_out_bytes + sizes[1],
                text_sha256=text_sha256,
                train_sha256=hashlib.sha256(arrays[0].tobytes()).hexdigest(),
                held_out_sha256=hashlib.sha256(arrays[1].tobytes()).hexdigest(),
            )
        )
        with self._records.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.shards[-1].to_json()) + "\n")
        sync(self._records)

    def end(self, count: int) -> None:
        """The corpus ends with shard `count` - 1: what a longer source left behind it goes."""
        if count < len(self.shards):
            del self.shards[count:]
            self._cut()

    def split_tail(self, share: float) -> Shard:
        """Too few documents to split between: hold out the end of their joined text instead."""
        tokens = np.concatenate([np.fromfile(path, dtype=self._dtype) for path in self._paths])
        cut = len(tokens) - round(len(tokens) * share)
        whole = (tokens[:cut], tokens[cut:])
        for path, part in zip(self._paths, whole, strict=True):
            part.tofile(path)
        size = self.totals.train_bytes + self.totals.held_out_bytes
        self._records.unlink()
        self.shards = []
        return Shard(train_tokens=len(whole[0]), held_out_tokens=len(whole[1]), train_bytes=size)

    @property
    def _none(self) -> NDArray[np.unsignedinteger]:
        return np.empty(0, self._dtype)

    def _whole(self) -> list[Shard]:
        """The recorded shards up to the first that the files do not bear out."""
        kept: list[Shard] = []
        before = Shard()
        for record in self._recorded():
            spans = (
                (before.train_tokens, record.train_tokens, record.train_sha256),
                (before.held_out_tokens, record.held_out_tokens, record.held_out_sha256),
            )
            if not all(
                self._sha256(path, start, end) == wanted
                for path, (start, end, wanted) in zip(self._paths, spans, strict=True)
            ):
                break
            kept.append(record)
            before = record
        return kept

    def _recorded(self) -> list[Shard]:
        """What the records say; a torn last line is no record."""
        try:
            lines = self._records.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return []
        return [Shard(**json.loads(line)) for line in lines[:-1]]

    def _sha256(self, path: Path, start: int, end: int) -> str:
        size = self._dtype.itemsize
        try:
            with path.open("rb") as file:
                file.seek(start * size)
                return hashlib.sha256(file.read((end - start) * size)).hexdigest()
        except FileNotFoundError:
            return ""

    def _cut(self) -> None:
        """Cut the files and the records off behind the last whole shard."""
        lengths = (self.totals.train_tokens, self.totals.held_out_tokens)
        for path, length in zip(self._paths, lengths, strict=True):
            with path.open("ab") as file:
                file.truncate(length * self._dtype.itemsize)
        lines = "".join(json.dumps(shard.to_json()) + "\n" for shard in self.shards)
        self._records.write_text(lines, encoding="utf-8")


def _digest_of(texts: Sequence[bytes]) -> str:
    whole = hashlib.sha256()
    for text in texts:
        whole.update(hashlib.sha256(text).digest())
    return whole.hexdigest()


def sync(path: Path) -> None:
    """Make a file or a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
