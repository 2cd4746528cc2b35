#!/usr/bin/env python3
"""The aim `target` on recorded curves: how right the law is where it must be, for what was spent.

    scripts/bench_target.py --curves FILE [--policy NAME ...] [--budgets 1,2,5,10] [--json]
    scripts/bench_target.py --curves gemstones.csv.gz --long gemstones-long.csv.gz --budgets 5
    scripts/bench_target.py --worlds 8

Targets are the three largest models of the file at their end (with --long, at the end that they
have there; with --held 6, three of the six largest, drawn anew for each subset), the pool is
random 70 % subsets of the rest. A purchase is a length of a run; a budget is a share of the
subset's full cost. Each policy runs through the driver over the replay backend, and what it bought
goes to one fitter (--fitter), under three centres of the prior of E. --out FILE keeps every replay
as a line of JSON and goes on where it stopped; --jobs runs several at once. Any CSV with curve_id,
params, tokens, flops, loss works.

Records: `target_error`, mean |predicted - true| in nats over subsets, targets and centres, with a
95 % interval over subsets (no law yet counts as 0.5, `no_law` says how often); `excess_error`
over that of the fitter given all of the whole pool (all models but the held), and
`excess_over_subset` over that of the fitter given all of the subset; `agreement_with_whole_pool`,
mean |predicted - the whole pool's prediction|; `coverage80` of the intervals of `targets`
targets, which are the ends of `distinct_targets` curves, with a 95 % interval that resamples those
(three curves tell little of coverage; --held 6 asks six, --worlds 40 a hundred and twenty).
Intervals of errors are over subsets alone: they say nothing of other targets.
`within_0.01_pct`: the share of the cost at which the excess is 0.01 for good (interpolated in
logs), null where no budget is enough: what the law costs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestrator.judge import replayed, subsets
from orchestrator.policies.searching import observed_of
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve, RecordedError, read_recorded
from orchestrator.values import Candidate, Curve, Point
from scripts.bench_replay import kept
from scripts.curve_worlds import world
from scripts.target_contestants import FITTERS, POLICIES, Targets, said
from scripts.target_records import rows, table

SCHEMA = "frontrunner.bench_target/1"
SHARE = 0.7
TARGETS = 3
QUICK = 4
LEAST = 4
"""Models that a subset needs."""
BUDGETS = (1.0, 2.0, 5.0, 10.0)
WHOLE = "whole pool"
SUBSET = "subset's pool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A table of curves and how pools and targets are drawn from it; hashable, so that a worker
    process reads it once. `number`: a generated world instead of a file. `inside`: only this
    share of every curve, and without the three largest models."""

    file: str | None = None
    long: str | None = None
    number: int = 0
    held: int = TARGETS
    subsets: int = 20
    seed: int = 0
    inside: float | None = None

    @property
    def name(self) -> str:
        if self.file is None:
            return f"world {self.number}"
        name = Path(self.file).name.split(".")[0]
        return name if self.long is None else f"{name} to {Path(self.long).name.split('.')[0]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One replay, or (without a budget) the fitter given everything."""

    source: Source
    subset: int
    fitter: str
    policy: str
    budget_pct: float = 100.0

    @property
    def key(self) -> str:
        """Equal for equal work, across runs."""
        source = self.source
        files = [_digest(name) if name else None for name in (source.file, source.long)]
        said = [files, source.number, source.held, source.seed, source.inside, self.subset]
        said += [self.fitter, self.policy, self.budget_pct]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


@cache
def _digest(name: str) -> str:
    return hashlib.sha256(Path(name).read_bytes()).hexdigest()


@cache
def curves_of(source: Source) -> dict[str, RecordedCurve]:
    """The table, smallest model first. Raises ValueError where it cannot be judged by."""
    curves = world(source.number) if source.file is None else read_recorded(source.file)
    if any(curve.params is None for curve in curves.values()):
        raise ValueError(f"{source.name} has no params column: a law of size needs the sizes")
    ordered = dict(sorted(curves.items(), key=lambda item: (item[1].params or 0, item[0])))
    if source.inside is not None:
        names = list(ordered)[:-TARGETS]
        ordered = {name: _begun(ordered[name], source.inside) for name in names}
    if SHARE * (len(ordered) - source.held) < LEAST:
        raise ValueError(
            f"{source.name} has {len(ordered)} curves; {source.held} held out leave too few for "
            f"subsets of {LEAST} or more"
        )
    return ordered


def _begun(curve: RecordedCurve, share: float) -> RecordedCurve:
    points = max(2, int((curve.tokens <= share * curve.tokens[-1]).sum()))
    return RecordedCurve(
        curve_id=curve.curve_id,
        tokens=curve.tokens[:points],
        flops=curve.flops[:points],
        loss=curve.loss[:points],
        params=curve.params,
        settings=curve.settings,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One subset: what can be bought, what is asked, and the truth in nats."""

    whole: Pool
    pool: Pool
    targets: Targets
    truth: tuple[float, ...]


@cache
def drawn(source: Source) -> tuple[Drawn, ...]:
    """All subsets of a source, each with its targets."""
    curves = curves_of(source)
    names = list(curves)
    held = names[-source.held :]
    ends = {**curves, **(read_recorded(source.long) if source.long else {})}
    missing = [name for name in held if name not in ends]
    if missing:
        raise ValueError(f"{source.long} lacks the curve {missing[0]!r}")
    whole = Pool(candidates=tuple(curves[n].candidate(n) for n in names[: -source.held]))
    pools = subsets(whole, round(SHARE * len(whole)), source.subsets, seed=source.seed)
    generator = np.random.default_rng([source.seed, 5])
    found: list[Drawn] = []
    for pool in pools:
        picks = sorted(generator.choice(len(held), TARGETS, replace=False).tolist())
        asked = {held[k]: ends[held[k]] for k in picks}
        targets = tuple((c.candidate(n), int(c.tokens[-1])) for n, c in asked.items())
        truth = tuple(float(c.loss[-1]) for c in asked.values())
        found.append(Drawn(whole=whole, pool=pool, targets=targets, truth=truth))
    return tuple(found)


def everything(pool: Pool, curves: Mapping[str, RecordedCurve]) -> list[tuple[Candidate, Curve]]:
    """All that is recorded of a pool."""
    return [
        (
            candidate,
            Curve.of(
                Point(tokens=int(t), flops=float(c), loss=float(loss))
                for t, c, loss in zip(curve.tokens, curve.flops, curve.loss, strict=True)
            ),
        )
        for candidate in pool
        for curve in (curves[candidate.id],)
    ]


def run(task: Task) -> dict[str, Any]:
    """One replay, and what the fitter makes of it."""
    begun = time.process_time()
    case, curves = drawn(task.source)[task.subset], curves_of(task.source)
    spent = None
    if task.policy in (WHOLE, SUBSET):
        observed = everything(case.whole if task.policy == WHOLE else case.pool, curves)
    else:
        budget = int(task.budget_pct / 100 * case.pool.exhaustive_flops)
        policy = POLICIES[task.policy](case.targets)
        state = replayed(policy, case.pool, curves, budget, seed=task.subset)
        if state.ledger.spent > budget:
            raise RuntimeError(f"{task.policy} spent {state.ledger.spent} of {budget} FLOPs")
        observed = observed_of(state)
        spent = state.ledger.spent / budget
    answer = said(task.fitter, observed, case.targets)
    return {
        "key": task.key,
        "source": task.source.name,
        "policy": task.policy,
        "budget_pct": task.budget_pct,
        "subset": task.subset,
        "asked": [candidate.id for candidate, _ in case.targets],
        "truth": list(case.truth),
        "loss": None if answer is None else answer.loss.tolist(),
        "sd": None if answer is None else answer.sd.tolist(),
        "spent": spent,
        "trials": len(observed),
        "cpu_s": round(time.process_time() - begun, 3),
    }


def tasks_of(
    source: Source, fitter: str, policies: Sequence[str], budgets: Sequence[float]
) -> Iterator[Task]:
    for subset in range(source.subsets):
        for reference in (WHOLE, SUBSET):
            yield Task(source=source, subset=subset, fitter=fitter, policy=reference)
        for policy in policies:
            for pct in budgets:
                yield Task(
                    source=source, subset=subset, fitter=fitter, policy=policy, budget_pct=pct
                )


def main() -> int:
    args = arguments()
    try:
        budgets = sorted(float(text) for text in args.budgets.split(","))
        sources = list(sources_of(args))
        for source in sources:
            drawn(source)
    except (OSError, RecordedError, ValueError) as error:
        print(f"bench_target: {error}", file=sys.stderr)
        return 2
    policies = args.policy or list(POLICIES)
    tasks = [t for s in sources for t in tasks_of(s, args.fitter, policies, budgets)]
    known = kept(args.out)
    todo = [task for task in tasks if task.key not in known]
    for found in results(todo, args.jobs):
        known[found["key"]] = found
        if args.out is not None:
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
    groups = ["worlds"] if args.worlds else list(dict.fromkeys(s.name for s in sources))
    records: list[dict[str, Any]] = []
    for group in groups:
        mine = [known[t.key] for t in tasks if args.worlds or t.source.name == group]
        records += [{"task": group, "fitter": args.fitter, **row} for row in rows(mine)]
    print(json.dumps({"schema": SCHEMA, "rows": records}) if args.json else table(records))
    return 0


def results(tasks: Sequence[Task], jobs: int) -> Iterator[dict[str, Any]]:
    """Each task's result, as they come."""
    if jobs <= 1:
        yield from map(run, tasks)
        return
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        yield from pool.map(run, tasks, chunksize=4)


def sources_of(args: argparse.Namespace) -> Iterator[Source]:
    count = QUICK if args.quick else args.subsets
    common: dict[str, Any] = {"held": args.held, "seed": args.seed, "inside": args.inside}
    if args.held < TARGETS:
        raise ValueError(f"--held {args.held} leaves no {TARGETS} targets")
    if bool(args.curves) == bool(args.worlds):
        raise ValueError("name one source: --curves FILE, or --worlds COUNT")
    for file in args.curves or ():
        yield Source(file=file, long=args.long, subsets=count, **common)
    for number in range(args.worlds):
        yield Source(number=number, subsets=1, **common)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    add = parser.add_argument
    add("--curves", action="append", help="CSV with curve_id, params, tokens, flops, loss")
    add("--long", help="a table that holds longer runs of the same models: where targets end")
    add("--worlds", type=int, default=0, help="generated tables, one subset each")
    add("--inside", type=float, help="only this share of every curve, without the largest models")
    add("--policy", action="append", choices=list(POLICIES), help="only these")
    add("--fitter", default="joint_law", choices=list(FITTERS), help="predicts for all")
    add("--budgets", default=",".join(f"{b:g}" for b in BUDGETS), help="%% of the pool's cost")
    add("--subsets", type=int, default=20, help="how many random subsets")
    add("--held", type=int, default=TARGETS, help="largest models held out, three are asked")
    add("--seed", type=int, default=0, help="of subsets and targets")
    add("--jobs", type=int, default=1, help="processes")
    add("--out", type=Path, help="JSONL of single replays: resumes where it stopped")
    add("--quick", action="store_true", help=f"{QUICK} subsets")
    add("--json", action="store_true", help="one JSON object on stdout")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
