"""A law form given as a Python function that also returns its Jacobian. Touches nothing.

For what one line cannot say. Its values are the published ones, its covariates the inputs. A law
of it can be written as JSON to be read, but not loaded again: its function is not in there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from orchestrator.laws.forms.base import Array, Parameter, lattice, solvable


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenForm:
    """function: of values (S, P) and inputs (I, R), the loss (S, R) and its slopes (S, P, R).

    Parameters marked linear must be so; starts of the others are drawn from their `start`.
    """

    name: str
    expression: str
    inputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    function: Callable[[Array, Array], tuple[Array, Array]] = field(repr=False)
    source: str = ""

    @property
    def levels(self) -> tuple[int, ...]:
        return (1,) * len(self.inputs)

    def middle(self, inputs: Array, weight: Array) -> Array:
        return np.zeros(0)

    def covariates(self, inputs: Array, centre: Array) -> Array:
        return inputs

    def draw(self, rng: np.random.Generator, count: int, covariates: Array) -> Array:
        return lattice(self.parameters, rng, count)

    def loss(self, working: Array, covariates: Array) -> Array:
        with np.errstate(all="ignore"):
            return self.function(working, covariates)[0]

    def jacobian(self, working: Array, covariates: Array) -> tuple[Array, Array]:
        with np.errstate(all="ignore"):
            loss, slopes = self.function(working, covariates)
        return loss, slopes.copy()

    def columns(self, working: Array, covariates: Array) -> tuple[Array, Array]:
        loss, slopes = self.jacobian(working, covariates)
        return loss, slopes[:, solvable(self.parameters)]

    def publish(self, working: Array, centre: Array) -> Array:
        return working.copy()

    def absorb(self, published: Array, centre: Array) -> Array:
        return published.copy()
