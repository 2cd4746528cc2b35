#!/usr/bin/env python3
"""Policies on recorded curves: what each buys for the same budget, on the same random pools.

    scripts/bench_replay.py --curves FILE --budget 1e19 --pool 20 --subsets 20 [--json] [--quick]

`gain_vs_halving_pct` is (L_halving - L) / L_halving of the best loss against literal Successive
Halving (arXiv 2605.17234), paired by pool, with a 95 % bootstrap interval over pools. Columns that
nothing computes yet are null.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from orchestrator.judge import Score, bootstrap_mean, compare, subsets
from orchestrator.policies.base import Policy
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.policies.uniform import Uniform
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedError, read_recorded
from trainers.quantity import parse_number

BASELINE = "successive_halving_literal"


def main() -> int:
    args = arguments()
    try:
        curves = read_recorded(args.curves)
        pool = Pool(candidates=tuple(curve.candidate(trial) for trial, curve in curves.items()))
        size = min(args.pool or len(pool), len(pool))
        pools = subsets(pool, size, 5 if args.quick else args.subsets, seed=args.seed)
        budget = round(parse_number(args.budget))
    except (RecordedError, ValueError) as error:
        print(f"bench_replay: {error}", file=sys.stderr)
        return 2
    policies: dict[str, Policy] = {
        BASELINE: SuccessiveHalving(eta=args.eta, spend_out=False),
        "successive_halving": SuccessiveHalving(eta=args.eta),
        "uniform": Uniform(),
    }
    scores = compare(policies, pools, curves, budget, progress=tell)
    rows = [row(name, scores, size, budget) for name in policies]
    if args.json:
        print(json.dumps({"schema": "frontrunner.bench_replay/1", "rows": rows}))
    else:
        print(table(rows))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--curves", required=True, help="CSV with curve_id, tokens, flops, loss")
    parser.add_argument("--budget", default="1e19", help="FLOPs a sweep may spend")
    parser.add_argument("--pool", type=int, help="candidates per subset; all without it")
    parser.add_argument("--subsets", type=int, default=20, help="how many random subsets")
    parser.add_argument("--eta", type=int, default=2, help="halving keeps 1/eta")
    parser.add_argument("--seed", type=int, default=0, help="seed of the subsets")
    parser.add_argument("--quick", action="store_true", help="five subsets, under a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser.parse_args()


def tell(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else "\r"
        print(f"{done} of {total} replays", end=end, file=sys.stderr, flush=True)


def row(
    name: str, scores: Mapping[str, Sequence[Score]], size: int, budget: int
) -> dict[str, object]:
    """One flat record. Percentages of losses; `spent_share` and `cpu_s` are means per sweep."""
    mine, base = scores[name], scores[BASELINE]
    gain = bootstrap_mean(
        [100 * (b.best_loss - m.best_loss) / b.best_loss for m, b in zip(mine, base, strict=True)]
    )
    return {
        "policy": name,
        "surrogate": None,
        "pool": size,
        "budget_flops": budget,
        "subsets": len(mine),
        "gain_vs_halving_pct": round(gain.mean, 3),
        "ci_low": round(gain.low, 3),
        "ci_high": round(gain.high, 3),
        "best_loss": round(mean([s.best_loss for s in mine]), 4),
        "regret_to_hindsight_pct": round(100 * mean([s.regret_to_hindsight for s in mine]), 3),
        "frontier_regret_pct": round(100 * mean([s.frontier_regret for s in mine]), 3),
        "recommend_regret_pct": None,
        "law_error": None,
        "spent_share": round(mean([s.spent_share for s in mine]), 4),
        "cpu_s": round(mean([s.cpu_s for s in mine]), 4),
    }


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """The records under their names, columns as wide as their longest cell."""
    cells = [list(rows[0]), *([str("-" if v is None else v) for v in r.values()] for r in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )


if __name__ == "__main__":
    sys.exit(main())
