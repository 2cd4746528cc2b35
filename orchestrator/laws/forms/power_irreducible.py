"""Loss against compute with an irreducible part: L = E + A * C^-gamma.

Henighan et al. 2020 (arXiv 2010.14701), equation 1.1. Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.laws.forms.base import Array, CentredLogs, Parameter, solvable


@dataclass(frozen=True, slots=True)
class PowerIrreducible(CentredLogs):
    """E + A * C**-gamma. Working values: (E, A C0^-gamma, gamma), C0 = exp of the centre."""

    name: str = "power_irreducible"
    expression: str = "E + A * C**-gamma"
    source: str = "Henighan et al. 2020, arXiv 2010.14701, eq. 1.1"
    inputs: tuple[str, ...] = ("C",)
    levels: tuple[int, ...] = (4,)
    parameters: tuple[Parameter, ...] = (
        Parameter(name="E", meaning="irreducible loss", lower=0.0, upper=None, linear=True),
        Parameter(
            name="A", meaning="scale in C", lower=0.0, upper=np.inf, linear=True, moves=True
        ),
        Parameter(
            name="gamma",
            meaning="exponent of C",
            lower=0.005,
            upper=1.5,
            linear=False,
            start=(0.01, 1.0),
        ),
    )

    def loss(self, working: Array, covariates: Array) -> Array:
        E, a, gamma = (working[:, k, None] for k in range(3))
        return E + a * np.exp(-gamma * covariates[0])

    def jacobian(self, working: Array, covariates: Array) -> tuple[Array, Array]:
        E, a, gamma = (working[:, k, None] for k in range(3))
        partials = np.empty((working.shape[0], 3, covariates.shape[1]))
        partials[:, 0] = 1.0
        partials[:, 1] = np.exp(-gamma * covariates[0])
        of_compute = a * partials[:, 1]
        partials[:, 2] = -of_compute * covariates[0]
        return E + of_compute, partials

    def columns(self, working: Array, covariates: Array) -> tuple[Array, Array]:
        loss, partials = self.jacobian(working, covariates)
        return loss, partials[:, solvable(self.parameters)]

    def publish(self, working: Array, centre: Array) -> Array:
        published = working.copy()
        published[:, 1] = working[:, 1] * np.exp(working[:, 2] * centre[0])
        return published

    def absorb(self, published: Array, centre: Array) -> Array:
        return self.publish(published, -centre)


POWER_IRREDUCIBLE = PowerIrreducible()
