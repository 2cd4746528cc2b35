"""What `bench_laws --choose` does: settings compared on rows of the pool alone, over all tasks.

The dearest rows of each pool are held out, a tenth of them and a fifth, and the tenth and fifth
that go furthest where the questions lie: along the line from the middle of the pool's features to
the middle of those that will be asked about. Every law form is fitted to the rest under every
setting, and scored on what was held out as the benchmark scores (1 - SSE/SST, clipped to [-1, 1];
-1 where there is no law). One setting is taken for all tasks, for it has to serve tasks that
nobody has seen: the first, unless another's mean over all forms of all tasks is higher by more
than a standard error of the forms' differences (the rule by which a knee is chosen too). Of the
test rows only features are known here, no label. Touches nothing.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.averaging import KNEES as POOL_KNEES
from orchestrator.laws.averaging import errors_at_larger, larger_rows, predicted
from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms.line import LineForm
from orchestrator.laws.law import Objective
from orchestrator.laws.runs import Runs

Array = NDArray[np.float64]

SHARES = (0.1, 0.2)  # of a pool's rows, the dearest, that are held out
KNEES = (1.345, 0.5, 0.2)  # in robust sd
BOXES = ("stated", "signs")
WEAK = (1.0, 0.3)  # sd of weak priors, in log loss
_STARTS = 32
_SHIFTED = 0.5  # sd of a feature in the pool: questions less far off say nothing of a direction


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """boxes: what of the stated boxes is used. knee: of the Huber loss, in robust sd; each
    pool's own where None. weak: sd of weak priors, in log loss; None for no such priors."""

    boxes: str
    knee: float | None
    weak: float | None = None

    def __str__(self) -> str:
        knee = "pool's" if self.knee is None else f"{self.knee:g}"
        weak = "none" if self.weak is None else f"{self.weak:g}"
        return f"{self.boxes:7} knee {knee:>6}, weak priors {weak:>4}"


SETTINGS = (
    Setting(boxes="stated", knee=None),
    *(Setting(boxes="stated", knee=None, weak=weak) for weak in WEAK),
    *(Setting(boxes=boxes, knee=knee) for boxes in BOXES for knee in KNEES),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """One task's pool: rows and costs by group, and its forms for a kind of boxes.

    knee: chosen on the pool. asked: features of the questions, by group, where they are known.
    """

    name: str
    parts: Mapping[str, tuple[Runs, Array]]
    objective: Objective
    forms: Callable[[str], Sequence[LineForm]]
    knee: float = KNEES[0]
    asked: Mapping[str, Mapping[str, Array]] = field(
        default_factory=dict[str, Mapping[str, Array]]
    )


def judged(
    forms: Sequence[LineForm], parts: Sequence[tuple[Runs, Array]], objective: Objective
) -> dict[float, list[Array]]:
    """By knee and form: errors at the pool's dearest rows, the groups' one after the other."""
    return {
        knee: [
            np.concatenate(
                [
                    errors_at_larger(form, runs, cost, objective=objective, knee=knee)
                    for runs, cost in parts
                ]
            )
            for form in forms
        ]
        for knee in POOL_KNEES
    }


def towards(runs: Runs, asked: Mapping[str, Array]) -> Array:
    """How far rows go where the questions lie, (R,): features count in their sd over the rows,
    in logarithms where positive, by how many sd the middle of the questions is off."""
    far = np.zeros(len(runs))
    for name, here in runs.features.items():
        there = asked[name]
        if (here > 0).all() and (there > 0).all():
            here, there = np.log(here), np.log(there)
        spread = float(here.std())
        off = (float(there.mean()) - float(here.mean())) / spread if spread > 0 else 0.0
        if abs(off) >= _SHIFTED:
            far += off * (here - here.mean()) / spread
    return far


def score(
    form: LineForm, pool: Pool, setting: Setting, share: float, *, ahead: bool = False
) -> float:
    """Clipped R2 over the held rows of all groups together. ahead: those held are the furthest
    towards the questions, not the dearest."""
    seen: list[Array] = []
    said: list[Array] = []
    for label, (runs, cost) in pool.parts.items():
        larger = larger_rows(towards(runs, pool.asked[label]) if ahead else cost, share=share)
        held = runs.take(larger)
        seen.append(held.loss)
        try:
            law = fit(
                form,
                runs.take(~larger),
                objective=pool.objective,
                knee=pool.knee if setting.knee is None else setting.knee,
                weak_priors=setting.weak,
                starts=_STARTS,
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
    """The best setting, and by setting and task the scores of its forms, averaged over what was
    held out. Means over the forms are told on stderr as they come."""
    table: dict[Setting, dict[str, Array]] = {}
    width = len(str(SETTINGS[0]))
    cells = [" " * width, *(f"{pool.name:>16}" for pool in pools), "all forms"]
    print("  ".join(cells), file=sys.stderr)
    for setting in SETTINGS:
        row = {
            pool.name: np.array([_mean_score(f, pool, setting) for f in pool.forms(setting.boxes)])
            for pool in pools
        }
        table[setting] = row
        cells = [str(setting), *(f"{row[p.name].mean():16.4f}" for p in pools)]
        print("  ".join([*cells, f"{_mean(row):9.4f}"]), file=sys.stderr)
    return _best(table), table


def _mean_score(form: LineForm, pool: Pool, setting: Setting) -> float:
    ways = (False, True) if pool.asked else (False,)
    return float(np.mean([score(form, pool, setting, s, ahead=a) for a in ways for s in SHARES]))


def _best(table: Mapping[Setting, Mapping[str, Array]]) -> Setting:
    settings = list(table)
    scores = [np.concatenate(list(table[setting].values())) for setting in settings]
    best, most = settings[0], 0.0
    for setting, found in zip(settings[1:], scores[1:], strict=True):
        gain = found - scores[0]
        doubt = float(np.std(gain)) / math.sqrt(len(gain))
        print(f"against the first, {setting}: {gain.mean():+.4f} +- {doubt:.4f}", file=sys.stderr)
        if float(gain.mean()) > max(most, doubt):
            best, most = setting, float(gain.mean())
    return best


def _mean(row: Mapping[str, Array]) -> float:
    return float(np.mean(np.concatenate(list(row.values()))))
