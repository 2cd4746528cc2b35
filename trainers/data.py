"""Batches: batch k is a pure function of (tokens, context, seed, k).

Touches token files, through memory maps. Tokens are cut into windows that do not overlap; each
epoch walks a permutation of them drawn from a counter-based generator (Philox, Salmon et al.
2011) keyed by (seed, epoch), so a position in the data is one integer and nothing needs saving.
Sequence s of a run is the same for every model size and batch size. The raw Philox stream is
sorted rather than handed to numpy's shuffle, since numpy promises only the raw stream across
versions (NEP 19).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.unsignedinteger]
Windows = NDArray[np.int64]


class DataError(ValueError):
    """There is not the data that the configuration asks for."""


def open_tokens(path: Path) -> Tokens:
    """A token file as a read-only memory map [n]: uint16, or uint32 where its name ends so."""
    return np.memmap(path, dtype="<u4" if path.suffix == ".u32" else "<u2", mode="r")


class Batches:
    """Training windows of T + 1 tokens (inputs and targets share all but the ends)."""

    def __init__(self, tokens: Tokens, *, context: int, sequences: int, seed: int) -> None:
        self.windows = (len(tokens) - 1) // context
        if self.windows < 1:
            raise DataError(
                f"the training data hold {len(tokens)} tokens, less than one window of "
                f"{context + 1}; give more data or a smaller model.context"
            )
        self.tokens = tokens
        self._sequences = sequences
        self._seed = seed
        self._span = np.arange(context + 1)
        self.context = context
        self._epoch = -1
        self._order: Windows = np.empty(0, np.int64)

    def starts(self, k: int) -> Windows:
        """Where the windows of batch k begin in the tokens: int64 [sequences]."""
        sequences = np.arange(k * self._sequences, (k + 1) * self._sequences)
        epochs, places = np.divmod(sequences, self.windows)
        chosen = np.empty(self._sequences, np.int64)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            inside = epochs == epoch
            chosen[inside] = self._permutation(epoch)[places[inside]]
        return chosen * self.context

    def batch(self, k: int) -> Windows:
        """Batch k: int64 [sequences, T + 1]."""
        return self.tokens[self.starts(k)[:, None] + self._span].astype(np.int64)

    def epochs(self, tokens: int) -> float:
        """How often the data have been seen after `tokens`."""
        return tokens / (self.windows * self.context)

    def _permutation(self, epoch: int) -> Windows:
        if epoch != self._epoch:
            raw = np.random.Philox(key=[self._seed, epoch]).random_raw(self.windows)
            self._order = np.argsort(raw, kind="stable")
            self._epoch = epoch
        return self._order


def held_out_windows(tokens: Tokens, *, context: int, count: int) -> Windows:
    """The fixed slice for evaluation: `count` windows spread evenly, int64 [count, T + 1]."""
    available = (len(tokens) - 1) // context
    if available < count:
        raise DataError(
            f"the held-out data hold {max(0, available)} windows of {context} tokens and "
            f"evaluation.tokens asks for {count}; lower evaluation.tokens to "
            f"{max(0, available) * context} or raise data.held_out"
        )
    starts = np.arange(count) * available // count * context
    return tokens[starts[:, None] + np.arange(context + 1)].astype(np.int64)
