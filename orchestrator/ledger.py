"""What a sweep may spend, and what it has spent: the values that `state.apply` keeps.

Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.demand import Demand


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the spec fixes for the whole sweep, in FLOPs where it is compute.

    `lost_ceiling` bounds work lost to crashes; `max_failures` in a row without a new point fail a
    trial; `demand` says what a segment takes, one slot and one GPU where it is None.
    """

    name: str
    seed: int
    budget: int
    lost_ceiling: int
    max_failures: int = 3
    demand: Demand | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """FLOPs spent on journalled progress, reserved by decisions, and lost to repetition.

    `branches` is the part of spent and reserved that annealing branches took; `device_s` sums the
    training seconds that workers reported, `gpu_s` those of each GPU that they trained on,
    `branch_gpu_s` the part of these on branches.
    """

    spent: int = 0
    reserved: int = 0
    lost: int = 0
    branches: int = 0
    device_s: float = 0.0
    gpu_s: float = 0.0
    branch_gpu_s: float = 0.0
