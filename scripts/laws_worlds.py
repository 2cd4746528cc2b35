"""Sweeps of known truth for `laws_coverage`: drawn from shipped forms, and from none of them.

Touches nothing. Values are of the order of those published, ranges those of sweeps that people
run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.forms import CHINCHILLA, POWER, POWER_IRREDUCIBLE, LawForm, form_named
from orchestrator.laws.forms.line import Known, LineForm, law_of
from orchestrator.laws.runs import Runs

Array = NDArray[np.float64]
Columns = dict[str, Array]

NOISE = 0.005
_SCALES = ("N", "D", "C", "U", "Nnv", "Nv")
_QUESTIONS = 4  # a sweep and reach

_N, _D, _C = (1e7, 1e9), (1e9, 1e11), (1e17, 1e21)
_RATES = {"lr": (2e-4, 5e-3), "b": (32.0, 1024.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A truth: loss of columns, the ranges that rows are drawn in (evenly in logarithms), and
    what it is fitted with. `epochs` is drawn in place of D, which is then U times it."""

    name: str
    loss: Callable[[Mapping[str, Array]], Array]
    ranges: Mapping[str, tuple[float, float]]
    forms: tuple[LawForm, ...]
    values: Mapping[str, float] = field(default_factory=dict[str, float])
    signed: bool = False

    def draw(self, rng: np.random.Generator, count: int) -> Columns:
        """Inputs of `count` rows."""
        drawn = {
            name: np.exp(rng.uniform(math.log(low), math.log(high), count))
            for name, (low, high) in self.ranges.items()
        }
        if "epochs" in drawn:
            drawn["D"] = drawn["U"] * drawn.pop("epochs")
        return drawn

    def sweep(self, rng: np.random.Generator, rows: int) -> Runs:
        """Rows with noise."""
        columns = self.draw(rng, rows)
        loss, noise = self.loss(columns), NOISE * rng.normal(size=rows)
        shaken = loss + noise * np.mean(np.abs(loss)) if self.signed else loss * np.exp(noise)
        return Runs(loss=shaken, features=columns, signed=self.signed)

    def questions(self, rng: np.random.Generator, runs: Runs, reach: float) -> Columns:
        """Inputs with some of those that scale at `reach` times their largest."""
        asked = self.draw(rng, _QUESTIONS)
        scales = [name for name in asked if name in _SCALES]
        if not scales:
            return asked
        chosen = rng.random((len(scales), _QUESTIONS)) < 0.5
        chosen[rng.integers(len(scales), size=_QUESTIONS), np.arange(_QUESTIONS)] = True
        for name, here in zip(scales, chosen, strict=True):
            largest = float(runs.column(name).max())
            asked[name] = np.where(here, reach * largest, np.minimum(asked[name], largest))
        return asked


OWN: dict[str, tuple[dict[str, float], dict[str, tuple[float, float]]]] = {
    "power": ({"alpha": 2.7e28, "gamma": 0.05}, {"C": _C}),
    "power_irreducible": ({"E": 1.7, "A": 1200.0, "gamma": 0.16}, {"C": _C}),
    "chinchilla": (
        {"E": 1.8, "A": 480.0, "B": 2085.0, "alpha": 0.35, "beta": 0.37},
        {"N": _N, "D": _D},
    ),
    "kaplan": (
        {"Nc": 8.8e13, "alphaN": 0.076, "Dc": 5.4e13, "alphaD": 0.095},
        {"N": _N, "D": _D},
    ),
    "data_constrained": (
        {"E": 1.87, "A": 521.0, "alpha": 0.353, "B": 1488.0, "beta": 0.353, "R": 15.4},
        {"N": _N, "U": (1e8, 1e10), "epochs": (1.0, 40.0)},
    ),
    "broken_power": (
        {"a": 1.5, "b": 110.0, "c0": 0.1, "c1": 0.15, "d": 1e19, "f": 0.5},
        {"C": _C},
    ),
    "mixture_of_experts": (
        {"d": 3.0, "a": -0.09, "b": -0.12, "c": 0.004},
        {"N": _N, "E": (1.0, 64.0)},
    ),
    "vocabulary": (
        {
            "E": 1.2,
            "A1": 60.0,
            "alpha1": 0.25,
            "A2": 20.0,
            "alpha2": 0.2,
            "B": 2085.0,
            "beta": 0.37,
        },
        {"Nnv": _N, "Nv": (1e6, 1e8), "D": _D},
    ),
    "step_law": (
        {"E": 1.8, "A": 480.0, "B": 2085.0, "alpha": 0.35, "beta": 0.37, "K": 0.02, "M": 0.01}
        | {"u0": 3.0, "uN": -0.7, "uD": 0.3, "v0": -1.5, "vD": 0.27},
        {"N": _N, "D": _D, **_RATES},
    ),
    "rate_and_batch": (
        {"A": 480.0, "B": 2085.0, "alpha": 0.35, "beta": 0.37, "p0": 3.5, "p1": 0.25}
        | {"p2": -0.1, "p11": 0.02, "p22": 0.01, "p12": 0.003},
        {"N": _N, "D": _D, **_RATES},
    ),
    "farseer": (
        {"s": -0.021, "q": 0.169, "S": 1.2, "B": 15.0, "b": -0.05, "Q": 1.5}
        | {"A": -0.05, "a": 0.1, "E": -0.8},
        {"N": _N, "D": _D},
    ),
    "sparsity": (
        {"aS": 16.8, "bS": 0.722, "cS": 45.0, "bN": 0.245, "aD": 6.9e8, "bD": 0.203, "c": 0.651},
        {"S": (0.01, 0.9), "N": _N, "D": _D},
    ),
    "parallel": ({"A": 1.2e7, "k": 0.33, "alpha": 0.19, "E": 1.4}, {"N": _N, "S": (1.0, 8.0)}),
    "domain_mixture": (
        {"c": 1.8, "k": 1.2, "t1": -2.0, "t2": -1.0, "t3": -0.5},
        {"r1": (0.05, 0.6), "r2": (0.05, 0.4), "r3": (0.05, 0.3)},
    ),
}


def _said_by(form: LawForm, values: Mapping[str, float]) -> Callable[[Mapping[str, Array]], Array]:
    """The loss of a form with these published values."""
    centre = np.zeros(0 if isinstance(form, LineForm) else len(form.inputs))
    published = np.array([[values[known.name] for known in form.parameters]])
    working = form.absorb(published, centre)

    def loss(columns: Mapping[str, Array]) -> Array:
        inputs = np.stack([columns[name] for name in form.inputs])
        return form.loss(working, form.covariates(inputs, centre))[0]

    return loss


def own_world(name: str) -> World:
    """A sweep drawn from the shipped form of this name."""
    form = form_named(name)
    values, ranges = OWN[name]
    return World(
        name=name,
        loss=_said_by(form, values),
        ranges=ranges,
        forms=(form,),
        values=values,
        signed=name == "vocabulary",
    )


def friends() -> dict[str, LawForm]:
    """Forms of N and D that people fit, by name."""
    known = {
        "E": Known(low=0.0, high="loss"),
        "A": Known(low=0.0),
        "B": Known(low=0.0),
        "alpha": Known(low=0.005, high=1.5),
        "beta": Known(low=0.005, high=1.5),
    }
    return {
        "chinchilla": CHINCHILLA,
        "kaplan": form_named("kaplan"),
        "interaction": law_of(
            "E + A/N**alpha + B*N**c/D**beta",
            name="interaction",
            parameters=known | {"c": Known(low=-1.0, high=1.0)},
            inputs=("N", "D"),
        ),
        "product": law_of(
            "E + A/N**alpha + B/D**beta + G/(N**alpha*D**beta)",
            name="product",
            parameters=known | {"G": Known(low=0.0)},
            inputs=("N", "D"),
        ),
    }


def other_worlds() -> tuple[World, ...]:
    """Truths that none of their forms can say."""
    forms = friends()
    all_four = tuple(forms.values())

    def chinchilla(at: Mapping[str, Array], E: float = 1.8) -> Array:
        return E + 480 / at["N"] ** 0.35 + 2085 / at["D"] ** 0.37

    def of_size(name: str, loss: Callable[[Mapping[str, Array]], Array], *without: str) -> World:
        kept = tuple(form for key, form in forms.items() if key not in without) or all_four
        return World(name=name, loss=loss, ranges={"N": _N, "D": _D}, forms=kept)

    def broken(at: Mapping[str, Array]) -> Array:
        A = 480 / at["N"] ** 0.35 * (1 + (at["N"] / 3e8) ** 2) ** -0.04
        return 1.8 + A + 2085 / at["D"] ** 0.37 * (1 + (at["D"] / 2e10) ** 2) ** 0.05

    return (
        of_size("broken in N and D", broken),
        of_size(
            "terms of logarithms",
            lambda at: (
                chinchilla(at) - 0.02 * np.log(at["N"] / 1e7) - 0.01 * np.log(at["D"] / 1e9)
            ),
        ),
        of_size(
            "product of logarithms",
            lambda at: chinchilla(at) - 0.006 * np.log(at["N"] / 1e7) * np.log(at["D"] / 1e9),
        ),
        of_size("saturation", lambda at: (2.3**6 + chinchilla(at, 1.5) ** 6) ** (1 / 6)),
        of_size(
            "root of squares",
            lambda at: 1.8 + 1.2 * np.hypot(480 / at["N"] ** 0.35, 2085 / at["D"] ** 0.37),
        ),
        of_size(
            "exponential",
            lambda at: np.exp(0.5 + 6 * at["N"] ** -0.12 + 30 * at["D"] ** -0.2),
        ),
        of_size("farseer", own_world("farseer").loss),
        of_size("kaplan", own_world("kaplan").loss, "kaplan"),
        of_size(
            "interaction",
            lambda at: (
                1.8 + 480 / at["N"] ** 0.35 + 1250 / at["D"] ** 0.37 * (at["N"] / 1e8) ** 0.2
            ),
            "interaction",
        ),
        World(
            name="broken power of C",
            loss=own_world("broken_power").loss,
            ranges={"C": _C},
            forms=(POWER, POWER_IRREDUCIBLE),
        ),
    )
