"""The inner loop on torch's meta device: no misplaced tensor, nothing read back.

Meta tensors have no values, so any hidden `.item()` raises; a dispatch mode refuses operations
that mix devices. This is how code that runs on CUDA is checked where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainers.config import TrainConfig
from trainers.course import Course
from trainers.device import Device
from trainers.evaluate import held_out_total
from trainers.loop import Run

META = Device(device=torch.device("meta"), precision="fp32", threads=1)
# Optimizers without fused kernels count their steps in CPU scalars.
MOVES = {"aten._to_copy.default", "aten.copy_.default"}


class OneDevice(TorchDispatchMode):
    """Refuses operations over tensors of several devices, but for scalars and explicit moves."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        leaves = tree_leaves((args, kwargs or {}))
        devices = {
            leaf.device.type for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.ndim
        }
        if len(devices) > 1 and str(func) not in MOVES:
            raise RuntimeError(f"{func} mixes {sorted(devices)}")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def run(make_config: Callable[..., TrainConfig], tmp_path: Path) -> Run:
    config = make_config()
    return Run(Course(config, until=config.horizon, folder=tmp_path), META)


def test_steps_between_two_reads(run: Run) -> None:
    with OneDevice():
        train_loss, norm = run.train_to(5 * 64)
    assert (train_loss.device.type, norm.device.type) == ("meta", "meta")


def test_evaluation(run: Run) -> None:
    with OneDevice():
        loss = held_out_total(run.learner.network, run.held_out, META, 256)
    assert loss.device.type == "meta"


def test_a_hidden_read_would_be_seen(run: Run) -> None:
    train_loss, norm = run.train_to(64)
    with pytest.raises((RuntimeError, NotImplementedError)):
        run.read(train_loss, norm)


def test_a_misplaced_tensor_would_be_seen() -> None:
    with OneDevice(), pytest.raises(RuntimeError, match=r"mixes \['cpu', 'meta'\]"):
        torch.ones(2) + torch.ones(2, device="meta")
