"""From single replays to the records of `bench_replay`: paired means with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np

from orchestrator.judge import Score, bootstrap_mean, clustered_share
from orchestrator.judge.coverage import LEVELS, RATIOS, WIDTHS
from orchestrator.judge.scores import DEPLOYED
from scripts.replay_contestants import BASELINE, RIVALS, SAFE, Contestant

Result: TypeAlias = Mapping[str, Any]
"""One replay as it stands in the file of results."""
Read: TypeAlias = Callable[[Result], float | None]
WORSE = -0.3
"""Per cent: an interval wholly below this is worse than what it is compared with."""


def result(key: str, score: Score) -> dict[str, Any]:
    """One replay as a flat record, with what cannot be told as null."""
    fields = asdict(score)
    fields["coverage"] = [[t.ratio, t.curve, round(t.away, 4)] for t in score.coverage]
    return {"key": key, **{name: _plain(value) for name, value in fields.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def rows(
    who: Sequence[Contestant],
    found: Mapping[str, Sequence[Result]],
    about: Mapping[str, object],
) -> list[dict[str, object]]:
    """One record a contestant of one cell. `found`: its replays by subset, in one order; `about`:
    the cell, in its `curves` how many its pools are drawn from."""
    pool, curves = about["pool"], about.get("curves")
    drawn = pool / curves if isinstance(pool, int) and isinstance(curves, int) else 0.0
    cell = _Cell(found, drawn)
    return [dict(about) | cell.row(each) for each in who if each.key in found]


class _Cell:
    """All replays of one kind of pools at one budget. `drawn`: the share of the curves that a pool
    holds, nought where pools are made."""

    def __init__(self, found: Mapping[str, Sequence[Result]], drawn: float) -> None:
        self._found = found
        self._drawn = drawn
        self._safe = _least(found, SAFE, lambda r: r["best_loss"])
        self._rival = {
            place: _least(found, RIVALS, _recommended(place)) for place in range(len(DEPLOYED))
        }

    def row(self, who: Contestant) -> dict[str, object]:
        mine = self._found[who.key]
        record: dict[str, object] = {
            "policy": who.policy,
            "surrogate": who.surrogate,
            "subsets": len(mine),
            "without_loss": sum(r["best_loss"] is None for r in mine),
        }
        gain = self._gain(mine, BASELINE)
        record |= _named("gain_vs_halving_pct", "ci", gain)
        record |= _bounds("gain_vs_halving_curves", gain, self._drawn)
        record |= self._spread("gain_vs_uniform", self._gain(mine, "uniform"))
        record |= {"safe": self._safe}
        record |= self._spread("gain_vs_safe", self._gain(mine, self._safe))
        record |= {"best_loss": _rounded(_mean(mine, lambda r: r["best_loss"]), 4)}
        record |= self._spread(
            "regret_to_hindsight", [_regret(r["best_loss"], r["hindsight_loss"]) for r in mine]
        )
        record |= {"frontier_regret_pct": _pct(_mean(mine, lambda r: r["frontier_regret"]))}
        record |= self._spread(
            "frontier_vs_halving",
            self._less(mine, "successive_halving", lambda r: r["frontier_regret"]),
        )
        record |= self._recommending(mine)
        return record | _lawful(mine) | _bought(mine)

    def _recommending(self, mine: Sequence[Result]) -> dict[str, object]:
        """Regrets at 10 and 30 budgets, and the paired differences to the rival whose own rule
        has the least, in points of a per cent: below zero is better than it."""
        record: dict[str, object] = {}
        for place, name in enumerate(("recommend", "recommend30")):
            read = _recommended(place)
            record[f"{name}_regret_pct"] = _pct(_mean(mine, read))
            record[f"{name}_best_rival"] = rival = self._rival[place]
            record |= self._spread(f"{name}_vs_rival", self._less(mine, rival, read))
        record["recommend_by_joint_law_pct"] = _pct(
            _mean(mine, lambda r: _at(r["common_regret"], 0))
        )
        return record

    def _gain(self, mine: Sequence[Result], base: str | None) -> list[float | None]:
        """(L_base - L) / L_base in per cent, by subset."""
        theirs = self._found.get(base or "", ())
        return [
            None
            if m["best_loss"] is None or b["best_loss"] is None
            else 100 * (b["best_loss"] - m["best_loss"]) / b["best_loss"]
            for m, b in zip(mine, theirs, strict=bool(theirs))
        ]

    def _less(self, mine: Sequence[Result], base: str | None, read: Read) -> list[float | None]:
        """Mine less theirs in points of a per cent, by subset."""
        theirs = self._found.get(base or "", ())
        return [
            None if (a := read(m)) is None or (b := read(t)) is None else 100 * (a - b)
            for m, t in zip(mine, theirs, strict=bool(theirs))
        ]

    def _spread(self, name: str, values: Sequence[float | None]) -> dict[str, object]:
        return _named(f"{name}_pct", name, values) | _bounds(f"{name}_curves", values, self._drawn)


def _named(mean: str, bounds: str, values: Sequence[float | None]) -> dict[str, object]:
    """The mean and its interval over subsets."""
    known = [value for value in values if value is not None]
    average = round(float(np.mean(known)), 3) if known else None
    return {mean: average} | _bounds(bounds, values, 0.0)


def _bounds(name: str, values: Sequence[float | None], drawn: float) -> dict[str, object]:
    known = [value for value in values if value is not None]
    names = (f"{name}_low", f"{name}_high")
    if len(known) < 2:
        return {each: None for each in names}
    interval = bootstrap_mean(known, drawn=drawn)
    bounds = (interval.low, interval.high)
    return {
        n: round(b, 3) if math.isfinite(b) else None for n, b in zip(names, bounds, strict=True)
    }


def _lawful(mine: Sequence[Result]) -> dict[str, object]:
    return {
        "law_error": _rounded(_mean(mine, lambda r: r["law_error"]), 4),
        "law_error_held_out": _rounded(_mean(mine, lambda r: r["law_error_held_out"]), 4),
        "law_given_share": round(sum(r["law_error"] is not None for r in mine) / len(mine), 3),
        "killed_share": _rounded(_mean(mine, lambda r: r["killed_share"]), 3),
    }


def _bought(mine: Sequence[Result]) -> dict[str, object]:
    return {
        "largest_share": _rounded(_mean(mine, lambda r: r["largest_share"]), 3),
        "largest_share_max": _rounded(max(r["largest_share"] for r in mine), 4),
        "sizes_min": min(r["sizes"] for r in mine),
        "coverage": _coverage(mine),
        "spent_share": _rounded(_mean(mine, lambda r: r["spent_share"]), 4),
        "cpu_s": _rounded(_mean(mine, lambda r: r["cpu_s"]), 4),
    }


def _coverage(mine: Sequence[Result]) -> dict[str, object] | None:
    """Share of targets inside the central intervals, by ratio of extrapolation and over all, with
    the interval of the 80 % one, whole curves resampled."""
    shares: dict[str, object] = {}
    targets = [(ratio, curve, away) for r in mine for ratio, curve, away in r["coverage"]]
    for wanted in (*RATIOS, None):
        some = [(curve, away) for ratio, curve, away in targets if wanted in (ratio, None)]
        if not some:
            continue
        curves = [curve for curve, _ in some]
        said: dict[str, object] = {"targets": len(some), "curves": len(set(curves))}
        for level, width in zip(LEVELS, WIDTHS, strict=True):
            hits = [away <= width for _, away in some]
            share = clustered_share(hits, curves)
            said[f"{100 * level:g}"] = round(share.mean, 3)
            if level == 0.8:
                said |= {"80_low": round(share.low, 3), "80_high": round(share.high, 3)}
        shares["all" if wanted is None else f"{wanted:g}x"] = said
    return shares or None


def _least(found: Mapping[str, Sequence[Result]], names: Sequence[str], read: Read) -> str | None:
    """Who of `names` has the least on the mean."""
    means = {n: mean for n in names if n in found and (mean := _mean(found[n], read)) is not None}
    return min(means, key=lambda name: means[name]) if means else None


def _recommended(place: int) -> Read:
    return lambda r: _at(r["recommend_regret"], place)


def _regret(loss: float | None, best: float) -> float | None:
    return None if loss is None else 100 * (loss / best - 1)


def _at(values: Sequence[float | None], place: int) -> float | None:
    return values[place] if len(values) > place else None


def _mean(mine: Sequence[Result], read: Read) -> float | None:
    values = [value for r in mine if (value := read(r)) is not None]
    return float(np.mean(values)) if values else None


def _pct(value: float | None) -> float | None:
    return _rounded(None if value is None else 100 * value, 3)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
