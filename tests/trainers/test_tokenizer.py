"""Tokenizers: text comes back from its tokens, a trained one is the same each time, and every kind
of file and name is met with the right reader or a remedy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer

from trainers import sources
from trainers.config import DataConfig, TrainConfig
from trainers.corpus import prepare
from trainers.data import DataError
from trainers.tokenizer import ByteTokenizer, find_tokenizer, read_trained, train_bpe

TEXTS = [
    f"def law_{i}(loss): return loss ** {i}  # é, \x00 and \u4e2d".encode() for i in range(99)
]


def data(folder: Path, **options: object) -> DataConfig:
    source = folder / "texts.jsonl"
    if not source.exists():
        lines = (json.dumps({"text": text.decode()}) + "\n" for text in TEXTS)
        source.write_text("".join(lines), encoding="utf-8")
    base = {"source": str(source), "held_out": 0.3, "cache": folder / "cache"}
    return DataConfig.model_validate(base | options)


def test_a_trained_bpe_gives_the_text_back_and_is_the_same_each_time() -> None:
    one, two = train_bpe(320, TEXTS), train_bpe(320, TEXTS)
    assert one.to_json() == two.to_json()
    assert one.identity == two.identity == read_trained(one.to_json()).identity
    assert one.identity != train_bpe(310, TEXTS).identity
    assert one.vocab == 320
    reader = Tokenizer.from_str(one.to_json())
    end = reader.token_to_id("<|endoftext|>")
    for text, tokens in zip(TEXTS, one.encode(TEXTS), strict=True):
        assert tokens[-1] == end
        assert end not in tokens[:-1]
        assert reader.decode(tokens[:-1].tolist()).encode() == text
        assert len(tokens) < len(ByteTokenizer().encode([text])[0])


def test_what_no_text_holds_cannot_be_smuggled_in_as_the_end() -> None:
    bpe = train_bpe(300, TEXTS)
    for text in (b"\xff\xfe broken utf-8", b"spelled <|endoftext|> out"):
        (tokens,) = bpe.encode([text])
        assert tokens.max() < bpe.vocab
        assert (tokens == tokens[-1]).sum() == 1


def test_a_corpus_under_a_trained_bpe(tmp_path: Path) -> None:
    as_bytes, made = prepare(data(tmp_path)), prepare(data(tmp_path, tokenizer="bpe-320"))
    assert made.vocab == 320
    assert made.digest != as_bytes.digest
    assert made.held_out_tokens * made.bytes_per_token == pytest.approx(as_bytes.held_out_tokens)
    reader = Tokenizer.from_file(str(made.folder / "tokenizer.json"))
    held = reader.decode(made.held_out().tolist(), skip_special_tokens=True)
    texts = [text.decode() for text in TEXTS]
    assert sum(text in held for text in texts) == int((made.held_out() == 0).sum())


def test_the_bpe_learns_from_training_documents_alone(tmp_path: Path) -> None:
    config = data(tmp_path, tokenizer="bpe-320")
    made = prepare(config)
    held = Tokenizer.from_file(str(made.folder / "tokenizer.json"))
    texts = (text for text in TEXTS if text.decode() not in held.decode(made.held_out().tolist()))
    assert train_bpe(320, texts).to_json() == (made.folder / "tokenizer.json").read_text()


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5])
def test_the_bpe_never_sees_a_tail_that_is_held_out(tmp_path: Path, share: float) -> None:
    source = tmp_path / "one.txt"
    source.write_text("abcdefgh " * 3000 + "xyzuvw " * round(3600 * share / (1 - share)))
    config = DataConfig(
        source=str(source), tokenizer="bpe-320", held_out=share, cache=tmp_path / "cache"
    )
    made = prepare(config)
    reader = Tokenizer.from_file(str(made.folder / "tokenizer.json"))
    assert "xyzuvw" in reader.decode(made.held_out().tolist())
    learned = {token for token in reader.get_vocab() if len(token) > 1}
    assert any("cde" in token for token in learned)
    assert not any("yz" in token for token in learned)


def test_a_file_a_folder_and_a_transformers_folder(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    bpe = train_bpe(300, TEXTS)
    folder = tmp_path / "plain"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(bpe.to_json(), encoding="utf-8")
    foreign = tmp_path / "foreign"
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(bpe.to_json()), eos_token="<|endoftext|>"
    ).save_pretrained(foreign)
    wanted = bpe.encode(TEXTS)
    for name in (folder / "tokenizer.json", folder, foreign):
        found = find_tokenizer(str(name))
        assert found is not None
        assert found.vocab == 300
        assert all(map(np.array_equal, found.encode(TEXTS), wanted))
        config = TrainConfig.model_validate(
            {
                "model": {"layers": 1, "width": 8, "context": 8, "vocab": 300},
                "data": data(tmp_path, tokenizer=str(name)).model_dump(),
                "batch_tokens": 8,
                "horizon": 800,
            }
        )
        assert prepare(config.data).vocab == 300


def test_more_than_65536_tokens_take_four_bytes_each(tmp_path: Path) -> None:
    vocabulary = {f"w{i}": i for i in range(70_000)} | {"</s>": 70_000, "<unk>": 70_001}
    from tokenizers import models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore
    path = tmp_path / "words.json"
    tokenizer.save(str(path))
    source = tmp_path / "words.txt"
    source.write_text(" ".join(f"w{i}" for i in range(0, 70_000, 700)))
    made = prepare(
        DataConfig(source=str(source), tokenizer=str(path), held_out=0.1, cache=tmp_path / "c")
    )
    both = np.concatenate([made.train(), made.held_out()])
    assert both.tolist() == [*range(0, 70_000, 700), 70_000]


def test_refusals(tmp_path: Path) -> None:
    odd = tmp_path / "odd.json"
    odd.write_text("{}")
    with pytest.raises(DataError, match=r"no tokenizer\.json"):
        find_tokenizer(str(odd))
    endless = tmp_path / "endless.json"
    endless.write_text(train_bpe(300, TEXTS).to_json().replace("<|endoftext|>", "<|x|>"))
    with pytest.raises(DataError, match="to end a document with"):
        find_tokenizer(str(endless))
    with pytest.raises(DataError, match="nor a name that transformers finds"):
        find_tokenizer(str(tmp_path / "absent"))
    with pytest.raises(ValidationError, match="bpe-300 to bpe-65536"):
        DataConfig(tokenizer="bpe-10")


def test_a_tokenizer_whose_package_is_absent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def absent(name: str) -> None:
        raise ImportError("this tokenizer requires the SentencePiece library")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", absent)
    with pytest.raises(DataError, match="requires the SentencePiece library"):
        find_tokenizer("owner/name")


def test_the_vocabulary_follows_the_tokenizer() -> None:
    shape = {"layers": 1, "width": 8, "context": 8}

    def config(model: dict[str, int], tokenizer: str) -> TrainConfig:
        parts = {"model": model, "data": {"tokenizer": tokenizer}}
        return TrainConfig.model_validate(parts | {"batch_tokens": 8, "horizon": 800})

    assert config(shape, "bytes").model.vocab == 256
    assert config(shape, "bpe-4096").model.vocab == 4096
    assert config(shape | {"vocab": 5000}, "bpe-4096").model.vocab == 5000
    with pytest.raises(ValidationError, match="does not hold the 4096 tokens"):
        config(shape | {"vocab": 4000}, "bpe-4096")
    with pytest.raises(ValidationError, match="is required beside 'gpt2'"):
        config(shape, "gpt2")


def test_a_data_set_of_the_hub_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is out of reach here: a folder stands for it, and what is asked of it is noted."""
    import datasets

    asked: list[tuple[object, object]] = []
    load = datasets.load_dataset

    def noted(name: str, subset: str | None, **options: object) -> object:
        asked.append(((name, subset), options))
        return load(str(tmp_path / "set"), **{k: v for k, v in options.items() if v is not None})

    monkeypatch.setattr(datasets, "load_dataset", noted)
    data(tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "texts.jsonl").rename(tmp_path / "set" / "train.jsonl")
    config = DataConfig(
        source="hub:owner/name", subset="small", revision="abc", cache=tmp_path, held_out=0.3
    )
    made = prepare(config)
    assert made.train_tokens + made.held_out_tokens == sum(len(text) + 1 for text in TEXTS)
    assert asked[0] == (
        ("owner/name", "small"),
        {"split": "train", "revision": "abc", "streaming": True},
    )
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(datasets, "load_dataset", load)
    absent = DataConfig(source=f"hub:{tmp_path / 'empty'}", cache=tmp_path)
    with pytest.raises(DataError, match="check the words, the network"):
        prepare(absent)
    with pytest.raises(ValidationError, match="of the hub alone"):
        DataConfig(source="python-sources", subset="small")


def test_packed_files_are_known_by_the_ending_below(tmp_path: Path) -> None:
    import gzip

    data(tmp_path)
    packed = tmp_path / "texts.jsonl.gz"
    packed.write_bytes(gzip.compress((tmp_path / "texts.jsonl").read_bytes()))
    found = sources.find_source(DataConfig(source=str(packed)))
    assert list(found.documents()) == TEXTS
