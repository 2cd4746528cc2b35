"""A network and its optimizer, and the steps they take together.

Touches the device. Nothing is read back from it between the first step and the last of a call of
`train`: losses add up there, rates are numbers of the host, and Python's garbage collector rests
(nanochat measured pauses of half a second). A batch that does not fit into a GPU's memory is cut
into equal micro-batches, the largest that fit, whose gradients add up to the exact batch's.
"""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from trainers import checkpoint
from trainers.checkpoint import Tensors
from trainers.compiling import Compiled, worthwhile
from trainers.config import ModelConfig, TrainConfig
from trainers.device import Device
from trainers.distributed import ALONE, Group
from trainers.feed import Feed
from trainers.memory import TooLarge, out_of_memory, win_back
from trainers.network import build_network, move
from trainers.optimizer import apply_gradients, build_optimizer

Build = Callable[[ModelConfig, torch.Generator], nn.Module]

# What of a layer's hidden values (four widths, fp32) a core keeps at hand.
CACHE_BYTES = 2**21

log = logging.getLogger(__name__)


class Learner:
    """One network under training.

    `build` makes it, as the contract of `trainers.network` asks, from the configuration and the
    run's generator. `flops` are those that the call has before it, by which `compile: auto` is
    decided. `group` are the processes that share every batch. `micro_batch` are the sequences of
    one pass: by default what suits the device, and fewer once they did not fit.
    """

    def __init__(
        self,
        config: TrainConfig,
        device: Device,
        build: Build = build_network,
        *,
        flops: float = 0.0,
        group: Group = ALONE,
        micro_batch: int | None = None,
    ) -> None:
        self.device = device
        self.generator = torch.Generator().manual_seed(config.seed)
        self.network = move(build(config.model, self.generator), device.device)
        self.optimizer = build_optimizer(self.network, config.optimizer)
        self.compiled = compiles(config, device, flops)
        self._group = group
        self._pass: Callable[[Tensor], Tensor] = self.network
        if self.compiled:
            self._pass = Compiled(self.network, wish=config.compile)
        self._parameters: list[Tensor] = list(self.network.parameters())
        self._clip = config.optimizer.clip
        self.micro_batch = micro_batch or cached_rows(config, device, group)

    def train(
        self, feed: Feed, rates: Callable[[int], float], first: int, past: int
    ) -> tuple[Tensor, Tensor]:
        """Steps `first` to `past` - 1; their mean loss and the last norm, left on the device.

        `rates` gives the rate of step k. NaN where there is no step to do.
        """
        total = torch.zeros((), device=self.device.device)
        norm = torch.full((), math.nan, device=self.device.device)
        with garbage_kept():
            for k in range(first, past):
                loss, norm = self.step(feed.windows(k), rates(k))
                total += loss
        return total / (past - first) if past > first else norm, norm

    def step(self, windows: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        """One update on `windows` [B, T + 1]; its loss and gradient norm, left on the device."""
        loss = self._gradients(windows)
        self._group.add_up(self._parameters)
        norm = apply_gradients(self.optimizer, self._parameters, rate, self._clip)
        return loss, norm

    def tensors(self) -> Tensors:
        """What a checkpoint holds of this learner."""
        named = dict(self.network.named_parameters())
        slots = {
            f"{name}/{slot}": tensor
            for name, parameter in named.items()
            for slot, tensor in self.optimizer.state.get(parameter, {}).items()
        }
        return Tensors(weights=named, kept=slots | {"generator": self.generator.get_state()})

    def load(self, path: Path) -> None:
        """Continue from a checkpoint's tensors."""
        named = dict(self.network.named_parameters())
        tensors = checkpoint.read_tensors(path, named)
        with torch.no_grad():
            for name, parameter in named.items():
                parameter.copy_(tensors.weights[name])
        for key, tensor in tensors.kept.items():
            name, _, slot = key.rpartition("/")
            if name:
                parameter = named[name]
                self.optimizer.state[parameter][slot] = tensor.to(parameter.device)
        self.generator.set_state(tensors.kept["generator"])

    def _gradients(self, windows: Tensor) -> Tensor:
        """Gradients of the batch in the parameters; its mean loss."""
        while True:
            try:
                return self._accumulated(windows, self.micro_batch or len(windows))
            except RuntimeError as error:
                if out_of_memory(error):
                    self._cut(len(windows), error)
                elif isinstance(self._pass, Compiled) and self._pass.dispensable(error):
                    self._pass = self.network
                else:
                    raise
            self.optimizer.zero_grad(set_to_none=True)
            win_back()

    def _cut(self, sequences: int, error: RuntimeError) -> None:
        """Go on in smaller micro-batches. Of a group each cuts its own share: what is added up is
        the same."""
        rows = smaller(sequences, self.micro_batch or sequences)
        if rows is None:
            raise TooLarge(error) from error
        self.micro_batch = rows
        if isinstance(self._pass, Compiled):
            self._pass = self._pass.without_graphs(self.network)
        log.warning("the batch does not fit into memory; going on by %d rows", rows)

    def _accumulated(self, windows: Tensor, rows: int) -> Tensor:
        parts = windows.split(rows)
        share = 1 / (len(parts) * self._group.workers)
        total: Tensor | None = None
        for part in parts:
            with self.device.autocast():
                loss = self._pass(part)
            if share != 1:
                loss = loss * share
            loss.backward()
            total = loss.detach() if total is None else total + loss.detach()
        if total is None:
            raise ValueError("a batch has no sequences")
        return total


def cached_rows(config: TrainConfig, device: Device, group: Group = ALONE) -> int | None:
    """Sequences of one pass that keep a layer's hidden values in a core's cache; None for all.

    In fp32 on a CPU that is 3 to 8 % of a step from 128 channels up. In bf16 it would cost more,
    since every pass rounds the weights anew.
    """
    sequences = config.sequences_per_step // group.workers
    if device.device.type != "cpu" or device.precision != "fp32":
        return None
    values = 4 * config.model.width * config.model.context
    rows = max(1, CACHE_BYTES // (4 * values))
    return None if rows >= sequences else smaller(sequences, rows + 1)


def smaller(sequences: int, rows: int) -> int | None:
    """The next smaller number of rows that divides a batch of `sequences`; None below 1."""
    return next((n for n in range(rows - 1, 0, -1) if sequences % n == 0), None)


@contextmanager
def garbage_kept() -> Generator[None]:
    """Python's cyclic garbage collector at rest, and as it was afterwards."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def compiles(config: TrainConfig, device: Device, flops: float) -> bool:
    """Whether a call with `flops` before it compiles its network."""
    if config.compile == "auto":
        return device.is_cuda and worthwhile(flops, device.name)
    return config.compile != "never"
