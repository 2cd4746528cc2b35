"""A decoder-only transformer in the manner of GPT-2 and nanoGPT.

Pre-norm blocks, learned or rotary positions, causal attention by `scaled_dot_product_attention`,
an MLP of four widths with GELU, no biases, no dropout, a head tied to the embedding, residual
projections initialised smaller by sqrt(2 L) (Radford et al. 2019). QK-norm scales queries and keys
to unit RMS without a gain (Henry et al. 2020; Dehghani et al. 2023), which lets one rule for the
learning rate hold to higher rates. Touches no global random state: the generator is handed in.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.architecture import ModelConfig
from trainers.loss import next_token_loss
from trainers.rotary import rotary_table, rotate
from trainers.scaling import scaling_of
from trainers.unit_rms import unit_rms

INIT_STD = 0.02


class GPT(nn.Module):
    """A window of tokens [B, T + 1] to its loss, as `trainers.network` asks of a network."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.vocab = config.vocab
        self.embedding = nn.Embedding(config.padded_vocab, config.width)
        self.positions = None
        if config.positions == "learned":
            self.positions = Positions(config.context, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, bias=False)
        self.head = nn.Linear(config.width, config.padded_vocab, bias=False)
        self.tied = config.tied
        self.tie()
        self._scale = scaling_of(config).logits
        self.rate_scales = _rate_scales(self, config)

    def tie(self) -> None:
        """Make the head and the embedding one parameter again, which a move to meta undoes."""
        if self.tied:
            self.head.weight = self.embedding.weight

    def forward(self, window: Tensor) -> Tensor:
        return next_token_loss(self.logits(window[:, :-1]), window)

    def logits(self, tokens: Tensor) -> Tensor:
        """Tokens [B, T] to logits [B, T, V], V the vocabulary without its padding."""
        x = self.embedding(tokens)
        if self.positions is not None:
            x = self.positions(x)
        for block in self.blocks:
            x = block(x)
        logits = self.head(_times(self.norm(x), self._scale))
        return logits if logits.shape[-1] == self.vocab else logits[..., : self.vocab]


class Positions(nn.Embedding):
    """Adds to each place of x [B, T, d] what was learned for it."""

    def forward(self, input: Tensor) -> Tensor:
        return input + self.weight[: input.shape[1]]


class Block(nn.Module):
    """x [B, T, d] plus attention plus MLP."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, bias=False)
        self.attention = Attention(config)
        self.mlp_norm = nn.LayerNorm(config.width, bias=False)
        self.up = nn.Linear(config.width, 4 * config.width, bias=False)
        self.down = nn.Linear(4 * config.width, config.width, bias=False)
        self._scale = scaling_of(config).residual

    def forward(self, x: Tensor) -> Tensor:
        x = x + _times(self.attention(self.attention_norm(x)), self._scale)
        inner = self.down(functional.gelu(self.up(self.mlp_norm(x))))
        return x + _times(inner, self._scale)


class Attention(nn.Module):
    """Causal self-attention; queries, keys and values from one matmul."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qk_norm = config.qk_norm
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self._scale = scaling_of(config).scores
        self.register_buffer("rotary", None, persistent=False)

    rotary: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        batch, context, width = x.shape
        qkv = self.qkv(x).view(batch, context, 3, self.heads, width // self.heads)
        qk, v = qkv.split((2, 1), dim=2)  # unlike slices, costs no zeros on the way back
        if self.qk_norm:
            qk = unit_rms(qk)
        if self.rotary is not None:
            qk = rotate(qk, self.rotary[:, :context])
        q, k = (part.transpose(1, 2) for part in qk.unbind(2))
        y = _attend(q, k, v.squeeze(2).transpose(1, 2), self._scale)
        return self.out(y.transpose(1, 2).reshape(batch, context, width))


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention; in fp32 on a CPU, whose bf16 backward is three times slower."""
    if v.device.type != "cpu" or v.dtype is torch.float32:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    with torch.autocast("cpu", enabled=False):
        found = functional.scaled_dot_product_attention(
            q.float(), k.float(), v.float(), is_causal=True, scale=scale
        )
        return found.bfloat16()


def _times(x: Tensor, scale: float) -> Tensor:
    return x if scale == 1 else x * scale


def _rate_scales(model: nn.Module, config: ModelConfig) -> dict[str, float]:
    """Factors on the learning rate, of the maps inside the blocks."""
    scale = scaling_of(config).hidden_rate
    if scale == 1:
        return {}
    return {
        name: scale
        for name, parameter in model.named_parameters()
        if name.startswith("blocks.") and parameter.ndim == 2
    }


def build_model(config: ModelConfig, generator: torch.Generator) -> GPT:
    """A model on the CPU, initialised from `generator` alone: the same anywhere."""
    with torch.device("meta"):
        model = GPT(config)
    model.to_empty(device="cpu").tie()
    if config.positions == "rotary":
        table = rotary_table(config.context, config.width // config.heads)
        for module in model.modules():
            if isinstance(module, Attention):
                module.rotary = table
    scaling = scaling_of(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0)
                continue
            std = INIT_STD
            if name.startswith("blocks."):
                into_residual = name.endswith(("out.weight", "down.weight"))
                std *= scaling.residual_sd if into_residual else scaling.hidden_sd
            parameter.normal_(0.0, std, generator=generator)
    return model
