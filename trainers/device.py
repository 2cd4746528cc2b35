"""The one place where device, precision and threads are chosen.

Touches torch's process-wide thread count and matmul precision, nothing else. CUDA is used when
there is one, computing in bf16 over fp32 master weights; a CPU computes in fp32. On a CPU asked
for bf16 the attention stays in fp32, since the bf16 backward of CPU attention is three times
slower (`trainers.model`).
"""

from __future__ import annotations

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

    def describe(self) -> dict[str, str | int | None]:
        """What a journal should remember of the machine: versions, device, precision."""
        cuda = self.device.type == "cuda"
        return {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "device": self.device.type,
            "device_name": torch.cuda.get_device_name() if cuda else _cpu_name(),
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
        raise DeviceError(
            f"device is 'cuda' but torch {torch.__version__} sees no CUDA device; "
            "use device: auto, or install a CUDA build of torch"
        )
    cuda = available and config.device != "cpu"
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if cuda and torch.cuda.is_bf16_supported() else "fp32"
    elif precision == "bf16" and cuda and not torch.cuda.is_bf16_supported():
        name = torch.cuda.get_device_name()
        raise DeviceError(f"precision is 'bf16' but {name} does not compute in it; use fp32")
    if torch.get_num_threads() != config.threads:
        torch.set_num_threads(config.threads)
    if cuda:
        torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if cuda else "cpu")
    return Device(device=device, precision=precision, threads=config.threads)


def _cpu_name() -> str:
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
