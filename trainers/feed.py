"""Batches on the device, without making the device wait. Touches device memory.

Where the training tokens fit into a quarter of a GPU's free memory they live there, and a step
sends nothing but the places where its windows begin. Otherwise windows are cut on the host into
pinned memory and copied beside the work that goes on: the loop reads nothing back, so the host is
ahead of the device and its cutting hides behind the step before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.data import Batches
from trainers.device import Device

SHARE_OF_MEMORY = 0.25
UPLOAD_TOKENS = 1 << 26


class Feed:
    """The windows of each step, int64 [sequences, T + 1] on the device.

    `rows` is the part of each batch that is this process's. Several runs' batches, of one text,
    follow each other (`trainers.lockstep`). `resident` says where the tokens live; None leaves it
    to their size.
    """

    def __init__(
        self,
        batches: Sequence[Batches],
        device: Device,
        *,
        rows: slice = slice(None),
        resident: bool | None = None,
    ) -> None:
        self._batches = batches
        self._device = device
        self._rows = rows
        self._tokens: Tensor | None = None
        tokens = batches[0].tokens
        if resident is None:
            resident = fits(tokens.nbytes, device)
        if resident:
            self._tokens = _resident(tokens, device.device)
            self._mask = (1 << 8 * tokens.itemsize) - 1
            self._span = torch.arange(batches[0].context + 1, device=device.device)

    @property
    def resident(self) -> bool:
        return self._tokens is not None

    def windows(self, k: int) -> Tensor:
        """The windows of step k: those of the first run, of the second, ..."""
        if self._tokens is None:
            parts = [batches.batch(k)[self._rows] for batches in self._batches]
            return self._sent(parts[0] if len(parts) == 1 else np.concatenate(parts))
        parts = [batches.starts(k)[self._rows] for batches in self._batches]
        starts = self._sent(parts[0] if len(parts) == 1 else np.concatenate(parts))
        return self._tokens[starts[:, None] + self._span].long() & self._mask

    def keep(self, members: Sequence[int]) -> None:
        """Go on with some of the runs."""
        self._batches = [self._batches[i] for i in members]

    def _sent(self, numbers: NDArray[np.int64]) -> Tensor:
        return sent(torch.from_numpy(numbers), self._device)


def sent(tensor: Tensor, device: Device) -> Tensor:
    """A tensor of the host on the device, copied beside the work that goes on there."""
    if device.is_cuda:
        return tensor.pin_memory().to(device.device, non_blocking=True)
    return tensor.to(device.device)


def fits(size: int, device: Device) -> bool:
    """Whether tokens of `size` bytes should live on the device: on no CPU, which has them."""
    if not device.is_cuda:
        return False
    free, _ = torch.cuda.mem_get_info(device.device)
    # What the run before left in torch's reserve is as good as free.
    reserve = torch.cuda.memory_reserved(device.device) - torch.cuda.memory_allocated(
        device.device
    )
    return size <= SHARE_OF_MEMORY * (free + reserve)


def _resident(tokens: NDArray[np.unsignedinteger], device: torch.device) -> Tensor:
    """Tokens as signed integers of their size, since few kernels index unsigned ones."""
    dtype = torch.from_numpy(np.empty(0, f"i{tokens.itemsize}")).dtype
    resident = torch.empty(len(tokens), dtype=dtype, device=device)
    for start in range(0, len(tokens), UPLOAD_TOKENS):
        part = np.array(tokens[start : start + UPLOAD_TOKENS]).view(f"i{tokens.itemsize}")
        resident[start : start + len(part)].copy_(torch.from_numpy(part))
    return resident
