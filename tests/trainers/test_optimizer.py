"""AdamW: who is decayed, what clipping does, and that nothing is left behind."""

from __future__ import annotations

import pytest
import torch

from trainers.config import ModelConfig, OptimizerConfig
from trainers.model import build_model
from trainers.optimizer import apply_gradients, build_optimizer


def built(**options: float) -> tuple[torch.nn.Module, torch.optim.AdamW]:
    config = ModelConfig(layers=1, width=16, heads=2, context=8, tied=False)
    model = build_model(config, torch.Generator().manual_seed(0))
    return model, build_optimizer(model, OptimizerConfig.model_validate(options))


def test_only_matrices_decay() -> None:
    model, optimizer = built(weight_decay=0.5)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [{names[id(p)] for p in group["params"]} for group in optimizer.param_groups]
    decays = [group["weight_decay"] for group in optimizer.param_groups]
    assert decays == [0.5, 0.0]
    assert groups[0] == {
        "blocks.0.attention.qkv.weight", "blocks.0.attention.out.weight",
        "blocks.0.up.weight", "blocks.0.down.weight", "head.weight",
    }  # fmt: skip
    assert groups[0] | groups[1] == set(names.values())
    assert not groups[0] & groups[1]


@pytest.mark.parametrize("clip", [0.0, 1e-3])
def test_the_norm_is_told_before_clipping(clip: float) -> None:
    model, optimizer = built()
    parameters = list(model.parameters())
    model(torch.arange(18).view(2, 9)).backward()
    expected = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).norm()
    before = [p.detach().clone() for p in parameters]
    norm = apply_gradients(optimizer, parameters, 0.0, clip)
    assert norm.item() == pytest.approx(expected.item(), rel=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, parameters, strict=True))
    assert all(p.grad is None for p in parameters)
    moment = torch.cat([optimizer.state[p]["exp_avg"].flatten() for p in parameters]).norm()
    bound = clip if clip else expected.item()
    assert moment.item() == pytest.approx(0.1 * bound, rel=1e-3)


def test_a_first_step_moves_by_the_rate() -> None:
    model, optimizer = built(weight_decay=0.0)
    parameters = list(model.parameters())
    before = parameters[0].detach().clone()
    model(torch.arange(18).view(2, 9)).backward()
    apply_gradients(optimizer, parameters, 1e-3, 1.0)
    moved = (parameters[0] - before).abs().max().item()
    assert moved == pytest.approx(1e-3, rel=0.01)


def test_a_network_may_scale_the_rate_of_some_parameters() -> None:
    model, _ = built()
    model.rate_scales = {"blocks.0.up.weight": 0.25}  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
    optimizer = build_optimizer(model, OptimizerConfig(weight_decay=0.0))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model(torch.arange(18).view(2, 9)).backward()
    apply_gradients(optimizer, list(model.parameters()), 1e-3, 1.0)
    moved = {n: (p - before[n]).abs().max().item() for n, p in model.named_parameters()}
    assert moved["blocks.0.up.weight"] == pytest.approx(0.25e-3, rel=0.01)
    assert moved["blocks.0.down.weight"] == pytest.approx(1e-3, rel=0.01)
