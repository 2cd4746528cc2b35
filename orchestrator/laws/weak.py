"""Weak priors that no one has to state: what may be absent is believed to do little.

A parameter whose box has zero inside is one that its law can do without: a correction, an
interaction, an exponent of either sign. Rows that hardly tell such parameters apart let them
cancel each other with effects many times the spread of the losses, which comes apart beyond the
rows. So each gets a normal prior about zero, in the unit of what it does and not of its box: its
sd moves the log loss by a stated amount over the rows (their sd, so that a level is free), by the
slopes of a fit without it. This is the ridge of standardised columns (Hoerl and Kennard 1970,
Technometrics 12:55) for laws that are not linear. Touches nothing.
"""

from __future__ import annotations

import math

import numpy as np

from orchestrator.laws.law import LawFit, Prior
from orchestrator.laws.runs import Runs


def weak_priors(law: LawFit, runs: Runs, *, effect_sd: float) -> tuple[Prior, ...]:
    """Priors on the parameters of `law` that may be zero and have none yet.

    effect_sd: what one sd of a parameter does to the log loss of the rows, as their sd. Scales,
    worked on in logarithms, and parameters whose value depends on the rows' centre get none.
    """
    form = law.form
    covariates = form.covariates(runs.inputs(form.inputs), np.array(law.centre))
    loss, slopes = form.jacobian(np.array([law.working]), covariates)
    level = loss[0] if law.objective == "huber_log" else float(np.mean(np.abs(runs.loss)))
    stated = {prior.parameter for prior in law.priors}
    found: list[Prior] = []
    for known, slope in zip(form.parameters, slopes[0], strict=True):
        scale = known.logarithmic or known.exponential or known.moves
        absent = known.lower < 0 and (known.upper is None or known.upper > 0)
        effect = float(np.std(slope / level))
        if scale or not absent or known.name in stated or not effect > 0:
            continue
        sd = effect_sd / effect
        if math.isfinite(sd) and sd > 0:
            found.append(Prior(parameter=known.name, mean=0.0, sd=sd))
    return tuple(found)
