"""What the loop asks of a network, and the one place where a family's name becomes one.

The contract, for any `torch.nn.Module` that is to train under `trainers.loop`:

- `forward(window)` takes int64 tokens [B, T + 1] on the module's device and returns the mean
  cross-entropy in nats per token of predicting window[:, 1:] from window[:, :-1]: a scalar in
  fp32, on the device. `trainers.loss` makes it from logits. It draws no random numbers (no
  dropout), keeps no state between calls, and reads nothing back from the device (no `.item()`,
  no branch on a value). Every sequence counts alike, so that micro-batches average exactly.
- Its parameters are fp32 master weights, named by `named_parameters()` the same in every process:
  checkpoints hold them by these names. Precision is not its business: the loop calls it under
  the autocast of `trainers.device`.
- It is built on the CPU from the generator that it is handed and from nothing else.
- Weight decay: parameters of one dimension and those of `nn.Embedding` are not decayed.
- Optional: an attribute `rate_scales`, a mapping from parameter name to the factor on the learning
  rate of that parameter (muP, CompleteP); names left out have factor 1.
- `trainers.flops.model_cost` prices its configuration; the accounting never asks the module.

A family is added by a branch in `build_network` and one in `model_cost`. Touches nothing.
"""

from __future__ import annotations

import torch
from torch import nn

from trainers.architecture import ModelConfig
from trainers.model import build_model


def build_network(config: ModelConfig, generator: torch.Generator) -> nn.Module:
    """The network of a configuration on the CPU, initialised from `generator` alone."""
    if config.family == "gpt":
        return build_model(config, generator)
    from trainers.foreign import build_foreign

    return build_foreign(config, generator)


def move(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on `device`; parameters that were one stay one, even on meta."""
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    network = network.to(device)
    for first, *others in names.values():
        for name in others:
            owner, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(owner), attribute, network.get_parameter(first))
    return network
