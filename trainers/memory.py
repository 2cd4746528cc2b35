"""Memory that does not suffice: how it is recognised, won back, and told once nothing can be cut.

Touches the memory that torch keeps in reserve on a GPU, and Python's garbage.
"""

from __future__ import annotations

import gc

import torch

# Where torch has no type for it: the host's allocator; the driver and its libraries, which take
# memory past torch's own reserve (cublasCreate in a new thread, pytorch issue 128601).
_SAID = (
    "CUDA out of memory",  # as the compiler wraps it
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


class TooLarge(RuntimeError):
    """Not even one sequence at a time fits beside the weights."""

    def __init__(self, error: RuntimeError, members: int = 1) -> None:
        many = f"{members} models in lockstep do" if members > 1 else "the model does"
        advice = "fewer in lockstep, " if members > 1 else ""
        told = str(error).partition(". ")[0]
        super().__init__(
            f"{many} not fit into memory, even one sequence at a time ({told}): use {advice}"
            "more of a GPU for each trial, a shorter model.context, or a smaller model"
        )


def out_of_memory(error: BaseException) -> bool:
    """Whether memory did not suffice, on a GPU or on the host."""
    if isinstance(error, TooLarge | torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)


def win_back() -> None:
    """Return to the device what nothing refers to any more, in cycles of references or in torch's
    reserve. To be called once the exception, whose frames hold tensors, is gone."""
    gc.collect()
    torch.cuda.empty_cache()
