"""Loss on the held-out slice. Touches the model's weights only to read them, and no random state.

The same tokens for every model of a context; cross-entropy in nats per token, and bits per byte
of the text those tokens stand for, which compares across vocabularies.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainers.device import Device
from trainers.memory import TooLarge, out_of_memory, win_back

# What stays in a core's cache, and what fills a GPU; its logits (bf16, fp32 and their softmax, ten
# bytes each) are kept within a few GB.
CHUNK_TOKENS = {"cpu": 4096, "cuda": 131072}
CHUNK_LOGITS = 2**28

log = logging.getLogger(__name__)


def held_out_total(
    network: nn.Module, windows: Tensor, device: Device, vocab: int, *, members: int = 1
) -> Tensor:
    """Sum over `windows` [n, T + 1] of their mean nats per token, on the device.

    A scalar; for a stack of networks (`trainers.stacked`), one of each of its `members`. Read in
    smaller parts where the memory does not suffice. Raises TooLarge where it never does.
    """
    context = windows.shape[1] - 1
    tokens = min(CHUNK_TOKENS.get(device.device.type, 4096), CHUNK_LOGITS // vocab)
    rows = max(1, tokens // context // members)
    while True:
        try:
            return _total(network, windows.split(rows), device, members)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if rows == 1:
                raise TooLarge(error, members) from error
        rows //= 2
        win_back()
        log.warning("the held-out slice does not fit into memory; reading it by %d rows", rows)


@torch.no_grad()
def _total(network: nn.Module, chunks: Sequence[Tensor], device: Device, members: int) -> Tensor:
    total = torch.zeros((), device=device.device)
    with device.autocast():
        for chunk in chunks:
            if not len(chunk):  # more workers than windows: the mean of nothing is no number
                continue
            each = chunk if members == 1 else chunk.repeat(members, 1)
            total = total + network(each) * chunk.shape[0]
    return total


def bits_per_byte(nats_per_token: float, bytes_per_token: float) -> float:
    """Nats per token, told as bits per byte of text."""
    return nats_per_token / math.log(2) / bytes_per_token
