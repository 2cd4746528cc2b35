"""Where `bench_replay` takes its pools from: random subsets of recorded tables, or a generator.

Reads tables of curves, each once a process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

from orchestrator.crossings import Noise, crossing_curves, crossing_share, rate_pool
from orchestrator.judge import subsets
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve, read_recorded
from trainers.quantity import parse_number

MOST_SUBSETS = 200
COUNT = 20
"""Curves of a generated pool without a stated size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Tables of curves, or a generator: `crossing` (density), or `rates` (sizes, rates). `size`:
    candidates of a pool; None for all. `seed`: of the pools."""

    files: tuple[str, ...] = ()
    crossing: float | None = None
    noise: Noise = "none"
    rates: tuple[int, int] | None = None
    size: int | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        if self.rates is not None:
            return f"rates {self.rates[0]}x{self.rates[1]} {self.noise}"
        if self.crossing is not None:
            return f"crossing {self.crossing:g} {self.noise}"
        return "+".join(_short(name) for name in self.files)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for equal pools, whatever their files are called."""
        made = None if self.files else (self.crossing, self.noise, self.rates)
        return (*(_digest(name) for name in self.files), made, self.size, self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Pools of one kind at one budget, as written."""

    source: Source
    budget: str

    def flops(self, subset: int) -> int:
        """The budget: FLOPs as written, or a share of what a pool of this size costs."""
        value = parse_number(self.budget)
        return round(value * pool_cost(self.source, subset) if "%" in self.budget else value)


def about(cell: Cell) -> dict[str, object]:
    """What the records of a cell say of it."""
    source = cell.source
    pool, curves = world(source, 0)
    said: dict[str, object] = {"source": source.name, "pool": len(pool)}
    said |= {"budget": cell.budget, "budget_flops": cell.flops(0)}
    if source.files:
        return said | {"curves": len(curves)}
    made = {"crossing": source.crossing, "noise": source.noise}
    return said | made | {"crossing_measured": round(crossing_share(curves), 3)}


def world(source: Source, subset: int) -> tuple[Pool, Mapping[str, RecordedCurve]]:
    """The pool of one subset, and the curves that it is drawn from."""
    if source.files:
        drawn = _drawn(source)
        return drawn[subset % len(drawn)], _tables(source.files)
    return _made(source, subset)


@lru_cache(maxsize=8)
def _made(source: Source, subset: int) -> tuple[Pool, Mapping[str, RecordedCurve]]:
    seed = 1000 * source.seed + subset
    if source.rates is not None:
        curves = rate_pool(*source.rates, seed=seed, noise=source.noise)
    else:
        count, density = source.size or COUNT, source.crossing or 0.0
        curves = crossing_curves(count, density, source.noise, seed=seed)
    return pool_of(curves), curves


def pool_of(curves: Mapping[str, RecordedCurve]) -> Pool:
    return Pool(candidates=tuple(curve.candidate(trial) for trial, curve in curves.items()))


def pool_cost(source: Source, subset: int) -> float:
    """What all of a pool costs, in FLOPs: a generated one itself, or a random one of a table's on
    the mean, so that the budget is one for all subsets."""
    if not source.files:
        return world(source, subset)[0].exhaustive_flops
    pool = _whole(source.files)
    return pool.exhaustive_flops * min(source.size or len(pool), len(pool)) / len(pool)


@cache
def _digest(name: str) -> str:
    return hashlib.sha256(Path(name).read_bytes()).hexdigest()


def _short(name: str) -> str:
    return Path(name).name.split(".")[0]


@cache
def _tables(files: tuple[str, ...]) -> dict[str, RecordedCurve]:
    """The curves of all tables; with several, ids carry the table's name."""
    if len(files) == 1:
        return {trial: _sized(curve) for trial, curve in read_recorded(files[0]).items()}
    return {
        f"{_short(name)}.{trial}": _sized(curve)
        for name in files
        for trial, curve in read_recorded(name).items()
    }


def _sized(curve: RecordedCurve) -> RecordedCurve:
    """A curve of no stated size is as large as its compute says, by C = 6 N D: what a textbook's
    rule and a law need."""
    if curve.params is not None:
        return curve
    return replace(curve, params=max(1, round(curve.flops[-1] / curve.tokens[-1] / 6)))


@cache
def _whole(files: tuple[str, ...]) -> Pool:
    return pool_of(_tables(files))


@cache
def _drawn(source: Source) -> list[Pool]:
    """So many subsets that any wanted is among them; the first ones are the same for all."""
    pool = _whole(source.files)
    size = min(source.size or len(pool), len(pool))
    return subsets(pool, size, 1 if size == len(pool) else MOST_SUBSETS, seed=source.seed)
