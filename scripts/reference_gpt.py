"""nanoGPT's model and training step, restated from its description for `bench_trainer.py`.

Written anew to the published design (K. Karpathy, nanoGPT: README, model and training script as
of 2024), not copied: a GPT-2 without biases and dropout, learned positions, pre-norm, one matmul
for queries, keys and values, `scaled_dot_product_attention`, tanh-free GELU, head tied to the
embedding. Its optimizer: AdamW, betas (0.9, 0.95), decay 0.1 on all matrices, the embeddings
too; fused on CUDA alone, as there. Its step: windows at random places of a memory map, cut one by
one and stacked; forward under autocast where the precision is bf16; a disabled gradient scaler;
clipping at 1; the loss read every tenth step.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainers.config import ModelConfig

READ_EVERY = 10


class Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, None, 1e-5)


class Layer(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.first, self.second = Norm(width), Norm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width, bias=False)
        self.widen = nn.Linear(width, 4 * width, bias=False)
        self.narrow = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.first(x))
        return x + self.narrow(functional.gelu(self.widen(self.second(x))))

    def attend(self, x: Tensor) -> Tensor:
        rows, context, width = x.shape
        q, k, v = self.qkv(x).split(width, dim=2)
        q, k, v = (
            part.view(rows, context, self.heads, width // self.heads).transpose(1, 2)
            for part in (q, k, v)
        )
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.project(y.transpose(1, 2).contiguous().view(rows, context, width))


class ReferenceGPT(nn.Module):
    """Tokens and targets [B, T] to the mean loss."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.padded_vocab, config.width)
        self.places = nn.Embedding(config.context, config.width)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = Norm(config.width)
        self.head = nn.Linear(config.width, config.padded_vocab, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) + self.places(places)
        for layer in self.layers:
            x = layer(x)
        logits = self.head(self.norm(x))
        flat = logits.view(-1, logits.shape[-1])
        return functional.cross_entropy(flat, targets.view(-1), ignore_index=-1)


class ReferenceTrainer:
    """The step around it: `train(n)` takes n steps of `sequences` windows."""

    def __init__(
        self,
        config: ModelConfig,
        tokens: NDArray[np.uint16],
        *,
        sequences: int,
        device: str = "cpu",
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        self.config, self.tokens, self.sequences, self.device = config, tokens, sequences, device
        self.model = ReferenceGPT(config).to(device)
        decayed = [p for p in self.model.parameters() if p.dim() >= 2]
        free = [p for p in self.model.parameters() if p.dim() < 2]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": free, "weight_decay": 0.0}]
        fused = {"fused": True} if device == "cuda" else {}
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), **fused)
        self.scaler = torch.amp.GradScaler(device, enabled=False)
        self.context = nullcontext()
        if precision == "bf16":
            self.context = torch.autocast(device, dtype=torch.bfloat16)
        self.call = torch.compile(self.model) if compiled else self.model
        self.random = torch.Generator().manual_seed(1)
        self.steps = 0

    def batch(self) -> tuple[Tensor, Tensor]:
        """Windows at random places, and the same a token later."""
        length = self.config.context
        places = torch.randint(
            len(self.tokens) - length, (self.sequences,), generator=self.random
        ).tolist()
        both = [
            torch.stack(
                [torch.from_numpy(self.tokens[i : i + length].astype(np.int64)) for i in starts]
            )
            for starts in (places, [i + 1 for i in places])
        ]
        if self.device == "cuda":
            x, y = (part.pin_memory().to(self.device, non_blocking=True) for part in both)
            return x, y
        return both[0], both[1]

    def train(self, steps: int) -> None:
        window = self.batch()
        for _ in range(steps):
            for group in self.optimizer.param_groups:
                group["lr"] = 1e-3
            with self.context:
                loss = self.call(*window)
            window = self.batch()
            self.scaler.scale(loss).backward()
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            if self.steps % READ_EVERY == 0:
                loss.item()
            self.steps += 1
