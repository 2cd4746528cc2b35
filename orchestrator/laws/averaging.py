"""Several laws as one: averaged by their error at rows larger than those they were fitted to.

No law form is the true one, and the one that fits best inside the rows is often not the one that
extrapolates best. So each form is fitted without the largest rows and judged there, and laws of
all rows are averaged with weights of one over that error, squared. What is a matter of the data
and not of a form, the knee of the Huber loss, is chosen by the same errors over all forms.
Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import LawForm
from orchestrator.laws.law import LawFit, Objective
from orchestrator.laws.robust import KNEE
from orchestrator.laws.runs import Array, Runs

LARGEST = 0.2
"""Share of rows, the largest, that laws are judged on."""


KNEES = (KNEE, 0.2)
"""Knees that are tried, in robust sd: the usual one, and nearly absolute error."""


def larger_rows(size: ArrayLike, *, share: float = LARGEST) -> NDArray[np.bool_]:
    """Which rows are among the largest `share` by size (R,), such as their compute or cost.

    Rows of equal size are on one side. Raises FitError where all are of one size.
    """
    sizes = np.asarray(size, dtype=np.float64)
    larger = sizes > np.quantile(sizes, 1.0 - share)
    if not larger.any():
        larger = sizes >= sizes.max()
    if larger.all():
        raise FitError("no judgement of laws: all rows are of one size, none larger to hold out")
    return larger


def errors_at_larger(
    form: LawForm,
    runs: Runs,
    size: ArrayLike,
    *,
    objective: Objective = "huber_log",
    knee: float = KNEE,
    seed: int = 0,
    starts: int = 32,
) -> Array:
    """Absolute errors (H,) at the H rows that are largest by size (R,), of a law fitted to the
    others: of log loss, or of the loss itself where the objective is. Infinite where there is no
    law or no prediction. Raises FitError where all rows are of one size."""
    larger = larger_rows(size)
    held = runs.take(larger)
    try:
        law = fit(
            form, runs.take(~larger), objective=objective, knee=knee, seed=seed, starts=starts
        )
    except FitError:
        return np.full(len(held), np.inf)
    said = predicted(law, held)
    with np.errstate(all="ignore"):
        error = np.log(said / held.loss) if objective == "huber_log" else said - held.loss
    return np.where(np.isfinite(error), np.abs(error), np.inf)


def predicted(law: LawFit, runs: Runs) -> Array:
    """The law's loss at the rows' features, (R,)."""
    covariates = law.form.covariates(runs.inputs(law.form.inputs), np.array(law.centre))
    return law.form.loss(np.array([law.working]), covariates)[0]


def best_knee(errors: Mapping[float, Sequence[Array]]) -> float:
    """The knee whose errors at larger rows, (H,) a form, are clearly less than the first one's.

    Errors are averaged over the forms that have one everywhere; another knee must better the
    first by more than a standard error of the rows' differences, else the first one stays.
    """
    knees = list(errors)
    tables = [np.stack(errors[knee]) for knee in knees]
    able = np.logical_and.reduce([np.isfinite(table).all(axis=1) for table in tables])
    if not able.any():
        return knees[0]
    usual, best, most = tables[0][able].mean(axis=0), knees[0], 0.0
    for knee, table in zip(knees[1:], tables[1:], strict=True):
        gain = usual - table[able].mean(axis=0)
        doubt = float(np.std(gain)) / math.sqrt(len(gain))
        if float(gain.mean()) > max(most, doubt):
            best, most = knee, float(gain.mean())
    return best


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """Laws and their weights, which sum to 1."""

    laws: tuple[LawFit, ...]
    weights: tuple[float, ...]

    def predict(self, runs: Runs) -> Array:
        """The weighted mean of the laws' losses at the rows' features, (R,)."""
        said = np.stack([predicted(law, runs) for law in self.laws])
        return np.array(self.weights) @ said


def averaged(laws: Sequence[LawFit], errors: Sequence[float]) -> Average:
    """Laws weighted by one over their squared error at larger rows; those without one left out.

    Raises FitError where no law has an error, ValueError where the numbers differ.
    """
    if len(laws) != len(errors):
        raise ValueError(f"{len(laws)} laws and {len(errors)} errors: one for each is needed")
    able = [(law, error) for law, error in zip(laws, errors, strict=True) if math.isfinite(error)]
    if not able:
        raise FitError("no average: no law form has an error at larger rows")
    least = max(min(error for _, error in able), 1e-12)
    raw = [(least / max(error, least)) ** 2 for _, error in able]
    return Average(
        laws=tuple(law for law, _ in able), weights=tuple(w / math.fsum(raw) for w in raw)
    )
