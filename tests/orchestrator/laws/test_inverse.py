"""A law asked both ways, against the closed form and against itself."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import CHINCHILLA, POWER_IRREDUCIBLE
from orchestrator.laws.inverse import cheapest, decades_beyond, loss_at
from orchestrator.laws.optimum import compute_optimal
from orchestrator.laws.runs import finished_runs, runs_from_curves
from orchestrator.laws.uncertainty import bootstrap
from tests.orchestrator.laws.sweeps import best_size, curves_of_truth, runs_of_truth, true_loss


@functools.cache
def exact():
    return fit(CHINCHILLA, runs_of_truth())


@functools.cache
def drawn():
    runs = runs_from_curves(curves_of_truth(seed=2))
    return bootstrap(fit(CHINCHILLA, runs), runs)


@functools.cache
def of_compute():
    C = np.geomspace(1e17, 1e21, 30)
    runs = finished_runs(best_size(C), C / 6 / best_size(C), 1.7 + 900.0 * C**-0.16, C=C)
    return bootstrap(fit(POWER_IRREDUCIBLE, runs), runs, draws=50)


@pytest.mark.parametrize("C", [1e17, 1e21, 1e24])
def test_the_cheapest_compute_is_that_of_the_truth(C):
    N = best_size(C)
    found = cheapest(exact(), float(true_loss(N, C / 6 / N)))
    assert found.C.value == pytest.approx(C, rel=1e-3)
    assert found.optimum.N.value == pytest.approx(N, rel=1e-3)
    assert found.optimum.D.value == pytest.approx(C / 6 / N, rel=1e-3)
    assert found.level is None and found.C.low is None


def test_its_bounds_are_where_those_of_the_loss_cross():
    found = cheapest(drawn(), 2.3, level=0.9)
    assert found.C.low < found.C.value < found.C.high
    assert compute_optimal(drawn(), found.C.low).loss.low == pytest.approx(2.3, abs=1e-4)
    assert compute_optimal(drawn(), found.C.high).loss.high == pytest.approx(2.3, abs=1e-4)
    assert compute_optimal(drawn(), found.C.value).loss.value == pytest.approx(2.3, abs=1e-4)


def test_another_cost_needs_more_compute():
    dear = cheapest(exact(), 2.3, flops_per_token=lambda N: 12 * N)
    assert dear.C.value == pytest.approx(2 * cheapest(exact(), 2.3).C.value, rel=1e-3)


def test_a_law_of_compute_is_inverted_too():
    found = cheapest(of_compute(), 2.0)
    assert found.C.value == pytest.approx((900.0 / 0.3) ** (1 / 0.16), rel=0.02)
    assert found.optimum is None


def test_a_loss_that_nothing_reaches_is_refused_with_what_is_reached():
    with pytest.raises(FitError, match=r"no compute for a loss of 1\.7"):
        cheapest(exact(), 1.7)
    with pytest.raises(FitError, match=r"no compute for a loss of 1\.6: even with .* it is 1\.7"):
        cheapest(of_compute(), 1.6)
    with pytest.raises(ValueError, match="loss is -2"):
        cheapest(exact(), -2.0)


def test_a_missing_bound_is_told():
    """Draws whose irreducible loss lies above the loss asked for never reach it."""
    found = cheapest(drawn(), 1.95)
    assert found.C.low < found.C.value
    assert found.C.high is None
    assert "no upper bound of the compute" in found.notes[0]


def test_the_loss_of_a_plan_has_the_law_s_interval():
    found = loss_at(drawn(), N=1e9, D=2e10, level=0.8)
    low, high = drawn().interval(1e9, 2e10, level=0.8)
    assert (found.low, found.high) == (float(low), float(high))
    assert found.low < found.value < found.high
    assert loss_at(exact(), N=1e9, D=2e10).low is None
    assert loss_at(exact(), N=1e9, D=2e10).value == pytest.approx(true_loss(1e9, 2e10), rel=1e-6)


def test_wrong_questions_are_refused():
    with pytest.raises(ValueError, match="has no input 'C'; it has N, D"):
        loss_at(exact(), N=1e9, D=1e10, C=1e20)
    with pytest.raises(ValueError, match="needs D"):
        loss_at(exact(), N=1e9)


def test_decades_beyond_the_rows():
    law = exact()
    (low_N, high_N), (low_D, high_D) = law.ranges
    found = decades_beyond(law, {"N": 100 * high_N, "D": low_D / 10, "C": 1e30})
    assert found == pytest.approx({"N": 2.0, "D": -1.0})
    assert decades_beyond(law, {"N": low_N, "D": high_D}) == {"N": 0.0, "D": 0.0}
