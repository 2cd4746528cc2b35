"""The trainer's benchmark: a rival of the same computation, and rows that are told or named."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from scripts import bench_trainer
from scripts.bench_trainer import Case, against_nanogpt, lockstep_against_single, measure
from scripts.reference_gpt import ReferenceGPT, ReferenceTrainer
from trainers.config import ModelConfig
from trainers.model import GPT, build_model

SHAPE = ModelConfig(layers=2, width=32, heads=2, context=16, qk_norm=False)


def test_the_rival_computes_what_our_model_computes() -> None:
    ours: GPT = build_model(SHAPE, torch.Generator().manual_seed(0))
    rival = ReferenceGPT(SHAPE)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in rival.parameters())
    with torch.no_grad():
        for theirs, mine in (
            (rival.tokens.weight, ours.embedding.weight),
            (rival.places.weight, ours.get_parameter("positions.weight")),
            (rival.norm.weight, ours.norm.weight),
        ):
            theirs.copy_(mine)
        names = {"qkv": "attention.qkv", "project": "attention.out", "widen": "up",
                 "narrow": "down", "first": "attention_norm", "second": "mlp_norm"}  # fmt: skip
        for place, layer in enumerate(rival.layers):
            for theirs, mine in names.items():
                weight = ours.get_parameter(f"blocks.{place}.{mine}.weight")
                layer.get_parameter(f"{theirs}.weight").copy_(weight)
    window = torch.randint(0, 256, (4, 17), generator=torch.Generator().manual_seed(1))
    loss = rival(window[:, :-1], window[:, 1:].contiguous())
    torch.testing.assert_close(loss, ours(window))


def test_the_rival_learns() -> None:
    tokens = np.tile(np.arange(16, dtype=np.uint16), 100)
    trainer = ReferenceTrainer(SHAPE, tokens, sequences=8)
    x, y = trainer.batch()
    assert torch.equal(x[:, 1:], y[:, :-1])
    before = trainer.model(x, y).item()
    trainer.train(20)
    assert trainer.model(x, y).item() < before - 1


@pytest.mark.parametrize("pair", [against_nanogpt, lockstep_against_single])
def test_a_case_is_measured(pair: bench_trainer.Pairing) -> None:
    case = Case(name="toy", model=SHAPE, sequences=2, steps=1, members=2, pair=pair, bar=1e-9)
    record = measure(case, rounds=1)
    assert record.ratio > 0
    assert record.met
    assert record.mfu is None
    assert record.ours_tokens_per_s > 0


def test_rows_without_a_device_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench_trainer.main(["--case", "gpu-50M", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == []
    assert list(told["not_run"]) == ["gpu-50M"]
