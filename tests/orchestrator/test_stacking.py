"""What `lockstep: auto` chooses: by a shape's work and the kind of device, and nothing else."""

from __future__ import annotations

import pytest

from orchestrator.stacking import ENOUGH, MOST, most_of
from trainers.config import TrainConfig
from trainers.flops import model_cost


def config(
    layers: int = 2,
    width: int = 32,
    context: int = 64,
    sequences: int = 4,
    device: str = "cpu",
    **model: object,
) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "model": {
                "layers": layers,
                "width": width,
                "heads": max(1, width // 64),
                "context": context,
                **model,
            },
            "batch_tokens": context * sequences,
            "horizon": 10**6 * context * sequences,
            "evaluation": {"tokens": context},
            "device": device,
        }
    )


@pytest.mark.parametrize(
    ("shape", "most"),
    [
        ((2, 16, 64, 4), 8),  # measured: 8 at 3.5 (bf16) and 2.7 (fp32) times one after the other
        ((2, 32, 64, 4), 8),  # 3.0, 2.0
        ((2, 32, 128, 16), 4),  # 4 at 1.27, 1.13; 8 at 1.15, 1.0
        ((2, 64, 128, 8), 2),  # 1.11
        ((4, 128, 128, 4), 1),  # 2 at 1.08
        ((3, 64, 128, 16), 1),  # 2 at 1.06
        ((4, 128, 128, 16), 1),  # 1.0
    ],
)
def test_a_cpu_stacks_what_was_measured_to_gain(
    shape: tuple[int, int, int, int], most: int
) -> None:
    assert most_of("auto", config(*shape), "cpu") == most


@pytest.mark.parametrize(
    ("shape", "most"),
    [
        ((4, 128, 512, 60), 8),  # 0.8M parameters at the rule's batch
        ((6, 384, 256, 64), 4),  # nanoGPT's 10.65M
        ((6, 320, 1024, 64), 1),  # 10M with a batch of 65k tokens
        ((12, 768, 1024, 64), 1),
    ],
)
def test_a_gpu_stacks_up_to_about_ten_million_parameters(
    shape: tuple[int, int, int, int], most: int
) -> None:
    assert most_of("auto", config(*shape, device="auto"), "cuda") == most


def test_the_stack_stays_below_what_is_enough() -> None:
    seen: set[int] = set()
    for sequences in range(1, 200):
        one = config(sequences=sequences)
        most = most_of("auto", one, "cpu")
        work = model_cost(one.model).flops(one.batch_tokens) / 2
        assert most == 1 or most * work <= ENOUGH["cpu"]
        assert most == MOST or 2 * most * work > ENOUGH["cpu"]
        seen.add(most)
    assert seen == {1, 2, 4, 8}


def test_who_names_a_device_knows_better_and_the_unknown_is_the_smaller() -> None:
    large = (6, 384, 256, 64)
    assert most_of("auto", config(*large, device="cpu"), "cuda") == 1
    assert most_of("auto", config(*large, device="cuda"), "") == 4
    assert most_of("auto", config(*large, device="auto"), "cpu, cuda") == 1


def test_a_number_is_a_number_and_what_cannot_be_stacked_is_not() -> None:
    assert most_of(5, config(4, 128), "cpu") == 5
    assert most_of("auto", config(family="gpt2"), "cpu") == 1
