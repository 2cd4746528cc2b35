"""The steps of a stack: one backward pass, then each member's own clipping, rate and AdamW.

Touches the device, and reads nothing back from it between the first step and the last of a call of
`train`. AdamW is the fused kernel of `trainers.optimizer`, called on each member's slices, so that
an update is that of the member alone. Batches that do not fit into a GPU's memory are cut as
`trainers.learner` cuts one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from trainers import checkpoint
from trainers.checkpoint import Tensors
from trainers.compiling import Compiled
from trainers.config import TrainConfig
from trainers.device import Device
from trainers.feed import Feed
from trainers.learner import Build, compiles, garbage_kept, smaller
from trainers.memory import TooLarge, out_of_memory, win_back
from trainers.network import build_network, move
from trainers.optimizer import Role, roles
from trainers.stacked import Stack

# As torch.nn.utils.clip_grads_with_norm_ has it.
_CLIP_EPS = 1e-6
_SLOTS = ("exp_avg", "exp_avg_sq", "step")

log = logging.getLogger(__name__)


class StackedLearner:
    """Networks of one shape under training; `configs` may differ in seed and optimizer."""

    def __init__(
        self,
        configs: Sequence[TrainConfig],
        device: Device,
        build: Build = build_network,
        *,
        flops: float = 0.0,
    ) -> None:
        self.device = device
        self.micro_batch: int | None = None
        self._configs = list(configs)
        self._generators = [torch.Generator().manual_seed(c.seed) for c in configs]
        networks = [
            move(build(config.model, generator), device.device)
            for config, generator in zip(configs, self._generators, strict=True)
        ]
        self._roles = roles(networks[0])
        self.stack = Stack(networks)
        self._pass: Callable[[Tensor], Tensor] = self.stack
        if compiles(configs[0], device, flops):
            self._pass = Compiled(self.stack, wish=configs[0].compile)
        self._weights = self.stack.named_weights()
        self._fused = device.device.type in ("cpu", "cuda")
        self._slots = {name: self._fresh_slots(w) for name, w in self._weights.items()}
        self._prepare()

    def train(
        self, feed: Feed, rates: Sequence[Callable[[int], float]], first: int, past: int
    ) -> tuple[Tensor, Tensor]:
        """Steps `first` to `past` - 1; mean losses [K] and last norms [K], left on the device.

        `rates` give each member's rate of step k. NaN where there is no step to do.
        """
        total = torch.zeros(len(self._configs), device=self.device.device)
        norms = torch.full_like(total, math.nan)
        with garbage_kept():
            for k in range(first, past):
                losses, norms = self.step(feed.windows(k), [rate(k) for rate in rates])
                total += losses
        return total / (past - first) if past > first else norms, norms

    def step(self, windows: Tensor, rates: Sequence[float]) -> tuple[Tensor, Tensor]:
        """One update on `windows` [K B, T + 1]; losses [K] and norms [K], left on the device."""
        losses = self._gradients(windows)
        with torch.no_grad():
            norms = self._clipped()
            self._update(rates)
        for weight in self._weights.values():
            weight.grad = None
        return losses, norms

    def _gradients(self, windows: Tensor) -> Tensor:
        """Gradients of the members' batches in their weights; their mean losses [K]."""
        members = len(self._configs)
        while True:
            rows = self.micro_batch or len(windows) // members
            try:
                return self._accumulated(windows, rows)
            except RuntimeError as error:
                if out_of_memory(error):
                    self._cut(len(windows) // members, error)
                elif isinstance(self._pass, Compiled) and self._pass.dispensable(error):
                    self._pass = self.stack
                else:
                    raise
            for weight in self._weights.values():
                weight.grad = None
            win_back()

    def _cut(self, sequences: int, error: RuntimeError) -> None:
        """Go on in smaller micro-batches, of as many `sequences` of each member."""
        members = len(self._configs)
        fewer = smaller(sequences, self.micro_batch or sequences)
        if fewer is None:
            raise TooLarge(error, members) from error
        self.micro_batch = fewer
        if isinstance(self._pass, Compiled):
            self._pass = self._pass.without_graphs(self.stack)
        log.warning(
            "the batches do not fit into memory; going on by %d rows of each of %d",
            fewer,
            members,
        )

    def _accumulated(self, windows: Tensor, rows: int) -> Tensor:
        """`rows` sequences of each member at a time."""
        each = windows.reshape(len(self._configs), -1, windows.shape[-1])
        parts = each.split(rows, dim=1)
        total: Tensor | None = None
        for part in parts:
            with self.device.autocast():
                losses = self._pass(part.flatten(0, 1))
            if len(parts) > 1:
                losses = losses / len(parts)
            losses.sum().backward()
            total = losses.detach() if total is None else total + losses.detach()
        if total is None:
            raise ValueError("a batch has no sequences")
        return total

    def tensors(self, member: int) -> Tensors:
        """What a checkpoint holds of one member."""
        slots = {
            f"{name}/{slot}": tensor[member]
            for name, own in self._slots.items()
            for slot, tensor in own.items()
        }
        return Tensors(
            weights={name: weight[member] for name, weight in self._weights.items()},
            kept=slots | {"generator": self._generators[member].get_state()},
        )

    def load(self, member: int, path: Path) -> None:
        """Continue one member from a checkpoint's tensors."""
        tensors = checkpoint.read_tensors(path, self._weights)
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight[member].copy_(tensors.weights[name])
                for slot, values in self._slots[name].items():
                    if f"{name}/{slot}" in tensors.kept:
                        values[member].copy_(tensors.kept[f"{name}/{slot}"])
        self._generators[member].set_state(tensors.kept["generator"])

    def keep(self, members: Sequence[int]) -> None:
        """Go on with some of the members."""
        chosen = list(members)
        self.stack.keep(chosen)
        self._configs = [self._configs[i] for i in chosen]
        self._generators = [self._generators[i] for i in chosen]
        self._slots = {
            name: {slot: values[chosen] for slot, values in own.items()}
            for name, own in self._slots.items()
        }
        self._prepare()

    def _fresh_slots(self, weight: Tensor) -> dict[str, Tensor]:
        """AdamW's state before the first step. Steps are counted where the kernel wants them."""
        place = weight.device if self._fused else torch.device("cpu")
        steps = torch.zeros(len(weight), device=place)
        values = (torch.zeros_like(weight), torch.zeros_like(weight), steps)
        return dict(zip(_SLOTS, (v.detach() for v in values), strict=True))

    def _prepare(self) -> None:
        """Each member's slices by role, which every step hands to AdamW."""
        clips = [config.optimizer.clip or math.inf for config in self._configs]
        self._clip = torch.tensor(clips, device=self.device.device)
        self._clips = any(math.isfinite(clip) for clip in clips)
        slices = {name: weight.detach().unbind() for name, weight in self._weights.items()}
        state = {
            name: {slot: values.unbind() for slot, values in own.items()}
            for name, own in self._slots.items()
        }
        self._parts = [
            _Part(
                member=member,
                role=role,
                names=names,
                weights=[slices[name][member] for name in names],
                slots=[[state[name][slot][member] for name in names] for slot in _SLOTS],
            )
            for member in range(len(self._configs))
            for role, names in self._roles.items()
        ]

    def _clipped(self) -> Tensor:
        """Clip each member's gradients by its own norm; the norms [K] before."""
        gradients = [w.grad for w in self._weights.values() if w.grad is not None]
        each = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]
        norms = torch.linalg.vector_norm(torch.stack(each), dim=0)
        if self._clips:
            factors = (self._clip / (norms + _CLIP_EPS)).clamp(max=1.0)
            for gradient in gradients:
                gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))
        return norms

    def _update(self, rates: Sequence[float]) -> None:
        gradients = {
            name: weight.grad.unbind()
            for name, weight in self._weights.items()
            if weight.grad is not None
        }
        for part in self._parts:
            config = self._configs[part.member].optimizer
            adamw(
                part.weights,
                [gradients[name][part.member] for name in part.names],
                part.slots[0],
                part.slots[1],
                [],
                part.slots[2],
                fused=self._fused,
                amsgrad=False,
                beta1=config.beta1,
                beta2=config.beta2,
                lr=rates[part.member] * part.role.scale,
                weight_decay=part.role.decay(config.weight_decay),
                eps=config.eps,
                maximize=False,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The parameters of one member that AdamW treats alike: slices of the stack's tensors."""

    member: int
    role: Role
    names: list[str]
    weights: list[Tensor]
    slots: list[list[Tensor]]
