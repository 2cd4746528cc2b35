"""The records of `bench_select`: means over forms and seeds, and what active gains on each rule.

Intervals are bootstrapped in two stages, forms and then the seeds of each: seeds of one form
differ little, and are not so many trials. Touches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

DRAWS = 4000


def records_of(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One record a task, rule and budget, then the mean over tasks and the paired gains."""
    found: list[dict[str, Any]] = []
    cells: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for run in runs:
        cells.setdefault((run["task"], run["rule"], run["fitter"]), []).append(run)
    budgets = runs[0]["budgets_pct"] if runs else []
    for (task, rule, fitter), group in cells.items():
        for place, budget in enumerate(budgets):
            scores = [(run["form"], run["r2"][place]) for run in group]
            found.append(_record(task, rule, fitter, budget, [scores], group))
    for rule, fitter in dict.fromkeys((rule, fitter) for _, rule, fitter in cells):
        tasks = [t for t, r, f in cells if (r, f) == (rule, fitter)]
        if len(tasks) < 2:
            continue
        groups = [cells[(task, rule, fitter)] for task in tasks]
        for place, budget in enumerate(budgets):
            scores = [[(run["form"], run["r2"][place]) for run in group] for group in groups]
            every = [run for group in groups for run in group]
            found.append(_record("mean over tasks", rule, fitter, budget, scores, every))
    return found + _gains(cells, budgets)


def _gains(
    cells: Mapping[tuple[str, str, str], Sequence[Mapping[str, Any]]], budgets: Sequence[float]
) -> list[dict[str, Any]]:
    """Mean over tasks of active's R2 less the rule's, paired by form and seed: `all` forms of an
    average are one form."""
    mine = {
        (task, run["form"], run["seed"]): run["r2"]
        for (task, rule, fitter), group in cells.items()
        if _active(rule, fitter)
        for run in group
    }
    found: list[dict[str, Any]] = []
    for rule, fitter in dict.fromkeys((rule, fitter) for _, rule, fitter in cells):
        if _active(rule, fitter):
            continue
        for place, budget in enumerate(budgets):
            apart: list[list[tuple[str, float]]] = []
            every: list[Mapping[str, Any]] = []
            for (task, r, f), group in cells.items():
                if (r, f) != (rule, fitter):
                    continue
                pairs = [(run, mine.get((task, run["form"], run["seed"]))) for run in group]
                kept = [(run, own) for run, own in pairs if own is not None]
                if kept:
                    apart.append(
                        [(run["form"], own[place] - run["r2"][place]) for run, own in kept]
                    )
                    every += [run for run, _ in kept]
            if apart:
                found.append(_record("gain of active", rule, fitter, budget, apart, every))
    return found


def _active(rule: str, fitter: str) -> bool:
    return rule in ("active", "active_averaged") and fitter == "ours"


def _record(
    task: str,
    rule: str,
    fitter: str,
    budget: float,
    scores: Sequence[Sequence[tuple[str, float]]],
    runs: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """scores: one list a task, of form and score; averaged over tasks."""
    mean = np.mean([np.mean([score for _, score in each]) for each in scores])
    rng = np.random.default_rng(0)
    low, high = np.quantile(
        np.mean([_resampled(each, rng) for each in scores], axis=0), [0.025, 0.975]
    )
    return {
        "task": task,
        "rule": rule,
        "fitter": fitter,
        "budget_pct": budget,
        "r2_mean": round(float(mean), 4),
        "ci_low": round(float(low), 4),
        "ci_high": round(float(high), 4),
        "seeds": len({run["seed"] for run in runs}),
        "cpu_s": round(float(np.mean([run["cpu_s"] for run in runs])), 2),
    }


def _resampled(scores: Sequence[tuple[str, float]], rng: np.random.Generator) -> np.ndarray:
    """Means (DRAWS,) over forms drawn with replacement, and seeds within each."""
    forms: dict[str, list[float]] = {}
    for form, score in scores:
        forms.setdefault(form, []).append(score)
    groups = [np.array(group) for group in forms.values()]
    means = [
        group[rng.integers(len(group), size=(DRAWS, len(groups), len(group)))].mean(axis=2)
        for group in groups
    ]
    chosen = rng.integers(len(groups), size=(DRAWS, len(groups)))
    return np.take_along_axis(np.stack(means), chosen[None], axis=0)[0].mean(axis=1)


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """The records under their names, columns as wide as their longest cell."""
    if not records:
        return "nothing was run"
    cells = [list(records[0]), *([str(value) for value in record.values()] for record in records)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )
