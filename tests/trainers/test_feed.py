"""The feed: the same windows wherever the tokens live, of one run or several."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainers import feed as feeding
from trainers.data import Batches
from trainers.device import Device
from trainers.feed import Feed

CPU = Device(device=torch.device("cpu"), precision="fp32", threads=1)
TOKENS = np.random.default_rng(0).integers(2**16, size=1000, dtype=np.uint16)


def runs(count: int) -> list[Batches]:
    return [Batches(TOKENS, context=8, sequences=6, seed=seed) for seed in range(count)]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("rows", [slice(None), slice(2, 4)])
def test_resident_tokens_give_the_same_windows(
    monkeypatch: pytest.MonkeyPatch, dtype: type, rows: slice
) -> None:
    monkeypatch.setattr(feeding, "UPLOAD_TOKENS", 300)
    tokens = TOKENS.astype(dtype)
    assert tokens.max() > 2**15
    batches = Batches(tokens, context=8, sequences=6, seed=3)
    here = Feed([batches], CPU, rows=rows, resident=True)
    there = Feed([batches], CPU, rows=rows, resident=False)
    assert here.resident and not there.resident
    for k in range(30):
        assert torch.equal(here.windows(k), there.windows(k))
        assert torch.equal(there.windows(k), torch.from_numpy(batches.batch(k)[rows]))


@pytest.mark.parametrize("resident", [False, True])
def test_several_runs_follow_each_other_until_they_leave(resident: bool) -> None:
    feed = Feed(runs(3), CPU, resident=resident)
    alone = [torch.from_numpy(batches.batch(5)) for batches in runs(3)]
    assert torch.equal(feed.windows(5), torch.cat(alone))
    feed.keep([0, 2])
    assert torch.equal(feed.windows(5), torch.cat([alone[0], alone[2]]))


def test_a_cpu_leaves_tokens_in_their_file() -> None:
    assert not Feed(runs(1), CPU).resident


@pytest.mark.parametrize(
    ("free", "reserved", "allocated", "size", "fit"),
    [
        (8000, 0, 0, 2000, True),
        (8000, 0, 0, 2001, False),
        (800, 9000, 1800, 2000, True),  # what the run before left in reserve is as good as free
        (800, 9000, 1801, 2000, False),
    ],
)
def test_tokens_live_on_a_gpu_where_they_take_a_quarter_of_what_is_free(
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    reserved: int,
    allocated: int,
    size: int,
    fit: bool,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 10**4))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: reserved)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: allocated)
    gpu = Device(device=torch.device("cuda"), precision="bf16", threads=1)
    assert feeding.fits(size, gpu) is fit
