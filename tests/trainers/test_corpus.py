"""Corpora: every format gives the same tokens, races end well, damage and wrong bytes are told."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from trainers import corpus, sources
from trainers.config import DataConfig
from trainers.corpus import Corpus, prepare
from trainers.data import DataError
from trainers.tokenizer import SubwordTokenizer

TEXTS = [f"document {i}: " + "é all of it " * (i + 1) for i in range(60)]


def data(source: Path, **options: Any) -> DataConfig:
    cache = source.parent / "cache"
    base = {"source": str(source), "held_out": 0.3, "cache": cache}
    return DataConfig.model_validate(base | options)


def write_text(folder: Path, texts: list[str]) -> Path:
    source = folder / "texts"
    source.mkdir()
    for i, text in enumerate(texts):
        (source / f"{i:03d}.txt").write_text(text, encoding="utf-8")
    return source


def write_jsonl(folder: Path, texts: list[str]) -> Path:
    source = folder / "texts.jsonl"
    source.write_text("".join(json.dumps({"n": 1, "text": t}) + "\n" for t in texts))
    return source


def write_parquet(folder: Path, texts: list[str]) -> Path:
    source = folder / "texts.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), source)
    return source


def documents(made: Corpus) -> set[str]:
    both = np.concatenate([made.train(), made.held_out()]).astype(np.uint8).tobytes()
    return {part.decode() for part in both.split(b"\x00") if part}


WRITERS: list[Callable[[Path, list[str]], Path]] = [write_text, write_jsonl, write_parquet]


@pytest.mark.parametrize("write", WRITERS)
def test_formats_give_the_same_tokens(
    tmp_path: Path, write: Callable[[Path, list[str]], Path]
) -> None:
    made = prepare(data(write(tmp_path, [*TEXTS, TEXTS[0]])))
    assert documents(made) == set(TEXTS)
    sizes = (len(made.train()), len(made.held_out()))
    assert sizes == (made.train_tokens, made.held_out_tokens)
    assert sum(sizes) == sum(len(text.encode()) + 1 for text in TEXTS)
    assert 0.1 < sizes[1] / sum(sizes) < 0.5
    reference = tmp_path / "reference"
    reference.mkdir()
    assert made.digest == prepare(data(write_text(reference, TEXTS))).digest


def test_a_document_keeps_its_side(tmp_path: Path) -> None:
    fewer = prepare(data(write_jsonl(tmp_path, TEXTS[:40])))
    (tmp_path / "more").mkdir()
    more = prepare(data(write_jsonl(tmp_path / "more", TEXTS)))

    def held(made: Corpus) -> set[bytes]:
        return set(made.held_out().astype(np.uint8).tobytes().split(b"\x00"))

    assert held(fewer) <= held(more)


def test_one_document_is_split_at_its_tail(tmp_path: Path) -> None:
    source = tmp_path / "one.txt"
    source.write_text("0123456789" * 10)
    made = prepare(data(source, held_out=0.2))
    assert (made.train_tokens, made.held_out_tokens) == (81, 20)


def test_a_prepared_corpus_is_found_again_and_changed_files_are_not(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path, TEXTS)
    first = prepare(data(source))
    marker = first.folder / "train.u16"
    before = marker.stat().st_mtime_ns
    assert prepare(data(source)).folder == first.folder
    assert marker.stat().st_mtime_ns == before
    with source.open("a") as file:
        file.write(json.dumps({"text": "one more"}) + "\n")
    assert prepare(data(source)).folder != first.folder
    assert prepare(data(source, held_out=0.1)).folder != first.folder


def test_two_preparers_at_once_both_end_with_the_corpus(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        made = pool.map(prepare, [DataConfig(cache=tmp_path)] * 2, chunksize=1)
    assert made[0] == made[1]
    assert [path.name for path in tmp_path.iterdir()] == [made[0].folder.name]


def test_who_waited_for_a_lock_that_was_taken_away_waits_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder failed and removed the lock's file, and somebody else holds a new one."""
    lock, locked = tmp_path / ".c.lock", []

    def flock(file: Any, operation: int) -> None:
        locked.append(os.fstat(file.fileno()).st_ino)
        if len(locked) == 1:
            lock.rename(tmp_path / "taken away")
            lock.touch()

    monkeypatch.setattr(corpus.fcntl, "flock", flock)
    with corpus._alone(tmp_path / "c"):
        assert len(locked) == 2
        assert locked[1] == lock.stat().st_ino
    assert not lock.exists()


def test_a_killed_preparation_goes_on_behind_its_last_whole_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = data(write_jsonl(tmp_path, TEXTS), tokenizer="bpe-300")
    monkeypatch.setattr(corpus, "SHARD_BYTES", 2000)
    whole = prepare(config)
    wanted = {path.name: path.read_bytes() for path in whole.folder.iterdir()}
    shutil.rmtree(whole.folder)

    encoded: list[int] = []
    encode = SubwordTokenizer.encode

    def killed(self: SubwordTokenizer, documents: Sequence[bytes]) -> Any:
        if len(encoded) == 3:
            raise KeyboardInterrupt
        encoded.append(len(documents))
        return encode(self, documents)

    monkeypatch.setattr(SubwordTokenizer, "encode", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(config)
    (growing,) = (tmp_path / "cache").iterdir()
    with (growing / "train.u16").open("ab") as file:
        file.write(b"torn")  # written, and killed before it was recorded
    monkeypatch.setattr(SubwordTokenizer, "encode", encode)
    counted = count_calls(monkeypatch)
    again = prepare(config)
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == wanted
    assert len(counted) == len(json.loads(wanted["manifest.json"])["shards"]) - 3


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many documents each call of the tokenizer is given, from now on."""
    encode = SubwordTokenizer.encode
    calls: list[int] = []

    def counted(self: SubwordTokenizer, documents: Sequence[bytes]) -> Any:
        calls.append(len(documents))
        return encode(self, documents)

    monkeypatch.setattr(SubwordTokenizer, "encode", counted)
    return calls


def test_a_damaged_shard_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = data(write_jsonl(tmp_path, TEXTS))
    monkeypatch.setattr(corpus, "SHARD_BYTES", 2000)
    made = prepare(config)
    wanted = {path.name: path.read_bytes() for path in made.folder.iterdir()}
    growing = made.folder.parent / f".{made.folder.name}.partial"
    made.folder.rename(growing)
    (growing / "manifest.json").unlink()
    text = bytearray(wanted["train.u16"])
    text[-100] ^= 1
    (growing / "train.u16").write_bytes(bytes(text))
    again = prepare(config)
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == wanted


def test_a_limit_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_jsonl(tmp_path, TEXTS)
    monkeypatch.setattr(corpus, "SHARD_BYTES", 2000)
    whole, some = prepare(data(source)), prepare(data(source, limit=5000))
    assert some.train_tokens == 5000
    assert np.array_equal(some.train(), whole.train()[:5000])
    assert 0 < some.held_out_tokens < whole.held_out_tokens


@pytest.mark.parametrize("documents", [1, 60])
def test_bytes_per_token_are_of_what_was_kept(tmp_path: Path, documents: int) -> None:
    texts = ["".join(TEXTS)] if documents == 1 else TEXTS
    made = prepare(data(write_text(tmp_path, texts), limit=5000))
    assert made.train_tokens <= 5000
    assert made.bytes_per_token == pytest.approx(1.0, abs=1e-3)


def test_a_limit_reached_before_a_kill_ends_the_reading_at_the_same_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = data(write_jsonl(tmp_path, TEXTS), limit=9000)
    monkeypatch.setattr(corpus, "SHARD_BYTES", 2000)
    whole = prepare(config)
    wanted = (whole.folder / "manifest.json").read_text()
    growing = whole.folder.parent / f".{whole.folder.name}.partial"
    whole.folder.rename(growing)
    (growing / "manifest.json").unlink()
    assert (prepare(config).folder / "manifest.json").read_text() == wanted


def test_a_stream_that_breaks_off_goes_on_behind_its_last_whole_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    class Reset(Exception):
        """As the HTTP clients have their own."""

    left = [40, 10, 30]  # rows before each attempt ends: broken off, broken off, shorter than then

    def stream(*words: object, **options: object) -> Iterator[dict[str, str]]:
        yield from ({"text": text} for text in TEXTS[: left[0]])
        if left.pop(0) != 30:
            raise Reset("by peer")

    monkeypatch.setattr(datasets, "load_dataset", stream)
    monkeypatch.setattr(corpus, "SHARD_BYTES", 2000)
    config = DataConfig(source="hub:owner/name", held_out=0.3, cache=tmp_path / "cache")
    for _ in range(2):
        with pytest.raises(DataError, match="by peer"):
            prepare(config)
        (growing,) = (tmp_path / "cache").iterdir()
        assert len((growing / "shards.jsonl").read_text().splitlines()) > 2
    made = prepare(config)
    assert documents(made) == set(TEXTS[:30])
    monkeypatch.undo()
    assert made.digest == prepare(data(write_jsonl(tmp_path, TEXTS[:30]))).digest


def test_a_failed_preparation_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "bad.jsonl"
    source.write_text('{"text": "a"}\n{"text": 3}\n')
    with pytest.raises(DataError):
        prepare(data(source))
    assert list((tmp_path / "cache").iterdir()) == []


def test_refusals(tmp_path: Path) -> None:
    def refused(match: str, source: Path, **options: Any) -> None:
        with pytest.raises(DataError, match=match):
            prepare(data(source, **options))

    refused("no file, folder or pattern", tmp_path / "absent")
    named = write_jsonl(tmp_path, TEXTS)
    refused("text_field is 'body', but .* has n, text", named, text_field="body")
    refused("text_field is 'n', but .* has n holding int", named, text_field="n")
    odd = tmp_path / "a.bin"
    odd.write_bytes(b"x")
    refused("cannot tell one format", odd)
    refused("cannot read .* as parquet", odd, format="parquet")
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    refused("holds no text", empty)


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path, TEXTS)
    with pytest.raises(DataError, match=r"texts.jsonl cannot be written .*; set data.cache"):
        prepare(data(source, cache=source))


def test_a_damaged_corpus_is_told(tmp_path: Path) -> None:
    made = prepare(data(write_jsonl(tmp_path, TEXTS)))
    (made.folder / "train.u16").write_bytes(b"\x01\x00")
    with pytest.raises(DataError, match=r"damaged.*delete that folder"):
        prepare(data(tmp_path / "texts.jsonl"))


def test_python_sources_are_the_pinned_bytes(tmp_path: Path) -> None:
    made = prepare(DataConfig(cache=tmp_path))
    assert made.digest == sources.PACKAGE_SETS["python-sources"].digest
    assert made.train_tokens + made.held_out_tokens == 34_583_051 + 2095
    assert 400_000 < made.held_out_tokens < 1_200_000
    assert made.train().max() < 256


@pytest.mark.slow
def test_the_large_set_is_the_pinned_bytes(tmp_path: Path) -> None:
    made = prepare(DataConfig(source="python-sources-large", cache=tmp_path))
    assert made.digest == sources.PACKAGE_SETS["python-sources-large"].digest
    assert made.train_tokens + made.held_out_tokens == 158_125_539 + 7956


def test_other_versions_and_other_bytes_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = sources.PACKAGE_SETS["python-sources"]
    small = replace(packages, versions={"mpmath": "1.3.0"})
    config = DataConfig(cache=tmp_path)
    monkeypatch.setattr(sources, "PACKAGE_SETS", {"python-sources": small})
    with pytest.raises(DataError, match=r"files of mpmath 1.3.0 have SHA-256 \w+, not 562f"):
        prepare(config)
    older = replace(packages, versions={"mpmath": "1.2.0", "no-such-package": "1.0"})
    monkeypatch.setattr(sources, "PACKAGE_SETS", {"python-sources": older})
    with pytest.raises(DataError, match=r"mpmath 1.3.0 \(must be 1.2.0\), no-such-package absent"):
        prepare(config)
    assert list(tmp_path.iterdir()) == []


def test_platform_wheels_only_warn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    packages = sources.PACKAGE_SETS["python-sources"]
    other = replace(packages, versions={"mpmath": "1.3.0"}, pure=False)
    monkeypatch.setattr(sources, "PACKAGE_SETS", {"python-sources": other})
    prepare(DataConfig(cache=tmp_path))
    assert "losses compare only with runs on the same digest" in caplog.text
