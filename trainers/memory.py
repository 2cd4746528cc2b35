"""Memory that does not suffice: how it is recognised, and what is told once nothing can be cut.

Touches nothing.
"""

from __future__ import annotations

import torch

_ON_CPU = "DefaultCPUAllocator"


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
    return isinstance(error, RuntimeError) and _ON_CPU in str(error)
