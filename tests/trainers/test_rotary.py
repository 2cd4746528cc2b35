"""Rotary positions: scores depend on distance alone, and lengths are kept."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from trainers.architecture import ModelConfig
from trainers.model import build_model
from trainers.rotary import rotary_table, rotate


def test_scores_depend_on_the_distance_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 8, generator=generator)
    table = rotary_table(32, 8)
    turned = rotate(torch.stack([query, key]).expand(1, 32, 2, 8).contiguous(), table)[0]
    scores = turned[:, 0] @ turned[:, 1].T  # [place of the query, place of the key]
    for distance in (-5, 0, 3):
        along = torch.diagonal(scores, offset=distance)
        assert torch.allclose(along, along[0].expand_as(along), atol=1e-4)
    assert not torch.allclose(scores[5, 5], scores[5, 2], atol=1e-3)
    assert torch.allclose(turned.norm(dim=-1)[:, 0], query.norm().expand(32), atol=1e-5)


def test_the_first_place_is_not_turned_and_precision_is_kept() -> None:
    heads = torch.randn(2, 4, 3, 6, generator=torch.Generator().manual_seed(1)).bfloat16()
    turned = rotate(heads, rotary_table(4, 6))
    assert turned.dtype is torch.bfloat16
    assert torch.equal(turned[:, 0], heads[:, 0])


def test_a_model_with_rotary_positions_stores_no_table() -> None:
    config = ModelConfig(layers=1, width=16, heads=2, context=8, positions="rotary")
    model = build_model(config, torch.Generator().manual_seed(0))
    assert not any("position" in name or "rotary" in name for name in model.state_dict())
    one, two = (
        model.logits(torch.tensor([[5, 9, 7, 1]])),
        model.logits(torch.tensor([[9, 5, 7, 1]])),
    )
    assert not torch.allclose(one[0, 3], two[0, 3])


def test_an_odd_head_is_refused() -> None:
    with pytest.raises(ValidationError, match="pairs of channels"):
        ModelConfig(layers=1, width=15, heads=5, context=8, positions="rotary")
