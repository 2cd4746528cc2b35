"""Rotary positions: queries and keys turned by angles that grow with their place.

Su et al. 2021 (arXiv 2104.09864), equation 34, channels paired with those half a head away as in
GPT-NeoX. A score then depends on how far apart two tokens are, and nothing is learned. Touches
nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 10_000.0


def rotary_table(context: int, channels: int, base: float = BASE) -> Tensor:
    """Cosines and sines of each place: fp32 [2, T, channels / 2], on the CPU."""
    frequencies = base ** (-torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    angles = torch.arange(context, dtype=torch.float64)[:, None] * frequencies
    return torch.stack([angles.cos(), angles.sin()]).float()


def rotate(heads: Tensor, table: Tensor) -> Tensor:
    """Queries or keys [B, T, ..., channels] turned by their places, in their own precision."""
    between = (1,) * (heads.ndim - 3)
    cos, sin = (part.view(part.shape[0], *between, part.shape[1]) for part in table)
    first, second = heads.chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(heads.dtype)
