"""Approach 2 on runs and curves of a known law: its minima, and every reason for having none."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.laws.errors import FitError
from orchestrator.laws.isoflop import isoflop, minima
from orchestrator.laws.runs import CurveRows
from tests.orchestrator.laws.sweeps import (
    best_size,
    curve_of_truth,
    curves_across,
    exponent,
    true_loss,
)


def run(N, C, loss=None):
    """A finished run of C FLOPs."""
    D = C / 6 / N
    loss = true_loss(N, D) if loss is None else loss
    return CurveRows(N=N, tokens=[D], flops=[C], loss=[loss])


def design(budgets, *, low=0.25, high=4.0, sizes=7, sd=0.0, seed=0):
    """Runs at each budget, at sizes from `low` to `high` times the best one."""
    rng = np.random.default_rng(seed)
    return [
        run(N, C, true_loss(N, C / 6 / N) * np.exp(sd * rng.normal()))
        for C in budgets
        for N in best_size(C) * np.geomspace(low, high, sizes)
    ]


BUDGETS = np.geomspace(1e17, 1e20, 7)


def test_a_textbook_design_gives_the_truth():
    found = isoflop(design(BUDGETS))
    assert [b.why_not for b in found.budgets] == [None] * 7
    np.testing.assert_allclose([b.C for b in found.budgets], BUDGETS, rtol=1e-6)
    for budget in found.budgets:
        size, tokens = budget.N, budget.D
        assert size == pytest.approx(best_size(budget.C), rel=0.03)
        assert 6 * size * tokens == pytest.approx(budget.C, rel=1e-6)
        assert budget.curvature > 0
    assert found.allocation.exponent("N").value == pytest.approx(exponent(), abs=0.005)
    assert found.allocation.at("N", 1e21).value == pytest.approx(best_size(1e21), rel=0.03)


def test_bounds_cover_the_truth_under_noise():
    covered = 0
    for seed in range(10):
        lines = isoflop(design(BUDGETS, sd=0.002, seed=seed), seed=seed).allocation
        bounds = lines.exponent("N", 0.9)
        assert 0.005 < bounds.high - bounds.low < 0.1
        covered += bounds.low < exponent() < bounds.high
    assert covered >= 7


def test_it_reads_learning_curves_at_budgets_of_its_own():
    found = isoflop(curves_across(sizes=25, trial_sd=0.001))
    assert len(found.budgets) == 9
    assert found.allocation.exponent("N").value == pytest.approx(exponent(), abs=0.02)
    assert found.allocation.at("N", 1e19).value == pytest.approx(best_size(1e19), rel=0.1)


@pytest.mark.parametrize(("low", "high", "end"), [(0.02, 0.5, "largest"), (2.0, 50.0, "smallest")])
def test_a_minimum_at_the_edge_is_no_estimate(low, high, end):
    found = minima(design([1e19], low=low, high=high), [1e19])
    assert found[0].N is None
    assert f"the {end} size that ran as far is the lowest" in found[0].why_not
    with pytest.raises(FitError, match=f"0 of 7 budgets have a minimum.*{end}"):
        isoflop(design(BUDGETS, low=low, high=high))


def test_a_reason_is_told_once_with_its_budgets_and_sizes_as_people_write_them():
    with pytest.raises(FitError) as caught:
        isoflop(design(BUDGETS, low=2.0, high=50.0))
    said = str(caught.value)
    assert said.count("the smallest size that ran as far is the lowest") == 1
    assert "(at 7 of 7 budgets (" in said and "M to " in said and said.endswith("parameters))")
    assert "e+" not in said


def test_a_parabola_that_is_not_convex_is_no_estimate():
    N = best_size(1e19) * np.geomspace(0.25, 4, 5)
    losses = (2.31, 2.60, 2.30, 2.60, 2.31)
    found = minima([run(n, 1e19, x) for n, x in zip(N, losses, strict=True)], [1e19])[0]
    assert found.N is None and found.curvature is None
    assert found.why_not == "the parabola is not convex"


def test_scatter_takes_in_sizes_further_away():
    """Where sizes near the lowest one scatter as much as they differ, the wider ones tell."""
    sizes = best_size(1e19) * np.geomspace(1 / 16, 16, 25)
    losses = true_loss(sizes, 1e19 / 6 / sizes) * (1 + 0.04 * (-1.0) ** np.arange(25))
    runs = [run(N, 1e19, loss) for N, loss in zip(sizes, losses, strict=True)]
    near = [r for r in runs if 0.25 < r.N / best_size(1e19) < 4]
    wide = minima(runs, [1e19])[0]
    assert minima(near, [1e19])[0].N is None
    assert best_size(1e19) / 1.5 < wide.N < best_size(1e19) * 1.5


def test_a_parabola_lost_in_noise_is_no_estimate():
    N = best_size(1e19) * np.geomspace(0.25, 4, 7)
    losses = (2.50, 2.60, 2.40, 2.60, 2.42, 2.61, 2.51)
    found = minima([run(n, 1e19, x) for n, x in zip(N, losses, strict=True)], [1e19])[0]
    assert found.N is None


def test_three_sizes_are_no_parabola():
    found = minima(design([1e19], sizes=3), [1e19])[0]
    assert found.why_not == "3 sizes have a loss there, and 4 are needed"


def test_of_a_size_the_best_run_counts():
    good = design([1e19])
    bad = [run(curve.N, 1e19, curve.loss[0] * 1.05) for curve in good]
    assert minima([*bad, *good], [1e19]) == minima(good, [1e19])


def test_no_loss_is_made_up_between_distant_points():
    """Two points a hundred times apart in compute say nothing of the compute between them."""
    curves = [curve_of_truth(N, 2 * N, 200 * N, points=2) for N in np.geomspace(1e8, 1e9, 6)]
    assert minima(curves, [1e19])[0].sizes == ()


def test_budgets_without_an_estimate_are_named():
    runs = [*design(BUDGETS[:5]), *design(BUDGETS[5:], low=0.02, high=0.5)]
    found = isoflop(runs)
    assert [b.why_not is None for b in found.budgets] == [True] * 5 + [False] * 2
    assert len(found.allocation.points) == 5
    assert "no estimate" in found.allocation.notes[0]


def test_nothing_to_compare_is_told():
    with pytest.raises(FitError, match="nowhere have 4 finished runs"):
        isoflop([run(1e8, 1e18), run(1e9, 1e20)])
    with pytest.raises(FitError, match="nowhere do 4 sizes"):
        isoflop([curve_of_truth(N, 5 * N, 20 * N) for N in (1e7, 1e9)])
    with pytest.raises(FitError, match="no curve has a point"):
        isoflop([])
    with pytest.raises(ValueError, match="a budget is -1"):
        isoflop(design(BUDGETS), [-1.0])
