"""How many candidates are worth exploring: by hand, where the spread or the fall is known."""

from __future__ import annotations

import numpy as np

from orchestrator.policies.exploring import worth_exploring
from orchestrator.values import Curve, Point

FLOPS = 1e12


def starts(spread: float, fall: float) -> list[Curve]:
    """Four curves, `spread` apart in log loss, that fall by `fall` an e-fold of compute."""
    return [
        Curve.of(
            Point(
                tokens=int(c / 1e6), flops=c, loss=float(np.exp(level - fall * np.log(c / FLOPS)))
            )
            for c in np.geomspace(FLOPS / 10, FLOPS, 8)
        )
        for level in spread * np.array([-1.2, -0.4, 0.4, 1.2])
    ]


def worth(curves: list[Curve]) -> int:
    return worth_exploring(curves, FLOPS, count=20, budget=10**15, eta=2)


def test_candidates_far_apart_are_all_explored() -> None:
    assert worth(starts(0.3, 0.05)) == 20


def test_where_compute_buys_more_than_choice_the_best_start_gets_all() -> None:
    assert worth(starts(0.02, 0.1)) == 0


def test_it_never_takes_fewer_than_it_knows_and_explores_more_the_wider_the_spread() -> None:
    found = [worth(starts(spread, 0.08)) for spread in np.geomspace(0.005, 1.0, 20)]
    assert found == sorted(found)
    assert set(found) <= {0, 8, 16, 20}


def test_without_enough_starts_all_are_halved() -> None:
    assert worth(starts(0.02, 0.1)[:2]) == 20
    late = [curve.upto(0) for curve in starts(0.02, 0.1)]
    assert worth(late) == 20
