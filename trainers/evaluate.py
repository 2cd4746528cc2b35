"""Loss on the held-out slice. Touches the model's weights only to read them, and no random state.

The same tokens for every model of a context; cross-entropy in nats per token, and bits per byte
of the text those tokens stand for, which compares across vocabularies.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trainers.device import Device

# What stays in a core's cache, and what fills a GPU; its logits (bf16, fp32 and their softmax, ten
# bytes each) are kept within a few GB.
CHUNK_TOKENS = {"cpu": 4096, "cuda": 131072}
CHUNK_LOGITS = 2**28


@torch.no_grad()
def held_out_total(
    network: nn.Module, windows: Tensor, device: Device, vocab: int, *, members: int = 1
) -> Tensor:
    """Sum over `windows` [n, T + 1] of their mean nats per token, on the device.

    A scalar; for a stack of networks (`trainers.stacked`), one of each of its `members`.
    """
    context = windows.shape[1] - 1
    total = torch.zeros((), device=device.device)
    tokens = min(CHUNK_TOKENS.get(device.device.type, 4096), CHUNK_LOGITS // vocab)
    with device.autocast():
        for chunk in windows.split(max(1, tokens // context // members)):
            if not len(chunk):  # more workers than windows: the mean of nothing is no number
                continue
            each = chunk if members == 1 else chunk.repeat(members, 1)
            total = total + network(each) * chunk.shape[0]
    return total


def bits_per_byte(nats_per_token: float, bytes_per_token: float) -> float:
    """Nats per token, told as bits per byte of text."""
    return nats_per_token / math.log(2) / bytes_per_token
