"""Text to tokens: bytes, a small byte-level BPE trained on the corpus, or anybody's tokenizer.

Reads tokenizer files, or the hub where a name stands for one; writes nothing. `bpe-4096` trains on
the training documents alone (Sennrich et al. 2016, on bytes as in Radford et al. 2019): a small
vocabulary keeps the head of a small model from being most of it, so 4 to 8 thousand tokens suit
models below 50M parameters. `tokenizers` encodes on all cores.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainers.config import BYTES, trained_vocab
from trainers.data import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

TRAINING_BYTES = 64_000_000
"""What a BPE is trained on at most: the first training documents up to so much text."""

_END = "<|endoftext|>"
_ENDS = (_END, "</s>", "<eos>", "<|end_of_text|>")

Encoded = list[NDArray[np.int64]]


class Tokenizer(Protocol):
    """Documents to tokens, each ended by one that no text holds."""

    @property
    def identity(self) -> str:
        """What tells this tokenizer from any other."""
        ...

    @property
    def vocab(self) -> int:
        """Tokens are below this."""
        ...

    def encode(self, documents: Sequence[bytes]) -> Encoded:
        """One int64 array a document, its end included."""
        ...

    def to_json(self) -> str | None:
        """The tokenizer as the text of a tokenizer.json, where it has one."""
        ...


class ByteTokenizer:
    """Bytes are tokens; a zero byte, which no text holds, ends each document."""

    identity = "bytes"
    vocab = BYTES

    def encode(self, documents: Sequence[bytes]) -> Encoded:
        return [np.frombuffer(text + b"\x00", np.uint8).astype(np.int64) for text in documents]

    def to_json(self) -> None:
        return None


class SubwordTokenizer:
    """A `tokenizers` tokenizer and the id of the token that ends a document."""

    def __init__(self, tokenizer: FastTokenizer, end: int) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True  # text that spells the end does not become it
        self._tokenizer = tokenizer
        self._end = end
        digest = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
        self.identity = f"{digest[:32]}:{end}"
        self.vocab = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())

    def encode(self, documents: Sequence[bytes]) -> Encoded:
        texts = [document.decode("utf-8", errors="replace") for document in documents]
        found = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array([*encoding.ids, self._end], np.int64) for encoding in found]

    def to_json(self) -> str:
        return self._tokenizer.to_str()


class ForeignTokenizer:
    """A transformers tokenizer that is written in Python: one document at a time."""

    def __init__(self, tokenizer: Any, name: str, end: int) -> None:
        self._tokenizer = tokenizer
        self._end = end
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        digest = hashlib.sha256(repr(sorted(vocabulary.items())).encode()).hexdigest()
        self.identity = f"{name}:{digest[:32]}:{end}"
        self.vocab = 1 + max(vocabulary.values())

    def encode(self, documents: Sequence[bytes]) -> Encoded:
        return [self._one(document.decode("utf-8", errors="replace")) for document in documents]

    def _one(self, text: str) -> NDArray[np.int64]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return np.array([*ids, self._end], np.int64)

    def to_json(self) -> None:
        return None


def find_tokenizer(name: str) -> Tokenizer | None:
    """The tokenizer of a name; None for one that has yet to be trained. Raises DataError."""
    if name == "bytes":
        return ByteTokenizer()
    if trained_vocab(name) is not None:
        return None
    path = Path(name).expanduser()
    if path.is_file():
        return _of_file(path)
    if (path / "tokenizer.json").is_file() and not (path / "tokenizer_config.json").exists():
        return _of_file(path / "tokenizer.json")
    return _of_transformers(name, path)


def train_bpe(vocab: int, documents: Iterable[bytes]) -> SubwordTokenizer:
    """A byte-level BPE of at most `vocab` tokens, trained on the first documents."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(  # pyright: ignore[reportAttributeAccessIssue]
        add_prefix_space=False
    )
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[_END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = (document.decode("utf-8", errors="replace") for document in _first(documents))
    tokenizer.train_from_iterator(texts, trainer)
    return read_trained(tokenizer.to_str())


def read_trained(text: str) -> SubwordTokenizer:
    """The tokenizer that `train_bpe` made, from its JSON."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(text)
    end = tokenizer.token_to_id(_END)
    if end is None:
        raise DataError(f"a trained tokenizer lacks {_END}; delete the cache it lies in")
    return SubwordTokenizer(tokenizer, end)


def _first(documents: Iterable[bytes]) -> Iterable[bytes]:
    total = 0
    for document in documents:
        if total >= TRAINING_BYTES:
            return
        total += len(document)
        yield document


def _of_file(path: Path) -> SubwordTokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise DataError(f"data.tokenizer {path} is no tokenizer.json ({error})") from error
    for token in _ENDS:
        if (end := tokenizer.token_to_id(token)) is not None:
            return SubwordTokenizer(tokenizer, end)
    raise DataError(
        f"data.tokenizer {path} has none of {', '.join(_ENDS)} to end a document with; give the "
        "folder with its tokenizer_config.json, which names its end"
    )


def _of_transformers(name: str, path: Path) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(path) if path.is_dir() else name)
    except (OSError, ValueError, ImportError) as error:  # some need a package of their own
        reason = str(error).split("\n")[0]
        raise DataError(
            f"data.tokenizer {name!r} is neither bytes, bpe-N, a file, a folder, nor a name that "
            f"transformers finds ({reason})"
        ) from error
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    if end is None:
        raise DataError(f"data.tokenizer {name!r} has no token to end a document with; set eos")
    if not tokenizer.is_fast:
        return ForeignTokenizer(tokenizer, re.sub(r"\W+", "-", name), end)
    return SubwordTokenizer(tokenizer.backend_tokenizer, end)
