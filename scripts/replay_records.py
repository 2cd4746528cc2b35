"""From single replays to the records of `bench_replay`: paired means with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from orchestrator.judge import Score, bootstrap_mean
from orchestrator.judge.coverage import LEVELS, RATIOS
from scripts.replay_contestants import BASELINE, Contestant

Result = Mapping[str, Any]
"""One replay as it stands in the file of results."""
SAFE = ("successive_halving", "static_ladder")
RIVALS = (
    "successive_halving",
    "successive_halving_eta3",
    "successive_halving_eta4",
    "one_shot",
    "static_ladder",
    "uniform",
)


def result(key: str, score: Score) -> dict[str, Any]:
    """One replay as a flat record, with what cannot be told as null."""
    fields = asdict(score)
    fields["coverage"] = [[c.ratio, c.targets, *c.inside] for c in score.coverage]
    return {"key": key, **{name: _plain(value) for name, value in fields.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def rows(
    who: Sequence[Contestant],
    found: Mapping[str, Sequence[Result]],
    *,
    pool: int,
    budget: int,
    gate: Mapping[str, object],
) -> list[dict[str, object]]:
    """One record a contestant at one budget. `found`: its replays by subset, in one order."""
    return [_row(each, found, pool, budget) | dict(gate) for each in who if each.key in found]


def _row(
    who: Contestant, found: Mapping[str, Sequence[Result]], pool: int, budget: int
) -> dict[str, object]:
    mine = found[who.key]
    gain = _gain(mine, found[BASELINE])
    record: dict[str, object] = {
        "policy": who.policy,
        "surrogate": who.surrogate,
        "pool": pool,
        "budget_flops": budget,
        "subsets": len(mine),
        "without_loss": sum(r["best_loss"] is None for r in mine),
        "gain_vs_halving_pct": gain[0],
        "ci_low": gain[1],
        "ci_high": gain[2],
    }
    record |= _named("gain_vs_uniform", _gain(mine, found.get("uniform", ())))
    safe = [found[name] for name in SAFE if name in found]
    best = min(safe, key=lambda each: _mean(each, "best_loss") or math.inf) if safe else ()
    record |= _named("gain_vs_safe", _gain(mine, best))
    record |= {
        "best_loss": _rounded(_mean(mine, "best_loss"), 4),
        "regret_to_hindsight_pct": _pct(
            _mean_of(mine, lambda r: _regret(r["best_loss"], r["hindsight_loss"]))
        ),
        "frontier_regret_pct": _pct(_mean(mine, "frontier_regret")),
        "recommend_regret_pct": _pct(_mean_of(mine, lambda r: _at(r["recommend_regret"], 0))),
        "recommend30_regret_pct": _pct(_mean_of(mine, lambda r: _at(r["recommend_regret"], 1))),
        "recommend_by_joint_law_pct": _pct(_mean_of(mine, lambda r: _at(r["common_regret"], 0))),
    }
    record |= _against_rivals(mine, found)
    record |= {
        "law_error": _rounded(_mean(mine, "law_error"), 4),
        "law_error_held_out": _rounded(_mean(mine, "law_error_held_out"), 4),
        "law_given_share": _share(mine, "law_error_held_out"),
        "killed_share": _rounded(_mean(mine, "killed_share"), 3),
        "largest_share": _rounded(_mean(mine, "largest_share"), 3),
        "largest_share_max": _rounded(max(r["largest_share"] for r in mine), 4),
        "sizes_min": min(r["sizes"] for r in mine),
        "coverage": _coverage(mine),
        "spent_share": _rounded(_mean(mine, "spent_share"), 4),
        "cpu_s": _rounded(_mean(mine, "cpu_s"), 4),
    }
    return record


def _against_rivals(
    mine: Sequence[Result], found: Mapping[str, Sequence[Result]]
) -> dict[str, object]:
    """The rival with the least recommended regret, by its own rule, and the paired difference to
    it in points of a per cent; below zero is better than it."""
    rivals = {
        name: value
        for name in RIVALS
        if name in found
        and (value := _mean_of(found[name], lambda r: _at(r["recommend_regret"], 0))) is not None
    }
    if not rivals:
        none = (None, None, None)
        return {"recommend_best_rival": None} | _named("recommend_vs_rival", none)
    best = min(rivals, key=lambda name: rivals[name])
    differences = [
        100 * (a - b)
        for m, r in zip(mine, found[best], strict=True)
        if (a := _at(m["recommend_regret"], 0)) is not None
        and (b := _at(r["recommend_regret"], 0)) is not None
    ]
    interval = _interval(differences)
    return {"recommend_best_rival": best} | _named("recommend_vs_rival", interval)


def _coverage(mine: Sequence[Result]) -> dict[str, object] | None:
    """Share of targets inside the central intervals, by ratio of extrapolation, pooled."""
    shares: dict[str, object] = {}
    for ratio in RATIOS:
        counted = [c for r in mine for c in r["coverage"] if c[0] == ratio]
        targets = sum(c[1] for c in counted)
        if targets:
            inside = {
                f"{100 * level:g}": round(sum(c[2 + place] for c in counted) / targets, 3)
                for place, level in enumerate(LEVELS)
            }
            shares[f"{ratio:g}x"] = {"targets": targets, **inside}
    return shares or None


def _gain(
    mine: Sequence[Result], base: Sequence[Result]
) -> tuple[float | None, float | None, float | None]:
    """Mean of (L_base - L) / L_base in per cent, paired, with its interval."""
    pairs = [
        (m["best_loss"], b["best_loss"])
        for m, b in zip(mine, base, strict=bool(base))
        if m["best_loss"] is not None and b["best_loss"] is not None
    ]
    return _interval([100 * (b - m) / b for m, b in pairs])


def _interval(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    if not values:
        return None, None, None
    interval = bootstrap_mean(values)
    return round(interval.mean, 3), round(interval.low, 3), round(interval.high, 3)


def _named(
    name: str, interval: tuple[float | None, float | None, float | None]
) -> dict[str, object]:
    return dict(zip((f"{name}_pct", f"{name}_low", f"{name}_high"), interval, strict=True))


def _regret(loss: float | None, best: float) -> float | None:
    return None if loss is None else loss / best - 1


def _at(values: Sequence[float | None], place: int) -> float | None:
    return values[place] if len(values) > place else None


def _mean(mine: Sequence[Result], name: str) -> float | None:
    return _mean_of(mine, lambda r: r[name])


def _mean_of(mine: Sequence[Result], read: Callable[[Result], float | None]) -> float | None:
    values = [value for r in mine if (value := read(r)) is not None]
    return float(np.mean(values)) if values else None


def _share(mine: Sequence[Result], name: str) -> float:
    return round(sum(r[name] is not None for r in mine) / len(mine), 3)


def _pct(value: float | None) -> float | None:
    return _rounded(None if value is None else 100 * value, 3)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


SHOWN = (
    "policy",
    "surrogate",
    "budget_flops",
    "subsets",
    "without_loss",
    "gain_vs_halving_pct",
    "ci_low",
    "ci_high",
    "gain_vs_safe_pct",
    "gain_vs_safe_low",
    "gain_vs_safe_high",
    "best_loss",
    "regret_to_hindsight_pct",
    "frontier_regret_pct",
    "recommend_regret_pct",
    "recommend30_regret_pct",
    "recommend_vs_rival_pct",
    "recommend_vs_rival_low",
    "recommend_vs_rival_high",
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


def table(records: Sequence[Mapping[str, object]]) -> str:
    """The records' main columns under their names, as wide as their longest cell."""
    names = [name for name in SHOWN if any(name in record for record in records)]
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
