"""Measure the intervals of laws on sweeps of known truth, inside the rows and beyond them.

    python scripts/laws_coverage.py [--form NAME ...] [--repeats N] [--quick] [--json]

Two parts. `own`: sweeps drawn from each shipped form with 0.5 % noise (normal, on log loss) and
fitted with it; the 90 % interval of the bootstrap, widened where the law's own largest runs say
so: what `fit` and the report show. `other`: sweeps drawn from what none of the fitted forms can
say (saturation, terms of logarithms, breaks, interactions), and the interval of the average over
`laws_worlds.friends`, each form left out where it contains the truth.

A question puts a random part of the inputs that scale (N, D, C and their like) at 1, 3 and 10
times their largest value among the rows, and draws the others inside their range. Nothing of the
truth is used but to draw the rows and to score.

Records: part, truth, extrapolation (0: the form's parameters), coverage with the bounds of its
binomial interval (Wilson, 95 %, as many trials as sweeps: the questions of one sweep are no
trials of their own), width (median, high over low less 1; half of it is the error bar), n sweeps,
widened (share of the sweeps whose intervals were), and cpu_s a sweep.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestrator.laws.calibration import averaged_forms, calibration_of, checked
from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.runs import Runs
from orchestrator.laws.uncertainty import bootstrap
from scripts.laws_worlds import OWN, Columns, World, other_worlds, own_world

Array = NDArray[np.float64]

LEVEL = 0.9
REACHES = (1.0, 3.0, 10.0)
_STARTS = 32
_QUICK = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One sweep: hits and widths (reaches, questions); of the parameters, hits (P,)."""

    hits: Array
    widths: Array
    parameters: Array
    widened: bool


def score_own(world: World, seed: int) -> Scored:
    """The one form, fitted, drawn again and checked on its largest runs."""
    (form,) = world.forms
    rng = np.random.default_rng([seed, 7])
    runs = world.sweep(rng, max(60, 12 * len(form.parameters)))
    objective = "huber" if world.signed else "huber_log"
    law = fit(form, runs, objective=objective, starts=_STARTS)
    found = calibration_of(law, runs)
    posterior = checked(bootstrap(law, runs, seed=seed), found)
    hits, widths = _asked(world, rng, runs, lambda asked: posterior.interval(level=LEVEL, **asked))
    bounds = posterior.parameter_intervals(LEVEL)
    held = [bounds[name][0] <= value <= bounds[name][1] for name, value in world.values.items()]
    return Scored(
        hits=hits, widths=widths, parameters=np.array(held, float), widened=found.factor > 1.0
    )


def score_other(world: World, seed: int) -> Scored:
    """All forms, averaged."""
    rng = np.random.default_rng([seed, 7])
    runs = world.sweep(rng, 80)
    found = averaged_forms(world.forms, runs, starts=_STARTS)
    hits, widths = _asked(world, rng, runs, lambda asked: found.mixture.interval(asked, LEVEL))
    widened = any(each.factor > 1.0 for each in found.calibrations)
    return Scored(hits=hits, widths=widths, parameters=np.zeros(0), widened=widened)


def _asked(
    world: World,
    rng: np.random.Generator,
    runs: Runs,
    bounds: Callable[[Columns], tuple[Array, Array]],
) -> tuple[Array, Array]:
    hits, widths = [], []
    for reach in REACHES:
        asked = world.questions(rng, runs, reach)
        truth, (low, high) = world.loss(asked), bounds(asked)
        hits.append((low <= truth) & (truth <= high))
        widths.append((high - low) / np.abs(truth))
    return np.array(hits, dtype=float), np.array(widths)


def records_of(
    part: str, world: World, score: Callable[[World, int], Scored], repeats: int
) -> list[dict[str, Any]]:
    """One record a reach, and one for the parameters where the truth has any."""
    begun, scored, failed = time.process_time(), list[Scored](), 0
    for seed in range(repeats):
        try:
            scored.append(score(world, seed))
        except FitError as error:
            failed += 1
            print(f"  {world.name}, sweep {seed}: {error}", file=sys.stderr)
    cpu_s = (time.process_time() - begun) / max(repeats, 1)
    common = {"part": part, "truth": world.name}
    # A sweep without a law has no interval, and counts as a miss.
    missed = [0.0] * failed
    tail = {
        "n": repeats,
        "widened": round(float(np.mean([s.widened for s in scored])), 3) if scored else None,
        "cpu_s": round(cpu_s, 3),
    }
    rows: list[dict[str, Any]] = []
    for k, reach in enumerate(REACHES):
        shares = [float(s.hits[k].mean()) for s in scored] + missed
        width = float(np.median([s.widths[k] for s in scored])) if scored else math.nan
        rows.append(
            common
            | {"extrapolation": reach}
            | _covered(shares, repeats)
            | {"width": round(width, 4)}
            | tail
        )
    if scored and scored[0].parameters.size:
        shares = [float(s.parameters.mean()) for s in scored] + missed
        rows.append(
            common | {"extrapolation": 0.0} | _covered(shares, repeats) | {"width": None} | tail
        )
    return rows


def _covered(shares: Sequence[float], n: int) -> dict[str, float]:
    """Coverage and its Wilson interval (Wilson 1927, JASA 22:209)."""
    share, z = float(np.mean(shares)), 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return {
        "coverage": round(share, 4),
        "low": round(middle - half, 4),
        "high": round(middle + half, 4),
    }


def measured(
    names: Sequence[str], repeats: int, *, own: bool = True, other: bool = True
) -> list[dict[str, Any]]:
    """All records of the worlds of these names (all where empty), and their pooled rows."""
    records: list[dict[str, Any]] = []
    for part, wanted, worlds, score in (
        ("own", own, tuple(own_world(name) for name in OWN), score_own),
        ("other", other, other_worlds(), score_other),
    ):
        here: list[dict[str, Any]] = []
        for world in worlds if wanted else ():
            if names and world.name not in names:
                continue
            found = records_of(part, world, score, repeats)
            here += found
            print(
                f"  {part} {world.name}: "
                + " ".join(f"{r['extrapolation']:g}x {r['coverage']:.3f}" for r in found),
                file=sys.stderr,
            )
        records += here + _pooled(part, here)
    return records


def _pooled(part: str, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    pooled: list[dict[str, Any]] = []
    for reach in (*REACHES, 0.0):
        rows = [r for r in records if r["extrapolation"] == reach]
        if len(rows) < 2:
            continue
        n = sum(r["n"] for r in rows)
        shares = np.repeat([r["coverage"] for r in rows], [r["n"] for r in rows])
        widths = [r["width"] for r in rows if r["width"] is not None]
        pooled.append(
            {"part": part, "truth": "all", "extrapolation": reach}
            | _covered(list(shares), n)
            | {
                "width": round(float(np.median(widths)), 4) if widths else None,
                "n": n,
                "widened": round(float(np.mean([r["widened"] or 0.0 for r in rows])), 3),
                "cpu_s": round(math.fsum(r["cpu_s"] * r["n"] for r in rows) / n, 3),
            }
        )
    return pooled


def main(argv: Sequence[str] | None = None) -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description="Coverage of laws' intervals on known truths.")
    parser.add_argument("--form", action="append", default=[], help="only this truth; repeatable")
    parser.add_argument("--repeats", type=int, default=60, help="sweeps a truth")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK} sweeps a truth")
    parser.add_argument("--part", choices=("own", "other"), help="only this part")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    asked = parser.parse_args(argv)
    known = [*OWN, *(world.name for world in other_worlds())]
    strange = [name for name in asked.form if name not in known]
    if strange or asked.repeats < 1:
        print(
            f"--form {strange}, --repeats {asked.repeats}: there are {', '.join(known)}",
            file=sys.stderr,
        )
        return 2
    records = measured(
        asked.form,
        _QUICK if asked.quick else asked.repeats,
        own=asked.part != "other",
        other=asked.part != "own",
    )
    if asked.json:
        print(json.dumps({"schema": "frontrunner.laws_coverage/1", "rows": records}))
        return 0
    names = list(records[0]) if records else []
    cells = [names, *([str(record[name]) for name in names] for record in records)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
