"""The records of `bench_target`, from its single replays. Touches nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.judge import bootstrap_mean, clustered_share

Result = Mapping[str, Any]

NO_LAW = 0.5
"""Nats that a law which cannot be given counts as."""
CENTRAL_80 = 1.2816
NEAR = 0.01
REFERENCES = ("whole pool", "subset's pool")


def rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A record for each policy and budget, the references first."""
    given: dict[tuple[str, float], list[Result]] = {}
    for result in results:
        given.setdefault((result["policy"], result["budget_pct"]), []).append(result)
    whole, subset = (
        {_place(r): r for r in given[name, 100.0]} if (name, 100.0) in given else {}
        for name in REFERENCES
    )
    records: list[dict[str, Any]] = [
        {"policy": policy, "budget_pct": pct, **_record(mine, whole, subset)}
        for (policy, pct), mine in given.items()
    ]
    near = {policy: _near(records, policy) for policy, _ in given}
    for record in records:
        record["within_0.01_pct"] = near[record["policy"]]
    return records


SHOWN = (
    "task",
    "policy",
    "budget_pct",
    "target_error",
    "excess_error",
    "excess_low",
    "excess_high",
    "excess_over_subset",
    "agreement_with_whole_pool",
    "coverage80",
    "coverage_low",
    "coverage_high",
    "distinct_targets",
    "half_width80",
    "within_0.01_pct",
    "no_law",
    "trials",
    "subsets",
    "cpu_s",
)


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """The records as text in columns."""
    cells = [["-" if r[key] is None else str(r[key]) for key in SHOWN] for r in records]
    widths = [max(map(len, column)) for column in zip(SHOWN, *cells, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in [list(SHOWN), *cells]
    )


def _place(result: Result) -> tuple[str, int]:
    return result["source"], result["subset"]


def error(result: Result) -> float:
    """Mean |predicted - true| of one replay, in nats."""
    if result["loss"] is None:
        return NO_LAW
    return float(np.abs(np.array(result["loss"]) - np.array(result["truth"])).mean())


def _record(
    mine: Sequence[Result],
    whole: Mapping[tuple[str, int], Result],
    subset: Mapping[tuple[str, int], Result],
) -> dict[str, Any]:
    errors = [error(result) for result in mine]
    over = [e - error(whole[_place(r)]) for e, r in zip(errors, mine, strict=True)]
    apart = [e - error(subset[_place(r)]) for e, r in zip(errors, mine, strict=True)]
    spread, excess = bootstrap_mean(errors), bootstrap_mean(over)
    inside, curves, widths = _covered(mine)
    covered = clustered_share(inside, curves) if inside else None
    return {
        "target_error": _round(spread.mean),
        "error_low": _round(spread.low),
        "error_high": _round(spread.high),
        "excess_error": _round(excess.mean),
        "excess_low": _round(excess.low),
        "excess_high": _round(excess.high),
        "excess_over_subset": _round(float(np.mean(apart))),
        "agreement_with_whole_pool": _agreement(mine, whole),
        "coverage80": _round(covered.mean) if covered else None,
        "coverage_low": _round(covered.low) if covered else None,
        "coverage_high": _round(covered.high) if covered else None,
        "targets": len(widths),
        "distinct_targets": len(set(curves)),
        "half_width80": _round(float(np.mean(widths))) if widths else None,
        "no_law": round(sum(r["loss"] is None for r in mine) / len(mine), 3),
        "spent_share": _share([r["spent"] for r in mine]),
        "trials": round(float(np.mean([r["trials"] for r in mine])), 1),
        "subsets": len(mine),
        "cpu_s": round(float(np.mean([r["cpu_s"] for r in mine])), 2),
    }


def _covered(mine: Sequence[Result]) -> tuple[list[bool], list[str], list[float]]:
    """For each target of each replay and each prior centre, whether the 80 % interval holds it,
    and whose end the target is; for each target of each replay, half the interval in nats."""
    inside: list[bool] = []
    curves: list[str] = []
    widths: list[float] = []
    for result in mine:
        if result["loss"] is None:
            continue
        loss, sd = np.array(result["loss"]), np.array(result["sd"])
        away = np.abs(np.log(result["truth"]) - np.log(loss)) / sd
        inside += (away <= CENTRAL_80).ravel().tolist()
        curves += [f"{result['source']} {name}" for name in result["asked"]] * len(away)
        widths += (CENTRAL_80 * sd * loss).mean(axis=0).tolist()
    return inside, curves, widths


def _agreement(mine: Sequence[Result], whole: Mapping[tuple[str, int], Result]) -> float | None:
    pairs = [(r["loss"], whole[_place(r)]["loss"]) for r in mine]
    apart = [
        float(np.abs(np.array(a) - np.array(b)).mean())
        for a, b in pairs
        if a is not None and b is not None
    ]
    return _round(float(np.mean(apart))) if apart else None


def _near(records: Sequence[Mapping[str, Any]], policy: str) -> float | None:
    """The budget from which on the excess is at most NEAR, interpolated in logs."""
    points = sorted((r["budget_pct"], r["excess_error"]) for r in records if r["policy"] == policy)
    if not points or points[-1][1] > NEAR or policy in REFERENCES:
        return None
    last = max((k for k, (_, excess) in enumerate(points) if excess > NEAR), default=None)
    if last is None:
        return points[0][0]
    (low, above), (high, below) = points[last], points[last + 1]
    part = (above - NEAR) / (above - below)
    return round(math.exp(math.log(low) + part * (math.log(high) - math.log(low))), 2)


def _share(values: Sequence[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return round(float(np.mean(given)), 3) if given else None


def _round(value: float) -> float:
    return round(value, 4)
