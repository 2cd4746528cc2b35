"""Measure the trainer: its tokens per second against nanoGPT's own step, in turn.

    python scripts/bench_trainer.py [--case NAME ...] [--rounds N] [--json]

Every case runs ours and the reference in turns of a few steps each, and compares medians: CPU
seconds of the process on a CPU (one thread; wall time says nothing on a shared machine), wall
seconds between synchronisations on a GPU. Cases:

- `nanogpt`: 4 layers x 128 wide x 128 tokens x batch 16, bytes. Ours (batches, loop, precision
  `auto`) against nanoGPT's step in eager fp32 (`scripts/reference_gpt.py`). Bar: 1.4 where the
  processor has AMX, else 1.0.
- `nanogpt-fp32`: the same with ours in fp32, and `nanogpt-fp32-plain` without the QK-norm that
  nanoGPT has not. No bars: they say how much of it is precision.
- `loop`: our loop against the bare step of the same network on one fixed window. Bar: 0.95.
- `lockstep`: 4 models of 2 layers x 32 wide x 64 tokens x batch 4 as one stack, against the same
  four one after the other. Bar: 1.6.
- `gpu-10M`, `gpu-50M`, `gpu-124M`, `gpu-10M-lockstep`: bf16, compiled, resident tokens, against
  nanoGPT's step in bf16, compiled and with fused AdamW; MFU by the convention of
  `trainers.peaks`. Bars: 40 % at 50M and 124M, 30 % in lockstep at 10M, on one H100. Without a
  CUDA device they are named as not run.

Records: case, device, precision, ours_tokens_per_s, reference_tokens_per_s, ratio, mfu, bar, met.
A missed bar is told and makes no exit code: the figures are for people.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.reference_gpt import ReferenceTrainer
from trainers.config import ModelConfig, TrainConfig
from trainers.data import Batches
from trainers.device import Device, choose_device
from trainers.feed import Feed
from trainers.flops import model_cost
from trainers.learner import Learner
from trainers.peaks import mfu
from trainers.stacked_learner import StackedLearner

RATE = 1e-3
TOKENS = 1 << 20

Turn = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One case, measured. `ratio` is ours over the reference, in tokens per second."""

    case: str
    device: str
    precision: str
    ours_tokens_per_s: float
    reference_tokens_per_s: float
    ratio: float
    mfu: float | None
    bar: float | None
    met: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Ours and the reference, each a turn of `tokens` tokens."""

    ours: Turn
    reference: Turn
    tokens: int


Pairing = Callable[["Case", Device], Pair]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A shape, what of it is compared, and the bar: on `ratio`, or on `mfu` on a GPU."""

    name: str
    model: ModelConfig
    sequences: int
    steps: int
    pair: Pairing
    precision: str = "auto"
    compile: str = "never"
    members: int = 1
    gpu: bool = False
    bar: float | None = None

    def config(self, seed: int = 0) -> TrainConfig:
        batch = self.sequences * self.model.context
        return TrainConfig.model_validate(
            {
                "model": self.model,
                "batch_tokens": batch,
                "horizon": 10**6 * batch,
                "seed": seed,
                "evaluation": {"tokens": self.model.context},
                "optimizer": {"learning_rate": RATE, "beta2": 0.95},
                "device": "cuda" if self.gpu else "cpu",
                "precision": self.precision,
                "compile": self.compile,
            }
        )

    def feed(self, device: Device) -> Feed:
        runs = [
            Batches(
                tokens_of(self.model.vocab),
                context=self.model.context,
                sequences=self.sequences,
                seed=seed,
            )
            for seed in range(self.members)
        ]
        return Feed(runs, device)


def tokens_of(vocab: int) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    """Tokens without meaning: speed does not depend on them."""
    return np.random.default_rng(0).integers(vocab, size=TOKENS, dtype=np.uint16)


def against_nanogpt(case: Case, device: Device) -> Pair:
    """Our loop against nanoGPT's, which computes in fp32 on a CPU and in bf16 on a GPU."""
    learner, feed = Learner(case.config(), device), case.feed(device)
    kind = device.device.type
    reference = ReferenceTrainer(
        case.model,
        tokens_of(case.model.vocab),
        sequences=case.sequences,
        device=kind,
        precision="bf16" if device.is_cuda else "fp32",
        compiled=device.is_cuda,
    )

    def ours() -> None:
        learner.train(feed, lambda k: RATE, 0, case.steps)

    return Pair(
        ours=ours,
        reference=lambda: reference.train(case.steps),
        tokens=case.steps * case.sequences * case.model.context,
    )


def against_the_bare_step(case: Case, device: Device) -> Pair:
    """Our loop against the same network's step on one window, written out."""
    learner, feed = Learner(case.config(), device), case.feed(device)
    bare = Learner(case.config(), device)
    parameters = list(bare.network.parameters())
    window = feed.windows(0)

    def reference() -> None:
        for _ in range(case.steps):
            with device.autocast():
                loss = bare.network(window)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            bare.optimizer.step()
            bare.optimizer.zero_grad(set_to_none=True)

    def ours() -> None:
        learner.train(feed, lambda k: RATE, 0, case.steps)

    return Pair(
        ours=ours,
        reference=reference,
        tokens=case.steps * case.sequences * case.model.context,
    )


def lockstep_against_single(case: Case, device: Device) -> Pair:
    """A stack against the same models one after the other."""
    configs = [case.config(seed) for seed in range(case.members)]
    stack, feed = StackedLearner(configs, device), case.feed(device)
    singles = [(Learner(config, device), case.feed(device)) for config in configs]
    for i, (_, own) in enumerate(singles):
        own.keep([i])

    def ours() -> None:
        stack.train(feed, [lambda k: RATE] * case.members, 0, case.steps)

    def reference() -> None:
        for learner, own in singles:
            learner.train(own, lambda k: RATE, 0, case.steps)

    return Pair(
        ours=ours,
        reference=reference,
        tokens=case.members * case.steps * case.sequences * case.model.context,
    )


def has_amx() -> bool:
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def cases() -> list[Case]:
    """All of them; `gpu` ones need a CUDA device."""
    small = ModelConfig(layers=4, width=128, heads=4, context=128)
    plain = small.model_copy(update={"qk_norm": False})
    tiny = ModelConfig(layers=2, width=32, heads=2, context=64)
    ten = ModelConfig(layers=6, width=320, heads=5, context=1024, vocab=8192)
    fifty = ModelConfig(layers=12, width=576, heads=9, context=1024, vocab=8192)
    gpt2 = ModelConfig(layers=12, width=768, heads=12, context=1024, vocab=50257)
    return [
        Case(name="nanogpt", model=small, sequences=16, steps=2, pair=against_nanogpt,
             bar=1.4 if has_amx() else 1.0),
        Case(name="nanogpt-fp32", model=small, sequences=16, steps=2, pair=against_nanogpt,
             precision="fp32"),
        Case(name="nanogpt-fp32-plain", model=plain, sequences=16, steps=2, pair=against_nanogpt,
             precision="fp32"),
        Case(name="loop", model=small, sequences=16, steps=2, pair=against_the_bare_step,
             bar=0.95),
        Case(name="lockstep", model=tiny, sequences=4, steps=10, members=4,
             pair=lockstep_against_single, bar=1.6),
        Case(name="gpu-10M", model=ten, sequences=64, steps=50, pair=against_nanogpt, gpu=True,
             compile="always"),
        Case(name="gpu-50M", model=fifty, sequences=128, steps=20, pair=against_nanogpt, gpu=True,
             compile="always", bar=0.4),
        Case(name="gpu-124M", model=gpt2, sequences=64, steps=20, pair=against_nanogpt, gpu=True,
             compile="always", bar=0.4),
        Case(name="gpu-10M-lockstep", model=ten, sequences=16, steps=50, members=4, gpu=True,
             pair=lockstep_against_single, compile="always", bar=0.3),
    ]  # fmt: skip


def measure(case: Case, rounds: int) -> Record:
    """Take turns, and compare the medians."""
    device = choose_device(case.config())
    pair = case.pair(case, device)
    for turn in (pair.ours, pair.reference):
        turn()
    ours: list[float] = []
    reference: list[float] = []
    for _ in range(rounds):
        ours.append(seconds(pair.ours, device))
        reference.append(seconds(pair.reference, device))
    a, b = statistics.median(ours), statistics.median(reference)
    used = mfu(model_cost(case.model).flops(pair.tokens), a, device.name)
    ratio = statistics.median(r / o for r, o in zip(reference, ours, strict=True))
    judged = used if case.gpu else ratio
    return Record(
        case=case.name,
        device=device.name,
        precision=device.precision,
        ours_tokens_per_s=pair.tokens / a,
        reference_tokens_per_s=pair.tokens / b,
        ratio=ratio,
        mfu=used,
        bar=case.bar,
        met=None if case.bar is None or judged is None else judged >= case.bar,
    )


def seconds(turn: Turn, device: Device) -> float:
    """What a turn costs: CPU seconds on a CPU, wall seconds on a GPU."""
    if not device.is_cuda:
        began = time.process_time()
        turn()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.monotonic()
    turn()
    torch.cuda.synchronize()
    return time.monotonic() - began


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases; the exit code."""
    known = cases()
    parser = argparse.ArgumentParser(description="Measure the trainer against nanoGPT's step.")
    parser.add_argument("--case", nargs="+", choices=[c.name for c in known], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each (default 15)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    asked = parser.parse_args(argv)
    records: list[Record] = []
    not_run: dict[str, str] = {}
    for case in known:
        if asked.case and case.name not in asked.case:
            continue
        if case.gpu and not torch.cuda.is_available():
            not_run[case.name] = f"torch {torch.__version__} sees no CUDA device"
            continue
        records.append(measure(case, asked.rounds))
        print(_row(records[-1]), file=sys.stderr, flush=True)
    for name, why in not_run.items():
        print(f"{name}: not run: {why}", file=sys.stderr)
    if asked.json:
        rows = [asdict(record) for record in records]
        told = {"schema": "frontrunner.bench_trainer/1", "rows": rows, "not_run": not_run}
        print(json.dumps(told))
    return 0


def _row(record: Record) -> str:
    used = "" if record.mfu is None else f", MFU {record.mfu:.1%} (exact convention, bf16 peak)"
    bar = "" if record.bar is None else f", bar {record.bar:g} {'met' if record.met else 'MISSED'}"
    return (
        f"{record.case} ({record.device}, {record.precision}): "
        f"{record.ours_tokens_per_s:,.0f} against {record.reference_tokens_per_s:,.0f} tokens/s, "
        f"ratio {record.ratio:.2f}{used}{bar}"
    )


if __name__ == "__main__":
    sys.exit(main())
