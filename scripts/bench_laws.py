"""Measure the law engine on ScaleBench: fit on its pool, score on its target region, time it.

    python scripts/bench_laws.py [--folder FOLDER] [--task NAME ...] [--quick] [--json]

FOLDER holds one folder a task with train.parquet and test.parquet, `laws.yaml` with the forms,
and README.md, whose table says which column is which input, the target and the cost of a row.
Test rows are read once, to score; every choice (the knee, the weights of the average) is made on
the largest rows of the pool by cost. Boxes are those of laws.yaml: they belong to its forms, and
the published figures used them, but were set with the labels of the whole pool at hand. So both
are to be shown: `--boxes signs` keeps of them only what a form's author knows before any label.
`--choose` compares the two, knees, and weak priors, on rows of the pool alone.

Records: task, form, objective, rows, r2 (1 - SSE/SST over all test rows, clipped to [-1, 1]; a
prediction that is not finite scores -1), cpu_s (the fit, with all its starts) and
speedup_vs_lbfgsb (64 starts drawn in the published boxes, the same rows, scipy's default
tolerances, over the largest group; `laws_race.py` says what the race's other fields are); form
`mean` and `averaged` for a task. For a law that is linear in all its parameters, one more record
with objective `squared` and `closed_form_gap`.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
from numpy.typing import NDArray
from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestrator.laws.averaging import KNEES, averaged, best_knee, predicted
from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms.line import Known, LineForm, law_of
from orchestrator.laws.law import LawFit, Objective
from orchestrator.laws.runs import Runs
from scripts.laws_choice import BOXES, Pool, choose, judged
from scripts.laws_coverage import main as coverage_main
from scripts.laws_curves import main as curves_main
from scripts.laws_race import STARTS, races, summary

Array = NDArray[np.float64]

FOLDER = Path("../shared/data/scalebench")
USUAL = "stated"
"""Boxes unless told otherwise: those of the published figures. They were not chosen on the pools:
there `--choose` prefers `signs`, by 0.0025 +- 0.0014 of R2, so both are to be shown."""
WEAK = 1.0
"""Sd of weak priors in log loss. Chosen on the pools by `--choose`: over the 41 forms 0.008 +-
0.007 of R2 better on what was held out than none; 0.3 was 0.011 +- 0.018 (not clear)."""
_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task: column by short name, targets, and the cost as a product of names and numbers."""

    name: str
    columns: dict[str, str]
    targets: tuple[str, ...]
    cost: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Rows of one group: features (short name to column), one row an output, and their cost."""

    runs: Runs
    cost: Array


def tasks_of(folder: Path) -> list[Task]:
    """The tasks that README.md's table describes and the folder holds."""
    found: list[Task] = []
    for line in (folder / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]
        if len(cells) < 6 or not (folder / cells[0] / "train.parquet").is_file():
            continue
        columns: dict[str, str] = {}
        for feature in cells[3].split(","):
            words = feature.split()
            columns[words[-1]] = words[0]
        targets = tuple(word.strip() for word in cells[4].split(","))
        found.append(Task(name=cells[0], columns=columns, targets=targets, cost=cells[5]))
    if not found:
        raise SystemExit(f"{folder}/README.md describes no task whose folder is there")
    return found


def read(folder: Path, task: Task, part: str, *, signed: bool | None = None) -> dict[str, Part]:
    """Parts by group. Several targets become several rows, told apart by indicator features."""
    table = parquet.read_table(folder / task.name / f"{part}.parquet").to_pydict()
    labels = np.array(table.get("group", ["all"] * len(table[task.targets[0]])))
    parts: dict[str, Part] = {}
    for label in sorted(set(labels)):
        here = labels == label
        features = {n: np.array(table[c], dtype=float)[here] for n, c in task.columns.items()}
        loss = [np.array(table[target], dtype=float)[here] for target in task.targets]
        cost = _product(task.cost, features)
        outputs = len(task.targets)
        stacked = {n: np.tile(column, outputs) for n, column in features.items()}
        if outputs > 1:
            for k in range(outputs):
                stacked[f"output{k}"] = np.repeat(np.arange(outputs) == k, here.sum()) * 1.0
        together = np.concatenate(loss)
        parts[str(label)] = Part(
            runs=Runs(
                features=stacked,
                loss=together,
                trial=np.tile(np.arange(int(here.sum())), outputs),
                signed=bool((together <= 0).any()) if signed is None else signed,
            ),
            cost=np.tile(cost, outputs),
        )
    return parts


def trained(folder: Path, task: Task) -> tuple[dict[str, Part], Objective]:
    """The parts that forms are fitted to, and under which objective: losses of which any is below
    zero have no logarithm, and all of the task's are taken as they are."""
    parts = read(folder, task, "train")
    if not any(part.runs.signed for part in parts.values()):
        return parts, "huber_log"
    return read(folder, task, "train", signed=True), "huber"


def _product(text: str, features: dict[str, Array]) -> Array:
    total = np.ones_like(next(iter(features.values())))
    for factor in text.split("*"):
        word = factor.strip()
        if word in features:
            total = total * features[word]
        elif re.fullmatch(r"[\d.]+", word):
            total = total * float(word)
    return total


def form_of(task: Task, name: str, said: dict[str, Any], boxes: str) -> LineForm:
    """The form of one entry of laws.yaml. boxes: `stated`, or of them only the `signs`."""
    known = {
        parameter: Known(low=low, high=high)
        if boxes == "stated"
        else Known(low=0.0 if low >= 0 else -math.inf, high=0.0 if high <= 0 else math.inf)
        for parameter, (low, high) in zip(said["params"], said["bounds"], strict=True)
    }
    line = said["loss"]
    if not isinstance(line, str):
        lines = list(line.values()) if isinstance(line, dict) else list(line)
        line = " + ".join(f"output{k}*({part})" for k, part in enumerate(lines))
    words = set(_WORD.findall(line))
    outputs = [f"output{k}" for k in range(len(task.targets))] if len(task.targets) > 1 else []
    inputs = [n for n in [*task.columns, *outputs] if n in words]
    return law_of(line, name=name, parameters=known, inputs=inputs)


def r2_of(loss: Array, said: Array) -> float:
    """As ScaleBench has it: clipped to [-1, 1], -1 where a prediction is not finite."""
    if not np.isfinite(said).all():
        return -1.0
    return float(
        np.clip(1 - np.sum((loss - said) ** 2) / np.sum((loss - loss.mean()) ** 2), -1, 1)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A form on all groups of a task. said: test rows, concatenated; errors: by group."""

    laws: dict[str, LawFit | None]
    said: Array
    cpu_s: float


def fit_groups(
    form: LineForm, train: dict[str, Part], test: dict[str, Part], knee: float, options: Any
) -> Fitted:
    laws: dict[str, LawFit | None] = {}
    said: list[Array] = []
    begun = time.process_time()
    for label in test:
        try:
            laws[label] = fit(form, train[label].runs, knee=knee, **options)
        except FitError as error:
            print(f"  {form.name}, {label}: {error}", file=sys.stderr)
            laws[label] = None
    cpu_s = time.process_time() - begun
    for label, part in test.items():
        law = laws[label]
        said.append(np.full(len(part.runs), np.nan) if law is None else predicted(law, part.runs))
    return Fitted(laws=laws, said=np.concatenate(said), cpu_s=cpu_s)


def pool_of(folder: Path, task: Task, laws: dict[str, Any]) -> Pool:
    """The task's pool for `choose`. Of its test rows only the features are taken."""
    parts, objective = trained(folder, task)
    asked = read(folder, task, "test", signed=True)
    forms = [form_of(task, name, said, USUAL) for name, said in laws.items()]
    rows = {label: (part.runs, part.cost) for label, part in parts.items()}
    return Pool(
        name=task.name,
        parts=rows,
        objective=objective,
        forms=lambda boxes: [form_of(task, name, said, boxes) for name, said in laws.items()],
        knee=best_knee(judged(forms, list(rows.values()), objective)),
        asked={label: asked[label].runs.features for label in parts},
    )


def bench(
    folder: Path,
    task: Task,
    laws: dict[str, Any],
    *,
    speed: int,
    boxes: str,
    weak: float | None,
) -> list[dict[str, Any]]:
    """Records of one task. speed: how many starts L-BFGS-B runs; 0 for none. weak: sd of weak
    priors in the laws that are scored; the knee and the weights of the average are judged, and
    the race is run, without them."""
    train, objective = trained(folder, task)
    test = read(folder, task, "test", signed=True)
    forms = [form_of(task, name, said, boxes) for name, said in laws.items()]
    errors = judged(forms, [(p.runs, p.cost) for p in train.values()], objective)
    knee = best_knee(errors)
    print(f"{task.name}: knee {knee:g} sd, chosen on the pool's largest rows", file=sys.stderr)
    loss = np.concatenate([part.runs.loss for part in test.values()])
    rows = sum(len(part.runs) for part in train.values())
    records: list[dict[str, Any]] = []
    options = {"objective": objective, "weak_priors": weak}
    fits = [fit_groups(f, train, test, knee, options) for f in forms]
    for form, fitted in zip(forms, fits, strict=True):
        record = _record(task, form.name, objective, rows, r2_of(loss, fitted.said), fitted.cpu_s)
        if speed:
            largest = max(train.values(), key=lambda part: len(part.runs))
            record |= races(form, laws[form.name], largest.runs, objective, knee, speed)
        records.append(record)
        if all(parameter.linear for parameter in form.parameters):
            records.append(_closed_form(task, form, train, test, loss, rows))
        _tell(records[-1])
    scores = [record["r2"] for record in records if record["objective"] == objective]
    cpu_s = math.fsum(fitted.cpu_s for fitted in fits)
    records.append(_record(task, "mean", objective, rows, statistics.fmean(scores), cpu_s))
    means = [float(np.mean(found)) for found in errors[knee]]
    together = [_average_of(fits, means, label, part) for label, part in test.items()]
    score = r2_of(loss, np.concatenate(together))
    records.append(_record(task, "averaged", objective, rows, score, cpu_s))
    for record in records[-2:]:
        _tell(record)
    return records


def _average_of(fits: Sequence[Fitted], errors: Sequence[float], label: str, part: Part) -> Array:
    able = [(f.laws[label], e) for f, e in zip(fits, errors, strict=True)]
    return averaged(
        [law for law, _ in able if law is not None], [e for law, e in able if law is not None]
    ).predict(part.runs)


def _record(
    task: Task, form: str, objective: str, rows: int, r2: float, cpu_s: float
) -> dict[str, Any]:
    return {
        "task": task.name,
        "form": form,
        "objective": objective,
        "rows": rows,
        "r2": round(r2, 4),
        "cpu_s": round(cpu_s, 3),
        "speedup_vs_lbfgsb": None,
    }


def _tell(record: dict[str, Any]) -> None:
    print("  " + " ".join(f"{key}={value}" for key, value in record.items()), file=sys.stderr)


def _closed_form(
    task: Task,
    form: LineForm,
    train: dict[str, Part],
    test: dict[str, Part],
    loss: Array,
    rows: int,
) -> dict[str, Any]:
    """A law linear in everything, under squared error, against least squares in closed form."""
    fitted = fit_groups(form, train, test, KNEES[0], {"objective": "squared"})
    exact: list[Array] = []
    nothing = np.zeros((1, len(form.parameters)))
    for label, part in test.items():
        columns, asked = (
            form.jacobian(nothing, form.covariates(p.inputs(form.inputs), np.zeros(0)))[1][0].T
            for p in (train[label].runs, part.runs)
        )
        size = np.abs(columns).max(axis=0)
        solved = np.linalg.lstsq(columns / size, train[label].runs.loss, rcond=None)[0]
        exact.append(asked / size @ solved)
    record = _record(task, form.name, "squared", rows, r2_of(loss, fitted.said), fitted.cpu_s)
    gap = float(np.max(np.abs(np.concatenate(exact) - fitted.said)))
    return record | {"closed_form_gap": gap}


def main(argv: Sequence[str] | None = None) -> int:
    """Run it. Exit code 2 where the data is not there."""
    parser = argparse.ArgumentParser(description="Measure the law engine on ScaleBench.")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--task", action="append", help="only this task; may be repeated")
    parser.add_argument(
        "--quick", action="store_true", help="no race, and of lr_bsz the last two forms"
    )
    parser.add_argument(
        "--race", type=int, default=8, help=f"starts of L-BFGS-B, up to {STARTS}; 0 for no race"
    )
    parser.add_argument(
        "--boxes", choices=BOXES, default=USUAL, help=f"what of a box is used ({USUAL})"
    )
    parser.add_argument(
        "--weak", type=float, default=WEAK, help=f"sd of weak priors ({WEAK:g}); 0 for none"
    )
    parser.add_argument(
        "--choose", action="store_true", help="compare settings on rows of the pools, no more"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--curves", type=Path, metavar="FOLDER", help="judge laws of curves there")
    parser.add_argument(
        "--coverage", action="store_true", help="laws' intervals on known truths (laws_coverage)"
    )
    asked = parser.parse_args(argv)
    if asked.curves is not None:
        return curves_main(asked.curves, as_json=asked.json)
    if asked.coverage:
        flags = {"--quick": asked.quick, "--json": asked.json}
        return coverage_main([flag for flag, given in flags.items() if given])
    if not (asked.folder / "laws.yaml").is_file():
        print(
            f"there is no {asked.folder}/laws.yaml; name the data with --folder", file=sys.stderr
        )
        return 2
    laws = YAML(typ="safe").load(asked.folder / "laws.yaml")
    records: list[dict[str, Any]] = []
    tasks = [
        task
        for task in tasks_of(asked.folder)
        if task.name in laws and (not asked.task or task.name in asked.task)
    ]
    if asked.choose:
        chosen, _ = choose([pool_of(asked.folder, task, laws[task.name]) for task in tasks])
        print(f"chosen: {chosen}")
        return 0
    for task in tasks:
        if asked.quick and len(laws[task.name]) and task.name == "lr_bsz":
            laws[task.name] = dict(list(laws[task.name].items())[-2:])
        speed = 0 if asked.quick else asked.race
        records += bench(
            asked.folder,
            task,
            laws[task.name],
            speed=speed,
            boxes=asked.boxes,
            weak=asked.weak or None,
        )
    if any(record["speedup_vs_lbfgsb"] is not None for record in records):
        print(summary(records), file=sys.stderr)
    if asked.json:
        print(json.dumps({"schema": "frontrunner.bench_laws/1", "rows": records}))
    else:
        print(_table(records))
    return 0


def _table(records: Sequence[dict[str, Any]]) -> str:
    """The records under the names of the first, columns as wide as their longest cell."""
    names = list(records[0]) if records else []
    cells = [names, *([str(record.get(name, "")) for name in names] for record in records)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )


if __name__ == "__main__":
    sys.exit(main())
