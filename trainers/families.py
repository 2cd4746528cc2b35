"""Families of decoder-only transformers: how much of what each holds, in numbers alone.

`gpt` is the house's own (`trainers.model`); the others are those that `transformers` builds from a
configuration (`trainers.foreign`). A family says how its blocks are put together, so that a model
is priced without torch; tests hold every number against the modules themselves. Touches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

FamilyName = Literal["gpt", "gpt2", "gpt_neox", "llama", "mistral", "olmo2", "qwen2", "qwen3"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """positions: `learned` or `rotary`. gated: the MLP has three matrices instead of two. grouped:
    keys and values may have fewer heads. qk_norm: whether queries and keys are normed, and over
    what their gain reaches (`none`: it has none). biases: of queries, keys and values; of all the
    other maps of the blocks; of the norms. stacks: whether `trainers.stacked` knows its leaves.
    """

    positions: Literal["learned", "rotary"] = "rotary"
    gated: bool = True
    grouped: bool = True
    qk_norm: Literal["none", "head", "all"] | None = None
    qkv_biases: bool = False
    map_biases: bool = False
    norm_biases: bool = False
    stacks: bool = True


FAMILIES: Mapping[FamilyName, Family] = {
    "gpt": Family(positions="learned", gated=False, grouped=False, qk_norm="none"),
    "gpt2": Family(
        positions="learned",
        gated=False,
        grouped=False,
        qkv_biases=True,
        map_biases=True,
        norm_biases=True,
        stacks=False,
    ),
    # Pythia's: rotary on a quarter of each head, attention and MLP side by side.
    "gpt_neox": Family(
        gated=False, grouped=False, qkv_biases=True, map_biases=True, norm_biases=True
    ),
    "llama": Family(),
    "mistral": Family(),
    "olmo2": Family(qk_norm="all"),
    "qwen2": Family(qkv_biases=True),
    "qwen3": Family(qk_norm="head"),
}
