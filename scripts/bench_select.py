#!/usr/bin/env python3
"""Selection rules on ScaleBench: what each law predicts from the runs that a rule bought.

    scripts/bench_select.py [--folder FOLDER] [--task NAME ...] [--rule NAME ...] [--seeds 5]
        [--budget 1,5,10] [--fitter ours] [--boxes stated] [--jobs 2] [--out FILE] [--json]

FOLDER is laid out as for `bench_laws`; a task that is not there yet needs its folder, a line of
README.md's table and its laws in `laws.yaml`. A rule sees inputs and cost of every row, inputs of
the test rows, and the loss of the rows that it bought. Budgets are shares of the cost of a group's
rows, and are never exceeded: a rule is given what it may spend, and what it picks is checked. The
larger budget goes on from what the smaller one bought. At each budget the same fitter (`ours`: the
belief that the policies use, found afresh) predicts the test rows from what was bought; groups are
fitted apart and scored together, R2 as in `bench_laws`.

`published` is the rule of arXiv 2604.22753 rebuilt: with `--fitter ours` on our optima; with
`--fitter lbfgsb` its fitter too predicts (mean squared error, L-BFGS-B, 64 starts). A rule's name
with `_averaged` behind it chooses with all forms of the task together, and the fitter predicts
with their average: D- and V-optimal designs by the form of most weight, the published one with
the solutions of all forms, weighed by BIC.

--out keeps one JSON line a (task, form, rule, fitter, seed) and goes on from those that it holds.
Records: task, rule, fitter, budget_pct, r2_mean, ci_low, ci_high (95 %, bootstrap over forms, then
the seeds of each; an average over forms has seeds alone), seeds, cpu_s (of one path through all
budgets); task `gain of active` has the mean over tasks of active's R2 less that of the rule,
paired by form and seed, averages with averages.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestrator.laws.errors import FitError
from orchestrator.laws.forms.line import LineForm
from orchestrator.policies.active import Active
from orchestrator.policies.at_random import AtRandom
from orchestrator.policies.buying import Market, Rule
from orchestrator.policies.cheapest import Cheapest
from orchestrator.policies.cost_weighted_random import CostWeightedRandom
from orchestrator.policies.d_optimal import DOptimal
from orchestrator.policies.posterior import Learner, Optima
from orchestrator.policies.published import Published
from orchestrator.policies.v_optimal import VOptimal
from scripts.bench_laws import FOLDER, Part, Task, form_of, r2_of, read, tasks_of
from scripts.kept_lines import records_in
from scripts.select_records import records_of, table
from scripts.select_solvers import LbfgsbFitter

RULES = (
    "active",
    "random",
    "cheapest",
    "cost_weighted_random",
    "d_optimal",
    "v_optimal",
    "published",
)
AVERAGED = "_averaged"
"""Behind a rule's name: with all forms of a task together."""
BATCH = 0.08
"""Runs bought on one belief, as a share of those known: a rule may ask for fewer."""


def bought_path(
    rule: Rule, part: Part, target: Part, outputs: int, budgets: Sequence[float], seed: int
) -> Iterator[Market]:
    """The market at the end of each budget, given as shares of the group's cost."""
    count = len(part.cost) // outputs
    cost = part.cost[:count] / part.cost[:count].sum()
    order: list[int] = []
    for budget in budgets:
        while True:
            market, free = market_at(part, target, cost, order, outputs, budget, seed)
            if not (market.cost <= market.affordable).any():
                break
            picks = rule.choose(market).picks
            if not picks:
                break
            order += [int(free[pick.offer]) for pick in picks]
        if len(set(order)) < len(order) or float(cost[order].sum()) > budget * (1 + 1e-12):
            raise RuntimeError(f"{rule.name} bought a row twice, or more than {budget:g} allows")
        yield market


def market_at(
    part: Part,
    target: Part,
    cost: np.ndarray,
    order: Sequence[int],
    outputs: int,
    budget: float,
    seed: int,
) -> tuple[Market, np.ndarray]:
    """The market after buying `order`, and which rows its offers are."""
    count = len(cost)
    rows = np.array(order, dtype=np.int64)
    free = np.setdiff1d(np.arange(count), rows)
    spread = count * np.arange(outputs)[:, None]
    features = part.runs.features
    known = part.runs.take((rows + spread).ravel()) if len(rows) else None
    return Market(
        offers={name: column[(free + spread).ravel()] for name, column in features.items()},
        cost=cost[free],
        owner=free,
        affordable=budget - float(cost[rows].sum()),
        budget=budget,
        total=1.0,
        places=max(1, int(BATCH * len(rows))) if len(rows) else count,
        known=known,
        known_cost=np.tile(cost[rows], outputs),
        flying={},
        target=dict(target.runs.features),
        everywhere=dict(features),
        outputs=outputs,
        seed=int(np.random.default_rng((seed, len(rows))).integers(2**31)),
        sweep_seed=seed,
    ), free


def rule_named(name: str, forms: Sequence[LineForm], fitter: str) -> Rule:
    """The rule of a name for these forms."""
    plain = Learner(forms=tuple(forms), misfit=None)
    rules: dict[str, Any] = {
        "active": lambda: Active(learner=Learner(forms=tuple(forms))),
        "random": AtRandom,
        "cheapest": Cheapest,
        "cost_weighted_random": CostWeightedRandom,
        "d_optimal": lambda: DOptimal(learner=plain),
        "v_optimal": lambda: VOptimal(learner=plain),
        "published": lambda: Published(
            forms=tuple(forms),
            solver=LbfgsbFitter() if fitter == "lbfgsb" else Optima(learner=plain),
        ),
    }
    return rules[name.removesuffix(AVERAGED)]()


def scored(
    folder: Path,
    task: Task,
    said: dict[str, Any],
    key: tuple[str, str, str, int],
    budgets: Sequence[float],
    boxes: str,
) -> dict[str, Any]:
    """One record of `--out`. key: form (or `all`), rule, fitter, seed."""
    name, rule_name, fitter, seed = key
    begun = time.process_time()
    names = list(said) if name == "all" else [name]
    forms = [form_of(task, each, said[each], boxes) for each in names]
    train, test = read(folder, task, "train"), read(folder, task, "test", signed=True)
    if any(part.runs.signed for part in train.values()):
        train = read(folder, task, "train", signed=True)
    outputs = len(task.targets)
    said_at: list[list[np.ndarray]] = [[] for _ in budgets]
    rows = [0] * len(budgets)
    for label, part in train.items():
        rule = rule_named(rule_name, forms, fitter)
        learner: Any = Learner(forms=tuple(forms))
        if fitter == "lbfgsb":  # the rule's own, where it fits: its warm starts are among ours
            learner = rule.solver if isinstance(rule, Published) else LbfgsbFitter()
        path = bought_path(rule, part, test[label], outputs, budgets, seed)
        for number, market in enumerate(path):
            said_at[number].append(predicted(learner, forms[0], market))
            rows[number] += market.seen
    loss = np.concatenate([test[label].runs.loss for label in train])
    return {
        "task": task.name,
        "form": name,
        "rule": rule_name,
        "fitter": fitter,
        "boxes": boxes,
        "seed": seed,
        "budgets_pct": [round(100 * budget, 6) for budget in budgets],
        "r2": [round(r2_of(loss, np.concatenate(at)), 4) for at in said_at],
        "rows": rows,
        "cpu_s": round(time.process_time() - begun, 2),
    }


def predicted(learner: Any, form: LineForm, market: Market) -> np.ndarray:
    """What the fitter makes of the target from what is known; not a number where nothing is."""
    count = len(next(iter(market.target.values())))
    try:
        if isinstance(learner, LbfgsbFitter):
            return learner.predicted(form, market)
        return learner.told(market).predict(market.target)
    except FitError:
        return np.full(count, np.nan)


def main(argv: Sequence[str] | None = None) -> int:
    """Run it. Exit code 2 where the data is not there, or the fitter cannot fit for a rule."""
    asked = arguments(argv)
    if not (asked.folder / "laws.yaml").is_file():
        print(f"there is no {asked.folder}/laws.yaml; name the data by --folder", file=sys.stderr)
        return 2
    several = [rule for rule in asked.rule or () if rule.endswith(AVERAGED)]
    if asked.fitter == "lbfgsb" and several:
        print(f"--fitter lbfgsb fits one form; leave out {', '.join(several)}", file=sys.stderr)
        return 2
    laws = YAML(typ="safe").load(asked.folder / "laws.yaml")
    budgets = [float(word) / 100 for word in asked.budget.split(",")]
    fixed = {"boxes": asked.boxes, "budgets_pct": [round(100 * b, 6) for b in budgets]}
    held = kept(asked.out, fixed)
    wanted = [
        (task, (form, rule, asked.fitter, seed))
        for task in tasks_of(asked.folder)
        if task.name in laws and (not asked.task or task.name in asked.task)
        for seed in range(asked.seeds)
        for rule in asked.rule or RULES
        for form in (["all"] if rule.endswith(AVERAGED) else list(laws[task.name])[: asked.forms])
    ]
    todo = [(t, key) for t, key in wanted if (t.name, *key) not in held]
    print(f"{len(wanted)} runs, {len(wanted) - len(todo)} of them held", file=sys.stderr)
    jobs = [(asked.folder, t, laws[t.name], key, budgets, asked.boxes) for t, key in todo]
    for record in worked(jobs, asked.jobs):
        held[key_of(record)] = record
        if asked.out is not None:
            with asked.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        said = " ".join(f"{value:.3f}" for value in record["r2"])
        print(" ".join(map(str, key_of(record))), said, record["cpu_s"], file=sys.stderr)
    rows = records_of([held[(t.name, *key)] for t, key in wanted])
    if asked.json:
        print(json.dumps({"schema": "frontrunner.bench_select/1", "rows": rows}))
    else:
        print(table(rows))
    return 0


def kept(out: Path | None, fixed: Mapping[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Records of earlier runs with these settings."""
    return {
        key_of(record): record
        for record in records_in(out)
        if all(record[name] == value for name, value in fixed.items())
    }


def worked(jobs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[dict[str, Any]]:
    """Each job's record as it is done."""
    if workers == 1:
        yield from (scored(*job) for job in jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_one, jobs)


def _one(job: tuple[Any, ...]) -> dict[str, Any]:
    return scored(*job)


def key_of(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record[name] for name in ("task", "form", "rule", "fitter", "seed"))


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Selection rules on ScaleBench.")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--task", action="append", help="only this task; may be repeated")
    parser.add_argument(
        "--rule", action="append", choices=(*RULES, *(rule + AVERAGED for rule in RULES))
    )
    parser.add_argument("--fitter", choices=("ours", "lbfgsb"), default="ours")
    parser.add_argument("--boxes", choices=("signs", "stated"), default="stated")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--forms", type=int, help="only the first so many forms of a task")
    parser.add_argument("--budget", default="1,5,10", help="in percent, ascending")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON lines; what it holds is not run again")
    parser.add_argument("--quick", action="store_true", help="one seed, two forms a task")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    asked = parser.parse_args(argv)
    if asked.quick:
        asked.seeds, asked.forms = 1, 2
    return asked


if __name__ == "__main__":
    sys.exit(main())
