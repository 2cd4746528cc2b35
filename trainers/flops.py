"""What a model holds and what a token costs, counted exactly and without torch.

Conventions, per token trained (forward and backward), for L layers of width d, context T:

- `exact`, the budget's currency: 6 (body + head) + 12 L d T. Every matmul parameter costs 2 FLOPs
  forward and 4 backward; attention scores and values cost 4 T d forward per layer, not halved for
  causality; the embedding look-up is free (Chowdhery et al. 2022, PaLM, appendix B; the same in
  nanoGPT and nanochat).
- `causal`: as `exact` with the attention halved, since a causal mask leaves half of it
  (Porian et al. 2024).
- `active`: 6 (body + head) (Porian et al. 2024, "standard").
- `body`: 6 body, no head and no embeddings (Kaplan et al. 2020).
- `all`: 6 times every stored parameter (the plain 6ND of Hoffmann et al. 2022, section 2).

The vocabulary counts as stored, padded to a multiple of 64. A tied head is computed like any other
and so counted in `head_params`; it is stored once.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainers.architecture import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """Parameters by group and FLOPs per trained token by convention."""

    body_params: int
    head_params: int
    embedding_params: int
    positional_params: int
    norm_params: int
    stored_params: int
    flops_per_token: int
    causal_flops_per_token: int

    @property
    def params(self) -> int:
        """N of the laws: matmul parameters of the blocks and the head."""
        return self.body_params + self.head_params

    def flops(self, tokens: int) -> float:
        """Training FLOPs of `tokens`, by the exact convention."""
        return float(self.flops_per_token * tokens)

    def conventions(self) -> dict[str, int]:
        """FLOPs per trained token under every convention, by name."""
        return {
            "exact": self.flops_per_token,
            "causal": self.causal_flops_per_token,
            "active": 6 * self.params,
            "body": 6 * self.body_params,
            "all": 6 * self.stored_params,
        }


def model_cost(model: ModelConfig) -> ModelCost:
    """Count a model of any family: the four maps of attention, and two or, gated, three of the MLP
    in every layer."""
    family, width, layers = model.blocks, model.width, model.layers
    keys = model.key_heads * model.channels
    body = layers * (2 * width * (width + keys) + _mlp_maps(model) * width * model.inner_width)
    table = model.padded_vocab * width
    positions = model.context * width if model.positions == "learned" else 0
    attention = 12 * layers * width * model.context
    norms = (2 * layers + 1) * width * (2 if family.norm_biases else 1)
    if family.qk_norm is not None:
        gains = {"none": 0, "head": 2 * model.channels, "all": width + keys}
        norms += layers * gains[family.qk_norm]
    return ModelCost(
        body_params=body,
        head_params=table,
        embedding_params=table,
        positional_params=positions,
        norm_params=norms,
        stored_params=body
        + (table if model.tied else 2 * table)
        + positions
        + norms
        + layers * _biases(model),
        flops_per_token=6 * (body + table) + attention,
        causal_flops_per_token=6 * (body + table) + attention // 2,
    )


def _mlp_maps(model: ModelConfig) -> int:
    return 3 if model.blocks.gated else 2


def _biases(model: ModelConfig) -> int:
    """Of the maps of one layer."""
    family, keys = model.blocks, model.key_heads * model.channels
    qkv = model.width + 2 * keys if family.qkv_biases else 0
    if not family.map_biases:
        return qkv
    return qkv + 2 * model.width + (_mlp_maps(model) - 1) * model.inner_width
