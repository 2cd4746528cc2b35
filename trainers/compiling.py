"""Whether `torch.compile` repays itself, and the compiled network. Touches its process's caches.

Compiling takes about a minute a shape and then more than doubles the speed of a small model on a
GPU: nanoGPT's 124M model on an A100 goes from 15 to 34.5 % MFU (bf16, before flash attention;
Karpathy, build-nanogpt). A sweep's short trials never earn that minute back, so `auto` compares
the two by the FLOPs that a segment has left, on a device whose peak is known. On a CPU compiling
took 49 to 171 s for 3 to 5 %: only when asked for.

Code is cached by shape: within a process by dynamo (weights are inputs, so another trial of the
same shape compiles nothing), on disk by inductor (TORCHINDUCTOR_CACHE_DIR).
"""

from __future__ import annotations

import logging
from typing import Literal

import torch
from torch import Tensor, nn

from trainers.peaks import peak_flops

Wish = Literal["auto", "always", "never", "graphs"]

COMPILE_S = 60.0
EAGER_MFU = 0.15
COMPILED_MFU = 0.345
# Dynamo gives a function up after this many shapes; a worker meets one a size.
SHAPES = 128

log = logging.getLogger(__name__)


def worthwhile(flops: float, device_name: str) -> bool:
    """Whether a segment of `flops` saves more seconds than compiling costs; False if unknown."""
    peak = peak_flops(device_name)
    if peak is None:
        return False
    saved = flops / peak * (1 / EAGER_MFU - 1 / COMPILED_MFU)
    return saved > COMPILE_S


class CompilerError(ValueError):
    """The compiler was asked for by name, and cannot work here."""


class Compiled:
    """A network compiled for static shapes, its parameters those of the network itself.

    With `graphs` whole passes are replayed as CUDA graphs, which pays where launches take longer
    than kernels (models under about 30M); what a pass returns lives until the next one begins.
    Graphs belong to the thread that recorded them (before torch 2.13 the first pass of another one
    raises: pytorch issue 123177), so whoever runs several trials keeps to one thread.
    `wish` is the configuration's: with `auto` the network may do without (`dispensable`).
    """

    def __init__(
        self, network: nn.Module, *, wish: Wish = "always", graphs: bool | None = None
    ) -> None:
        from torch._dynamo import config

        config.recompile_limit = max(config.recompile_limit, SHAPES)
        self._wish: Wish = wish
        self._graphs = wish == "graphs" if graphs is None else graphs
        mode = "reduce-overhead" if self._graphs else None
        self._call = torch.compile(network, dynamic=False, mode=mode)

    def __call__(self, window: Tensor) -> Tensor:
        if self._graphs:
            torch.compiler.cudagraph_mark_step_begin()
        return self._call(window)

    def without_graphs(self, network: nn.Module) -> Compiled:
        """The same for a network whose passes add up: a graph's gradients die with its next."""
        return Compiled(network, wish=self._wish, graphs=False)

    def dispensable(self, error: RuntimeError) -> bool:
        """Whether `error` is the compiler's, which nobody asked for by name: told, and the
        network trains as it is. (A machine without a C compiler has none for its kernels.)

        Raises CompilerError for one that was asked for, where the reason is known.
        """
        from torch._dynamo.exc import TorchDynamoException

        if not isinstance(error, TorchDynamoException):
            return False
        spaced = _not_linked(error)
        if self._wish != "auto":
            if spaced is not None:
                raise CompilerError(spaced) from error
            return False
        told = spaced or " ".join(str(error).split())[:200]
        log.warning("training uncompiled, at less than half the speed on a GPU: %s", told)
        return True


def _not_linked(error: Exception) -> str | None:
    """That torch's C++ compiler failed where torch's own path has a space, which it passes to the
    linker unquoted (torch 2.13, mended by pytorch pull request 191010 where that is in)."""
    from torch.utils.cpp_extension import TORCH_LIB_PATH

    if " " not in TORCH_LIB_PATH or "C++ compile error" not in str(error):
        return None
    return (
        f"torch {torch.__version__} cannot compile for a CPU where it is installed under a path "
        f"with a space: {TORCH_LIB_PATH}. Install it under one without (a virtual environment "
        "elsewhere will do), or train with compile: never"
    )
