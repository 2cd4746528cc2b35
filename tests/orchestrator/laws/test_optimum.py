"""Compute-optimal size and tokens, against the closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import CHINCHILLA, POWER, form_named
from orchestrator.laws.forms.line import Known, law_of
from orchestrator.laws.optimum import _shares, averaged_optimum, compute_optimal
from orchestrator.laws.runs import Runs, finished_runs, runs_from_curves
from orchestrator.laws.uncertainty import bootstrap
from orchestrator.report.cost import FlopsPerToken
from tests.orchestrator.laws.sweeps import TRUTH, curves_of_truth, runs_of_truth, true_loss


def closed_form(C):
    A, B, alpha, beta = (TRUTH[k] for k in ("A", "B", "alpha", "beta"))
    G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
    N = G * (C / 6) ** (beta / (alpha + beta))
    return N, C / 6 / N


@pytest.mark.parametrize("C", [1e18, 1e21, 1e25])
def test_it_is_the_closed_form(C):
    best = compute_optimal(fit(CHINCHILLA, runs_of_truth()), C)
    N, D = closed_form(C)
    assert best.N.value == pytest.approx(N, rel=1e-4)
    assert best.D.value == pytest.approx(D, rel=1e-4)
    assert best.loss.value == pytest.approx(true_loss(N, D), rel=1e-6)
    a = TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
    assert best.exponent_N.value == pytest.approx(a, abs=1e-4)
    assert best.exponent_D.value == pytest.approx(1 - a, abs=1e-4)
    assert best.N.low is None and best.level is None
    assert best.flat_N[0] < N < best.flat_N[1]
    edges = np.array(best.flat_N)
    assert true_loss(edges, C / 6 / edges) == pytest.approx(best.loss.value * 1.005, rel=2e-3)


def test_another_cost_moves_it():
    """With attention, tokens of small models cost more: the optimum grows in N at equal C."""
    law = fit(CHINCHILLA, runs_of_truth())
    plain = compute_optimal(law, 1e21)
    dear = compute_optimal(law, 1e21, flops_per_token=lambda N: 6 * N + 6e9)
    assert dear.N.value > plain.N.value
    grid = np.geomspace(1e6, 1e12, 200_001)
    loss = true_loss(grid, 1e21 / (6 * grid + 6e9))
    assert dear.N.value == pytest.approx(grid[np.argmin(loss)], rel=1e-3)


def test_intervals_come_from_the_draws():
    runs = runs_from_curves(curves_of_truth(seed=2))
    posterior = bootstrap(fit(CHINCHILLA, runs), runs)
    best = compute_optimal(posterior, 1e20, level=0.9)
    narrow = compute_optimal(posterior, 1e20, level=0.8)
    N, _ = closed_form(1e20)
    assert best.N.low < N < best.N.high
    assert best.N.low < narrow.N.low < best.N.value < narrow.N.high < best.N.high
    assert best.exponent_N.low < best.exponent_N.value < best.exponent_N.high
    assert best.level == 0.9


def test_an_exponent_does_not_jump_where_the_cost_of_a_token_breaks():
    """What a token costs lies on straight lines between the sizes that were trained: N* stays at
    one of them over a stretch of compute, where a slope across a few per cent of it is zero."""
    law = fit(CHINCHILLA, runs_of_truth())
    sizes = np.geomspace(1e7, 1e9, 7)
    cost = FlopsPerToken.of((size, 6 * size * (1 + 0.9 * (1e7 / size) ** 0.4)) for size in sizes)
    found = [
        compute_optimal(law, C, flops_per_token=cost).exponent_N.value
        for C in np.geomspace(1e17, 1e20, 40)
    ]
    smooth = TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
    assert max(found) < 1.2 * smooth
    assert min(found) > 0.8 * smooth


@pytest.mark.parametrize("widening", [1.0, 9.0, 100.0])
def test_exponents_of_size_and_tokens_stay_between_none_and_all_of_the_compute(widening):
    runs = runs_from_curves(curves_of_truth(sizes=4, per_size=2, trial_sd=0.05, seed=2))
    posterior = bootstrap(fit(CHINCHILLA, runs, starts=16), runs, draws=60)
    posterior = replace(posterior, widening=widening, degrees=None)
    best = compute_optimal(posterior, 1e20)
    for exponent in (best.exponent_N, best.exponent_D):
        assert 0.0 <= exponent.low < exponent.value < exponent.high <= 1.0
    if widening == 1.0:
        assert best.exponent_N.low > 0.1


def test_an_exponent_outside_is_widened_as_it_is():
    drawn = np.array([[1.1], [1.2], [1.3]])
    low, high = _shares(drawn, np.array([1.2]), 0.9, 2.0)
    assert (low[0], high[0]) == (pytest.approx(1.02), pytest.approx(1.38))


def test_far_questions_are_told():
    best = compute_optimal(fit(CHINCHILLA, runs_of_truth()), 1e25)
    assert [warning.kind for warning in best.warnings] == ["extrapolation"]
    assert compute_optimal(fit(CHINCHILLA, runs_of_truth()), 1e20).warnings == ()


def test_a_law_without_size_has_no_optimum():
    """Where the loss does not depend on N, ever smaller models are ever better."""
    rng = np.random.default_rng(0)
    N, D = np.exp(rng.uniform(16, 20, 40)), np.exp(rng.uniform(20, 25, 40))
    flat = fit(CHINCHILLA, finished_runs(N, D, 1.8 + 2085 / D**0.37))
    with pytest.raises(FitError, match="no optimum at"):
        compute_optimal(flat, 1e21)


def test_wrong_questions_are_refused():
    with pytest.raises(ValueError, match="power is one of C"):
        compute_optimal(fit(POWER, runs_of_truth()), 1e21)
    with pytest.raises(ValueError, match="C is -1"):
        compute_optimal(fit(CHINCHILLA, runs_of_truth()), -1)


def test_further_inputs_are_held():
    """A third input that shifts the loss and leaves the optimum where it is."""
    plain = runs_of_truth(count=80)
    S = np.random.default_rng(0).uniform(0.0, 1.0, 80)
    rows = Runs(features={"N": plain.N, "D": plain.D, "S": S}, loss=plain.loss + 0.3 * S)
    above = {name: Known(low=0.0) for name in ("E", "A", "B")}
    powers = {name: Known(low=0.0, high=2.0) for name in ("alpha", "beta")}
    form = law_of(
        "E + A/N**alpha + B/D**beta + G*S", parameters=above | powers, inputs=("N", "D", "S")
    )
    law = fit(form, rows)
    low, high = (compute_optimal(law, 1e20, held={"S": value}) for value in (0.0, 1.0))
    N, D = closed_form(1e20)
    assert low.N.value == pytest.approx(N, rel=1e-2)
    assert high.N.value == pytest.approx(low.N.value)
    assert high.loss.value == pytest.approx(true_loss(N, D) + 0.3, rel=1e-3)
    with pytest.raises(ValueError, match="'S' is missing"):
        compute_optimal(law, 1e20)
    with pytest.raises(ValueError, match="'lr' is not one of them"):
        compute_optimal(law, 1e20, held={"S": 0.0, "lr": 1e-3})


def test_the_average_holds_what_laws_doubt_and_differ_by():
    runs = runs_of_truth(count=60, noise=0.01)
    laws = [
        bootstrap(fit(form, runs, starts=16), runs, draws=60)
        for form in (CHINCHILLA, form_named("kaplan"))
    ]
    each = [compute_optimal(law, 1e21) for law in laws]
    alone = averaged_optimum(laws[:1], [1.0], 1e21)
    assert alone.N.value == pytest.approx(each[0].N.value)
    assert alone.N.low == pytest.approx(each[0].N.low, rel=0.05)
    assert alone.loss.high == pytest.approx(each[0].loss.high, rel=0.01)
    both = averaged_optimum(laws, [0.5, 0.5], 1e21)
    assert both.N.value == pytest.approx(np.sqrt(each[0].N.value * each[1].N.value))
    assert both.N.low < min(found.N.value for found in each)
    assert both.N.high > max(found.N.value for found in each)
    assert both.exponent_N.value == pytest.approx(
        0.5 * (each[0].exponent_N.value + each[1].exponent_N.value)
    )
    nearly = averaged_optimum(laws, [1.0, 1e-9], 1e21)
    assert nearly.N.high == pytest.approx(alone.N.high, rel=0.02)
    with pytest.raises(ValueError, match="one each is needed"):
        averaged_optimum(laws, [1.0], 1e21)
