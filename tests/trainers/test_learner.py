"""The learner: micro-batches add up to the batch, and are found when memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from trainers.compiling import COMPILE_S, COMPILED_MFU, EAGER_MFU, worthwhile
from trainers.config import ModelConfig, TrainConfig
from trainers.device import Device
from trainers.distributed import Group
from trainers.learner import Learner, cached_rows, compiles, garbage_kept, smaller
from trainers.memory import TooLarge
from trainers.network import build_network

Make = Callable[..., TrainConfig]
CPU = Device(device=torch.device("cpu"), precision="fp32", threads=1)


def windows(rows: int = 12) -> Tensor:
    return torch.randint(0, 256, (rows, 17), generator=torch.Generator().manual_seed(1))


class Narrow(nn.Module):
    """A network that runs out of memory beyond `rows` sequences."""

    def __init__(self, inner: nn.Module, rows: int) -> None:
        super().__init__()
        self.inner = inner
        self.rows = rows
        self.seen: list[int] = []

    def forward(self, window: Tensor) -> Tensor:
        self.seen.append(len(window))
        loss: Tensor = self.inner(window)
        if len(window) > self.rows:
            raise torch.OutOfMemoryError("planted")
        return loss


def narrow(rows: int) -> Callable[[ModelConfig, torch.Generator], Narrow]:
    return lambda config, generator: Narrow(build_network(config, generator), rows)


@pytest.mark.parametrize("rows", [1, 4, 6])
def test_micro_batches_add_up_to_the_batch(make_config: Make, rows: int) -> None:
    whole = Learner(make_config(), CPU)
    parts = Learner(make_config(), CPU, micro_batch=rows)
    for _ in range(3):
        one, other = whole.step(windows(), 1e-2), parts.step(windows(), 1e-2)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_largest_micro_batch_that_fits_is_found(
    make_config: Make, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Learner(make_config(), CPU)
    learner = Learner(make_config(), CPU, narrow(5))
    one, other = whole.step(windows(), 1e-2), learner.step(windows(), 1e-2)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert learner.micro_batch == 4
    assert isinstance(learner.network, Narrow)
    assert learner.network.seen == [12, 6, 4, 4, 4]
    learner.step(windows(), 1e-2)
    assert learner.network.seen[5:] == [4, 4, 4]
    assert "going on by 4 rows" in caplog.text


def test_passes_suit_the_cache_of_a_cpu_in_fp32(make_config: Make) -> None:
    def rows(width: int, sequences: int, **device: str) -> int | None:
        config = make_config(
            model={"layers": 1, "width": width, "context": 128},
            batch_tokens=128 * sequences,
            horizon=12800 * sequences,
        )
        return cached_rows(config, replace(CPU, **device))  # pyright: ignore[reportArgumentType]

    assert [rows(32, 16), rows(64, 16), rows(128, 16), rows(256, 16)] == [None, None, 8, 4]
    assert [rows(128, 12), rows(8192, 4)] == [6, 1]
    assert rows(128, 16, precision="bf16") is None


def test_one_sequence_that_does_not_fit_is_an_error_with_advice(make_config: Make) -> None:
    with pytest.raises(TooLarge, match=r"even one sequence at a time \(planted\): use more of a"):
        Learner(make_config(), CPU, narrow(0)).step(windows(), 1e-2)


class Silent(Group):
    """One of two processes, whose sums are left out."""

    def add_up(self, parameters: Sequence[Tensor]) -> None:
        """Nothing."""


def test_each_of_a_group_cuts_its_own_share(make_config: Make) -> None:
    """What it hands to the sum over the processes is the same, however it came about."""
    group = Silent(rank=0, workers=2)
    whole = Learner(make_config(), CPU, group=group)
    cut = Learner(make_config(), CPU, narrow(4), group=group)
    one, other = whole.step(windows(6), 1e-2), cut.step(windows(6), 1e-2)
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert cut.micro_batch == 3


def test_smaller_divides() -> None:
    assert [smaller(12, rows) for rows in (12, 6, 4, 3, 2, 1)] == [6, 4, 3, 2, 1, None]


def test_the_collector_rests_and_returns() -> None:
    assert gc.isenabled()
    with pytest.raises(KeyError), garbage_kept():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with garbage_kept():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_compiling_pays_for_long_runs_on_known_devices() -> None:
    h100 = "NVIDIA H100 80GB HBM3"
    even = COMPILE_S * 989e12 / (1 / EAGER_MFU - 1 / COMPILED_MFU)
    assert not worthwhile(0.99 * even, h100)
    assert worthwhile(1.01 * even, h100)
    assert not worthwhile(1e30, "abacus")


def test_a_cpu_compiles_only_when_asked(make_config: Make) -> None:
    assert not compiles(make_config(), CPU, 1e30)
    assert not compiles(make_config(compile="never"), CPU, 1e30)
    assert compiles(make_config(compile="always"), CPU, 0.0)
    assert make_config(compile="always").recipe() == make_config().recipe()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(" " in torch.__file__, reason="torch links nothing under a path with a space")
def test_compiled_matches_eager(make_config: Make) -> None:
    eager = Learner(make_config(), CPU)
    compiled = Learner(make_config(compile="always"), CPU)
    assert compiled.compiled and not eager.compiled
    for _ in range(3):
        one, other = eager.step(windows(), 1e-2), compiled.step(windows(), 1e-2)
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert eager.tensors().weights.keys() == compiled.tensors().weights.keys()
