"""The search: warm starts end where cold ones do, and starts that meet go on as one."""

from __future__ import annotations

import time

import numpy as np
import pytest

from orchestrator.laws.fit import fit
from orchestrator.laws.forms import CHINCHILLA, form_named
from orchestrator.laws.forms.line import law_of
from orchestrator.laws.runs import Runs
from orchestrator.laws.screening import screened_starts, solve_linear
from orchestrator.laws.search import distinct, raced, searched
from tests.orchestrator.laws.sweeps import posed, runs_of_truth
from tests.orchestrator.laws.test_line import KNOWN, drawn_runs

WARM = ["data_constrained", "broken_power", "mixture_of_experts", "step_law", "sparsity"]


def rows(name: str, count: int) -> tuple[object, Runs]:
    form = form_named(name)
    runs, _ = drawn_runs(form, KNOWN[name][0], count=count)
    return form, runs


@pytest.mark.parametrize("name", WARM)
def test_a_warm_refit_ends_no_higher_than_a_cold_one(name):
    """One row more at a time, each refit from the one before."""
    form, runs = rows(name, 66)
    warm = fit(form, runs.take(np.arange(60)))
    for count in range(61, 66):
        more = runs.take(np.arange(count))
        warm = fit(form, more, start_from=[warm], delta=0.006)
        assert warm.starts <= 24
    cold = fit(form, more, delta=0.006)
    assert warm.objective_value <= cold.objective_value + 1e-4 * cold.scale**2


def test_a_warm_refit_costs_a_small_part_of_a_cold_one():
    form, runs = rows("data_constrained", 61)
    before = fit(form, runs.take(np.arange(60)))
    spent = []
    for options in ({"start_from": [before]}, {}):
        begun = time.process_time()
        for _ in range(3):
            fit(form, runs, **options)
        spent.append(time.process_time() - begun)
    assert spent[0] < 0.5 * spent[1]


def test_warm_starts_are_laws_or_working_values():
    runs = runs_of_truth(count=40, noise=0.005)
    cold = fit(CHINCHILLA, runs)
    of_values = fit(CHINCHILLA, runs, start_from=np.array([cold.working]))
    of_laws = fit(CHINCHILLA, runs, start_from=[cold])
    both = fit(CHINCHILLA, runs, start_from=[cold], starts=8)
    for law in (of_values, of_laws, both):
        assert law.objective_value == pytest.approx(cold.objective_value, rel=1e-3)
        assert law.parameters["alpha"] == pytest.approx(cold.parameters["alpha"], abs=1e-3)
    assert (of_values.starts, both.starts) == (1, 8 + len(cold.optima))


def test_a_law_at_another_centre_is_carried_over():
    """Working values hang on the centre of the rows; published ones do not."""
    runs = runs_of_truth(count=60, noise=0.005)
    small = runs.take(np.argsort(runs.N, kind="stable")[:40])
    warm = fit(CHINCHILLA, runs, start_from=[fit(CHINCHILLA, small)], delta=0.006)
    assert warm.objective_value <= fit(CHINCHILLA, runs, delta=0.006).objective_value * (1 + 1e-6)


def test_warm_starts_that_do_not_fit_are_refused():
    runs = runs_of_truth(count=40, noise=0.005)
    with pytest.raises(ValueError, match=r"has shape \(2, 3\).*needs \(K, 5\)"):
        fit(CHINCHILLA, runs, start_from=np.zeros((2, 3)))
    other = fit(law_of("E + A/N**alpha"), runs)
    with pytest.raises(ValueError, match="not chinchilla"):
        fit(CHINCHILLA, runs, start_from=[other])


def test_distinct_optima_are_told_apart_by_what_they_predict():
    runs = runs_of_truth(count=40, noise=0.005)
    found = searched(posed(runs), starts=16, rng=np.random.default_rng(0))
    leaders = [leader for leader, _ in found.groups]
    assert list(found.solution.objective[leaders]) == sorted(found.solution.objective[leaders])
    again = distinct(found.problem, found.solution, found.probes, converged=False)
    assert sum(len(members) for _, members in again) == len(found.solution.values)


def test_what_is_linear_is_solved_for_where_a_start_is_drawn():
    """The judged objective is that of the values that come back, and no linear change betters
    it by much."""
    runs = runs_of_truth(count=60, noise=0.005)
    form = law_of("E + A/N**alpha + B/D**beta")
    problem = posed(runs, form, objective="squared").problem(0.01)
    values = form.draw(np.random.default_rng(0), 20, problem.covariates)
    names = [known.name for known in form.parameters]
    values[:, names.index("alpha")] = values[:, names.index("beta")] = 0.4
    said = solve_linear(problem, values)
    residual = form.loss(values, problem.covariates) - problem.target
    assert said == pytest.approx(0.5 * np.sum(residual**2, axis=1))
    columns = form.columns(values[:1], problem.covariates)[1][0]
    exact = np.linalg.lstsq(columns.T, problem.target[0], rcond=None)[0]
    best = 0.5 * np.sum((columns.T @ exact - problem.target[0]) ** 2)
    assert (said >= best * (1 - 1e-6)).all()
    assert said[0] == pytest.approx(best, rel=1e-4)
    assert len(screened_starts(problem, starts=8, rng=np.random.default_rng(0))) == 8


def test_an_optimum_that_few_starts_are_near_goes_on_beside_the_best():
    """Two bumps, one a little higher: sixty starts are near that one, and two near the other."""
    form = law_of("E + A*exp(-(x - p)**2)", parameters=["E", "A", "p"])
    x = np.linspace(0.0, 6.0, 61)
    loss = 2.0 + np.exp(-((x - 1.0) ** 2)) + 0.9 * np.exp(-((x - 5.0) ** 2))
    problem = posed(Runs(loss=loss, features={"x": x}), form, objective="squared").problem(0.1)
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.uniform(0.5, 1.5, 60), [4.6, 5.3]])
    values = np.stack([np.full(62, 2.0), np.full(62, 0.5), p], axis=1)
    probes = form.covariates(np.array([[0.0, 1.0, 3.0, 5.0, 6.0]]), np.zeros(0))
    found, met = raced(problem, values, probes, rng)
    np.testing.assert_allclose(np.sort(found[:, 2])[[0, -1]], [1.0, 5.0], atol=0.3)
    assert abs(found[0, 2] - 1.0) < 0.3 and met[0] > met[-1]
