"""Vectors of unit root mean square, as QK-norm wants queries and keys (Henry et al. 2020).

A GPU has a fused kernel for it. On a CPU torch composes it of a dozen passes over memory, which
cost a twentieth of a small model's step; written out with its derivative it takes half of them.
Touches nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# Said, since what torch takes where it is not may follow the precision of what is normed.
EPS = torch.finfo(torch.float32).eps


def unit_rms(x: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + eps) over the last dimension; of a bf16 `x` on a CPU, in fp32."""
    if x.device.type == "cpu":
        return _UnitRms.apply(x)
    return functional.rms_norm(x, x.shape[-1:], eps=EPS).to(x.dtype)


class _UnitRms(torch.autograd.Function):
    """y = s x with s = (mean(x^2) + eps)^(-1/2); dx = s (dy - y mean(dy y))."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = norm.square_().div_(x.shape[-1]).add_(EPS).rsqrt_()
        y = x * scale
        ctx.save_for_backward(y, scale)
        ctx.dtype = x.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        y, scale = ctx.saved_tensors
        mean = (gradients[0] * y).mean(-1, keepdim=True)
        return torch.addcmul(gradients[0], y, mean, value=-1.0).mul_(scale).to(ctx.dtype)
