"""QK-norm written out: torch's values, and its gradients."""

from __future__ import annotations

import torch
from torch.nn import functional

from trainers.unit_rms import unit_rms


def test_values_and_gradients_are_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, 2, 4, 8, generator=generator)
    x[0, 0, 0, 0] = 0  # a vector of zeros has a gradient too
    weights = torch.randn(x.shape, generator=generator)
    results = []
    for function in (unit_rms, lambda t: functional.rms_norm(t, t.shape[-1:])):
        own = x.clone().requires_grad_()
        y = function(own)
        (y * weights).sum().backward()
        results.append((y.detach(), own.grad))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-5)


def test_bf16_is_normed_in_fp32() -> None:
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    y = unit_rms(x)
    assert y.dtype is torch.float32
    torch.testing.assert_close(y.square().mean(-1), torch.ones(2))
    y.sum().backward()
    assert x.grad is not None and x.grad.dtype is torch.bfloat16
