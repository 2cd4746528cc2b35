"""The suites of `bench_replay`: which pools and budgets one command answers for.

- default: a cell of every kind, all contestants
- bars: the cells that claims are made about, the policies that make them, and their rivals
- grid: sizes of pool, budgets and surrogates where the gate promises never to be worse
- full: the cells of the grid, all contestants: days of one core, to be run by hand
- crossings: regret against how many curves cross, and in what noise

The settings are the same everywhere: nothing in a suite depends on what is in its data. Touches
nothing but the names of files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.crossings import NOISES, Noise
from scripts.replay_contestants import GATED, RIVALS, SAFE
from scripts.replay_worlds import Cell, Source

View = Literal["all", "worse", "crossings"]
VIEWS: tuple[View, ...] = ("all", "worse", "crossings")
SHARES = ("1%", "2%", "5%", "10%", "25%")
PAPER = ("1e19", "1e20")
"""1e4 and 1e5 PFLOP, as arXiv 2605.17234 has them on schram-nanogpt."""
DENSITIES = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
LADDER = (5, 4)
"""Sizes and rates of a generated ladder."""
NAMED = ("schram-nanogpt", "gemstones", "gemstones-half-lr", "gemstones-long", "olmo-ladder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Cells, and who takes part in them: nobody named, everybody."""

    cells: tuple[Cell, ...]
    policies: tuple[str, ...] = ()
    surrogates: tuple[str, ...] = ()
    view: View = "all"


def suite(name: str, data: Path, seed: int) -> Suite:
    """The suite of that name. `data`: the folder of the recorded tables. Raises ValueError for an
    unknown name, and where a table is absent."""
    return SUITES[name](_Tables(data, seed))


@dataclass(frozen=True, slots=True)
class _Tables:
    """The recorded tables by name."""

    folder: Path
    seed: int

    def of(self, *names: str, size: int) -> Source:
        files = [self.folder / f"{name}.csv.gz" for name in names]
        for file in files:
            if not file.exists():
                raise ValueError(f"{file} is not there; --data names the folder of the tables")
        return Source(files=tuple(map(str, files)), size=size, seed=self.seed)

    def both(self, size: int) -> Source:
        """Size does not decide here: every model at its rate and at half of it."""
        return self.of("gemstones", "gemstones-half-lr", size=size)

    def rates(self) -> Source:
        return Source(rates=LADDER, noise="ou", seed=self.seed)

    def crossing(self, density: float, noise: Noise, size: int = 20) -> Source:
        return Source(crossing=density, noise=noise, size=size, seed=self.seed)


def _at(source: Source, budgets: Iterable[str]) -> list[Cell]:
    return [Cell(source=source, budget=budget) for budget in budgets]


def _default(tables: _Tables) -> Suite:
    return Suite(
        cells=(
            *_at(tables.of("schram-nanogpt", size=20), PAPER),
            *_at(tables.of("gemstones", size=12), ("5e20",)),
            *_at(tables.both(24), ("5e20",)),
            *_at(tables.rates(), ("5%",)),
            *_at(tables.crossing(0.9, "ou"), ("10%",)),
        )
    )


def _bars(tables: _Tables) -> Suite:
    return Suite(
        cells=(
            *_at(tables.of("schram-nanogpt", size=20), ("2e18", *PAPER)),
            *_at(tables.of("gemstones", size=12), ("5e20", "3e21")),
            *_at(tables.both(24), ("4e19", "1.2e20", "5e20")),
            *_at(tables.rates(), ("0.5%", "1%", "5%")),
        ),
        policies=(*RIVALS, "hindsight", "frontier", "recommend"),
        surrogates=("joint_law",),
    )


def _grid(tables: _Tables) -> Suite:
    return Suite(cells=_everything(tables), policies=(*SAFE, *GATED), view="worse")


def _full(tables: _Tables) -> Suite:
    return Suite(cells=_everything(tables))


def _everything(tables: _Tables) -> tuple[Cell, ...]:
    """Every source at every size and budget."""
    cells: list[Cell] = []
    for name in NAMED:
        sizes: Sequence[int] = (5, 10, 20) if name == "schram-nanogpt" else (5, 10)
        for size in sizes:
            budgets = (*SHARES, *PAPER) if name == "schram-nanogpt" else SHARES
            cells += _at(tables.of(name, size=size), budgets)
    cells += _at(tables.both(20), SHARES)
    cells += _at(tables.rates(), SHARES)
    for noise in NOISES:
        cells += _at(tables.crossing(0.9, noise), SHARES)
    return tuple(cells)


def _crossings(tables: _Tables) -> Suite:
    cells = [
        Cell(source=tables.crossing(density, noise), budget="10%")
        for noise in NOISES
        for density in DENSITIES
    ]
    policies = ("successive_halving", "oracle_halving", "uniform", "frontier")
    return Suite(cells=tuple(cells), policies=policies, view="crossings")


SUITES: dict[str, Callable[[_Tables], Suite]] = {
    "default": _default,
    "bars": _bars,
    "grid": _grid,
    "full": _full,
    "crossings": _crossings,
}
