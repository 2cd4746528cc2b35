"""Memory that does not suffice is recognised; other errors are not taken for it."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from trainers.memory import TooLarge, out_of_memory, win_back


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        TooLarge(torch.OutOfMemoryError("CUDA out of memory. Tried")),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("backend='inductor' raised:\nOutOfMemoryError: CUDA out of memory. Tried"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_recognised(error: Exception) -> None:
    assert out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes differ"),
        RuntimeError("CUDA error: device-side assert triggered"),
        ValueError("no memory of it"),
    ],
)
def test_not_taken_for_it(error: Exception) -> None:
    assert not out_of_memory(error)


def test_what_torch_says_is_cut_to_its_first_sentence() -> None:
    error = TooLarge(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert "(CUDA out of memory): use more of a GPU" in str(error)


def test_torch_really_says_so_of_the_hosts_memory() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(raised.value)


class Held:
    """Something large, as a tensor is, in a cycle of references."""

    def __init__(self) -> None:
        self.me = self


def test_what_only_a_cycle_holds_is_won_back() -> None:
    """Between two reports the collector rests, so a batch that fails finds what cycles hold."""
    gc.disable()
    try:
        held = weakref.ref(Held())
        assert held() is not None
        win_back()
        assert held() is None
    finally:
        gc.enable()
