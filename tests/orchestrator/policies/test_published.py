"""The published rule: basins of predictions, and what tells them apart, found without looking
at every offer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws.forms.line import LineForm, law_of
from orchestrator.laws.runs import Runs
from orchestrator.policies.buying import Market
from orchestrator.policies.published import Published, basins_of
from tests.orchestrator.policies.markets import LINE, market


class Given:
    """Solutions as they were given."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def solve(self, form: LineForm, runs: Runs, market: Market) -> np.ndarray:
        return self.values


TRUE = np.array([1.7, 400.0, 0.34, 410.0, 0.28])
OTHER = np.array([2.1, 3000.0, 0.48, 410.0, 0.29])


def solutions(count: int = 4) -> np.ndarray:
    """Two bunches of solutions, the true one's first."""
    rng = np.random.default_rng(0)
    bunches = [each * (1 + 3e-4 * rng.normal(size=(count, 5))) for each in (TRUE, OTHER)]
    return np.concatenate(bunches)


def choice(now: Market) -> int:
    return Published(forms=(LINE,), solver=Given(solutions())).choose(now).picks[0].offer


def only(now: Market, offers: list[int]) -> Market:
    return replace(
        now,
        offers={name: column[offers] for name, column in now.offers.items()},
        cost=now.cost[offers],
        owner=now.owner[offers],
    )


@pytest.fixture(scope="module")
def known() -> Market:
    """After twelve runs that the two bunches tell almost alike."""
    now, _ = market(list(range(12)), budget=1.0)
    assert now.known is not None
    features = dict(now.known.features)
    said = [
        v[0] + v[1] / features["N"] ** v[2] + v[3] / features["D"] ** v[4] for v in (TRUE, OTHER)
    ]
    return replace(now, known=Runs(features=features, loss=(said[0] + said[1]) / 2))


def test_the_choice_beats_every_other_offer_alone(known: Market) -> None:
    best = choice(known)
    for other in set(range(len(known.cost))) - {best}:
        assert choice(only(known, [other, best])) == 1
        assert choice(only(known, [best, other])) == 0


def test_basins_are_the_bunches_of_predictions() -> None:
    rng = np.random.default_rng(1)
    centre = np.repeat([[2.0, 3.0], [2.5, 2.8], [4.0, 1.0]], [5, 3, 4], axis=0)
    mean = centre + 1e-3 * rng.normal(size=centre.shape)
    order = rng.permutation(12)
    groups = basins_of(mean[order], np.full((12, 2), 1e-4))
    found = {frozenset(int(order[k]) for k in group) for group in groups}
    assert found == {frozenset(range(5)), frozenset(range(5, 8)), frozenset(range(8, 12))}


def test_one_or_two_solutions_are_one_basin() -> None:
    assert basins_of(np.array([[2.0]]), np.array([[0.1]])) == [[0]]
    assert basins_of(np.array([[2.0], [9.0]]), np.full((2, 1), 0.1)) == [[0, 1]]


class OfEach:
    """Solutions of each form, by the number of its parameters."""

    def __init__(self, values: dict[int, np.ndarray]) -> None:
        self.values = values

    def solve(self, form: LineForm, runs: Runs, market: Market) -> np.ndarray:
        return self.values[len(form.parameters)]


def test_a_form_that_says_the_same_twice_changes_nothing(known: Market) -> None:
    both = Published(forms=(LINE, LINE), solver=Given(solutions()))
    assert both.choose(known).picks[0].offer == choice(known)


@pytest.mark.parametrize(
    ("line", "parameters"),
    [("a + b*log(N) + c*log(D)", "abc"), ("a + b*N + c*D + d*N*D + e*N/D + f/D", "abcdef")],
)
def test_a_form_that_does_not_fit_changes_nothing(line: str, parameters: str) -> None:
    """Of fewer parameters than the other, and of more."""
    now, _ = market(list(range(16)), budget=1.0)
    form, size = law_of(line, parameters=list(parameters)), len(parameters)
    wrong = np.array([[4.0, *np.zeros(size - 1)]])
    both = Published(forms=(form, LINE), solver=OfEach({size: wrong, 5: solutions()}))
    assert both.choose(now).picks[0].offer == choice(now)
