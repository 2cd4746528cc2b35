"""Batches are pure functions of (seed, k), the same for every model and batch size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.data import Batches, DataError, held_out_windows, open_tokens

TOKENS = np.arange(1001, dtype=np.uint16)


def batches(**changes: int) -> Batches:
    return Batches(TOKENS, **({"context": 10, "sequences": 7, "seed": 3} | changes))


@settings(max_examples=30)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=8))
def test_any_order_of_asking_gives_the_same_batches(order: list[int]) -> None:
    asked = batches()
    for k in order:
        assert np.array_equal(asked.batch(k), batches().batch(k))


def test_windows_follow_each_other_by_one_token() -> None:
    batch = batches().batch(5)
    assert batch.shape == (7, 11)
    assert batch.dtype == np.int64
    assert (np.diff(batch, axis=1) == 1).all()
    assert (batch[:, 0] % 10 == 0).all()


def test_an_epoch_shows_every_window_once_and_the_next_another_order() -> None:
    one = batches(sequences=100).batch(0)[:, 0]
    two = batches(sequences=100).batch(1)[:, 0]
    assert sorted(one) == sorted(two) == [10 * i for i in range(100)]
    assert list(one) != list(two)
    assert batches().epochs(2500) == 2.5


def test_sequences_do_not_depend_on_the_batch_size() -> None:
    small = np.concatenate([batches(sequences=5).batch(k) for k in range(42)])
    large = np.concatenate([batches(sequences=70).batch(k) for k in range(3)])
    assert np.array_equal(small, large)


def test_seeds_give_other_orders() -> None:
    assert not np.array_equal(batches(seed=3).batch(0), batches(seed=4).batch(0))
    batches(seed=2**63 - 1).batch(0)


def test_the_order_is_pinned_across_versions() -> None:
    """The data order of every sweep ever journalled: it must never change."""
    assert list(batches().batch(0)[:, 0]) == PINNED_FIRST
    assert list(batches().batch(15)[:, 0]) == PINNED_LATER


PINNED_FIRST = [430, 780, 710, 60, 130, 600, 310]
PINNED_LATER = [270, 590, 300, 860, 70, 920, 320]


def test_too_little_data() -> None:
    with pytest.raises(DataError, match="less than one window of 11"):
        Batches(TOKENS[:10], context=10, sequences=1, seed=0)
    with pytest.raises(DataError, match=r"lower evaluation\.tokens to 1000"):
        held_out_windows(TOKENS, context=10, count=101)


def test_held_out_windows_spread_over_all_of_it() -> None:
    windows = held_out_windows(TOKENS, context=10, count=4)
    assert list(windows[:, 0]) == [0, 250, 500, 750]
    assert windows.shape == (4, 11)


def test_token_files_are_maps(tmp_path: Path) -> None:
    TOKENS.tofile(tmp_path / "tokens")
    tokens = open_tokens(tmp_path / "tokens")
    assert isinstance(tokens, np.memmap)
    assert np.array_equal(tokens, TOKENS)
