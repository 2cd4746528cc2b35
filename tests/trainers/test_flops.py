"""Counts against the real modules: stored parameters exactly, FLOPs by torch's own counter."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trainers.architecture import ModelConfig
from trainers.flops import model_cost
from trainers.model import GPT

SHAPES = [
    ModelConfig(layers=2, width=32, context=16),
    ModelConfig(layers=3, width=48, heads=4, context=32, vocab=300, tied=False),
    ModelConfig(layers=1, width=64, heads=1, context=64, qk_norm=False),
    ModelConfig(layers=2, width=64, heads=2, context=32, positions="rotary"),
]


@pytest.mark.parametrize("config", SHAPES)
def test_stored_parameters_are_the_modules(config: ModelConfig) -> None:
    with torch.device("meta"):
        model = GPT(config)
    assert model_cost(config).stored_params == sum(p.numel() for p in model.parameters())
    body = sum(p.numel() for p in model.blocks.parameters() if p.ndim == 2)
    assert model_cost(config).body_params == body
    assert model_cost(config).head_params == model.head.weight.numel()


@pytest.mark.parametrize("config", SHAPES)
def test_exact_flops_match_torchs_counter(config: ModelConfig) -> None:
    sequences = 4
    model = GPT(config)
    window = torch.zeros(sequences, config.context + 1, dtype=torch.long)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(window).backward()
    ours = model_cost(config).flops(sequences * config.context)
    assert counter.get_total_flops() == pytest.approx(ours, rel=0.01)


def test_conventions_by_hand() -> None:
    cost = model_cost(ModelConfig(layers=2, width=32, context=16))
    body, head = 2 * 12 * 32 * 32, 256 * 32
    assert cost.params == body + head
    assert cost.conventions() == {
        "exact": 6 * (body + head) + 12 * 2 * 32 * 16,
        "causal": 6 * (body + head) + 6 * 2 * 32 * 16,
        "active": 6 * (body + head),
        "body": 6 * body,
        "all": 6 * (body + head + 16 * 32 + 5 * 32),
    }


def test_padding_is_counted_and_the_embedding_look_up_is_free() -> None:
    plain = ModelConfig(layers=2, width=32, context=16, vocab=320, tied=False)
    padded = plain.model_copy(update={"vocab": 300})
    assert model_cost(plain) == model_cost(padded)
    tied = plain.model_copy(update={"tied": True})
    assert model_cost(tied).flops_per_token == model_cost(plain).flops_per_token


@pytest.mark.parametrize("module", ["config", "flops", "quantity", "documents", "findings"])
def test_planning_loads_no_torch(module: str) -> None:
    code = (
        f"import sys, trainers.{module};"
        "heavy = {'torch', 'numpy', 'datasets'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
