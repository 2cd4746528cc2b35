"""A small market with known truth, for the rules that buy runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.laws.forms.line import Known, law_of
from orchestrator.laws.runs import Runs
from orchestrator.policies.buying import Market, Rule

LINE = law_of(
    "E + A/N**alpha + B/D**beta",
    parameters={
        "E": Known(low=0.0, high=5.0),
        "A": Known(low=1e-3, high=1e6),
        "alpha": Known(low=0.01, high=1.5),
        "B": Known(low=1e-3, high=1e6),
        "beta": Known(low=0.01, high=1.5),
    },
)
"""The truth's form, in a box."""
TARGET = {"N": np.array([2e9, 5e9]), "D": np.array([4e10, 1e11])}


def inputs() -> dict[str, np.ndarray]:
    """36 runs: sizes from 10M to 500M at three lengths and two others."""
    N, ratio = np.meshgrid(np.geomspace(1e7, 5e8, 9), [5.0, 20.0, 80.0, 160.0])
    return {"N": N.ravel(), "D": (N * ratio).ravel()}


def truth(features: dict[str, np.ndarray]) -> np.ndarray:
    return 1.7 + 400 / features["N"] ** 0.34 + 410 / features["D"] ** 0.28


def strange_truth(features: dict[str, np.ndarray], seed: int = 0) -> np.ndarray:
    """What no sum of powers says: a logarithm, and a saturation in tokens a parameter, as large
    and of the sign that the seed draws."""
    slope, bend = np.random.default_rng((7, seed)).normal(size=2) * (0.02, 0.05)
    ratio = np.log(features["D"] / features["N"] / 20.0)
    return truth(features) * np.exp(slope * np.log(features["N"] / 1e8) - bend * np.tanh(ratio))


def market(
    bought: Sequence[int],
    budget: float = 0.1,
    *,
    seed: int = 0,
    places: int = 3,
    strange: bool = False,
    flying: Sequence[int] = (),
    outputs: int = 1,
) -> tuple[Market, np.ndarray]:
    """The market after buying these rows, costs as shares of all; and the rows of its offers."""
    pool = inputs()
    cost = pool["N"] * pool["D"]
    cost = cost / cost.sum()
    rows, away = np.array(bought, dtype=np.int64), np.array(flying, dtype=np.int64)
    free = np.setdiff1d(np.arange(len(cost)), np.concatenate([rows, away]))
    noise = np.exp(0.004 * np.random.default_rng(seed).normal(size=len(cost)))
    loss = (strange_truth(pool, seed) if strange else truth(pool)) * noise
    taken = {name: np.tile(column[rows], outputs) for name, column in pool.items()}
    known = Runs(features=taken, loss=np.tile(loss[rows], outputs), trial=np.tile(rows, outputs))
    return Market(
        offers={name: np.tile(column[free], outputs) for name, column in pool.items()},
        cost=cost[free],
        owner=free,
        affordable=budget - float(cost[rows].sum() + cost[away].sum()),
        budget=budget,
        total=1.0,
        places=places,
        known=known if len(rows) else None,
        known_cost=np.tile(cost[rows], outputs),
        flying={name: np.tile(column[away], outputs) for name, column in pool.items()},
        target=dict(TARGET),
        everywhere=pool,
        outputs=outputs,
        seed=seed,
        sweep_seed=seed,
        flying_owner=tuple(int(row) for row in away),
    ), free


def bought_by(rule: Rule, budget: float, *, seed: int = 0, strange: bool = False) -> list[int]:
    """The rows that the rule buys until it buys no more."""
    order: list[int] = []
    while True:
        now, free = market(order, budget, seed=seed, strange=strange)
        picks = rule.choose(now).picks if len(free) else ()
        if not picks:
            return order
        order += [int(free[pick.offer]) for pick in picks]
