"""Lockstep: each member trains as if it were alone, and may come and go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers.config import ModelConfig, TrainConfig
from trainers.course import Course, SegmentError
from trainers.families import FAMILIES
from trainers.lockstep import Member, train_lockstep
from trainers.loop import Report, train
from trainers.memory import TooLarge
from trainers.network import build_network
from trainers.stacked import Stack, StackError

Make = Callable[..., TrainConfig]
STEP = 64
END = 24 * STEP
RATES = (1e-3, 3e-3, 1e-2, 3e-2)


def members(make: Make, folder: Path, **parts: Any) -> list[Member]:
    """Four runs, each of a seed, a rate and a clip of its own."""
    return [
        Member(
            config=make(
                seed=seed,
                precision="fp32",
                optimizer={"learning_rate": rate, "clip": (1.0, 0.1, 0.0, 1.0)[seed]},
                **parts,
            ),
            folder=folder / str(seed),
        )
        for seed, rate in enumerate(RATES)
    ]


def told(reports: Any) -> dict[int, list[Report]]:
    by_member: dict[int, list[Report]] = {}
    for member, report in reports:
        by_member.setdefault(member, []).append(report)
    return by_member


def alike(one: list[Report], other: list[Report], *, resumed: bool = False) -> None:
    """Told alike; the mean training loss since the report before spans other steps on resuming."""
    assert [r.tokens for r in one] == [r.tokens for r in other]
    for a, b in zip(one, other, strict=True):
        assert a.loss == pytest.approx(b.loss, abs=2e-4)
        if not resumed:
            assert a.train_loss == pytest.approx(b.train_loss, abs=2e-4)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=2e-3)
        assert (a.learning_rate, a.phase, a.flops) == (b.learning_rate, b.phase, b.flops)


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"tied": False, "vocab": 300},
        {"positions": "rotary"},
        {"parametrization": "completep", "base_width": 8, "base_layers": 1},
    ],
    ids=str,
)
def test_members_train_as_if_alone(make_config: Make, tmp_path: Path, model: Any) -> None:
    shape = {"layers": 2, "width": 16, "heads": 2, "context": 16} | model
    group = members(make_config, tmp_path / "together", model=shape)
    together = told(train_lockstep(group, until=END))
    for place, member in enumerate(group):
        single = list(train(member.config, until=END, folder=tmp_path / f"alone{place}"))
        alike(together[place], single)
    ends = [reports[-1].loss for reports in together.values()]
    assert len(set(ends)) == 4


def test_checkpoints_are_interchangeable(make_config: Make, tmp_path: Path) -> None:
    group = members(make_config, tmp_path / "together")
    straight = [
        list(train(m.config, until=END, folder=tmp_path / f"a{i}")) for i, m in enumerate(group)
    ]
    half = told(train_lockstep(group, until=12 * STEP))
    for place, member in enumerate(group):
        resumed = list(
            train(
                member.config,
                until=END,
                folder=tmp_path / f"b{place}",
                resume=half[place][-1].checkpoint,
            )
        )
        alike(resumed, straight[place][-len(resumed) :], resumed=True)
    halves = [
        list(train(m.config, until=12 * STEP, folder=tmp_path / f"c{i}"))[-1].checkpoint
        for i, m in enumerate(group)
    ]
    again = [
        Member(config=m.config, folder=tmp_path / f"d{i}", resume=path)
        for (i, m), path in zip(enumerate(group), halves, strict=True)
    ]
    rest = told(train_lockstep(again, until=END))
    for place in range(4):
        alike(rest[place], straight[place][-len(rest[place]) :], resumed=True)


def test_resume_of_a_lockstep_is_bit_identical(make_config: Make, tmp_path: Path) -> None:
    straight = told(train_lockstep(members(make_config, tmp_path / "a"), until=END))
    half = told(train_lockstep(members(make_config, tmp_path / "b"), until=17 * STEP))
    again = [
        Member(config=m.config, folder=m.folder, resume=half[i][-1].checkpoint)
        for i, m in enumerate(members(make_config, tmp_path / "c"))
    ]
    rest = told(train_lockstep(again, until=END))
    assert [rest[i][-1].loss for i in range(4)] == [straight[i][-1].loss for i in range(4)]


def test_members_leave_and_the_others_go_on(make_config: Make, tmp_path: Path) -> None:
    group = members(make_config, tmp_path / "together")
    asked = iter([False, True])
    stopped = Member(config=group[1].config, folder=group[1].folder, stop=lambda: next(asked))
    together = told(train_lockstep([group[0], stopped, *group[2:]], until=END))
    assert len(together[1]) == 2
    assert together[1][-1].checkpoint is not None
    for place in (0, 2, 3):
        single = list(train(group[place].config, until=END, folder=tmp_path / f"a{place}"))
        alike(together[place], single)
    resumed = list(
        train(
            stopped.config,
            until=END,
            folder=tmp_path / "b",
            resume=together[1][-1].checkpoint,
        )
    )
    assert resumed[-1].tokens == END


def test_one_that_diverges_leaves_the_others_alone(make_config: Make, tmp_path: Path) -> None:
    group = members(make_config, tmp_path / "together")
    bad = group[2].config.optimizer.model_copy(update={"weight_decay": 1e30})
    config = group[2].config.model_copy(update={"optimizer": bad})
    poisoned = Member(config=config, folder=group[2].folder)
    together = told(train_lockstep([*group[:2], poisoned, group[3]], until=END))
    assert together[2][-1].diverged
    assert together[2][-1].checkpoint is None
    for place in (0, 1, 3):
        assert together[place][-1].tokens == END
        single = list(train(group[place].config, until=END, folder=tmp_path / f"a{place}"))
        alike(together[place], single)


def test_refusals(make_config: Make, tmp_path: Path) -> None:
    one = Member(config=make_config(), folder=tmp_path / "a")

    def refused(match: str, *group: Member) -> None:
        with pytest.raises(SegmentError, match=match):
            train_lockstep(group, until=END)

    refused("at least one")
    other = Member(config=make_config(batch_tokens=128), folder=tmp_path / "b")
    refused(
        "members 0 and 1 of a lockstep differ in batch_tokens; only seed",
        one,
        other,
    )
    done = list(train(make_config(), until=STEP, folder=tmp_path / "c"))[-1].checkpoint
    ahead = Member(config=make_config(), folder=tmp_path / "d", resume=done)
    refused("differ in the tokens at which they stand", one, ahead)


def test_seconds_are_shared_but_for_those_of_checkpoints(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    save = Course.save

    def slow(course: Course, *given: Any, **named: Any) -> None:
        time.sleep(0.05 * (1 + course.config.seed))
        save(course, *given, **named)

    monkeypatch.setattr(Course, "save", slow)
    began = time.monotonic()
    some = members(make_config, tmp_path)
    together = told(train_lockstep(some, until=END))
    assert sum(r[-1].elapsed_s for r in together.values()) <= time.monotonic() - began
    assert all(r[-2].checkpoint is None for r in together.values())
    assert len({r[-2].elapsed_s for r in together.values()}) == 1
    for place, reports in together.items():
        own = 0.05 * (1 + some[place].config.seed)
        assert reports[-1].elapsed_s - reports[-2].elapsed_s >= own


class Narrow:
    """A device that holds the hidden values of so many sequences."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
        self.seen: list[int] = []
        forward = Stack.forward

        def narrow(stack: Stack, windows: torch.Tensor) -> torch.Tensor:
            losses = forward(stack, windows)
            if torch.is_grad_enabled():
                self.seen.append(len(windows))
                if len(windows) > rows:
                    raise torch.OutOfMemoryError("planted")
            return losses

        monkeypatch.setattr(Stack, "forward", narrow)


def test_batches_that_do_not_fit_are_cut(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four members with four sequences a step each, where nine fit."""
    whole = told(train_lockstep(members(make_config, tmp_path / "whole"), until=4 * STEP))
    device = Narrow(monkeypatch, 9)
    cut = told(train_lockstep(members(make_config, tmp_path / "cut"), until=4 * STEP))
    assert device.seen == [16] + [8] * 8
    for place in range(4):
        alike(cut[place], whole[place])


def test_members_that_do_not_fit_at_all_say_so(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Narrow(monkeypatch, 3)
    with pytest.raises(TooLarge, match=r"4 models in lockstep do not fit .*: use fewer in"):
        told(train_lockstep(members(make_config, tmp_path), until=STEP))


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.stacks])
def test_stacks_of_every_family_give_each_member_its_loss_and_gradients(family: str) -> None:
    config = ModelConfig.model_validate(
        {"family": family, "layers": 2, "width": 32, "heads": 4, "context": 16}
    )
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    singles = [build_network(config, generator) for generator in generators]
    with torch.no_grad():  # gains are ones at first, which hides a wrong one
        for network in singles:
            for parameter in network.parameters():
                if parameter.ndim == 1:
                    parameter.uniform_(0.5, 1.5, generator=generators[0])
    windows = torch.randint(0, 256, (6, 17), generator=generators[0])
    gradients: list[dict[str, torch.Tensor]] = []
    losses: list[torch.Tensor] = []
    for part, network in zip(windows.split(2), singles, strict=True):
        losses.append(network(part))
        losses[-1].backward()
        named = network.named_parameters()
        gradients.append({name: p.grad.clone() for name, p in named if p.grad is not None})
        network.zero_grad()
    stack = Stack(singles)
    together = stack(windows)
    torch.testing.assert_close(together, torch.stack(losses), atol=1e-5, rtol=1e-5)
    together.sum().backward()
    weights = stack.named_weights()
    assert weights.keys() == gradients[0].keys()
    for name, weight in weights.items():
        assert weight.grad is not None
        expected = torch.stack([own[name] for own in gradients])
        torch.testing.assert_close(weight.grad, expected, atol=1e-5, rtol=1e-3)


def test_a_family_that_cannot_be_stacked_is_refused() -> None:
    assert [name for name, family in FAMILIES.items() if not family.stacks] == ["gpt2"]
    config = ModelConfig.model_validate(
        {"family": "gpt2", "layers": 1, "width": 32, "heads": 4, "context": 16}
    )
    networks = [build_network(config, torch.Generator().manual_seed(i)) for i in range(2)]
    with pytest.raises(StackError, match=r"c_attn is a Conv1D .* train its trials singly"):
        Stack(networks)
