"""How many trials of a shape train as one stack where the spec says `lockstep: auto`.

Stacking saves what a step costs beside its arithmetic: calls and launches, which grow with the
layers and hardly with the trials. So the work of a step in each layer decides: trials are stacked
until together they do `ENOUGH` of it, in powers of two and at most `MOST`.

On a CPU, measured at eight shapes in bf16 and fp32, one thread (`scripts/bench_trainer.py` has the
way): 8 trials at 0.03 GFLOPs in a layer's share of a step are 3.0 and 2.0 times as fast as one
after the other; 4 at 0.30 are 1.27 and 1.13; 2 at 0.45 1.1, at 0.73 to 0.87 1.06 to 1.08 and at
2.9 1.0. On a GPU, reasoned and not measured: nanoGPT's model of 10.65M parameters, at 16384 tokens
a step, does 190 GFLOPs a layer and reaches 16.6 % of an A100 (its README and issue 178), where
models that fill it reach 40 to 50 %; four of it in a stack would.

Touches nothing, and depends on the candidate and the kind of device alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from trainers.config import TrainConfig
from trainers.flops import model_cost
from trainers.own import RunConfig

Wish = int | Literal["auto"]

MOST = 8
ENOUGH: Mapping[str, float] = {"cpu": 1.3e9, "cuda": 0.8e12}
"""FLOPs of all members in a layer's share of a step, by kind of device."""


def most_of(wish: Wish, config: RunConfig, device: str) -> int:
    """How many trials like this one are stacked at most.

    `device` is where the trials train, as far as it is known: a configuration that names its own
    knows better, and what is neither `cpu` nor `cuda` is taken for the smaller.
    """
    if wish != "auto":
        return wish
    if not isinstance(config, TrainConfig) or config.stack_key is None:
        return 1
    kind = device if config.device == "auto" else config.device
    work = model_cost(config.model).flops(config.batch_tokens) / config.model.layers
    fitting = int(min(float(MOST), ENOUGH.get(kind, ENOUGH["cpu"]) / work))
    return 1 << (fitting.bit_length() - 1) if fitting else 1
