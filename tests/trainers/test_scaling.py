"""muP and CompleteP: the base is the standard model, and updates keep their size across sizes."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from trainers.architecture import ModelConfig
from trainers.config import OptimizerConfig
from trainers.model import build_model
from trainers.optimizer import apply_gradients, build_optimizer
from trainers.scaling import scaling_of


def shape(width: int, layers: int = 2, **options: object) -> ModelConfig:
    base = {"layers": layers, "width": width, "heads": width // 16, "context": 16, "vocab": 64}
    return ModelConfig.model_validate(base | options)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


MUP = {"parametrization": "mup", "base_width": 32}
COMPLETEP = {"parametrization": "completep", "base_width": 32, "base_layers": 2}


@pytest.mark.parametrize("options", [MUP, COMPLETEP])
def test_the_base_is_the_standard_model(options: dict[str, object]) -> None:
    one, two = build_model(shape(32), generator()), build_model(shape(32, **options), generator())
    assert all(map(torch.equal, one.parameters(), two.parameters()))
    assert one.rate_scales == two.rate_scales == {}
    window = torch.randint(0, 64, (2, 17), generator=generator(1))
    assert torch.equal(one(window), two(window))


def test_factors_by_hand() -> None:
    mup = scaling_of(shape(128, 8, **MUP))
    assert (mup.hidden_rate, mup.hidden_sd, mup.logits, mup.residual) == (0.25, 0.5, 0.25, 1)
    assert mup.residual_sd == pytest.approx(0.5 / 4)
    deep = scaling_of(shape(128, 8, **COMPLETEP))
    assert (deep.hidden_rate, deep.residual) == (0.25, 0.25)
    assert deep.residual_sd == pytest.approx(0.5 / 2)
    free = scaling_of(shape(128, qk_norm=False, **MUP))
    assert free.scores == pytest.approx(8 / 16)
    assert mup.scores == pytest.approx(1 / 4)


def test_scaled_rates_reach_the_optimizer_and_leave_the_decay() -> None:
    model = build_model(shape(64, **MUP), generator())
    optimizer = build_optimizer(model, OptimizerConfig(weight_decay=0.1))
    for group in optimizer.param_groups:
        hidden = group["rate_scale"] == 0.5
        assert hidden or group["rate_scale"] == 1
        assert all((p.ndim == 2) >= hidden for p in group["params"])
        assert group["weight_decay"] == (0.2 if hidden else 0)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(
        list(model.parameters())
    )


def moved(config: ModelConfig) -> float:
    """How far the logits move in four steps of Adam at a high rate (root mean square)."""
    model = build_model(config, generator())
    optimizer = build_optimizer(model, OptimizerConfig(weight_decay=0))
    window = torch.randint(0, 64, (8, 17), generator=generator(1))
    with torch.no_grad():
        before = model.logits(window[:, :-1])
    for _ in range(4):
        model(window).backward()
        apply_gradients(optimizer, list(model.parameters()), 1e-2, 0)
    with torch.no_grad():
        return float((model.logits(window[:, :-1]) - before).square().mean().sqrt())


def test_updates_keep_their_size_in_width_under_mup_alone() -> None:
    """The check of Yang et al.: one rate moves the outputs of wide and narrow models alike."""
    standard = moved(shape(256)) / moved(shape(32))
    mup = moved(shape(256, **MUP)) / moved(shape(32, **MUP))
    assert standard > 3
    assert 0.5 < mup < 2


def test_updates_keep_their_size_in_depth_under_completep() -> None:
    deep = moved(shape(32, 16, **COMPLETEP)) / moved(shape(32, 2, **COMPLETEP))
    assert 0.5 < deep < 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"parametrization": "mup"}, "is required under parametrization: mup"),
        ({"base_width": 32}, "means nothing under parametrization: standard"),
        (MUP | {"base_layers": 2}, "means nothing under parametrization: mup"),
        (MUP | {"parametrization": "completep"}, "is required under parametrization: completep"),
    ],
)
def test_refusals(options: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        shape(64, **options)
