"""Loss against parameters and tokens: L = E + A / N^alpha + B / D^beta.

Hoffmann et al. 2022 (arXiv 2203.15556), equation 2. The bounds on the exponents are ours, wide of
what is published (0.2 to 0.6). Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.laws.forms.base import Array, CentredLogs, Parameter, solvable


@dataclass(frozen=True, slots=True)
class Chinchilla(CentredLogs):
    """E + A / N**alpha + B / D**beta. Working values: (E, A N0^-alpha, B D0^-beta, alpha, beta).

    N0 and D0 are exp of the centre.
    """

    name: str = "chinchilla"
    expression: str = "E + A / N**alpha + B / D**beta"
    source: str = "Hoffmann et al. 2022, arXiv 2203.15556, eq. 2"
    inputs: tuple[str, ...] = ("N", "D")
    levels: tuple[int, ...] = (3, 3)
    parameters: tuple[Parameter, ...] = (
        Parameter(name="E", meaning="irreducible loss", lower=0.0, upper=None, linear=True),
        Parameter(
            name="A", meaning="scale in N", lower=0.0, upper=np.inf, linear=True, moves=True
        ),
        Parameter(
            name="B", meaning="scale in D", lower=0.0, upper=np.inf, linear=True, moves=True
        ),
        Parameter(
            name="alpha",
            meaning="exponent of N",
            lower=0.005,
            upper=1.5,
            linear=False,
            start=(0.02, 1.2),
        ),
        Parameter(
            name="beta",
            meaning="exponent of D",
            lower=0.005,
            upper=1.5,
            linear=False,
            start=(0.02, 1.2),
        ),
    )

    def loss(self, working: Array, covariates: Array) -> Array:
        E, a, b, alpha, beta = (working[:, k, None] for k in range(5))
        return E + a * np.exp(-alpha * covariates[0]) + b * np.exp(-beta * covariates[1])

    def jacobian(self, working: Array, covariates: Array) -> tuple[Array, Array]:
        E, a, b, alpha, beta = (working[:, k, None] for k in range(5))
        partials = np.empty((working.shape[0], 5, covariates.shape[1]))
        partials[:, 0] = 1.0
        partials[:, 1] = np.exp(-alpha * covariates[0])
        partials[:, 2] = np.exp(-beta * covariates[1])
        of_size, of_data = a * partials[:, 1], b * partials[:, 2]
        partials[:, 3] = -of_size * covariates[0]
        partials[:, 4] = -of_data * covariates[1]
        return E + of_size + of_data, partials

    def columns(self, working: Array, covariates: Array) -> tuple[Array, Array]:
        loss, partials = self.jacobian(working, covariates)
        return loss, partials[:, solvable(self.parameters)]

    def publish(self, working: Array, centre: Array) -> Array:
        return self._shifted(working, centre)

    def absorb(self, published: Array, centre: Array) -> Array:
        return self._shifted(published, -centre)

    @staticmethod
    def _shifted(values: Array, centre: Array) -> Array:
        moved = values.copy()
        moved[:, 1] = values[:, 1] * np.exp(values[:, 3] * centre[0])
        moved[:, 2] = values[:, 2] * np.exp(values[:, 4] * centre[1])
        return moved


CHINCHILLA = Chinchilla()
