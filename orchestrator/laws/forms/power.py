"""Loss against compute without an irreducible part: L = (C / alpha)^-gamma.

A straight line in log-log: Kaplan et al. 2020 (arXiv 2001.08361), equation 1.3; also the law
that the pruning papers fit to the frontier. Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.laws.forms.base import Array, CentredLogs, Parameter, solvable


@dataclass(frozen=True, slots=True)
class Power(CentredLogs):
    """(C / alpha)**-gamma. Working values: (loss at C0, gamma), C0 = exp of the centre.

    alpha, the compute at which the line reaches a loss of 1, is far outside the data and moves
    by decades with gamma; the loss at the centre does not, so the fit works with that.
    """

    name: str = "power"
    expression: str = "(C / alpha)**-gamma"
    source: str = "Kaplan et al. 2020, arXiv 2001.08361, eq. 1.3"
    inputs: tuple[str, ...] = ("C",)
    levels: tuple[int, ...] = (3,)
    parameters: tuple[Parameter, ...] = (
        Parameter(
            name="alpha",
            meaning="compute at which the loss is 1",
            lower=0.0,
            upper=np.inf,
            linear=True,
            moves=True,
        ),
        Parameter(
            name="gamma",
            meaning="exponent of C",
            lower=0.01,
            upper=1.5,
            linear=False,
            start=(0.01, 0.8),
        ),
    )

    def loss(self, working: Array, covariates: Array) -> Array:
        return working[:, 0, None] * np.exp(-working[:, 1, None] * covariates[0])

    def jacobian(self, working: Array, covariates: Array) -> tuple[Array, Array]:
        partials = np.empty((working.shape[0], 2, covariates.shape[1]))
        partials[:, 0] = np.exp(-working[:, 1, None] * covariates[0])
        level = working[:, 0, None] * partials[:, 0]
        partials[:, 1] = -level * covariates[0]
        return level, partials

    def columns(self, working: Array, covariates: Array) -> tuple[Array, Array]:
        loss, partials = self.jacobian(working, covariates)
        return loss, partials[:, solvable(self.parameters)]

    def publish(self, working: Array, centre: Array) -> Array:
        published = working.copy()
        published[:, 0] = np.exp(np.log(working[:, 0]) / working[:, 1] + centre[0])
        return published

    def absorb(self, published: Array, centre: Array) -> Array:
        working = published.copy()
        working[:, 0] = np.exp((np.log(published[:, 0]) - centre[0]) * published[:, 1])
        return working


POWER = Power()
