#!/usr/bin/env python3
"""Policies and surrogates on recorded curves: what each buys for one budget, on the same pools.

    scripts/bench_replay.py --suite default|bars|grid|full|crossings [--subsets 30] [--out FILE]
    scripts/bench_replay.py --curves FILE --budget 1e19 --pool 5,10,20 [--json]
    scripts/bench_replay.py --crossing 0,0.5,0.9 --noise none,ou --budget 10% --view crossings
    scripts/bench_replay.py --rates 5x4 --budget 5%,20%

Any CSV with curve_id, tokens, flops, loss works (params and settings help; without params N is
that of C = 6 N D); several --curves are one pool. Lists are separated by commas. --budget takes
FLOPs or shares of what a pool costs. --policy and --surrogate pick who takes part. --out FILE
keeps every replay as a line of JSON and goes on where it stopped (it knows nothing of changes of
the code: a new state, a new file); --kept shows what it holds; --jobs runs several pools at once.
--view worse: each cell of the policies behind the gate against the better of plain halving and the
static ladder; --view crossings: regret against the share of curves that cross.

Records: `gain_vs_halving_pct` is (L_halving - L) / L_halving of the best loss against literal
Successive Halving (arXiv 2605.17234), paired by pool, with a 95 % bootstrap interval over pools;
`gain_vs_safe_pct` the same against the better of halving that spends its budget out and the static
ladder. Bounds that end in `_curves_low` and `_curves_high` are wider: curves resampled, of which
random subsets share most. `frontier_regret_pct`: mean over log compute in [B/100, B] of the
distance to the pool's frontier; `frontier_vs_halving_pct` its difference to that of halving with
its budget spent out. `recommend_regret_pct`: of the candidate that the policy names for ten times
the budget (by its own rule; `recommend_by_joint_law_pct`: by one rule for all, on request),
`recommend_vs_rival_pct` its difference to the best rival's; 30 for thirty times, where a curve
reaches so far. `law_error`: mean distance in log loss between the frontier's law and that of the
full curves; `law_error_held_out`: nats at the three largest curves outside the pool.
`killed_share`: of the candidates on the true frontier. `coverage`: of recorded losses ahead,
by ratio of extrapolation. `cpu_s`: of a replay, fits shared with others included.
`without_loss` counts the replays that bought no point at all: they are in no mean of losses.
Null is what cannot be told.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestrator.assembly.refusal import Refused
from orchestrator.assembly.surrogates import surrogate_of
from orchestrator.crossings import NOISES, Noise
from orchestrator.judge import Contest, Truth, judged
from orchestrator.judge.recommending import by_forecasts
from orchestrator.policies.choosing import Rule
from orchestrator.recorded import RecordedError
from scripts.kept_lines import records_in
from scripts.replay_contestants import Contestant, contestants, entry, judges_coverage, shared
from scripts.replay_records import result, rows
from scripts.replay_suites import SUITES, VIEWS, Suite, suite
from scripts.replay_views import shown
from scripts.replay_worlds import Cell, Source, about, world

QUICK = 5
RECORDED = Path(__file__).resolve().parents[2] / "shared" / "data" / "curves"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One replay: a contestant on one pool of a cell."""

    cell: Cell
    subset: int
    who: Contestant
    eta: int
    laws: bool
    common: bool = False
    slots: int = 1

    @property
    def key(self) -> str:
        """Equal for equal work, across runs and changes of the order."""
        said = [self.cell.source.key, self.cell.budget, self.subset]
        said += [self.who.key, self.eta, self.laws, self.common]
        said += [self.slots] if self.slots > 1 else []
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


@lru_cache(maxsize=8)
def truth(cell: Cell, subset: int) -> Truth:
    pool, curves = world(cell.source, subset)
    return Truth.of(pool, curves, cell.flops(subset))


def run(task: Task) -> dict[str, Any]:
    """One replay, scored."""
    pool, curves = world(task.cell.source, task.subset)
    budget = task.cell.flops(task.subset)
    policy, recommender = entry(task.who, curves, budget, task.eta)
    used = [shared(name) for name in (task.who.surrogate,) if name]
    contest = Contest(
        recommender=recommender,
        common=by_forecasts(shared("joint_law"), Rule()) if task.common else None,
        surrogate=used[0] if used and judges_coverage(task.who) else None,
        truth=truth(task.cell, task.subset) if task.laws else None,
        saved_s=lambda: sum(each.saved_s for each in used),
    )
    score = judged(
        policy, pool, curves, budget, seed=task.subset, slots=task.slots, contest=contest
    )
    return result(task.key, score)


def alike(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Tasks on one pool, in one process: they share fits."""
    return [run(task) for task in tasks]


def main() -> int:
    args = arguments()
    try:
        chosen = suite_of(args)
        who = contestants(list(chosen.policies), list(chosen.surrogates))
        for name in chosen.surrogates if chosen.surrogates != ("none",) else ():
            surrogate_of(name)
        for cell in chosen.cells:
            world(cell.source, 0)
            cell.flops(0)
    except (OSError, RecordedError, Refused, ValueError) as error:
        print(f"bench_replay: {error}", file=sys.stderr)
        return 2
    known = kept(args.out)
    tasks = [
        Task(
            cell=cell,
            subset=subset,
            who=each,
            eta=args.eta,
            laws=not args.no_laws,
            common=args.by_joint_law,
            slots=args.slots,
        )
        for subset in range(QUICK if args.quick else args.subsets)
        for cell in chosen.cells
        for each in who
    ]
    todo = [] if args.kept else [task for task in tasks if task.key not in known]
    for number, found in enumerate(results(todo, args.jobs), 1):
        known[found["key"]] = found
        if args.out is not None:
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
        tell(number, len(todo))
    records = [row for cell in chosen.cells for row in gathered(cell, tasks, known, who)]
    if args.json:
        print(json.dumps({"schema": "frontrunner.bench_replay/2", "rows": records}))
    else:
        print(shown(records, chosen.view))
    return 0


def gathered(
    cell: Cell,
    tasks: Sequence[Task],
    known: Mapping[str, dict[str, Any]],
    who: Sequence[Contestant],
) -> list[dict[str, object]]:
    """The records of one cell, of the subsets that all its contestants have been through."""
    by_subset: dict[int, list[Task]] = {}
    for task in tasks:
        if task.cell == cell:
            by_subset.setdefault(task.subset, []).append(task)
    found: dict[str, list[Mapping[str, Any]]] = {}
    for some in by_subset.values():
        if all(task.key in known for task in some):
            for task in some:
                found.setdefault(task.who.key, []).append(known[task.key])
    return rows(who, found, about(cell)) if found else []


def kept(out: Path | None) -> dict[str, dict[str, Any]]:
    """Results of earlier runs by key."""
    return {record["key"]: record for record in records_in(out)}


def results(tasks: Sequence[Task], jobs: int) -> Iterator[dict[str, Any]]:
    """Each task's result, as they come."""
    if jobs <= 1:
        yield from map(run, tasks)
        return
    pools: dict[tuple[Cell, int], list[Task]] = {}
    for task in tasks:
        pools.setdefault((task.cell, task.subset), []).append(task)
    with ProcessPoolExecutor(max_workers=jobs) as workers:
        for found in workers.map(alike, pools.values()):
            yield from found


def suite_of(args: argparse.Namespace) -> Suite:
    """What the arguments ask for: a suite by name, or cells of one kind of source."""
    given = [args.curves is not None, args.crossing is not None, args.rates is not None]
    if sum(given) + (args.suite is not None) != 1:
        raise ValueError(
            "name one source: --suite NAME, --curves FILE, --crossing SHARE or --rates SIZESxRATES"
        )
    if args.suite is not None:
        chosen = suite(args.suite, args.data, args.seed)
    else:
        budgets = _listed(args.budget)
        cells = [Cell(source=s, budget=b) for s in sources_of(args) for b in budgets]
        chosen = Suite(cells=tuple(cells))
    return replace(
        chosen,
        policies=tuple(args.policy) or chosen.policies,
        surrogates=tuple(args.surrogate) or chosen.surrogates,
        view=args.view or chosen.view,
    )


def sources_of(args: argparse.Namespace) -> list[Source]:
    sizes = [int(text) for text in _listed(args.pool)] if args.pool else [None]
    if args.curves is not None:
        files = tuple(args.curves)
        return [Source(files=files, size=size, seed=args.seed) for size in sizes]
    noises: list[Noise] = list(NOISES)
    if args.noise != "all":
        noises = [_noise(text) for text in _listed(args.noise)]
    if args.rates is not None:
        rows, _, rates = args.rates.partition("x")
        if not (rows.isdigit() and rates.isdigit() and int(rows) and int(rates)):
            raise ValueError(f"--rates {args.rates!r} is no pool; write sizes x rates, as in 5x4")
        ladder = (int(rows), int(rates))
        return [Source(rates=ladder, noise=noise, seed=args.seed) for noise in noises]
    return [
        Source(crossing=float(density), noise=noise, size=size, seed=args.seed)
        for size in sizes
        for noise in noises
        for density in _listed(args.crossing)
    ]


def _noise(text: str) -> Noise:
    for noise in NOISES:
        if text == noise:
            return noise
    raise ValueError(f"{text!r} is no noise; there are {', '.join(NOISES)}, and all")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    add = parser.add_argument
    add("--suite", choices=sorted(SUITES), help="cells, contestants and view by one name")
    add("--data", type=Path, default=RECORDED, help="folder of a suite's recorded tables")
    add("--curves", action="append", help="CSV with curve_id, tokens, flops, loss")
    add("--crossing", help="generated curves: shares of pairs that cross, by commas")
    add("--rates", help="generated ladder of sizes, each at several rates, such as 5x4")
    add("--noise", default="ou", help="of generated curves, by commas; all for every kind")
    add("--budget", default="1e19", help="FLOPs or shares of a pool's cost, by commas")
    add("--pool", help="candidates of a pool, by commas; all without it")
    add("--subsets", type=int, default=30, help="how many random pools of a cell")
    add("--eta", type=int, default=2, help="halving keeps 1/eta")
    add("--seed", type=int, default=0, help="seed of the pools")
    add("--policy", action="append", default=[], help="only these; repeat for several")
    add("--surrogate", action="append", default=[], help="only these; repeat for several")
    add("--no-laws", action="store_true", help="fit no laws to what was bought")
    add("--by-joint-law", action="store_true", help="also recommend by one rule for all")
    add("--slots", type=int, default=1, help="workers: with several, less is known at each step")
    add("--jobs", type=int, default=1, help="processes")
    add("--out", type=Path, help="JSONL of single replays: resumes where it stopped")
    add("--kept", action="store_true", help="replay nothing; show what --out holds")
    add("--quick", action="store_true", help=f"{QUICK} pools of a cell")
    add("--view", choices=VIEWS, help="which table to show")
    add("--json", action="store_true", help="one JSON object on stdout")
    return parser.parse_args()


def tell(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else "\r"
        print(f"{done} of {total} replays", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
