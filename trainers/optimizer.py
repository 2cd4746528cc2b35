"""AdamW with decoupled weight decay on matrices alone (Loshchilov and Hutter 2019).

Embeddings, positions, a tied head and norm gains are not decayed (OLMo-core, nanochat). Touches
the parameters it is given.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainers.config import OptimizerConfig

_UNDECAYED = ("embedding.weight", "positions.weight")


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over two groups, decayed and not; fused kernels where the device has them."""
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim >= 2 and name not in _UNDECAYED
        (decayed if matrix else free).append(parameter)
    device = free[0].device.type
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": free, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=device in ("cpu", "cuda"),
    )


def apply_gradients(
    optimizer: torch.optim.Optimizer, parameters: list[Tensor], rate: float, clip: float
) -> Tensor:
    """Apply the gradients that lie in `parameters` at `rate`; their norm [] before clipping.

    Reads nothing back from the device. `clip` 0 leaves the gradients as they are.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if clip:
        nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm
