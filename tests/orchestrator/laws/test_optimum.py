"""Compute-optimal size and tokens, against the closed form."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import CHINCHILLA, POWER
from orchestrator.laws.optimum import compute_optimal
from orchestrator.laws.runs import finished_runs, runs_from_curves
from orchestrator.laws.uncertainty import bootstrap
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
