"""A network compiles whole, once a shape, and is forgotten with its trial.

The kernels are left out here, since they take a minute a shape.
"""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import InternalTorchDynamoError
from torch._dynamo.utils import counters
from torch._inductor.exc import CppCompileError, InductorError

from trainers import learner, stacked_learner
from trainers.architecture import ModelConfig
from trainers.compiling import Compiled, CompilerError
from trainers.config import TrainConfig
from trainers.device import Device
from trainers.families import FAMILIES
from trainers.network import build_network
from trainers.stacked import Stack

CPU = Device(device=torch.device("cpu"), precision="fp32", threads=1)
FOREIGN = [name for name in FAMILIES if name != "gpt"]


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever breaks the graph in two raises."""
    torch._dynamo.reset()
    counters.clear()
    compiling = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", compiling)
    yield
    torch._dynamo.reset()


def network(family: str, seed: int, width: int = 16) -> nn.Module:
    shape = {"family": family, "layers": 1, "width": width, "heads": 2, "context": 16}
    config = ModelConfig.model_validate(shape)
    return build_network(config, torch.Generator().manual_seed(seed))


def window(rows: int) -> Tensor:
    return torch.randint(0, 256, (rows, 17), generator=torch.Generator().manual_seed(1))


def graphs_of(build: Callable[[int], nn.Module], rows: int) -> list[int]:
    """How many graphs there were after the first, second and third network of a shape."""
    counts: list[int] = []
    for seed in range(3):
        Compiled(build(seed))(window(rows)).sum().backward()
        counts.append(counters["stats"]["unique_graphs"])
    return counts


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize(
    "family", ["gpt", *(pytest.param(name, marks=pytest.mark.slow) for name in FOREIGN)]
)
def test_another_trial_of_a_shape_compiles_nothing(family: str) -> None:
    assert graphs_of(lambda seed: network(family, seed), 4) == [1, 1, 1]


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize(
    "family", ["gpt", *(pytest.param(n, marks=pytest.mark.slow) for n in FOREIGN if n != "gpt2")]
)
def test_another_stack_of_a_shape_compiles_nothing(family: str) -> None:
    def stack(seed: int) -> nn.Module:
        return Stack([network(family, 2 * seed), network(family, 2 * seed + 1)])

    assert graphs_of(stack, 4) == [1, 1, 1]


@pytest.mark.usefixtures("whole")
def test_what_was_compiled_keeps_no_network_alive() -> None:
    one = network("gpt", 0)
    compiled = Compiled(one)
    compiled(window(4)).backward()
    weights = [weakref.ref(parameter) for parameter in one.parameters()]
    assert all(weight() is not None for weight in weights)
    del one, compiled
    gc.collect()
    assert all(weight() is None for weight in weights)


@pytest.fixture
def toolless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU in name, and a compiler that fails."""

    def fails(*_: Any, **__: Any) -> Any:
        def call(window: Tensor) -> Tensor:
            raise InternalTorchDynamoError("Failed to find C compiler.\nPlease specify it")

        return call

    monkeypatch.setattr(torch, "compile", fails)
    for module in (learner, stacked_learner):
        monkeypatch.setattr(module, "compiles", lambda *_: True)


@pytest.mark.usefixtures("toolless")
def test_auto_does_without_a_compiler_that_fails_and_says_so(
    make_config: Callable[..., TrainConfig], caplog: pytest.LogCaptureFixture
) -> None:
    batch = window(4)
    single = learner.Learner(make_config(), CPU)
    loss, _ = single.step(batch, 1e-2)
    assert "training uncompiled" in caplog.text and "find C compiler" in caplog.text
    caplog.clear()
    stacked = stacked_learner.StackedLearner([make_config(), make_config(seed=1)], CPU)
    losses, _ = stacked.step(torch.cat([batch, batch]), [1e-2, 1e-2])
    assert losses[0].item() == pytest.approx(loss.item(), rel=1e-5)
    assert "training uncompiled" in caplog.text


@pytest.mark.usefixtures("toolless")
def test_a_compiler_that_was_asked_for_must_work(make_config: Callable[..., TrainConfig]) -> None:
    asked = learner.Learner(make_config(compile="always"), CPU)
    with pytest.raises(InternalTorchDynamoError):
        asked.step(window(4), 1e-2)


@pytest.mark.parametrize("wish", ["always", "auto"])
def test_a_path_with_a_space_is_told_where_the_compiler_trips_over_it(
    wish: Any,
    make_config: Callable[..., TrainConfig],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What torch itself says are a thousand lines of the linker's."""
    said = InductorError(CppCompileError(["g++", "-L/of", "mine/lib"], "ld: cannot find"), None)

    def call(window: Tensor) -> Tensor:
        raise said

    monkeypatch.setattr(torch, "compile", lambda *_, **__: call)
    monkeypatch.setattr(learner, "compiles", lambda *_: True)
    here = learner.Learner(make_config(compile=wish), CPU)
    monkeypatch.setattr("torch.utils.cpp_extension.TORCH_LIB_PATH", "/of mine/lib")
    if wish == "auto":
        here.step(window(4), 1e-2)
        assert "a path with a space: /of mine/lib" in caplog.text
        return
    with pytest.raises(CompilerError, match=r"with a space: /of mine/lib\. .* compile: never"):
        here.step(window(4), 1e-2)
    monkeypatch.setattr("torch.utils.cpp_extension.TORCH_LIB_PATH", "/ofmine/lib")
    with pytest.raises(InductorError, match="cannot find"):
        here.step(window(4), 1e-2)


@pytest.mark.parametrize(
    "family",
    ["gpt", "llama", *(pytest.param(n, marks=pytest.mark.slow) for n in FOREIGN if n != "llama")],
)
def test_a_pass_leaves_no_tensor_to_the_garbage_collector(family: str) -> None:
    """It rests between two reports: on a GPU, what a cycle holds would fill the memory."""
    one = network(family, 0)
    one(window(4)).backward()
    for _ in range(3):
        gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(2):
            one(window(4)).backward()
        gc.collect()
        assert not [thing.shape for thing in gc.garbage if type(thing) is Tensor]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
