"""The frontier: never outside a curve, never rising, owned by the right curve."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.laws.errors import FitError
from orchestrator.laws.forms import CHINCHILLA, POWER, POWER_IRREDUCIBLE
from orchestrator.laws.frontier import (
    Frontier,
    bootstrap_frontier,
    fit_frontier,
    frontier,
    frontier_runs,
)
from orchestrator.laws.runs import CurveRows
from tests.orchestrator.laws.sweeps import TRUTH, curves_of_truth


def curve(flops, loss, N=1.0):
    flops = np.asarray(flops, dtype=float)
    return CurveRows(N=N, tokens=flops / (6 * N), flops=flops, loss=np.asarray(loss, dtype=float))


def loss_at(edge: Frontier, C: float) -> float:
    return float(edge.loss[np.argmin(np.abs(np.log(edge.C / C)))])


def test_a_single_curve_is_interpolated_in_log_log():
    edge = frontier([curve([1e3, 1e5], [4.0, 1.0])], points=5)
    assert list(edge.C) == pytest.approx([1e3, 10**3.5, 1e4, 10**4.5, 1e5])
    assert edge.loss == pytest.approx([4.0, 4**0.75, 2.0, 4**0.25, 1.0])
    assert edge.reached.all()


def test_no_curve_counts_before_its_first_point_or_past_its_last():
    early, late = curve([1e2, 1e3], [5.0, 4.0]), curve([1e4, 1e5], [2.0, 1.9])
    edge = frontier([early, late], points=61)
    between = (edge.C > 1.01e3) & (edge.C < 0.99e4)
    assert edge.loss[between] == pytest.approx(4.0)
    assert not edge.reached[between].any()
    assert (edge.owner[between] == 0).all()
    assert loss_at(edge, 1e4) == pytest.approx(2.0)
    assert (edge.owner[edge.C >= 1e4] == 1).all()


def test_owners_change_where_curves_cross():
    small, large = curve([1e2, 1e6], [4.0, 3.0], N=1.0), curve([1e2, 1e6], [6.0, 2.0], N=2.0)
    edge = frontier([small, large], points=400)
    first, second = edge.stretches
    assert (first.curve, second.curve) == (0, 1)
    crossing = np.exp(np.log(1e2) + np.log(6 / 4) / np.log((6 / 2) / (4 / 3)) * np.log(1e4))
    assert first.C_high == pytest.approx(crossing, rel=0.03)
    assert second.C_low == pytest.approx(crossing, rel=0.03)
    assert (edge.N[edge.owner == 1] == 2.0).all()
    assert list(edge.D) == pytest.approx(list(edge.C / 6 / edge.N))


def test_the_frontier_never_rises_even_where_a_curve_does():
    edge = frontier([curve([1e2, 1e3, 1e4], [3.0, 2.0, 2.5])], points=101)
    assert (np.diff(edge.loss) <= 0).all()
    assert edge.loss[-1] == pytest.approx(2.0, rel=1e-2)
    assert not edge.reached[-1]
    assert edge.D[-1] == pytest.approx(1e3 / 6, rel=0.1), "the tokens at which it was reached"
    assert len(frontier_runs(edge)) == int(edge.reached.sum()) < 101


def test_the_part_before_any_curve_is_left_out():
    edge = frontier([curve([1e3, 1e4], [3.0, 2.0])], points=50, C_range=(1e1, 1e4))
    assert edge.C[0] >= 1e3
    with pytest.raises(FitError, match="no curve has a point from"):
        frontier([curve([1e3, 1e4], [3.0, 2.0])], C_range=(1.0, 10.0))


def test_nothing_gives_no_frontier():
    with pytest.raises(FitError, match="no curve has a point"):
        frontier([])
    with pytest.raises(FitError, match="no curve has a point"):
        frontier([curve([], [])])
    with pytest.raises(FitError, match="the compute runs from"):
        frontier([curve([1e3], [3.0])])


def test_the_law_of_a_true_frontier():
    """Along the optimum of the truth, L = E + const * C^-(ab/(a+b))."""
    curves = curves_of_truth(sizes=60, per_size=1, trial_sd=0.0, row_sd=0.0, points=200)
    edge = frontier(curves, points=300, C_range=(1e17, 1e19))
    law = fit_frontier(edge, form=POWER_IRREDUCIBLE)
    alpha, beta = TRUTH["alpha"], TRUTH["beta"]
    assert law.parameters["gamma"] == pytest.approx(alpha * beta / (alpha + beta), rel=0.03)
    assert law.parameters["E"] == pytest.approx(TRUTH["E"], rel=0.03)
    straight = fit_frontier(edge, form=POWER)
    assert straight.rmse > 5 * law.rmse, "a straight line must miss the irreducible part"


def test_one_curve_gives_no_law():
    edge = frontier([curve(np.geomspace(1e2, 1e6, 20), np.geomspace(5, 2, 20))])
    with pytest.raises(FitError, match="one curve owns all of it"):
        fit_frontier(edge)
    with pytest.raises(ValueError, match="chinchilla is one of N, D"):
        fit_frontier(edge, form=CHINCHILLA)


def test_draws_of_the_frontier_come_from_curves_drawn_again():
    curves = curves_of_truth()
    edge = frontier(curves)
    law = fit_frontier(edge, form=POWER_IRREDUCIBLE)
    posterior = bootstrap_frontier(law, curves, edge, draws=100, seed=0)
    low, high = posterior.interval(C=1e20, level=0.9)
    assert low < law.predict(C=1e20) < high
    again = bootstrap_frontier(law, curves, edge, draws=100, seed=0)
    assert again == posterior
    # No draw can lie below the envelope of all: the mean over draws lies above the law's own.
    assert posterior.predictions(C=1e19).mean() >= law.predict(C=1e19) * 0.999


def test_finished_runs_are_on_the_frontier_at_their_own_compute():
    """One point each: no even spacing meets them, and the grid holds their computes too."""
    C, loss = np.array([1e18, 3.3e18, 2.7e19, 1e20]), np.array([3.5, 3.3, 2.9, 2.7])
    runs = [curve([C[k]], [loss[k]], N=1e7 * (k + 1)) for k in range(4)]
    edge = frontier(runs, points=50)
    at = np.searchsorted(edge.C, C)
    assert edge.C[at] == pytest.approx(C, rel=1e-12)
    assert edge.loss[at] == pytest.approx(loss)
    assert int(edge.reached.sum()) == 4
    rows = frontier_runs(edge)
    assert sorted(rows.C) == pytest.approx(C)
    law = fit_frontier(edge)
    assert law.trials == 4
    assert law.predict(C=1e19) == pytest.approx(3.07, abs=0.05)
