"""Networks of one shape as one: weights [K, ...], batched matmuls, one loss a member.

A stack is a network of the shape whose leaves (linear maps, norms, embeddings) are exchanged for
leaves of K weights, the members' rows following each other in the batch: [K B, T]. Everything
between the leaves (attention, residuals) sees a larger batch and nothing else, so what holds for
one network holds for the stack, and a member's gradients are its own, since no loss but its own
depends on its weights. (`torch.func.vmap` would take attention one example at a time.)

Touches memory. Any network of `trainers.network` can be stacked that has `logits(tokens)` and
whose parameters all belong to leaves known here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.model import Positions

# Norms of transformers that end in a product with their gain, and torch's own.
_GAINED = {
    "RMSNorm",
    "LlamaRMSNorm",
    "MistralRMSNorm",
    "Olmo2RMSNorm",
    "Qwen2RMSNorm",
    "Qwen3RMSNorm",
}


class StackError(ValueError):
    """Networks that cannot be trained as one."""


class Stack(nn.Module):
    """Windows [K B, T + 1], member after member, to K mean losses in nats per token.

    Parameters have the names of the single network and a leading dimension K. `networks` are
    taken apart: only the first one's modules live on.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        first = networks[0]
        if not callable(getattr(first, "logits", None)):
            raise StackError(
                f"{type(first).__name__} has no method logits(tokens): train its trials singly"
            )
        shapes = [{n: p.shape for n, p in network.named_parameters()} for network in networks]
        if any(other != shapes[0] for other in shapes):
            raise StackError("networks of different shapes cannot be trained as one")
        weights = _stacked_weights(networks)
        for name, module in list(first.named_modules()):
            own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
            if own:
                parent, _, last = name.rpartition(".")
                prefix = f"{name}." if name else ""
                leaf = _leaf(module, name, {key: weights[prefix + key] for key in own})
                setattr(first.get_submodule(parent), last, leaf)
        self._network = first

    def forward(self, windows: Tensor) -> Tensor:
        logits: Tensor = self._network.logits(windows[:, :-1])  # pyright: ignore[reportCallIssue]
        flat = logits.reshape(-1, logits.shape[-1]).float()
        losses = functional.cross_entropy(flat, windows[:, 1:].reshape(-1), reduction="none")
        return losses.view(len(self), -1).mean(1)

    def __len__(self) -> int:
        return len(next(self._network.parameters()))

    def keep(self, members: Sequence[int]) -> None:
        """Go on with some of the members; gradients are dropped."""
        for parameter in self._network.parameters():
            parameter.grad = None
            parameter.data = parameter.data[list(members)]

    def named_weights(self) -> dict[str, nn.Parameter]:
        """Parameters [K, ...] by the names that a single network gives them."""
        return dict(self._network.named_parameters())


def _stacked_weights(networks: Sequence[nn.Module]) -> dict[str, nn.Parameter]:
    """One parameter [K, ...] a name; names that were one parameter stay one."""
    made: dict[int, nn.Parameter] = {}
    weights: dict[str, nn.Parameter] = {}
    for name, parameter in networks[0].named_parameters(remove_duplicate=False):
        if id(parameter) not in made:
            parts = [network.get_parameter(name).detach() for network in networks]
            made[id(parameter)] = nn.Parameter(torch.stack(parts))
        weights[name] = made[id(parameter)]
    return weights


def _leaf(module: nn.Module, name: str, weights: dict[str, nn.Parameter]) -> nn.Module:
    kind = type(module)
    if kind is nn.Linear:
        return _Linear(weights["weight"], weights.get("bias"))
    if kind is nn.LayerNorm and isinstance(module, nn.LayerNorm):
        return _Norm(weights["weight"], weights.get("bias"), module.eps)
    if kind is nn.Embedding:
        return _Embedding(weights["weight"])
    if kind is Positions:
        return _Positions(weights["weight"])
    if kind.__name__ in _GAINED and list(weights) == ["weight"]:
        return _Gained(module, weights["weight"])
    raise StackError(
        f"{name or 'the network'} is a {kind.__name__} with parameters, which is not known how "
        "to stack: train its trials singly"
    )


class _Linear(nn.Module):
    """x [K B, ..., in] to [K B, ..., out], each member by its own matrix [out, in]."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        members, features, _ = self.weight.shape
        flat = x.reshape(members, -1, x.shape[-1])
        y = torch.bmm(flat, self.weight.transpose(1, 2))
        if self.bias is not None:
            y = y + self.bias[:, None]
        return y.view(*x.shape[:-1], features)


class _Norm(nn.Module):
    """Layer norm over the last dimension, each member by its own gain [d]."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None, eps: float) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self._eps = eps

    def forward(self, x: Tensor) -> Tensor:
        members, width = self.weight.shape
        y = functional.layer_norm(x, (width,), eps=self._eps).view(members, -1, width)
        y = y * self.weight[:, None]
        if self.bias is not None:
            y = y + self.bias[:, None]
        return y.view(x.shape)


class _Gained(nn.Module):
    """A norm that ends in a product with its gain [d]: itself without one, then each member's."""

    def __init__(self, norm: nn.Module, weight: nn.Parameter) -> None:
        super().__init__()
        del norm.weight
        norm.register_buffer("weight", torch.ones_like(weight[0]), persistent=False)
        self.weight = weight
        self._norm = norm

    def forward(self, x: Tensor) -> Tensor:
        members, width = self.weight.shape
        y: Tensor = self._norm(x)
        return (y.reshape(members, -1, width) * self.weight[:, None]).view(x.shape).to(y.dtype)


class _Embedding(nn.Module):
    """Tokens [K B, T] to [K B, T, d], each member from its own table [V, d]."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight
        members, rows, _ = weight.shape
        starts = torch.arange(members, device=weight.device)[:, None] * rows
        self.register_buffer("_starts", starts, persistent=False)

    _starts: Tensor

    def forward(self, tokens: Tensor) -> Tensor:
        members = len(self.weight)
        if len(tokens) % members:
            raise StackError(
                f"an embedding was asked for {len(tokens)} rows by {members} members: what is "
                "looked up there is not the batch; train these trials singly"
            )
        rows = tokens.reshape(members, -1) + self._starts[:members]
        return functional.embedding(rows.view(tokens.shape), self.weight.flatten(0, 1))


class _Positions(nn.Module):
    """Adds to x [K B, T, d] each member's own vectors [T, d]."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        members = len(self.weight)
        grouped = x.view(members, -1, *x.shape[1:])
        return (grouped + self.weight[:, None, : x.shape[1]]).view(x.shape)
