"""Causal language models that `transformers` builds from a configuration, under our loop.

The architecture and its initialisation are theirs, the attention kernel is ours: registered with
them by name, it is plain causal SDPA, which also spares the mask that they would otherwise look
for in the data at every step (and wait for the device). No weights are fetched. Touches torch's
global random state while a model is initialised, and puts it back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.architecture import ModelConfig
from trainers.loss import next_token_loss

ATTENTION = "frontrunner_causal"


class Foreign(nn.Module):
    """A model of `transformers` as `trainers.network` asks of a network. Parameters are named
    `network.` and their own names."""

    def __init__(self, network: nn.Module, vocab: int) -> None:
        super().__init__()
        self.network = network
        self.vocab = vocab

    def forward(self, window: Tensor) -> Tensor:
        return next_token_loss(self.logits(window[:, :-1]), window)

    def logits(self, tokens: Tensor) -> Tensor:
        """Tokens [B, T] to logits [B, T, V], V the vocabulary without its padding."""
        logits: Tensor = self.network(input_ids=tokens, use_cache=False).logits
        return logits if logits.shape[-1] == self.vocab else logits[..., : self.vocab]


def build_foreign(config: ModelConfig, generator: torch.Generator) -> Foreign:
    """A model on the CPU, initialised as its family does, from a seed that `generator` draws."""
    from transformers import AttentionInterface, AutoModelForCausalLM

    AttentionInterface.register(ATTENTION, _attention)
    seed = int(torch.randint(2**62, (), generator=generator).item())
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        network = AutoModelForCausalLM.from_config(
            foreign_config(config), attn_implementation=ATTENTION, dtype=torch.float32
        )
    return Foreign(network, config.vocab)


def foreign_config(config: ModelConfig) -> Any:
    """The configuration of `transformers` for a shape in our words."""
    from transformers import CONFIG_MAPPING

    shared: dict[str, Any] = {
        "vocab_size": config.padded_vocab,
        "tie_word_embeddings": config.tied,
        "use_cache": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    words = _gpt2(config) if config.family == "gpt2" else _modern(config)
    return CONFIG_MAPPING[config.family](**shared, **words)


def _gpt2(config: ModelConfig) -> dict[str, Any]:
    return {
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_positions": config.context,
        "n_inner": config.inner_width,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }


def _modern(config: ModelConfig) -> dict[str, Any]:
    words: dict[str, Any] = {
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.inner_width,
        "max_position_embeddings": config.context,
        "attention_dropout": 0.0,
    }
    if config.blocks.grouped:
        words |= {"num_key_value_heads": config.key_heads, "head_dim": config.channels}
    if config.family == "gpt_neox":
        words |= {"hidden_dropout": 0.0}
    if config.family == "mistral":
        words |= {"sliding_window": None}
    return words


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Queries [B, H, T, c], keys and values of as many heads or fewer; [B, T, H, c].

    In fp32 on a CPU, whose bf16 backward is three times slower: asked of autocast rather than of
    the queries, which some families turn in fp32 and autocast would round again.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    if query.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        found = _causal(query, key, value, scaling)
    else:
        with torch.autocast("cpu", enabled=False):
            found = _causal(query.float(), key.float(), value.float(), scaling).to(value.dtype)
    return found.transpose(1, 2), None


def _causal(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
    key, value = key.to(query.dtype), value.to(query.dtype)
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
