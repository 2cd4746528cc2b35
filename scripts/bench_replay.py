#!/usr/bin/env python3
"""Policies and surrogates on recorded curves: what each buys for one budget, on the same pools.

    scripts/bench_replay.py --curves FILE --budget 1e19 --pool 20 --subsets 30 [--json]
    scripts/bench_replay.py --crossing 0.9 --noise ou --budget 10% --pool 20
    scripts/bench_replay.py --rates 5x4 --budget 5%,20%

Any CSV with curve_id, tokens, flops, loss works (params and settings help); several --curves are
one pool. --budget takes FLOPs or shares of the whole pool's cost, separated by commas. --policy
and --surrogate pick who takes part. --out FILE keeps every replay as a line of JSON and goes on
where it stopped; --jobs runs several at once; --laws fits laws to what each bought.

Records: `gain_vs_halving_pct` is (L_halving - L) / L_halving of the best loss against literal
Successive Halving (arXiv 2605.17234), paired by pool, with a 95 % bootstrap interval over pools;
`gain_vs_safe_pct` the same against the better of halving that spends its budget out and the static
ladder. `recommend_regret_pct`: of the candidate that the policy names for ten times the budget (by
its own rule; `recommend_by_joint_law_pct`: by one rule for all), `recommend_vs_rival_pct` its
difference to the best rival's. `law_error`: mean distance in log loss between the frontier's law
and that of the full curves; `law_error_held_out`: nats at the three largest curves outside the
pool. `without_loss` counts the replays that bought no point at all: they are in no mean of losses.
Null is what cannot be told.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestrator.assembly.refusal import Refused
from orchestrator.assembly.surrogates import surrogate_of
from orchestrator.crossings import NOISES, Noise, crossing_curves, crossing_share, rate_pool
from orchestrator.judge import Contest, judged, subsets
from orchestrator.judge.recommending import by_forecasts
from orchestrator.policies.choosing import Rule
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve, RecordedError, read_recorded
from scripts.replay_contestants import Contestant, contestants, entry
from scripts.replay_records import result, rows, table
from trainers.quantity import parse_number

QUICK = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where pools come from: tables of curves, or a generator; hashable, so that a worker process
    reads it once."""

    files: tuple[str, ...] = ()
    crossing: float | None = None
    noise: Noise = "none"
    rates: tuple[int, int] | None = None
    size: int | None = None
    seed: int = 0
    subsets: int = 30

    @property
    def said(self) -> dict[str, object]:
        if self.rates is not None:
            return {"source": f"rates {self.rates[0]}x{self.rates[1]}", "noise": self.noise}
        if self.crossing is not None:
            return {"source": "crossing", "crossing": self.crossing, "noise": self.noise}
        return {"source": "+".join(Path(name).name.split(".")[0] for name in self.files)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One replay: a contestant on one pool at one budget (as written)."""

    source: Source
    subset: int
    budget: str
    who: Contestant
    eta: int
    laws: bool

    @property
    def key(self) -> str:
        """Equal for equal work, across runs and changes of the order."""
        said = json.dumps(
            [
                [_digest(name) for name in self.source.files],
                [self.source.crossing, self.source.noise, self.source.rates, self.source.size],
                [self.source.seed, self.subset, self.budget, self.who.key, self.eta, self.laws],
            ]
        )
        return hashlib.sha256(said.encode()).hexdigest()[:16]


@cache
def _digest(name: str) -> str:
    return hashlib.sha256(Path(name).read_bytes()).hexdigest()


@cache
def _tables(files: tuple[str, ...]) -> dict[str, RecordedCurve]:
    """The curves of all tables; with several, ids carry the table's name."""
    if len(files) == 1:
        return read_recorded(files[0])
    return {
        f"{Path(name).name.split('.')[0]}.{trial}": curve
        for name in files
        for trial, curve in read_recorded(name).items()
    }


@cache
def _drawn(source: Source) -> list[Pool]:
    pool = pool_of(_tables(source.files))
    return subsets(
        pool, min(source.size or len(pool), len(pool)), source.subsets, seed=source.seed
    )


def world(source: Source, subset: int) -> tuple[Pool, Mapping[str, RecordedCurve]]:
    """The pool of one subset, and the curves that it is drawn from."""
    if source.files:
        return _drawn(source)[subset], _tables(source.files)
    seed = 1000 * source.seed + subset
    if source.rates is not None:
        curves = rate_pool(*source.rates, seed=seed, noise=source.noise)
    else:
        curves = crossing_curves(
            source.size or 20, source.crossing or 0.0, source.noise, seed=seed
        )
    return pool_of(curves), curves


def pool_of(curves: Mapping[str, RecordedCurve]) -> Pool:
    return Pool(candidates=tuple(curve.candidate(trial) for trial, curve in curves.items()))


def flops_of(text: str, whole: int) -> int:
    """FLOPs as written, or a share of what the whole pool costs."""
    value = parse_number(text)
    return round(value * whole) if "%" in text else round(value)


def whole_cost(source: Source, subset: int) -> int:
    """What a share of the budget is a share of: all curves of a table, or a generated pool."""
    if source.files:
        return pool_of(_tables(source.files)).exhaustive_flops
    return world(source, subset)[0].exhaustive_flops


def run(task: Task) -> dict[str, Any]:
    """One replay, scored."""
    pool, curves = world(task.source, task.subset)
    budget = flops_of(task.budget, whole_cost(task.source, task.subset))
    policy, recommender = entry(task.who, curves, budget, task.eta)
    common = by_forecasts(surrogate_of("joint_law"), Rule())
    surrogate = surrogate_of(task.who.surrogate) if task.who.surrogate else None
    contest = Contest(recommender=recommender, common=common, surrogate=surrogate, laws=task.laws)
    score = judged(policy, pool, curves, budget, seed=task.subset, contest=contest)
    return result(task.key, score)


def main() -> int:
    args = arguments()
    try:
        source = source_of(args)
        who = contestants(args.policy, args.surrogate)
        for name in args.surrogate if args.surrogate != ["none"] else ():
            surrogate_of(name)
        budgets = [text.strip() for text in args.budget.split(",") if text.strip()]
        for text in budgets:
            flops_of(text, whole_cost(source, 0))
        world(source, 0)
    except (OSError, RecordedError, Refused, ValueError) as error:
        print(f"bench_replay: {error}", file=sys.stderr)
        return 2
    tasks = [
        Task(source=source, subset=subset, budget=text, who=each, eta=args.eta, laws=args.laws)
        for text in budgets
        for subset in range(source.subsets)
        for each in who
    ]
    known = kept(args.out)
    todo = [task for task in tasks if task.key not in known]
    for number, found in enumerate(results(todo, args.jobs), 1):
        known[found["key"]] = found
        if args.out is not None:
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
        tell(number, len(todo))
    records = [row for text in budgets for row in gathered(source, text, tasks, known, who)]
    if args.json:
        print(json.dumps({"schema": "frontrunner.bench_replay/1", "rows": records}))
    else:
        print(table(records))
    return 0


def gathered(
    source: Source,
    text: str,
    tasks: Sequence[Task],
    known: Mapping[str, dict[str, Any]],
    who: Sequence[Contestant],
) -> list[dict[str, object]]:
    """The records of one budget."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for task in tasks:
        if task.budget == text:
            found.setdefault(task.who.key, []).append(known[task.key])
    pool, curves = world(source, 0)
    said = {**source.said}
    if not source.files:
        said["crossing_measured"] = round(crossing_share(curves), 3)
    budget = flops_of(text, whole_cost(source, 0))
    return rows(who, found, pool=len(pool), budget=budget, gate=said)


def kept(out: Path | None) -> dict[str, dict[str, Any]]:
    """Results of earlier runs by key; a line that a kill cut short is left out."""
    found: dict[str, dict[str, Any]] = {}
    if out is None or not out.exists():
        return found
    text = out.read_text(encoding="utf-8")
    if text and not text.endswith("\n"):
        with out.open("a", encoding="utf-8") as file:
            file.write("\n")
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[record["key"]] = record
    return found


def results(tasks: Sequence[Task], jobs: int) -> Iterator[dict[str, Any]]:
    """Each task's result, as they come."""
    if jobs <= 1:
        yield from map(run, tasks)
        return
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        yield from pool.map(run, tasks, chunksize=4)


def source_of(args: argparse.Namespace) -> Source:
    count = QUICK if args.quick else args.subsets
    common: dict[str, Any] = {"seed": args.seed, "subsets": count, "noise": args.noise}
    given = [args.curves is not None, args.crossing is not None, args.rates is not None]
    if sum(given) != 1:
        raise ValueError("name one source: --curves FILE, --crossing SHARE or --rates SIZESxRATES")
    if args.curves is not None:
        return Source(files=tuple(args.curves), size=args.pool, **common)
    if args.crossing is not None:
        return Source(crossing=args.crossing, size=args.pool, **common)
    sizes, _, rates = args.rates.partition("x")
    if not (sizes.isdigit() and rates.isdigit() and int(sizes) and int(rates)):
        raise ValueError(f"--rates {args.rates!r} is no pool; write sizes x rates, such as 5x4")
    return Source(rates=(int(sizes), int(rates)), **common)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    add = parser.add_argument
    add("--curves", action="append", help="CSV with curve_id, tokens, flops, loss")
    add("--crossing", type=float, help="generated curves: the share of pairs that cross")
    add("--rates", help="generated ladder of sizes, each at several rates, such as 5x4")
    add("--noise", choices=NOISES, default="ou", help="of generated curves")
    add("--budget", default="1e19", help="FLOPs or shares of the pool's cost, by commas")
    add("--pool", type=int, help="candidates per subset; all without it")
    add("--subsets", type=int, default=30, help="how many random subsets")
    add("--eta", type=int, default=2, help="halving keeps 1/eta")
    add("--seed", type=int, default=0, help="seed of the subsets")
    add("--policy", action="append", default=[], help="only these; repeat for several")
    add("--surrogate", action="append", default=[], help="only these; repeat for several")
    add("--laws", action="store_true", help="fit laws too: the slowest part")
    add("--jobs", type=int, default=1, help="processes")
    add("--out", type=Path, help="JSONL of single replays: resumes where it stopped")
    add("--quick", action="store_true", help=f"{QUICK} subsets")
    add("--json", action="store_true", help="one JSON object on stdout")
    return parser.parse_args()


def tell(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else "\r"
        print(f"{done} of {total} replays", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
