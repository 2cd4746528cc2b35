"""What changes with width and depth so that one learning rate serves all sizes: muP and CompleteP.

For m_d = width / base_width and m_L = layers / base_layers, and maps inside the blocks ("hidden"):

    parametrization    hidden rate   hidden init sd   logits   each residual branch
    standard           1             1                1        1 (init 1 / sqrt(2 L))
    mup                1 / m_d       1 / sqrt(m_d)    1 / m_d  1 (init 1 / sqrt(2 L))
    completep          1 / m_d       1 / sqrt(m_d)    1 / m_d  1 / m_L (init 1 / sqrt(2 base L))

Yang et al. 2022 (arXiv 2203.03466, muP for Adam); Dey et al. 2025 (arXiv 2505.01618, CompleteP:
alpha = 1, which leaves the hidden rate alone in depth). Rates and sd of embeddings and norms stay.
A model of the base's width and depth is the standard one. Weight decay is not scaled with the rate
(`trainers.optimizer`). Left out: their scaling of AdamW's epsilon, which at 1e-8 lies far below
the gradients of the sizes here.

Attention scores are divided by the channels of a head rather than by their square root, from the
root at 64 on, unless queries and keys are normed: their size is then fixed, and stays so.

Touches nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainers.architecture import ModelConfig

REFERENCE_CHANNELS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Factors on the standard model. `scores`: what attention scores are multiplied with."""

    hidden_rate: float
    hidden_sd: float
    residual_sd: float
    logits: float
    residual: float
    scores: float


def scaling_of(model: ModelConfig) -> Scaling:
    """The factors of a model of the family gpt."""
    root = 1 / math.sqrt(model.channels)
    wide = model.width / (model.base_width or model.width)
    deep = model.layers / (model.base_layers or model.layers)
    mup = model.parametrization != "standard"
    return Scaling(
        hidden_rate=1 / wide,
        hidden_sd=1 / math.sqrt(wide),
        residual_sd=1 / math.sqrt(wide * 2 * model.layers / deep),
        logits=1 / wide,
        residual=1 / deep,
        scores=math.sqrt(REFERENCE_CHANNELS) / model.channels
        if mup and not model.qk_norm
        else root,
    )
