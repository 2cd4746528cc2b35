"""Tables of the records of `bench_replay`, for the eye. Touches nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from scripts.replay_contestants import GATED
from scripts.replay_records import WORSE
from scripts.replay_suites import View

Record: TypeAlias = Mapping[str, object]

ALL = (
    "policy",
    "surrogate",
    "subsets",
    "without_loss",
    "gain_vs_halving_pct",
    "ci_low",
    "ci_high",
    "gain_vs_uniform_pct",
    "gain_vs_safe_pct",
    "gain_vs_safe_low",
    "gain_vs_safe_high",
    "best_loss",
    "regret_to_hindsight_pct",
    "frontier_regret_pct",
    "frontier_vs_halving_pct",
    "recommend_regret_pct",
    "recommend_vs_rival_pct",
    "recommend_vs_rival_low",
    "recommend_vs_rival_high",
    "recommend30_regret_pct",
    "recommend_by_joint_law_pct",
    "law_error",
    "law_error_held_out",
    "law_given_share",
    "killed_share",
    "largest_share_max",
    "sizes_min",
    "spent_share",
    "cpu_s",
)
SAFER = (
    "source",
    "pool",
    "budget",
    "policy",
    "surrogate",
    "subsets",
    "safe",
    "gain_vs_safe_pct",
    "gain_vs_safe_low",
    "gain_vs_safe_high",
    "gain_vs_safe_curves_low",
    "gain_vs_safe_curves_high",
    "worse",
)
CROSSED = ("noise", "policy", "surrogate")


def shown(records: Sequence[Record], view: View) -> str:
    """The records as that view shows them."""
    if view == "worse":
        return _worse(records)
    if view == "crossings":
        return _crossings(records)
    cells: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        cells.setdefault(tuple(record.get(n) for n in ("source", "pool", "budget")), []).append(
            record
        )
    return "\n\n".join(
        f"{source}, pools of {pool}, budget {budget}\n{table(some, ALL)}"
        for (source, pool, budget), some in cells.items()
    )


def worse_than_safe(record: Record, bound: str = "gain_vs_safe_high") -> bool:
    """Whether an interval lies wholly below WORSE against the better of the safe policies."""
    high = record.get(bound)
    return isinstance(high, int | float) and high < WORSE


def promises(record: Record) -> bool:
    """Whether the record is of a policy behind the gate, which promises never to be worse."""
    return record.get("policy") in GATED and record.get("surrogate") is not None


def _worse(records: Sequence[Record]) -> str:
    """Every cell of a policy behind the gate, the worst last, with those marked that are worse:
    `subsets` where other subsets of these curves would say so too, `curves` where other curves
    would."""
    lines: list[dict[str, object]] = []
    for record in filter(promises, records):
        marks = [
            name
            for name, bound in (
                ("subsets", "gain_vs_safe_high"),
                ("curves", "gain_vs_safe_curves_high"),
            )
            if worse_than_safe(record, bound)
        ]
        lines.append(dict(record) | {"worse": " ".join(marks)})
    gains = [line.get("gain_vs_safe_pct") for line in lines]
    order = sorted(
        range(len(lines)),
        key=lambda k: -g if isinstance(g := gains[k], int | float) else 0.0,
    )
    counts = {name: sum(name in str(line["worse"]) for line in lines) for name in _MARKS}
    return "\n".join(
        [
            table([lines[k] for k in order], SAFER),
            f"{len(lines)} cells; wholly below {WORSE} %: {counts['subsets']} with subsets "
            f"resampled, {counts['curves']} with curves resampled",
        ]
    )


_MARKS = ("subsets", "curves")


def _crossings(records: Sequence[Record]) -> str:
    """Regret to hindsight in per cent, a line for each noise and contestant, a column for each
    density of crossings."""
    densities = sorted({d for r in records if isinstance(d := r.get("crossing"), float)})
    lines: dict[tuple[object, ...], dict[str, object]] = {}
    for record in records:
        density, name = record.get("crossing"), tuple(record.get(n) for n in CROSSED)
        if isinstance(density, float):
            line = lines.setdefault(name, dict(zip(CROSSED, name, strict=True)))
            line[_percent(density)] = _with_bounds(record, "regret_to_hindsight")
    return (
        "regret to hindsight in per cent (95 %), by the share of pairs of curves that cross\n"
        + table(list(lines.values()), (*CROSSED, *map(_percent, densities)))
    )


def _percent(share: float) -> str:
    return f"{100 * share:g}%"


def _with_bounds(record: Record, name: str) -> str | None:
    mean, low, high = (record.get(f"{name}_{end}") for end in ("pct", "low", "high"))
    if not isinstance(mean, int | float):
        return None
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return f"{mean:.2f}"
    return f"{mean:.2f} ({low:.2f} {high:.2f})"


def table(records: Sequence[Record], names: Sequence[str]) -> str:
    """These columns under their names, as wide as their longest cell."""
    names = [name for name in names if any(name in record for record in records)]
    cells = [names, *([_cell(record.get(name)) for name in names] for record in records)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, int) and value > 10**6 else str(value)
