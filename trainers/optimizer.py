"""AdamW with decoupled weight decay on matrices alone (Loshchilov and Hutter 2019).

Embeddings, positions, a tied head and norm gains are not decayed (OLMo-core, nanochat). A network
may scale the rate of single parameters (`trainers.network`). Touches the parameters it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainers.config import OptimizerConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over groups of one decay and one scale of the rate; fused kernels where there are."""
    device = next(model.parameters()).device.type
    return torch.optim.AdamW(
        parameter_groups(model, config),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=device in ("cpu", "cuda"),
    )


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Parameters that share a decay and a scale of the rate, the decayed first."""
    named = dict(model.named_parameters())
    return [
        {
            "params": [named[name] for name in names],
            "weight_decay": role.decay(config.weight_decay),
            "rate_scale": role.scale,
        }
        for role, names in roles(model).items()
    ]


class Role(NamedTuple):
    """How the optimizer treats a parameter."""

    decays: bool
    scale: float

    def decay(self, weight_decay: float) -> float:
        """AdamW's, which multiplies it with the rate: a scale of the rate leaves it alone."""
        return weight_decay / self.scale if self.decays else 0.0


def roles(model: nn.Module) -> dict[Role, list[str]]:
    """The names of the parameters by their role, the decayed first."""
    looked_up = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters(recurse=False)
    }
    scales: Mapping[str, float] = getattr(model, "rate_scales", {})
    found: dict[Role, list[str]] = {}
    for name, parameter in model.named_parameters():
        decays = parameter.ndim >= 2 and id(parameter) not in looked_up
        found.setdefault(Role(decays, scales.get(name, 1.0)), []).append(name)
    return dict(sorted(found.items(), reverse=True))


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
        group["lr"] = rate * group["rate_scale"]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm
