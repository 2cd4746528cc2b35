"""The law of learning curves, judged on sizes that it has not seen.

`scripts/bench_laws.py --curves FOLDER` runs it on every CSV table there (`curve_id, params,
tokens, flops, loss`; plain or gzipped). The three and the six largest models of a table are the
targets, their last losses what is asked; the pool is the rest, and laws are fitted to all of it
and to random 70 % subsets. Where one table holds longer runs of the same models as another, the
pool of the shorter one is also asked for the largest models of the longer. A table that cannot
be used is named with the reason.

Records: task, held_out, priors (`usual`, `wide`, and shifted ones, each against the same
targets), target_error (mean |predicted - true| over targets and subsets, nats), pool_error (the
same with the whole pool), ends_only_error and ends_only_pool_error (a fit to the curves' ends
alone: E + A/N^alpha where they share their tokens, Chinchilla's law else; None where it fails),
prior_only_error (what the priors say without the rows), coverage (share of targets inside the
law's 90 % interval for a single run), cpu_s (of one fit, the mean).
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.laws.curves import (
    LEAST_SIZES,
    USUAL,
    CurveLaw,
    CurveOptions,
    CurvePriors,
    fit_curves,
    prior_law,
)
from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import CHINCHILLA
from orchestrator.laws.forms.line import Known, law_of
from orchestrator.laws.runs import CurveRows, count_levels, finished_runs
from orchestrator.recorded import RecordedError, read_recorded

SCHEMA = "frontrunner.bench_laws_curves/1"
SHARE = 0.7
HELD_OUT = (3, 6)
_QUANTILE = 1.645  # of a normal: 90 % lie within it
_MODELS = 6  # that a pool keeps at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Curves of one file, smallest model first, by their ids."""

    name: str
    curves: dict[str, CurveRows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A pool and what is asked of it: sizes, tokens and true losses."""

    task: str
    held_out: int
    pool: tuple[CurveRows, ...]
    targets: tuple[tuple[float, float, float], ...]


def priors_tried() -> dict[str, CurvePriors]:
    """The usual priors, wide ones, and ones with other centres."""
    usual = USUAL.priors
    return {
        "usual": usual,
        "wide": usual.widened(2.0),
        "floor 0.4": replace(usual, floor=0.4),
        "floor 0.5": replace(usual, floor=0.5),
        "floor 0.8": replace(usual, floor=0.8),
        "exponents 0.28": replace(usual, alpha=0.28, beta=0.28),
        "exponents 0.45": replace(usual, alpha=0.45, beta=0.45),
    }


def read(path: Path) -> Table:
    """The curves of a file. Raises ValueError with the reason where it has none to judge by."""
    try:
        recorded = read_recorded(path)
    except RecordedError as error:
        raise ValueError(str(error)) from None
    curves: dict[str, CurveRows] = {}
    for name, curve in recorded.items():
        if curve.params is None:
            raise ValueError("it has no params column: a law of size needs the sizes")
        curves[name] = CurveRows(
            N=curve.params,
            tokens=curve.tokens.astype(np.float64),
            flops=curve.flops,
            loss=curve.loss,
        )
    ordered = dict(sorted(curves.items(), key=lambda item: item[1].N))
    sizes = count_levels(np.array([curve.N for curve in ordered.values()]))
    if sizes < LEAST_SIZES + HELD_OUT[0] or len(ordered) < _MODELS + HELD_OUT[0]:
        raise ValueError(
            f"it has {len(ordered)} curves of {sizes} sizes: too few to hold"
            f" {HELD_OUT[0]} models out"
        )
    return Table(name=path.name.partition(".csv")[0], curves=ordered)


def cases(tables: Sequence[Table]) -> Iterator[Case]:
    """Each table's own, then those that ask a table of longer runs of the same models."""
    for table in tables:
        curves = tuple(table.curves.values())
        for held in HELD_OUT:
            if len(curves) - held >= _MODELS:
                yield _case(table.name, held, curves[:-held], curves[-held:])
    for short in tables:
        for long in tables:
            if _longer(short, long):
                held = HELD_OUT[0]
                pool = tuple(short.curves.values())[:-held]
                yield _case(f"{short.name} to {long.name}", held, pool, [
                    long.curves[name] for name in list(short.curves)[-held:]
                ])  # fmt: skip


def _case(task: str, held: int, pool: Sequence[CurveRows], out: Sequence[CurveRows]) -> Case:
    targets = tuple((c.N, float(c.tokens[-1]), float(c.loss[-1])) for c in out)
    return Case(task=task, held_out=held, pool=tuple(pool), targets=targets)


def _longer(short: Table, long: Table) -> bool:
    """Whether the second holds the first one's runs, gone on with: same models, same losses."""
    if short is long or list(short.curves) != list(long.curves):
        return False
    pairs = [(short.curves[name], long.curves[name]) for name in short.curves]
    return all(
        a.N == b.N and b.tokens[-1] > 1.5 * a.tokens[-1] and abs(b.loss[0] - a.loss[0]) < 1e-6
        for a, b in pairs
    )


def subsets(pool: Sequence[CurveRows], count: int) -> list[tuple[CurveRows, ...]]:
    """`count` random 70 % of a pool, in its order."""
    kept = round(SHARE * len(pool))
    found: list[tuple[CurveRows, ...]] = []
    for seed in range(count):
        chosen = np.sort(np.random.default_rng(seed).choice(len(pool), kept, replace=False))
        found.append(tuple(pool[k] for k in chosen))
    return found


def ends_only(curves: Sequence[CurveRows]) -> Callable[[float, float], float]:
    """A law of the curves' ends alone, by the engine. Raises FitError where there is none."""
    N, D, loss = (
        np.array(column)
        for column in zip(
            *((c.N, float(c.tokens[-1]), float(c.loss[-1])) for c in curves), strict=True
        )
    )
    runs = finished_runs(N, D, loss)
    if count_levels(D) >= LEAST_SIZES:
        law = fit(CHINCHILLA, runs)
        return lambda n, d: float(law.predict(n, d))
    form = law_of(
        "E + A/N**alpha",
        parameters={
            "E": Known(low=0.0, high="loss"),
            "A": Known(low=0.0),
            "alpha": Known(low=0.005, high=1.5, start=(0.02, 1.2)),
        },
        levels=(3,),
    )
    law = fit(form, runs)
    return lambda n, d: float(law.predict(N=n))


def _error(said: Callable[[float, float], float], case: Case) -> float:
    return statistics.fmean(abs(said(n, d) - loss) for n, d, loss in case.targets)


def _ends_error(case: Case, pools: Sequence[Sequence[CurveRows]]) -> float | None:
    try:
        return statistics.fmean(_error(ends_only(pool), case) for pool in pools)
    except FitError as error:
        print(f"  {case.task}, ends only: {error}", file=sys.stderr)
        return None


def _covered(law: CurveLaw, case: Case) -> float:
    inside = [
        abs(float(law.predict(n, d)) - loss) <= _QUANTILE * float(law.sd(n, d, single=True))
        for n, d, loss in case.targets
    ]
    return statistics.fmean(inside)


def judged(case: Case, options: CurveOptions, count: int) -> dict[str, Any]:
    """One record, without the rival's columns. Raises FitError where a pool carries no law."""
    begun = time.process_time()
    laws = [fit_curves(pool, options=options) for pool in subsets(case.pool, count)]
    whole = fit_curves(case.pool, options=options)
    cpu_s = (time.process_time() - begun) / (count + 1)
    alone = prior_law(case.pool, options=options)
    return {
        "target_error": statistics.fmean(_error(_asked(law), case) for law in laws),
        "pool_error": _error(_asked(whole), case),
        "prior_only_error": _error(_asked(alone), case),
        "coverage": statistics.fmean(_covered(law, case) for law in laws),
        "cpu_s": cpu_s,
    }


def _asked(law: CurveLaw) -> Callable[[float, float], float]:
    return lambda n, d: float(law.predict(n, d))


def bench_curves(folder: Path, *, count: int = 20) -> list[dict[str, Any]]:
    """The records of all tables in a folder. Raises FileNotFoundError where there is none."""
    paths = sorted([*folder.glob("*.csv"), *folder.glob("*.csv.gz")])
    if not paths:
        raise FileNotFoundError(f"{folder} holds no CSV table of curves")
    tables: list[Table] = []
    for path in paths:
        try:
            tables.append(read(path))
        except ValueError as error:
            print(f"{path.name}: left out: {error}", file=sys.stderr)
    return [record for case in cases(tables) for record in _records(case, count)]


def _records(case: Case, count: int) -> Iterator[dict[str, Any]]:
    rival = {
        "ends_only_error": _ends_error(case, subsets(case.pool, count)),
        "ends_only_pool_error": _ends_error(case, [case.pool]),
    }
    for name, priors in priors_tried().items():
        try:
            found = judged(case, replace(USUAL, priors=priors), count)
        except FitError as error:
            print(f"{case.task}, {case.held_out} held out: left out: {error}", file=sys.stderr)
            return
        about = {"task": case.task, "held_out": case.held_out, "priors": name}
        record = {**about, **found, **rival}
        yield {k: round(v, 4) if isinstance(v, float) else v for k, v in record.items()}


def main(folder: Path, *, as_json: bool) -> int:
    """Run it on a folder: records as one JSON object, or as a table. Exit code 2 without data."""
    try:
        records = bench_curves(folder)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps({"schema": SCHEMA, "rows": records}))
        return 0
    names = list(records[0]) if records else []
    cells = [names, *([str(record[name]) for name in names] for record in records)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(names))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    return 0
