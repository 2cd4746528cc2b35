#!/usr/bin/env python3
"""The annealed loss of the largest models, told by stable curves and a few cooldowns of others.

    scripts/bench_annealing.py --curves gemstones.csv.gz --cooldowns gemstones-cooldown.csv.gz
    scripts/bench_annealing.py --schedules multi-power-law.csv.gz
    scripts/bench_annealing.py --worlds 60

Of the models that have cooldowns the three (and the six) largest are held out, trunks and
cooldowns; what is asked is their annealed loss at the last of their cooldowns, and at all of them.
The pool: random 70 % of the rest, and k cooldowns of k of its models, one each, drawn at random.
Rivals: the law of these annealed ends alone, the stable law as it is, the stable law less the mean
gain. Columns: curve_id, params, tokens, flops, loss; the cooldowns' curve_id, params,
tokens_begin, loss_begin, tokens_end, loss_end.

A second task asks for the gain alone: the target's own trunk is seen, and what its cooldown gains
at equal tokens is told by the pool's cooldowns. With --schedules (curve_id, step, lr, loss,
size_M, schedule) that is all: runs that decay against the constant run of their size, the largest
size held out.

With --worlds, that many generated sweeps of known truth of every kind (`annealing_worlds`):
records of kind, k, coverage80 and coverage90 of the law's own intervals, width80, error, failed
(the share whose check widens them), and of those sweeps the same before (plain_) and after
(widened_).

Records: task, held_out, k, method, error (mean |predicted - true| in nats, last cooldowns),
error_low and error_high (95 %, targets and subsets drawn again), error_all (at all cooldowns),
excess, excess_low, excess_high (its error less that of `corrected`, paired by subset and target,
95 %), coverage80 (of single runs, at the last), width80 (median, nats), none (share of subsets
without a law; such are left out of the error), subsets, targets; for the gain also bias (mean of
predicted less true loss).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestrator.laws.annealing import fit_gain
from orchestrator.laws.cooldowns import Cooldown, Pairs, paired
from orchestrator.laws.curves import fit_curves
from orchestrator.laws.errors import FitError
from orchestrator.laws.runs import Array, CurveRows
from orchestrator.recorded import read_recorded
from scripts.annealing_contestants import TELLERS, Given, Teller
from scripts.annealing_worlds import world_task

SCHEMA = "frontrunner.bench_annealing/1"
COUNTS = (2, 4, 6, 8)
HELD = (3, 6)
SHARE = 0.7
_AGAIN = 1000  # draws of the interval
_QUANTILE = 1.2815515655446004  # of a normal: 80 % lie within it


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A trunk at a constant rate and its cooldowns, first to last; `trial` of these is 0."""

    name: str
    curve: CurveRows
    cooldowns: tuple[Cooldown, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One subset: the pool, and which cooldowns of it are seen."""

    given: Given
    number: int


def models_of(curves: Path, cooldowns: Path) -> list[Model]:
    """Models by size. Raises RecordedError or OSError for tables that cannot be read."""
    branches: dict[str, list[Cooldown]] = {}
    for row in _table(cooldowns):
        begin, end = float(row["tokens_begin"]), float(row["tokens_end"])
        found = Cooldown(trial=0, tokens=end, loss=float(row["loss_end"]), start=begin)
        branches.setdefault(row["curve_id"], []).append(found)
    found = [
        Model(
            name=name,
            curve=CurveRows(
                N=float(c.params or 0),
                tokens=c.tokens.astype(np.float64),
                flops=c.flops,
                loss=c.loss,
            ),
            cooldowns=tuple(sorted(branches.get(name, []), key=lambda b: b.tokens)),
        )
        for name, c in read_recorded(str(curves)).items()
    ]
    return sorted(found, key=lambda model: model.curve.N)


def _table(path: Path) -> list[dict[str, str]]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def parted(models: Sequence[Model], held: int) -> tuple[list[Model], list[Model]]:
    """The pool and the targets: the largest that have cooldowns. Models as large as the least
    target are in neither."""
    cooled = [model for model in models if model.cooldowns]
    targets = cooled[-held:]
    return [m for m in models if m.curve.N < targets[0].curve.N], targets


def drawn(pool: Sequence[Model], k: int, number: int) -> Draw:
    """Subset `number` with k cooldowns of k models; its pool is the same for every k."""
    rng = np.random.default_rng([number, 0])
    kept = np.sort(rng.choice(len(pool), round(SHARE * len(pool)), replace=False))
    models = [pool[i] for i in kept]
    able = [place for place, model in enumerate(models) if model.cooldowns]
    rng = np.random.default_rng([number, 1])
    order = [able[i] for i in rng.permutation(len(able))]
    picks = rng.random(len(order))
    seen = [
        _of(place, models[place].cooldowns[int(pick * len(models[place].cooldowns))])
        for place, pick in zip(order[:k], picks, strict=False)
    ]
    given = Given(
        curves=tuple(model.curve for model in models), cooldowns=tuple(seen), seed=number
    )
    return Draw(given=given, number=number)


def _of(place: int, cooldown: Cooldown) -> Cooldown:
    return Cooldown(trial=place, tokens=cooldown.tokens, loss=cooldown.loss, start=cooldown.start)


def law_task(models: Sequence[Model], held: int, subsets: int) -> Iterator[dict[str, Any]]:
    """Targets never seen: what each contestant says of them."""
    pool, targets = parted(models, held)
    N = np.array([m.curve.N for m in targets for _ in m.cooldowns])
    D = np.array([c.tokens for m in targets for c in m.cooldowns])
    seen = np.array([c.loss for m in targets for c in m.cooldowns])
    last = np.cumsum([len(m.cooldowns) for m in targets]) - 1
    asked = Asked(N=N, D=D, seen=seen, last=last)
    for k in COUNTS:
        draws = [drawn(pool, k, number) for number in range(subsets)]
        ours: Array | None = None
        for method, teller in TELLERS.items():
            record, away = _law_record(teller, method, draws, asked)
            ours = away if ours is None else ours
            if not np.isnan(away).all():
                excess = _summary(away[:, last] - ours[:, last])
                record |= {name.replace("error", "excess"): v for name, v in excess.items()}
            about = {"task": "law", "held_out": held, "k": k, "method": method}
            yield {**about, **record, "subsets": subsets, "targets": len(targets)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Questions, (Q,) each, and which of them are the targets' last cooldowns."""

    N: Array
    D: Array
    seen: Array
    last: Any


def _law_record(
    teller: Teller, method: str, draws: Sequence[Draw], asked: Asked
) -> tuple[dict[str, Any], Array]:
    """A contestant's record, and its absolute errors (S, Q), NaN where it has no law."""
    seen, last = asked.seen, asked.last
    told = np.full((3, len(draws), len(seen)), np.nan)
    for place, draw in enumerate(draws):
        try:
            said = teller(draw.given, asked.N, asked.D)
        except FitError as error:
            print(f"{method}, {len(draw.given.cooldowns)} cooldowns: {error}", file=sys.stderr)
            continue
        told[:, place] = said.loss, said.low, said.high
    away = np.abs(told[0] - seen)
    able = ~np.isnan(away).any(axis=1)
    record: dict[str, Any] = {"none": 1.0 - float(able.mean())}
    if able.any():
        low, high = told[1][able][:, last], told[2][able][:, last]
        inside = (low <= seen[last]) & (seen[last] <= high)
        record |= {
            **_summary(away[:, last]),
            "error_all": float(away[able].mean()),
            "coverage80": float(inside.mean()),
            "width80": float(np.median(high - low)),
        }
    return record, away


def gain_task(models: Sequence[Model], held: int, subsets: int) -> Iterator[dict[str, Any]]:
    """The targets' trunks are seen; what their last cooldown gains at equal tokens is asked."""
    pool, targets = parted(models, held)
    everything = fit_curves([m.curve for m in (*pool, *targets)])
    ends = [_of(place, model.cooldowns[-1]) for place, model in enumerate(targets)]
    asked = paired([m.curve for m in targets], ends, everything.predict)
    for k in COUNTS:
        told: dict[str, list[Array]] = {}
        for number in range(subsets):
            given = drawn(pool, k, number).given
            pairs = paired(given.curves, given.cooldowns, fit_curves(given.curves).predict)
            for method, found in gains_told(pairs, asked).items():
                told.setdefault(method, []).append(found)
        for method, found in told.items():
            yield _gain_record("gain", held, k, method, np.array(found), asked)


def gains_told(pairs: Pairs, asked: Pairs) -> dict[str, Array]:
    """By each method the gain at the questions and the sd of a single one: (2, Q)."""
    law = fit_gain(pairs)
    said = np.array([law.at(n, d) for n, d in zip(asked.N, asked.D, strict=True)]).T
    said[1] = np.hypot(said[1], law.scatter)
    mean = np.full((2, len(asked)), [[pairs.gain.mean()], [pairs.gain.std(ddof=1)]])
    return {"law of the gain": said, "mean gain": mean, "none": np.zeros((2, len(asked)))}


def _gain_record(
    task: str, held: int, k: int, method: str, told: Array, asked: Pairs
) -> dict[str, Any]:
    away = asked.level * (np.exp(-told[:, 0]) - np.exp(-asked.gain))
    covered = np.abs(told[:, 0] - asked.gain) <= _QUANTILE * told[:, 1]
    return {
        "task": task, "held_out": held, "k": k, "method": method, **_summary(np.abs(away)),
        "bias": float(away.mean()), "coverage80": float(covered.mean()),
        "width80": float(np.median(2 * _QUANTILE * told[:, 1] * asked.level)),
        "none": 0.0, "subsets": len(told), "targets": len(asked),
    }  # fmt: skip


def schedule_task(path: Path) -> Iterator[dict[str, Any]]:
    """Decays of one size told by those of the smaller ones, against their constant runs."""
    runs: dict[tuple[float, str], list[tuple[float, float, float]]] = {}
    for row in _table(path):
        key = (1e6 * float(row["size_M"]), row["schedule"])
        runs.setdefault(key, []).append((float(row["step"]), float(row["lr"]), float(row["loss"])))
    sizes = sorted({size for size, _ in runs})
    curves = [_trunk(size, runs) for size in sizes]
    ends = [
        Cooldown(trial=place, tokens=max(points)[0], loss=max(points)[2], start=_constant(points))
        for place, size in enumerate(sizes)
        for (of, schedule), points in sorted(runs.items())
        if of == size and schedule.startswith(("wsd_", "wsdld_"))
    ]
    # Three sizes carry no law of size: each trunk is carried by its own points alone.
    found = paired(curves, ends, lambda N, D: np.ones(len(D)))
    pairs, asked = found.at(sizes[-1] > found.N), found.at(sizes[-1] <= found.N)
    for method, told in gains_told(pairs, asked).items():
        yield _gain_record(path.name.partition(".")[0], 1, len(pairs), method, told[None], asked)


def _trunk(size: float, runs: Mapping[tuple[float, str], Any]) -> CurveRows:
    """The longest constant run of a size, in steps for tokens."""
    constant = [runs[key] for key in runs if key[0] == size and key[1].startswith("constant")]
    points = np.array(sorted(max(constant, key=len)))
    return CurveRows(N=size, tokens=points[:, 0], flops=size * points[:, 0], loss=points[:, 2])


def _constant(points: Sequence[tuple[float, float, float]]) -> float:
    """The last step at the peak rate."""
    peak = max(rate for _, rate, _ in points)
    return max(step for step, rate, _ in points if rate >= 0.999 * peak)


def _summary(values: Array) -> dict[str, float]:
    """Mean over subsets and targets (S, Q), and its interval with both drawn again; subsets that
    are not numbers left out."""
    values = values[~np.isnan(values).any(axis=1)]
    rng = np.random.default_rng(0)
    subsets, targets = values.shape
    again = [
        values[np.ix_(rng.integers(subsets, size=subsets), rng.integers(targets, size=targets))]
        for _ in range(_AGAIN)
    ]
    low, high = np.quantile([float(draw.mean()) for draw in again], (0.025, 0.975))
    return {"error": float(values.mean()), "error_low": float(low), "error_high": float(high)}


def main() -> int:
    args = arguments()
    records: list[dict[str, Any]] = []
    if args.curves and args.cooldowns:
        models = models_of(args.curves, args.cooldowns)
        for held in HELD:
            records += gain_task(models, held, args.subsets)
            records += law_task(models, held, args.subsets)
    if args.schedules:
        records += schedule_task(args.schedules)
    if args.worlds:
        records += world_task(args.worlds)
    if not records:
        named = "--curves FILE --cooldowns FILE, --schedules FILE, or --worlds COUNT"
        print(f"name data: {named}", file=sys.stderr)
        return 2
    rounded = [
        {k: round(v, 4) if isinstance(v, float) else v for k, v in record.items()}
        for record in records
    ]
    print(json.dumps({"schema": SCHEMA, "rows": rounded}) if args.json else as_table(rounded))
    return 0


def as_table(records: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for record in records for name in record))
    cells = [names, *([str(r.get(name, "-")) for name in names] for r in records)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(names))]
    lines = ("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    add = parser.add_argument
    add("--curves", type=Path, help="CSV of curves at a constant rate")
    add("--cooldowns", type=Path, help="CSV of their cooldowns")
    add("--schedules", type=Path, help="CSV of runs under several schedules")
    add("--worlds", type=int, default=0, help="generated sweeps of every kind")
    add("--subsets", type=int, default=20, help="random pools")
    add("--json", action="store_true", help="one JSON object on stdout")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
