"""What a law form is: a protocol that the fitter needs, and the description of a parameter.

Touches nothing. A form is evaluated in *working* values at *covariates*: whatever it makes of its
inputs once, before a fit. Forms written by hand take logarithms measured from a centre (the
middle of the rows), so that N^-alpha is exp(-alpha * (log N - centre)), near 1 and never out of
range, and the fit does not depend on the units of N, D and C. `publish` turns working values into
those of the printed expression, `absorb` turns them back.

Parameters marked linear enter the loss linearly: its derivative by them does not depend on them.
The fitter reads the columns of the linear problem off the Jacobian, so a form says no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a form, in working values.

    lower, upper: the box that a fit stays in; an upper of None means the smallest loss of the
        rows (no irreducible loss can lie above a loss that was reached).
    linear: the loss is linear in it.
    start: the range that starts are drawn from; unused where linear.
    moves: its published value depends on the centre, so it takes no prior.
    exponential: the loss has a term that is proportional to exp of it, and it occurs nowhere
        else: that term's scale can be solved for as if it were linear.
    prior: mean and sd of the published value, where the form states one.
    logarithmic: the working value is the logarithm of the published one.
    """

    name: str
    meaning: str
    lower: float
    upper: float | None
    linear: bool
    start: tuple[float, float] = (0.0, 1.0)
    moves: bool = False
    logarithmic: bool = False
    exponential: bool = False
    prior: tuple[float, float] | None = None


class LawForm(Protocol):
    """A family of laws. All arrays are float64; S starts, P parameters, I inputs, R rows."""

    @property
    def name(self) -> str: ...

    @property
    def expression(self) -> str:
        """The published formula, in the parameters' and inputs' names."""
        ...

    @property
    def source(self) -> str: ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs: columns of the rows."""
        ...

    @property
    def levels(self) -> tuple[int, ...]:
        """How many different values of each input the least fit needs."""
        ...

    @property
    def parameters(self) -> tuple[Parameter, ...]: ...

    def middle(self, inputs: Array, weight: Array) -> Array:
        """The centre of rows with these inputs (I, R) and weights (R,)."""
        ...

    def covariates(self, inputs: Array, centre: Array) -> Array:
        """What `loss` is evaluated at: (K, ...) of inputs (I, ...)."""
        ...

    def draw(self, rng: np.random.Generator, count: int, covariates: Array) -> Array:
        """Random working values (count, P) to start from; those of linear parameters idle."""
        ...

    def loss(self, working: Array, covariates: Array) -> Array:
        """Loss of (S, P) working values at (K, R) covariates: (S, R).

        The covariates may differ by start: (K, S, R).
        """
        ...

    def jacobian(self, working: Array, covariates: Array) -> tuple[Array, Array]:
        """Loss (S, R) and its derivatives by the working values (S, P, R)."""
        ...

    def columns(self, working: Array, covariates: Array) -> tuple[Array, Array]:
        """Loss (S, R) and of its derivatives those by the `solvable` parameters (S, M, R)."""
        ...

    def publish(self, working: Array, centre: Array) -> Array:
        """Values of the printed expression, (S, P), from working values at a centre (I,)."""
        ...

    def absorb(self, published: Array, centre: Array) -> Array:
        """The inverse of `publish`."""
        ...


def solvable(parameters: Sequence[Parameter]) -> NDArray[np.intp]:
    """Numbers of the parameters that least squares can solve for while the others rest."""
    able = [k for k, known in enumerate(parameters) if known.linear or known.exponential]
    return np.array(able, dtype=np.intp)


def lattice(parameters: Sequence[Parameter], rng: np.random.Generator, count: int) -> Array:
    """(count, P) values in the parameters' start ranges, one stratified draw a parameter
    (a Latin hypercube), shuffled apart."""
    values = np.empty((count, len(parameters)))
    for k, parameter in enumerate(parameters):
        low, high = parameter.start
        values[:, k] = low + (high - low) * (rng.permutation(count) + rng.random(count)) / count
    return values


class CentredLogs:
    """What forms written by hand share: covariates are logarithms measured from the centre."""

    __slots__ = ()
    parameters: tuple[Parameter, ...]

    def middle(self, inputs: Array, weight: Array) -> Array:
        return np.average(np.log(inputs), axis=1, weights=weight)

    def covariates(self, inputs: Array, centre: Array) -> Array:
        shape = (len(centre),) + (1,) * (inputs.ndim - 1)
        return np.log(inputs) - centre.reshape(shape)

    def draw(self, rng: np.random.Generator, count: int, covariates: Array) -> Array:
        return lattice(self.parameters, rng, count)
