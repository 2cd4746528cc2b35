"""How likely rows are under each noise and each size of a misfit, the parameters integrated over.

Touches nothing. The law is straight about an optimum: residuals are slopes times a move of the
parameters, a misfit and noise, all three normal, so the restricted likelihood (Patterson and
Thompson 1971, Biometrika 58:545) has a closed form. The misfit is eliminated first, in the axes
of its own normal matrix, where its size and the noise are numbers on the diagonal (as in Zhou and
Stephens 2012, Nature Genetics 44:821): one decomposition serves all of them, and what is left to
solve for each is as small as the law.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.laws.runs import Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """Residuals of the law (R,) and their slopes (P, R), each parameter in a unit of its own;
    precision (R,) of a row relative to one of the noise's; prior (P, P): the parameters' own
    precision in that unit, positive definite."""

    residual: Array
    slopes: Array
    precision: Array
    prior: Array

    def evidence(self, misfit: Array, factors: Array, noises: Array) -> Array:
        """(M, N) log likelihood, up to what is the same for all: of M factors on the misfit's sd
        and N sd of the noise. misfit (R, F): features whose products are its covariance.

        The noise's own sum over rows, -log(noise) each, is left to who knows what a row counts.
        """
        size = len(self.slopes)
        weighed = misfit.T * self.precision
        levels, axes = np.linalg.eigh(weighed @ misfit)
        levels = np.maximum(levels, 0.0)
        # The law's slopes and residual as the misfit's axes have them.
        beside = axes.T @ (weighed @ np.column_stack([self.slopes.T, self.residual]))
        law, own = beside[:, :size], beside[:, size]
        pulled = self.slopes * self.precision
        gram, pull = pulled @ self.slopes.T, pulled @ self.residual
        square = float(np.sum(self.precision * self.residual**2))
        factor, noise = factors[:, None, None] ** 2, noises[:, None] ** 2
        shrunk = factor / (noise + factor * levels)  # (M, N, F): share of an axis that it takes
        pairs = (law[:, :, None] * law[:, None, :]).reshape(len(own), size**2)
        taken = (shrunk @ pairs).reshape(*shrunk.shape[:2], size, size)
        matrix = self.prior + (gram - taken) / noise[:, :, None]
        side = (pull - (shrunk * own) @ law) / noise
        moved = np.asarray(np.linalg.solve(matrix, side[..., None])[..., 0], dtype=np.float64)
        met = (shrunk @ own**2) / noise[:, 0] + np.sum(side * moved, axis=2)
        volume = np.log1p(factor * levels / noise).sum(axis=2)
        volume += np.linalg.slogdet(matrix)[1] - np.linalg.slogdet(self.prior)[1]
        found: Array = -0.5 * (square / noise[:, 0] - met + volume)
        return found
