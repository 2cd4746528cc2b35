"""The batched minimiser: scipy's optimum, inside the box, with offsets as if solved at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from orchestrator.laws.forms import CHINCHILLA
from orchestrator.laws.levenberg import minimise
from orchestrator.laws.robust import huber, huber_weight
from orchestrator.laws.runs import runs_from_curves
from orchestrator.laws.screening import screened_starts
from tests.orchestrator.laws.sweeps import curves_of_truth, posed, runs_of_truth


def test_huber_is_continuous_and_its_weight_is_the_slope():
    residual = np.linspace(-3, 3, 601)
    value = huber(residual, 1.0)
    slope = np.gradient(value, residual)
    assert slope[1:-1] == pytest.approx((huber_weight(residual, 1.0) * residual)[1:-1], abs=1e-2)
    assert value[residual == 0.0] == 0.0


def test_every_start_reaches_what_scipy_reaches():
    runs = runs_of_truth(count=50, noise=0.005)
    problem = posed(runs, delta=0.003).problem(0.005)
    starts = screened_starts(problem, starts=24, rng=np.random.default_rng(0))
    assert starts.shape == (24, 5)
    solution = minimise(problem, starts)
    assert solution.converged.all()

    def objective(values):
        loss, partials = CHINCHILLA.jacobian(values[None, :], problem.covariates)
        residual = np.log(loss[0]) - problem.target[0]
        pull = huber_weight(residual, problem.delta) * residual / loss[0]
        return np.sum(huber(residual, problem.delta)), partials[0] @ pull

    box = list(zip(problem.lower, np.minimum(problem.upper, 1e3), strict=True))
    theirs = min(
        minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=box,
            options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-12},
        ).fun
        for start in starts[:4]
    )
    assert solution.objective.min() <= theirs * (1 + 1e-9)
    assert solution.objective == pytest.approx(theirs, rel=1e-6)


def test_starts_stay_in_the_box_and_rest_at_it():
    """With E held above the truth, E must end at its lower bound and the rest adapt."""
    problem = posed(runs_of_truth(count=50, noise=0.005), delta=0.003).problem(0.005)
    lower = problem.lower.copy()
    lower[0] = 1.95
    held = replace(problem, lower=lower)
    starts = screened_starts(held, starts=8, rng=np.random.default_rng(0))
    solution = minimise(held, starts)
    assert solution.values[:, 0] == pytest.approx(1.95)
    assert (solution.values >= lower).all()
    assert (solution.values <= problem.upper).all()
    assert solution.objective.min() > minimise(problem, starts).objective.min()


def test_offsets_are_those_of_the_joint_problem():
    """Eliminated offsets against scipy over parameters and offsets together."""
    runs = runs_from_curves(curves_of_truth(sizes=4, per_size=2, trial_sd=0.02, points=12))
    problem = posed(runs, delta=0.003, offsets_sd=0.02).problem(0.005)
    assert problem.offsets is not None
    member = problem.offsets.member
    starts = screened_starts(problem, starts=6, rng=np.random.default_rng(0))
    solution = minimise(problem, starts)
    best = int(np.argmin(solution.objective))

    def objective(joint):
        values, offsets = joint[:5], joint[5:]
        loss = CHINCHILLA.loss(values[None, :], problem.covariates)[0]
        residual = np.log(loss) - problem.target[0] + member @ offsets
        penalty = problem.offsets.precision * np.sum(huber(offsets, problem.offsets.knee))
        return 1e4 * (np.sum(problem.weight[0] * huber(residual, problem.delta)) + penalty)

    ours = np.concatenate([solution.values[best], solution.offsets[best]])
    assert objective(ours) == pytest.approx(1e4 * solution.objective[best], rel=1e-9)
    rng = np.random.default_rng(1)
    for _ in range(300):  # no neighbour is better, in any direction of the joint space
        nudge = rng.normal(size=ours.size) * 1e-4
        assert objective(ours + nudge) >= objective(ours) * (1 - 1e-9)


def test_large_batches_are_solved_in_parts_alike(monkeypatch):
    problem = posed(runs_of_truth(count=40, noise=0.005), delta=0.003).problem(0.005)
    starts = screened_starts(problem, starts=9, rng=np.random.default_rng(0))
    whole = minimise(problem, starts)
    monkeypatch.setattr("orchestrator.laws.levenberg._LARGEST_BLOCK", 2 * 40 * 5)
    parts = minimise(problem, starts)
    assert parts.values == pytest.approx(whole.values, rel=1e-12)
    assert parts.objective == pytest.approx(whole.objective, rel=1e-12)
