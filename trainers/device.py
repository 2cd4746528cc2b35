"""The one place where device, precision and threads are chosen.

Touches torch's process-wide thread count, matmul precision and reserve of memory. CUDA is used
where there is one. Precision `auto` is bf16 compute over fp32 master weights wherever the hardware
multiplies bf16 itself: GPUs since Ampere, and CPUs with AMX or AVX512-BF16, where a step is 1.5 to
2 times as fast as in fp32 from 64 channels up (`scripts/bench_trainer.py`); else fp32. It depends
on the machine alone, so that all trials of a sweep share it, and is part of `describe`, which a
sweep records and compares on resuming. On a CPU attention stays in fp32 (`trainers.model`).
"""

from __future__ import annotations

import os
import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from trainers.config import TrainConfig


class DeviceError(ValueError):
    """The configuration asks for hardware that this process does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where tensors live and in which precision matmuls run."""

    device: torch.device
    precision: str
    threads: int

    def autocast(self) -> AbstractContextManager[object]:
        """The context of forward passes: bf16 matmuls, or nothing at all for fp32."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    @property
    def name(self) -> str:
        """What the device calls itself; `trainers.peaks` knows some."""
        return torch.cuda.get_device_name(self.device) if self.is_cuda else _cpu_name()

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def relax(self) -> None:
        """Return what torch keeps in reserve on a GPU: others may share it."""
        if self.is_cuda:
            torch.cuda.empty_cache()

    def describe(self) -> dict[str, str | int | None]:
        """What a journal should remember of the machine: versions, device, precision."""
        cuda = self.is_cuda
        return {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "device": self.device.type,
            "device_name": self.name,
            "precision": self.precision,
            "threads": self.threads,
            "cuda": torch.version.cuda if cuda else None,
        }


def choose_device(config: TrainConfig) -> Device:
    """Resolve `device`, `precision` and `threads` of a configuration, and set the thread count.

    Raises DeviceError where CUDA is asked for and absent, or cannot compute in bf16.
    """
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
        raise DeviceError(
            f"device is 'cuda' but torch {torch.__version__} sees no CUDA device; "
            + (
                "this process was started without one (CUDA_VISIBLE_DEVICES is empty): give it "
                "one, or use device: auto"
                if hidden
                else "use device: auto, or install a CUDA build of torch"
            )
        )
    cuda = available and config.device != "cpu"
    precision = config.precision
    if precision == "auto":
        native = _cuda_has_bf16() if cuda else _cpu_has_bf16()
        precision = "bf16" if native else "fp32"
    elif precision == "bf16" and cuda and not _cuda_has_bf16():
        name = torch.cuda.get_device_name()
        raise DeviceError(f"precision is 'bf16' but {name} does not compute in it; use fp32")
    if torch.get_num_threads() != config.threads:
        torch.set_num_threads(config.threads)
    if cuda:
        torch.set_float32_matmul_precision("high")  # TF32 for what stays in fp32
    device = torch.device("cuda" if cuda else "cpu")
    return Device(device=device, precision=precision, threads=config.threads)


def fault() -> str | None:
    """What the GPU says where it has failed for good in this process; None where all is well.

    After an error inside a kernel every later call fails with it, and only another process can
    use the device (CUDA Runtime API, cudaErrorAssert and its like).
    """
    if not torch.cuda.is_initialized():
        return None
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        return str(error).partition("\n")[0]
    return None


def _cuda_has_bf16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; False where torch is too old to say."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def _cpu_name() -> str:
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
