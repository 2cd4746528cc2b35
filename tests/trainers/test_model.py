"""The model: causal, tied, initialised from its generator alone, the same under every option."""

from __future__ import annotations

import math

import pytest
import torch

from trainers.architecture import ModelConfig
from trainers.device import Device
from trainers.model import GPT, build_model
from trainers.network import move

SMALL = ModelConfig(layers=2, width=32, heads=4, context=16)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tokens(vocab: int = 256) -> torch.Tensor:
    return torch.randint(0, vocab, (3, 16), generator=generator(1))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tied": False},
        {"qk_norm": False},
        {"vocab": 300},
        {"heads": 1},
        {"positions": "rotary"},
    ],
)
def test_a_token_sees_only_what_came_before(options: dict[str, object]) -> None:
    config = SMALL.model_copy(update=options)
    model = build_model(config, generator())
    seen = tokens()
    changed = seen.clone()
    changed[:, 9:] = 7
    one, two = model.logits(seen), model.logits(changed)
    assert one.shape == (3, 16, config.vocab)
    assert torch.equal(one[:, :9], two[:, :9])
    assert not torch.equal(one[:, 9:], two[:, 9:])


def test_order_matters_through_positions() -> None:
    model = build_model(SMALL, generator())
    same = torch.full((1, 16), 5)
    logits = model.logits(same)
    assert not torch.allclose(logits[0, 3], logits[0, 4])


def test_initialisation_is_the_generators_alone() -> None:
    torch.manual_seed(1)
    one = build_model(SMALL, generator(3)).state_dict()
    torch.manual_seed(2)
    two = build_model(SMALL, generator(3)).state_dict()
    other = build_model(SMALL, generator(4)).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["embedding.weight"], other["embedding.weight"])
    down = one["blocks.0.down.weight"].std().item()
    assert down == pytest.approx(0.02 / math.sqrt(4), rel=0.05)
    assert one["embedding.weight"].std().item() == pytest.approx(0.02, rel=0.05)


def test_the_tie_holds_on_every_device() -> None:
    for device in ("cpu", "meta"):
        model = move(build_model(SMALL, generator()), torch.device(device))
        assert isinstance(model, GPT)
        assert model.head.weight is model.embedding.weight
        assert model.head.weight.device.type == device


def test_a_fresh_model_knows_nothing() -> None:
    model = build_model(SMALL, generator())
    window = torch.randint(0, 256, (8, 17), generator=generator(2))
    assert model(window).item() == pytest.approx(math.log(256), abs=0.05)
    halves = (model(window[:4]) + model(window[4:])) / 2
    assert halves.item() == pytest.approx(model(window).item(), rel=1e-5)


def test_padding_takes_no_probability() -> None:
    config = SMALL.model_copy(update={"vocab": 300})
    model = build_model(config, generator())
    assert model.head.weight.shape[0] == 320
    with torch.no_grad():
        model.head.weight[300:] = 100.0
    window = torch.randint(0, 300, (3, 17), generator=generator(1))
    assert model(window).item() < 7


def test_bf16_on_a_cpu_is_close_to_fp32() -> None:
    model = build_model(SMALL, generator())
    window = tokens()
    losses: list[float] = []
    for precision in ("fp32", "bf16"):
        device = Device(device=torch.device("cpu"), precision=precision, threads=1)
        with device.autocast():
            loss = model(window)
        model.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], abs=0.02)
    assert losses[0] != losses[1]
