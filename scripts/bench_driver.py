#!/usr/bin/env python3
"""The driver under load: a replay of many trials through a journal on disk.

    scripts/bench_driver.py [--trials 1000] [--points 200] [--json] [--quick]

One row per quarter of the reports, so that a growing time per report shows; the last row is the
whole. `bytes_per_point` is the growth of resident memory over the points held.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from orchestrator.backends.base import Report
from orchestrator.backends.replay import ReplayBackend
from orchestrator.driver import Driver
from orchestrator.events import Opened
from orchestrator.journal import FileJournal
from orchestrator.policies.exhaustive import Exhaustive
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve
from orchestrator.state import SweepState, Terms
from orchestrator.values import Candidate, FloatArray

FIELDS = ("part", "trials", "reports", "reports_per_s", "cpu_us_per_report", "rss_mb")


class MeteredReplay(ReplayBackend):
    """The replay backend, noting the clocks and the memory at every quarter of the reports."""

    expected = 0
    seen = 0

    def __init__(self, curves: dict[str, RecordedCurve], pool: Pool) -> None:
        super().__init__(curves, pool, slots=64)
        self.marks = [clocks(0)]

    def poll(self, timeout_s: float) -> list[Report]:
        if self.seen >= self.expected * len(self.marks) / 4:
            self.marks.append(clocks(self.seen))
        reports = super().poll(timeout_s)
        self.seen += len(reports)
        return reports


def clocks(reports: int) -> tuple[int, float, float, float]:
    """(reports so far, wall seconds, CPU seconds, resident bytes)."""
    return reports, time.perf_counter(), time.process_time(), psutil.Process().memory_info().rss


def main() -> int:
    args = arguments()
    trials, points = (200, 100) if args.quick else (args.trials, args.points)
    pool, curves = synthetic(trials, points)
    backend = MeteredReplay(curves, pool)
    backend.expected = trials * (points + 1)
    budget = pool.exhaustive_flops
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        with FileJournal(Path(folder) / "journal.jsonl", owner="bench") as journal:
            driver = Driver(
                state=SweepState(
                    pool=pool, terms=Terms(name="load", seed=0, budget=budget, lost_ceiling=0)
                ),
                policy=Exhaustive(),
                backend=backend,
                journal=journal,
                clock=time.time,
            )
            opened = Opened(
                session=1,
                name="load",
                spec="",
                digest="",
                owner="bench",
                environment=backend.environment,
            )
            backend.marks = [clocks(0)]
            state = driver.run(opened).state
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    if len(backend.marks) < 5:
        backend.marks.append(clocks(backend.seen))
    if state.points != trials * points:
        print(f"bench_driver: {state.points} points held of {trials * points}", file=sys.stderr)
        return 1
    marks = backend.marks
    rows = [row(f"{n} of 4", trials, *marks[n - 1 : n + 1]) for n in range(1, 5)]
    whole = row("all", trials, marks[0], marks[-1])
    whole["bytes_per_point"] = round((marks[-1][3] - marks[0][3]) / state.points, 1)
    whole["journal_mb"] = round(size / 1e6, 1)
    rows.append(whole)
    if args.json:
        print(json.dumps({"schema": "frontrunner.bench_driver/1", "rows": rows}))
        return 0
    for line in (FIELDS, *([str(r[name]) for name in FIELDS] for r in rows)):
        print("  ".join(cell.rjust(18) for cell in line))
    print(f"{whole['bytes_per_point']} bytes a point; journal {whole['journal_mb']} MB")
    return 0


def row(
    part: str,
    trials: int,
    begin: tuple[int, float, float, float],
    end: tuple[int, float, float, float],
) -> dict[str, object]:
    reports = end[0] - begin[0]
    return {
        "part": part,
        "trials": trials,
        "reports": reports,
        "reports_per_s": round(reports / (end[1] - begin[1])),
        "cpu_us_per_report": round(1e6 * (end[2] - begin[2]) / reports, 1),
        "rss_mb": round(end[3] / 1e6, 1),
    }


def synthetic(trials: int, points: int) -> tuple[Pool, dict[str, RecordedCurve]]:
    """Falling curves of `points` points each, all of one cost."""
    candidates: list[Candidate] = []
    curves: dict[str, RecordedCurve] = {}
    tokens = np.arange(1, points + 1, dtype=np.int64) * 1000
    falling: FloatArray = 5 / np.arange(1, points + 1) ** 0.3
    for number in range(trials):
        candidate = Candidate(
            id=f"t{number:05d}", params=1000 + number, horizon=int(tokens[-1]), flops_per_token=6e3
        )
        candidates.append(candidate)
        curves[candidate.id] = RecordedCurve(
            curve_id=candidate.id,
            tokens=tokens,
            flops=np.asarray(6e3 * tokens, np.float64),
            loss=2 + falling + number / trials,
        )
    return Pool(candidates=tuple(candidates)), curves


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The driver under load, on a replay.")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--points", type=int, default=200, help="points per trial")
    parser.add_argument(
        "--folder", type=Path, help="where the journal is written; a temporary one"
    )
    parser.add_argument("--quick", action="store_true", help="200 trials of 100 points")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
