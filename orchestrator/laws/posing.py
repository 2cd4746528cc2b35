"""From rows and options to the least-squares problem that a fit solves. Touches nothing.

The fit and the bootstrap pose the same problem; the bootstrap with other weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.laws.forms import LawForm
from orchestrator.laws.law import LawFit, Objective, Prior
from orchestrator.laws.levenberg import Offsets, Problem
from orchestrator.laws.robust import KNEE
from orchestrator.laws.runs import Array, Runs

_NO_KNEE = 1e30  # a Huber loss with this knee is a squared error
_OFFSET_KNEE = 0.5  # in sd of an offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Posed:
    """Rows of a form and the options of the fit; `problem` gives numbers to both.

    centre (I,): where the logarithms of the inputs are measured from. delta: None for a knee of
    `knee` times the scale.
    """

    form: LawForm
    runs: Runs
    centre: Array
    objective: Objective
    delta: float | None
    priors: tuple[Prior, ...]
    offsets_sd: float | None
    knee: float = KNEE

    @property
    def in_logs(self) -> bool:
        """Whether residuals are of log loss."""
        return self.objective == "huber_log"

    @property
    def unit(self) -> float:
        """What one unit of log loss is in the residuals' unit."""
        return 1.0 if self.in_logs else float(np.mean(np.abs(self.runs.loss)))

    def problem(
        self, scale: float, *, weight: Array | None = None, count: Array | None = None
    ) -> Problem:
        """The problem for rows whose residuals have this sd.

        weight (S, R) and count (S, T): rows' weights and trials' counts by start (by draw of a
        bootstrap), where they are not those of the rows themselves.
        """
        names = [parameter.name for parameter in self.form.parameters]
        root, mean = np.zeros(len(names)), np.zeros(len(names))
        for prior in self.priors:
            at = names.index(prior.parameter)
            # On a working logarithm a prior acts by its relative width.
            if self.form.parameters[at].logarithmic:
                root[at], mean[at] = scale * prior.mean / prior.sd, np.log(prior.mean)
            else:
                root[at], mean[at] = scale / prior.sd, prior.mean
        knee = _NO_KNEE
        if self.objective != "squared":
            knee = self.knee * scale if self.delta is None else self.delta
        ceiling = float(np.min(self.runs.loss))
        return Problem(
            form=self.form,
            covariates=self.form.covariates(self.runs.inputs(self.form.inputs), self.centre),
            target=(np.log(self.runs.loss) if self.in_logs else self.runs.loss)[None, :],
            weight=self.runs.weight[None, :] if weight is None else weight,
            lower=np.array([known.lower for known in self.form.parameters]),
            upper=np.array(
                [ceiling if known.upper is None else known.upper for known in self.form.parameters]
            ),
            delta=knee,
            in_logs=self.in_logs,
            prior_root=root,
            prior_mean=mean,
            unit=self.unit,
            offsets=self._offsets(scale, count),
        )

    def _offsets(self, scale: float, count: Array | None) -> Offsets | None:
        if self.offsets_sd is None:
            return None
        labels = np.unique(self.runs.trial)
        sd = self.offsets_sd * self.unit
        return Offsets(
            member=(self.runs.trial[:, None] == labels).astype(np.float64),
            precision=(scale / sd) ** 2,
            knee=_OFFSET_KNEE * sd,
            count=np.ones((1, len(labels))) if count is None else count,
        )


def middle_of(form: LawForm, runs: Runs) -> Array:
    """The centre that the form takes for these rows."""
    return form.middle(runs.inputs(form.inputs), runs.weight)


def posed_again(law: LawFit, runs: Runs) -> Posed:
    """What was posed to fit `law`, at its own centre and knee."""
    return Posed(
        form=law.form,
        runs=runs,
        centre=np.array(law.centre),
        objective=law.objective,
        delta=law.delta,
        priors=law.priors,
        offsets_sd=law.offsets_sd,
    )
