"""The least-squares problem that a fit solves, and its Huber loss. Touches nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.forms.base import LawForm
from orchestrator.laws.robust import huber

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offsets:
    """Trial offsets. member: (R, T) of zeros and ones. precision: of one offset, relative to a
    row's. knee: where the penalty turns from quadratic to linear. count: (1 or S, T), how often
    each trial is drawn."""

    member: Array
    precision: float
    knee: float
    count: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is minimised: sum of weight * huber(residual), plus priors and offset penalties.

    covariates (K, R); target and weight (1 or S, R); box (P,); prior_root and prior_mean (P,): the
    residual root * (value - mean) is added, squared. In_logs: residuals are of log loss, and
    target is log loss. unit: what a relative error of 1 is in the residuals' unit.
    """

    form: LawForm
    covariates: Array
    target: Array
    weight: Array
    lower: Array
    upper: Array
    delta: float
    in_logs: bool
    prior_root: Array
    prior_mean: Array
    unit: float = 1.0
    offsets: Offsets | None = None

    def some_rows(self, rows: NDArray[np.intp]) -> Problem:
        """The problem on some of its rows."""
        offsets = self.offsets
        if offsets is not None:
            offsets = replace(offsets, member=offsets.member[rows])
        return replace(
            self,
            covariates=self.covariates[:, rows],
            target=self.target[:, rows],
            weight=np.broadcast_to(self.weight, self.target.shape)[:, rows],
            offsets=offsets,
        )

    def rows_of(self, chosen: NDArray[np.intp]) -> Problem:
        """The problem for some of the starts: what differs by start is cut to them."""

        def cut(values: Array) -> Array:
            return values if values.shape[0] == 1 else values[chosen]

        offsets = self.offsets
        if offsets is not None:
            offsets = replace(offsets, count=cut(offsets.count))
        elif len(self.target) == len(self.weight) == 1:
            return self
        return replace(self, target=cut(self.target), weight=cut(self.weight), offsets=offsets)

    def objective(self, residual: Array, values: Array, offsets: Array) -> Array:
        """What is minimised, (S,), at residuals (S, R), values (S, P) and offsets (S, T)."""
        found: Array = np.sum(self.weight * huber(residual, self.delta), axis=1)
        if self.prior_root.any():
            away = self.prior_root * (values - self.prior_mean)
            found += 0.5 * np.sum(away * away, axis=1)
        if self.offsets is not None:
            penalty = huber(offsets, self.offsets.knee) * self.offsets.count
            found += self.offsets.precision * np.sum(penalty, axis=1)
        return found

    def residual(self, loss: Array, offsets: Array) -> Array:
        """Residuals (S, R) of losses (S, R) with offsets (S, T)."""
        found: Array = (np.log(loss) if self.in_logs else loss) - self.target
        return found if self.offsets is None else found + offsets @ self.offsets.member.T
