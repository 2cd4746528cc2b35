"""The inner loop on torch's meta device: no misplaced tensor, nothing read back.

Meta tensors have no values, so any hidden `.item()` raises; a dispatch mode refuses operations
that mix devices. This is how code that runs on CUDA is checked where there is none, and what is
planted here shows that the check can fail.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainers.config import ModelConfig, TrainConfig
from trainers.course import Course
from trainers.device import Device
from trainers.evaluate import held_out_total
from trainers.feed import Feed
from trainers.learner import Learner
from trainers.lockstep import Lockstep
from trainers.loop import Run
from trainers.network import build_network

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
def course(make_config: Callable[..., TrainConfig], tmp_path: Path) -> Course:
    config = make_config()
    return Course(config, until=config.horizon, folder=tmp_path)


def steps(learner: Learner, course: Course, *, resident: bool = False) -> set[str]:
    """Five steps under the proof; where their results are."""
    feed = Feed([course.batches()], META, resident=resident)
    with OneDevice():
        results = learner.train(feed, course.rate, 0, 5)
    return {tensor.device.type for tensor in results}


@pytest.mark.parametrize("resident", [False, True])
def test_steps_between_two_reads(course: Course, resident: bool) -> None:
    assert steps(Learner(course.config, META), course, resident=resident) == {"meta"}


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "qwen3"])
def test_families_of_transformers(
    make_config: Callable[..., TrainConfig], tmp_path: Path, family: str
) -> None:
    shape = {"family": family, "layers": 1, "width": 16, "heads": 2, "context": 16}
    config = make_config(model=shape)
    course = Course(config, until=config.horizon, folder=tmp_path)
    assert steps(Learner(config, META), course) == {"meta"}


def test_micro_batches(course: Course) -> None:
    learner = Learner(course.config, META, micro_batch=2)
    assert steps(learner, course) == {"meta"}


def test_evaluation(course: Course) -> None:
    run = Run(course, META)
    with OneDevice():
        total = held_out_total(run.learner.network, run.held_out, META, 256)
    assert total.device.type == "meta"


def test_lockstep(make_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    courses = [
        Course(make_config(seed=seed), until=40 * 64, folder=tmp_path / str(seed))
        for seed in range(3)
    ]
    run = Lockstep(courses, META)
    with OneDevice():
        losses, norms = run.train_to(5 * 64)
    assert (losses.device.type, losses.shape, norms.shape) == ("meta", (3,), (3,))
    run.learner.keep([0, 2])
    run.feed.keep([0, 2])
    run.live = [0, 2]
    with OneDevice():
        losses, norms = run.train_to(5 * 64)
        totals = held_out_total(run.learner.stack, run.held_out, META, 256, members=2)
    assert (losses.shape, norms.shape, totals.shape) == ((2,), (2,), (2,))


class Planted(nn.Module):
    """A network of the contract, but for what `plant` does to its loss."""

    def __init__(self, inner: nn.Module, plant: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner = inner
        self._plant = plant

    def forward(self, window: Tensor) -> Tensor:
        return self._plant(self.inner(window))


PLANTS: dict[str, Callable[[Tensor], Tensor]] = {
    "item": lambda loss: loss * (1.0 if loss.item() > 0 else 2.0),
    "branch": lambda loss: loss if loss > 0 else -loss,
    "copy to the host": lambda loss: loss * loss.detach().cpu().numpy(),
    "operand of the host": lambda loss: (loss * torch.ones(2)).sum(),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_planted_in_a_network_is_seen(course: Course, plant: str) -> None:
    def build(config: ModelConfig, generator: torch.Generator) -> nn.Module:
        return Planted(build_network(config, generator), PLANTS[plant])

    learner = Learner(course.config, META, build)
    with pytest.raises((RuntimeError, NotImplementedError)):
        steps(learner, course)


def test_a_planted_read_in_the_loop_is_seen(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate that depends on a value of the device, as a careless schedule might have it."""
    learner = Learner(course.config, META)
    step = Learner.step

    def reading(self: Learner, windows: Tensor, rate: float) -> tuple[Tensor, Tensor]:
        loss, norm = step(self, windows, rate)
        return loss / float(norm), norm

    monkeypatch.setattr(Learner, "step", reading)
    with pytest.raises((RuntimeError, NotImplementedError)):
        steps(learner, course)


def test_tokens_left_on_the_host_are_seen(course: Course) -> None:
    feed = Feed([course.batches()], META, resident=True)
    feed._tokens = torch.zeros(10**4, dtype=torch.int16)  # pyright: ignore[reportPrivateUsage]
    with OneDevice(), pytest.raises(RuntimeError, match=r"mixes \['cpu', 'meta'\]"):
        feed.windows(0)


def test_reading_a_report_is_seen(course: Course) -> None:
    run = Run(course, META)
    with pytest.raises((RuntimeError, NotImplementedError)):
        run.read(*run.train_to(64))


def test_a_misplaced_tensor_would_be_seen() -> None:
    with OneDevice(), pytest.raises(RuntimeError, match=r"mixes \['cpu', 'meta'\]"):
        torch.ones(2) + torch.ones(2, device="meta")
