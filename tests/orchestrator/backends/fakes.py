"""A stand-in for the trainer: the same door, no torch, and ways to misbehave on request.

The learning rate of a configuration is how it behaves, since that is what travels with it.
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.pool import Pool
from orchestrator.values import Candidate, Phase
from trainers.config import ModelConfig, OptimizerConfig, TrainConfig

STEP = 64
PACE_S = 0.05
# What the candidates of `pool` do; each is the learning rate that asks for it.
GOOD, SLOW, RAISES, NAN, RISES, DIES_ONCE, STUCK = 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007
BURSTS, FAR = 0.008, 0.009
BEHAVIOURS = {
    "good": GOOD,
    "good2": GOOD,
    "slow": SLOW,
    "slow2": SLOW,
    "raises": RAISES,
    "nan": NAN,
    "rises": RISES,
    "dies-once": DIES_ONCE,
    "stuck": STUCK,
    "bursts": BURSTS,
    "far": FAR,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeReport:
    tokens: int
    flops: float
    loss: float
    bits_per_byte: float | None = None
    train_loss: float | None = math.nan
    phase: Phase = "stable"
    learning_rate: float | None = 0.1
    grad_norm: float | None = None
    elapsed_s: float | None = 0.0
    checkpoint: Path | None = None
    diverged: bool = False


def fake_train(
    config: TrainConfig,
    *,
    until: int,
    folder: Path,
    resume: Path | None = None,
    anneal: bool = False,
    stop: Callable[[], bool],
) -> Iterator[FakeReport]:
    """A point a step, a checkpoint every second one and at the end."""
    start = 0 if resume is None else json.loads((resume / "state.json").read_text())["tokens"]
    (folder / "pid").write_text(str(os.getpid()))
    (folder / "gpus").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
    behaviour = config.optimizer.learning_rate
    for number, tokens in enumerate(range(start + STEP, until + 1, STEP), start=1):
        if behaviour in (SLOW, DIES_ONCE):
            time.sleep(PACE_S)
        if behaviour == FAR:
            time.sleep(10 * PACE_S)
        if behaviour == STUCK and number == 3:
            time.sleep(600)
        if behaviour == RAISES and number == 3:
            raise RuntimeError("the loss\nfell off the table")
        if behaviour == DIES_ONCE and number == 6 and resume is None:
            time.sleep(1.0)  # so that what was reported has arrived
            os.kill(os.getpid(), signal.SIGKILL)
        loss = 2.0 + 100.0 / tokens - (0.1 if anneal else 0.0)
        diverged = number == 3 and behaviour in (NAN, RISES, BURSTS)
        train_loss = math.nan if number == 1 else loss
        if diverged:
            loss = {NAN: math.nan, RISES: 9.0}.get(behaviour, loss)
            train_loss = math.inf if behaviour == BURSTS else loss
        last = tokens + STEP > until or (not diverged and stop())
        saved = None
        if not diverged and (last or number % 2 == 0):
            saved = _save(folder, tokens)
        yield FakeReport(
            tokens=tokens,
            flops=tokens * 600.0,
            loss=loss,
            train_loss=train_loss,
            phase="annealed" if anneal else "stable",
            checkpoint=saved,
            diverged=diverged,
        )
        if last or diverged:
            return


def _save(folder: Path, tokens: int) -> Path:
    path = folder / f"tokens-{tokens:015d}"
    path.mkdir()
    (path / "state.json").write_text(json.dumps({"tokens": tokens}))
    return path


def pool(horizon: int = 40 * STEP) -> Pool:
    """One candidate for each behaviour, named after it."""
    candidates = tuple(
        Candidate(
            id=name, params=100, horizon=horizon, flops_per_token=600.0, tokens_per_step=STEP
        )
        for name in BEHAVIOURS
    )
    configs = tuple(_config(rate, horizon) for rate in BEHAVIOURS.values())
    return Pool(candidates=candidates, configs=configs)


def _config(rate: float, horizon: int) -> TrainConfig:
    return TrainConfig(
        model=ModelConfig(layers=1, width=8, context=16),
        optimizer=OptimizerConfig(learning_rate=rate),
        batch_tokens=STEP,
        horizon=horizon,
        device="cpu",
    )
