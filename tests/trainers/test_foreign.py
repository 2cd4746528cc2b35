"""Families of `transformers`: counted as their modules are, causal, and free of hidden reads."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trainers.architecture import ModelConfig
from trainers.families import FAMILIES
from trainers.flops import model_cost
from trainers.network import build_network, move

FOREIGN = [name for name in FAMILIES if name != "gpt"]


def shape(family: str, **changes: object) -> ModelConfig:
    grouped = FAMILIES[family].grouped  # pyright: ignore[reportArgumentType]
    base = {"family": family, "layers": 2, "width": 64, "heads": 4, "context": 16, "vocab": 300}
    if grouped:
        base |= {"kv_heads": 2}
    return ModelConfig.model_validate(base | changes)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("family", FOREIGN)
@pytest.mark.parametrize("tied", [True, False])
def test_counts_are_the_modules(family: str, tied: bool) -> None:
    config = shape(family, tied=tied)
    network = build_network(config, generator())
    cost = model_cost(config)
    assert cost.stored_params == sum(p.numel() for p in network.parameters())
    window = torch.zeros(4, config.context + 1, dtype=torch.long)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(window).backward()
    assert counter.get_total_flops() == pytest.approx(cost.flops(4 * config.context), rel=0.01)


@pytest.mark.parametrize("family", FOREIGN)
def test_a_token_sees_only_what_came_before(family: str) -> None:
    network = build_network(shape(family), generator())
    seen = torch.randint(0, 300, (3, 16), generator=generator(1))
    changed = seen.clone()
    changed[:, 9:] = 7
    one, two = network.logits(seen), network.logits(changed)
    assert one.shape == (3, 16, 300)
    assert torch.equal(one[:, :9], two[:, :9])
    assert not torch.allclose(one[:, 9:], two[:, 9:])
    swapped = seen.flip(1)
    swapped[:, -1] = seen[:, -1]
    assert not torch.allclose(network.logits(swapped)[:, -1], one[:, -1], atol=1e-6)


@pytest.mark.parametrize("family", FOREIGN)
def test_initialisation_is_the_generators_alone(family: str) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = build_network(shape(family), generator(3)).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    two = build_network(shape(family), generator(3)).state_dict()
    other = build_network(shape(family), generator(4)).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("family", FOREIGN)
def test_nothing_is_read_back_from_the_device(family: str) -> None:
    """On meta there is nothing to read: a hidden `.item()` raises. A tie survives the move."""
    config = shape(family)
    network = move(build_network(config, generator()), torch.device("meta"))
    assert model_cost(config).stored_params == sum(p.numel() for p in network.parameters())
    loss = network(torch.zeros(2, 17, dtype=torch.long, device="meta"))
    loss.backward()
    assert loss.device.type == "meta"


@pytest.mark.parametrize("family", FOREIGN)
def test_attention_is_in_fp32_where_a_cpu_computes_in_bf16(
    monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """Some turn queries and keys in fp32, which autocast would round to bf16 again."""
    seen: list[torch.dtype] = []
    attend = functional.scaled_dot_product_attention

    def noting(*parts: Tensor, **options: Any) -> Tensor:
        found = attend(*parts, **options)
        seen.append(found.dtype)
        return found

    monkeypatch.setattr(functional, "scaled_dot_product_attention", noting)
    network = build_network(shape(family), generator())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(torch.zeros(2, 17, dtype=torch.long)).backward()
    assert set(seen) == {torch.float32}


def test_attention_is_what_transformers_makes_of_it() -> None:
    from trainers.foreign import Foreign

    network = build_network(shape("llama"), generator())
    assert isinstance(network, Foreign)
    tokens = torch.randint(0, 300, (2, 16), generator=generator(1))
    ours = network.logits(tokens)
    network.network.set_attn_implementation("eager")  # pyright: ignore
    assert torch.allclose(network.logits(tokens), ours, atol=1e-5)
    window = torch.randint(0, 300, (8, 17), generator=generator(2))
    assert network(window).item() == pytest.approx(math.log(300), abs=0.1)


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        ({"family": "mamba"}, "family", "'gpt', 'gpt2'"),
        ({"family": "gpt2", "positions": "rotary"}, "positions", "has learned ones"),
        ({"family": "llama", "qk_norm": True}, "qk_norm", "is False in the family llama"),
        ({"family": "gpt2", "kv_heads": 2}, "kv_heads", "as many as heads"),
        ({"family": "llama", "kv_heads": 3}, "kv_heads", "do not divide 4 heads"),
        ({"family": "gpt", "mlp_width": 99}, "mlp_width", "fixed in the family gpt"),
        ({"family": "llama", "parametrization": "mup"}, "parametrization", "for family: gpt"),
    ],
)
def test_refusals(changes: dict[str, object], key: str, says: str) -> None:
    base = {"layers": 2, "width": 64, "heads": 4, "context": 16}
    with pytest.raises(ValidationError, match=says):
        ModelConfig.model_validate(base | changes)


def test_the_gated_mlp_has_eight_thirds_of_the_width() -> None:
    assert shape("llama", width=1536, heads=12, kv_heads=4).inner_width == 4096
    assert shape("llama", width=64).inner_width == 176
    assert shape("gpt2").inner_width == 256
    assert shape("llama", mlp_width=100).inner_width == 100
