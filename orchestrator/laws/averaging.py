"""Several laws as one: averaged by their error at rows larger than those they were fitted to.

No law form is the true one, and the one that fits best inside the rows is often not the one that
extrapolates best. So each form is fitted without the largest rows and judged there, and laws of
all rows are averaged with weights of one over that error, squared. The knee of the Huber loss,
which is a matter of the data and not of a form, is chosen by the same errors over all forms.
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
from orchestrator.laws.posing import KNEE
from orchestrator.laws.runs import Array, Runs

LARGEST = 0.2
"""Share of rows, the largest, that laws are judged on."""
KNEES = (10.0, KNEE, 0.2)
"""Knees that are tried, in robust sd: nearly squared error, the usual one, nearly absolute."""


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


def error_at_larger(
    form: LawForm,
    runs: Runs,
    larger: NDArray[np.bool_],
    *,
    objective: Objective = "huber_log",
    knee: float = KNEE,
    seed: int = 0,
    starts: int = 32,
) -> float:
    """Mean absolute error at the larger rows of a law fitted to the others: of log loss, or of
    the loss itself where the objective is. Infinite where there is no law or no prediction."""
    try:
        law = fit(
            form, runs.take(~larger), objective=objective, knee=knee, seed=seed, starts=starts
        )
    except FitError:
        return math.inf
    held = runs.take(larger)
    said = predicted(law, held)
    with np.errstate(all="ignore"):
        if objective == "huber_log":
            error = np.abs(np.log(said / held.loss))
        else:
            error = np.abs(said - held.loss)
    return float(np.average(error, weights=held.weight)) if np.isfinite(error).all() else math.inf


def predicted(law: LawFit, runs: Runs) -> Array:
    """The law's loss at the rows' features, (R,)."""
    covariates = law.form.covariates(runs.inputs(law.form.inputs), np.array(law.centre))
    return law.form.loss(np.array([law.working]), covariates)[0]


def best_knee(errors: Mapping[float, Sequence[float]]) -> float:
    """The knee under which the forms' errors at larger rows are least, in the geometric mean of
    the forms that have one under every knee. The usual knee where none has."""
    table = np.array([errors[knee] for knee in errors])
    able = np.isfinite(table).all(axis=0) & (table > 0).all(axis=0)
    if not able.any():
        return KNEE
    mean = np.log(table[:, able]).mean(axis=1)
    return list(errors)[int(np.argmin(mean))]


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
