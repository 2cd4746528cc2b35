"""What `bench_laws --choose` does: settings compared on rows of the pool alone, over all tasks.

The dearest rows of each pool are held out, a tenth of them and a fifth, every law form is fitted
to the rest under every setting, and scored on what was held out as the benchmark scores (1 -
SSE/SST, clipped to [-1, 1]; -1 where there is no law). One setting is taken for all tasks, for it
has to serve tasks that nobody has seen: the first, unless another's mean over all forms of all
tasks is higher by more than a standard error of the forms' differences (the rule by which a
knee is chosen too). Test rows are not read. Touches nothing.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.averaging import larger_rows, predicted
from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms.line import LineForm
from orchestrator.laws.law import Objective
from orchestrator.laws.runs import Runs

Array = NDArray[np.float64]

SHARES = (0.1, 0.2)  # of a pool's rows, the dearest, that are held out
KNEES = (1.345, 0.5, 0.2)  # in robust sd
BOXES = ("stated", "signs")
_STARTS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """boxes: what of the stated boxes is used. knee: of the Huber loss, in robust sd."""

    boxes: str
    knee: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One task's pool: rows and costs by group, and its forms for a kind of boxes."""

    name: str
    parts: Mapping[str, tuple[Runs, Array]]
    objective: Objective
    forms: Callable[[str], Sequence[LineForm]]


def score(form: LineForm, pool: Pool, knee: float, share: float) -> float:
    """Clipped R2 over the held rows of all groups together."""
    seen: list[Array] = []
    said: list[Array] = []
    for runs, cost in pool.parts.values():
        larger = larger_rows(cost, share=share)
        held = runs.take(larger)
        seen.append(held.loss)
        try:
            law = fit(
                form, runs.take(~larger), objective=pool.objective, knee=knee, starts=_STARTS
            )
            said.append(predicted(law, held))
        except FitError:
            said.append(np.full(len(held), np.nan))
    loss, guess = np.concatenate(seen), np.concatenate(said)
    if not np.isfinite(guess).all():
        return -1.0
    spread = np.sum((loss - loss.mean()) ** 2)
    return float(np.clip(1 - np.sum((loss - guess) ** 2) / spread, -1, 1))


def choose(pools: Sequence[Pool]) -> tuple[Setting, dict[Setting, dict[str, Array]]]:
    """The best setting, and by setting and task the scores of its forms, both shares averaged.
    Means over the forms are told on stderr as they come."""
    table: dict[Setting, dict[str, Array]] = {}
    cells = ["boxes  ", " knee", *(f"{pool.name:>16}" for pool in pools), "all forms"]
    print("  ".join(cells), file=sys.stderr)
    for boxes in BOXES:
        forms = {pool.name: pool.forms(boxes) for pool in pools}
        for knee in KNEES:
            row = {
                pool.name: np.array(
                    [np.mean([score(f, pool, knee, s) for s in SHARES]) for f in forms[pool.name]]
                )
                for pool in pools
            }
            table[Setting(boxes=boxes, knee=knee)] = row
            cells = [f"{boxes:7}", f"{knee:5g}", *(f"{row[p.name].mean():16.4f}" for p in pools)]
            print("  ".join([*cells, f"{_mean(row):9.4f}"]), file=sys.stderr)
    return _best(table), table


def _best(table: Mapping[Setting, Mapping[str, Array]]) -> Setting:
    settings = list(table)
    scores = [np.concatenate(list(table[setting].values())) for setting in settings]
    best, most = settings[0], 0.0
    for setting, found in zip(settings[1:], scores[1:], strict=True):
        gain = found - scores[0]
        doubt = float(np.std(gain)) / math.sqrt(len(gain))
        said = f"{setting.boxes}, knee {setting.knee:g}: {gain.mean():+.4f} +- {doubt:.4f}"
        print(f"against the first, {said}", file=sys.stderr)
        if float(gain.mean()) > max(most, doubt):
            best, most = setting, float(gain.mean())
    return best


def _mean(row: Mapping[str, Array]) -> float:
    return float(np.mean(np.concatenate(list(row.values()))))
