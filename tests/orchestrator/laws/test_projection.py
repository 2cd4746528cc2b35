"""What is linear is solved for exactly, in its box, with priors and offsets in the sum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from orchestrator.laws.boxed import boxed_minimum
from orchestrator.laws.forms import CHINCHILLA
from orchestrator.laws.forms.base import solvable
from orchestrator.laws.forms.line import Known, law_of
from orchestrator.laws.levenberg import stand
from orchestrator.laws.projection import projected
from orchestrator.laws.runs import runs_from_curves
from tests.orchestrator.laws.sweeps import curves_of_truth, posed, runs_of_truth


def problem_of(form, runs, *, objective="squared", offsets_sd=None, scale=0.01):
    return posed(runs, form, objective=objective, offsets_sd=offsets_sd).problem(scale)


def test_a_boxed_minimum_is_scipys():
    rng = np.random.default_rng(0)
    low, high = np.full(3, -0.2), np.full(3, 0.3)
    columns, goal = rng.normal(size=(40, 12, 3)), rng.normal(size=(40, 12))
    matrix = np.matmul(columns.swapaxes(1, 2), columns)
    downhill = np.matmul(columns.swapaxes(1, 2), goal[:, :, None])[:, :, 0]
    box = (np.broadcast_to(low, (40, 3)), np.broadcast_to(high, (40, 3)))
    found = boxed_minimum(matrix, downhill, *box)
    assert ((found >= low) & (found <= high)).all()
    exact = np.array([lsq_linear(a, b, (low, high)).x for a, b in zip(columns, goal, strict=True)])
    close = np.abs(found - exact).max(axis=1) < 1e-6
    assert close.mean() > 0.8  # a bound once taken is not left again: good enough for a step
    value = np.sum((np.einsum("srm,sm->sr", columns, found) - goal) ** 2, axis=1)
    best = np.sum((np.einsum("srm,sm->sr", columns, exact) - goal) ** 2, axis=1)
    assert (value <= 1.25 * best).all()
    held = np.zeros((40, 3), dtype=bool)
    held[:, 1] = True
    assert (boxed_minimum(matrix, downhill, *box, held)[:, 1] == 0.0).all()


def test_projected_values_are_least_squares():
    runs = runs_of_truth(count=50, noise=0.01)
    problem = problem_of(CHINCHILLA, runs)
    solved = solvable(CHINCHILLA.parameters)
    values = np.array([[1.0, 0.1, 0.1, 0.3, 0.4], [0.5, 3.0, 0.2, 0.4, 0.2]])
    none = np.zeros((2, 0))
    before = stand(problem, values, none)
    found, objective = projected(problem, solved, values, none, before.residual)
    assert (objective < before.objective).all()
    assert objective == pytest.approx(stand(problem, found, none).objective)
    assert found[:, 3:] == pytest.approx(values[:, 3:])
    columns = CHINCHILLA.columns(values, problem.covariates)[1]
    for k in range(2):
        exact = lsq_linear(columns[k].T, problem.target[0], (0.0, np.inf))
        assert objective[k] == pytest.approx(exact.cost, rel=1e-5)


def test_a_prior_and_offsets_count_in_the_projection():
    runs = runs_from_curves(curves_of_truth(sizes=4, per_size=2, trial_sd=0.02, points=12))
    problem = problem_of(CHINCHILLA, runs, objective="huber_log", offsets_sd=0.02)
    root = np.array([1e3, 0.0, 0.0, 0.0, 0.0])
    firm = replace(problem, prior_root=root, prior_mean=np.array([1.2, 0, 0, 0, 0]))
    solved = solvable(CHINCHILLA.parameters)
    values = np.array([[1.8, 0.3, 0.3, 0.34, 0.28]])
    offsets = np.full((1, 8), 0.01)
    at = stand(firm, values, offsets)
    found, objective = projected(firm, solved, values, offsets, at.residual)
    assert found[0, 0] == pytest.approx(1.2, abs=1e-3)
    assert objective[0] < at.objective[0]
    assert objective[0] == pytest.approx(stand(firm, found, offsets).objective[0])


def test_an_exponential_scale_is_solved_for_as_if_it_were_linear():
    form = law_of("exp(a - b*log(N)) + E", parameters={"b": Known(low=0.0, high=3.0)})
    runs = runs_of_truth(count=50, noise=0.0)
    problem = problem_of(form, runs)
    names = [known.name for known in form.parameters]
    solved = solvable(form.parameters)
    assert {names[k] for k in solved} == {"a", "E"}
    values = np.zeros((1, 3))
    values[0, names.index("b")] = 0.3
    none = np.zeros((1, 0))
    found, objective = projected(
        problem, solved, values, none, stand(problem, values, none).residual
    )
    columns = np.stack([runs.N**-0.3, np.ones(len(runs))], axis=1)
    exact, cost, *_ = np.linalg.lstsq(columns, runs.loss, rcond=None)
    assert objective[0] == pytest.approx(0.5 * cost[0], rel=1e-4)
    assert found[0, names.index("a")] == pytest.approx(np.log(exact[0]), rel=1e-4)
