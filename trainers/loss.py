"""Cross-entropy of the next token, as every network of the house measures it. Touches nothing."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def next_token_loss(logits: Tensor, window: Tensor) -> Tensor:
    """Mean nats per token [] of logits [B, T, V] over window[:, :-1], for window[:, 1:].

    Computed in fp32 whatever the logits are in.
    """
    flat = logits.reshape(-1, logits.shape[-1]).float()
    return functional.cross_entropy(flat, window[:, 1:].reshape(-1))
