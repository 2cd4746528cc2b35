"""The mixture over optima and forms: its variances, its features, its weights, its pace."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import CHINCHILLA, form_named
from orchestrator.laws.forms.line import Known, law_of
from orchestrator.laws.law import LocalOptimum
from orchestrator.laws.mixture import Mixture, mixture, modes_of
from orchestrator.laws.runs import Runs, runs_from_curves
from tests.orchestrator.laws.sweeps import TRUTH, curves_of_truth, runs_of_truth, true_loss

ASKED = {"N": np.array([1e9, 3e9, 1e10]), "D": np.array([3e10, 9e10, 3e11])}


@pytest.fixture(scope="module")
def runs():
    return runs_of_truth(count=60, noise=0.01)


@pytest.fixture(scope="module")
def both(runs):
    laws = [fit(CHINCHILLA, runs), fit(form_named("kaplan"), runs)]
    return mixture(laws, runs, [0.7, 0.3])


def line(slope, intercept, *, sd, rows=40, seed=0):
    """A straight line, where least squares has the answer in closed form."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.0, 1.0, rows)
    return Runs(
        loss=intercept + slope * x + sd * rng.normal(size=rows), features={"x": x}, signed=True
    )


def test_covariance_of_a_straight_line_is_that_of_least_squares():
    rows = line(2.0, 1.0, sd=0.1)
    law = fit(law_of("a + b*x", inputs=["x"]), rows, objective="squared")
    (mode,) = modes_of(law, rows)
    design = np.stack([np.ones(40), rows.column("x")], axis=1)
    at, residuals, *_ = np.linalg.lstsq(design, rows.loss, rcond=None)
    expected = np.linalg.inv(design.T @ design) * residuals[0] / 38
    assert mode.values == pytest.approx(at, rel=1e-6)
    assert mode.root @ mode.root.T == pytest.approx(expected, rel=1e-3)
    assert mode.noise == pytest.approx(np.sqrt(residuals[0] / 38), rel=1e-6)
    assert mode.degrees == 38


def test_variances_are_those_of_draws(both):
    """Draws of a mode, then of its working values, each law linear about its optimum."""
    rng = np.random.default_rng(0)
    said = []
    for _ in range(20_000):
        mode = both.modes[rng.choice(len(both.modes), p=[m.weight for m in both.modes])]
        middle, effects = mode.effects(ASKED)
        said.append(middle + effects @ rng.normal(size=effects.shape[1]))
    found, features = both.predict(ASKED), both.features(ASKED)
    assert found.mean == pytest.approx(np.mean(said, axis=0), abs=1e-3)
    assert found.variance == pytest.approx(np.var(said, axis=0), rel=0.05)
    assert features @ features.T == pytest.approx(np.cov(np.array(said).T), rel=0.05)
    assert (found.between_forms > 10 * found.between_optima).all()


def test_features_of_two_calls_multiply(both):
    other = {"N": [2e8], "D": [5e9]}
    together = {name: np.concatenate([ASKED[name], other[name]]) for name in ASKED}
    # The distance from the mean is taken input by input, so parts and whole agree.
    whole = both.features(together)
    assert both.features(ASKED) @ both.features(other).T == pytest.approx(
        (whole @ whole.T)[:3, 3:]
    )


def test_directions_are_the_derivative_of_the_prediction(runs):
    law = fit(CHINCHILLA, runs)
    (mode,) = modes_of(law, runs)
    _, effects = mode.effects(ASKED)
    for k in range(effects.shape[1]):
        step = 1e-5 * mode.root[:, k]
        up, down = (replace(mode, values=mode.values + sign * step) for sign in (1, -1))
        slope = (up.effects(ASKED)[0] - down.effects(ASKED)[0]) / 2e-5
        assert effects[:, k] == pytest.approx(slope, rel=1e-5, abs=1e-9)


def two_valleys(*, tilt):
    """p and -p give the rows the same x p^2; z tells them apart, by as much as `tilt` says."""
    x, z = np.tile(np.linspace(0.5, 1.5, 20), 2), np.repeat([-0.04, 0.04], 20)
    noise = np.tile(0.1 * np.random.default_rng(0).normal(size=20), 2)
    rows = Runs(loss=x + tilt * z + noise, features={"x": x, "z": z}, signed=True)
    form = law_of("p**2*x + p*z", parameters={"p": Known(low=-3.0, high=3.0)}, inputs=["x", "z"])
    return rows, fit(form, rows, objective="squared")


def test_equal_optima_weigh_alike():
    rows, law = two_valleys(tilt=0.0)
    found = modes_of(law, rows)
    assert sorted(float(m.values[0]) for m in found) == pytest.approx([-1.0, 1.0], abs=0.05)
    assert [m.weight for m in found] == pytest.approx([0.5, 0.5], abs=1e-6)
    said = mixture([law], rows).predict({"x": [1.0], "z": [1.0]})
    assert said.between_optima == pytest.approx([1.0], abs=0.1)
    assert said.between_forms == 0.0


def test_the_weight_of_an_optimum_is_the_likelihood_of_an_unknown_scale():
    rows, law = two_valleys(tilt=0.3)
    best = law.optima[0]
    (p,) = best.values
    law = replace(law, optima=(best, LocalOptimum(objective=0.0, values=(-p,), starts=1)))
    left = [
        float(np.sum((rows.loss - v * v * rows.column("x") - v * rows.column("z")) ** 2))
        for v in (p, -p)
    ]
    ratio = (left[1] / left[0]) ** (-(40 - 1) / 2)
    assert 0.01 < ratio < 0.7
    weights = [m.weight for m in modes_of(law, rows)]
    assert weights[1] / weights[0] == pytest.approx(ratio, rel=0.05)


def test_rows_of_a_trial_count_once():
    """Four copies of each row under one label know no more than one; under four labels, more."""
    plain = runs_of_truth(count=60, noise=0.01)
    copied = {name: np.tile(column, 4) for name, column in plain.features.items()}
    loss, trial = np.tile(plain.loss, 4), np.tile(np.arange(60), 4)
    widths = []
    for rows in (
        plain,
        Runs(features=copied, loss=loss, trial=trial),
        Runs(features=copied, loss=loss, trial=np.arange(240)),
    ):
        law = fit(CHINCHILLA, rows, delta=0.02)
        widths.append(np.sqrt(mixture([law], rows).predict(ASKED).variance))
    assert widths[1] == pytest.approx(widths[0], rel=0.25)
    assert (widths[2] < 0.6 * widths[0]).all()


def test_the_larger_of_two_laws_is_not_certain_where_rows_leave_a_direction_free():
    """Two parameters that only their sum can be told of: bounded by the weak prior alone."""
    rows = line(0.0, 2.0, sd=0.01)
    law = fit(law_of("a + b + c*x", inputs=["x"]), rows, objective="squared")
    (mode, *_) = modes_of(law, rows)
    spread = np.sqrt(np.diag(mode.root @ mode.root.T))
    assert np.isfinite(spread).all()
    assert spread[0] > 0.3
    _, effects = mode.effects({"x": [0.5]})
    assert np.sqrt(np.sum(effects**2)) == pytest.approx(0.01 / np.sqrt(40), rel=0.4)


def test_a_parameter_at_its_bound_is_loose_by_the_push_against_it():
    """An intercept that would lie a little below zero: less sure than none, surer than free."""
    rows = line(1.0, -0.06, sd=0.1)
    spreads = []
    for low in (0.0, -5.0):
        form = law_of("a + b*x", parameters={"a": Known(low=low)}, inputs=["x"])
        law = fit(form, rows, objective="squared")
        (mode, *_) = modes_of(law, rows)
        spreads.append(float(np.sqrt(mode.root[0] @ mode.root[0])))
    bound, free = spreads
    assert 0.2 * free < bound < 0.95 * free


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """A net for gross errors; scripts/laws_coverage.py measures it."""
    hits = []
    for seed in range(40):
        rows = runs_of_truth(count=40, noise=0.01, seed=seed)
        low, high = mixture([fit(CHINCHILLA, rows, starts=8)], rows).interval(ASKED)
        truth = true_loss(ASKED["N"], ASKED["D"])
        hits.append((low < truth) & (truth < high))
    assert 0.75 <= np.mean(hits) <= 0.99


def test_curves_with_offsets_are_bounded_too():
    rows = runs_from_curves(curves_of_truth())
    plain, shifted = (
        mixture([fit(CHINCHILLA, rows, offsets_sd=sd)], rows).predict(ASKED) for sd in (None, 0.01)
    )
    ratio = np.sqrt(shifted.variance / plain.variance)
    assert ((ratio > 0.4) & (ratio < 1.5)).all()
    assert mixture([fit(CHINCHILLA, rows)], rows).degrees == 24 - 5


def test_what_does_not_mix_is_refused(runs, both):
    law = fit(CHINCHILLA, runs)
    with pytest.raises(ValueError, match="one each, some above zero"):
        mixture([law], runs, [1.0, 2.0])
    with pytest.raises(ValueError, match="sum to 1"):
        Mixture(modes=(replace(both.modes[0], weight=0.5),))
    signed = fit(law_of("E + A/N**alpha", inputs=["N"]), runs, objective="huber")
    with pytest.raises(ValueError, match="do not mix"):
        mixture([law, signed], runs)
    with pytest.raises(ValueError, match="level is 90"):
        both.interval(ASKED, 90)


def test_a_law_without_a_value_is_left_out_there_and_no_value_at_all_is_an_error():
    rows = line(-1.0, 2.0, sd=0.01)
    rows = Runs(loss=rows.loss, features=dict(rows.features))
    falling = fit(law_of("a - b*x", inputs=["x"]), rows)
    curved = fit(law_of("a*exp(-b*x)", inputs=["x"]), rows)
    together = mixture([falling, curved], rows)
    found = together.predict({"x": [0.5, 4.0]})
    assert found.between_forms[1] == 0.0
    assert np.exp(found.mean[1]) == pytest.approx(float(curved.predict(x=4.0)))
    with pytest.raises(FitError, match="at 1 of 2 inputs"):
        mixture([falling], rows).predict({"x": [0.5, 4.0]})


def test_thousands_of_inputs_cost_little():
    """2,700 inputs of three forms with several optima; bound 0.3 CPU s, measured 0.003."""
    rows = runs_of_truth(count=80, noise=0.01)
    law = fit(CHINCHILLA, rows)
    (best,) = law.optima
    near = tuple(
        LocalOptimum(
            objective=best.objective * 1.01,
            values=tuple(v * (1 + 1e-3 * k) for v in best.values),
            starts=1,
        )
        for k in range(4)
    )
    laws = [law, replace(law, optima=(best, *near)), fit(form_named("kaplan"), rows)]
    rng = np.random.default_rng(0)
    asked = {"N": np.exp(rng.uniform(16, 23, 2700)), "D": np.exp(rng.uniform(20, 26, 2700))}
    before = time.process_time()
    together = mixture(laws, rows)
    together.predict(asked)
    together.features(asked)
    assert time.process_time() - before < 0.3


def test_the_truth_lies_inside_the_parameters_spread(runs):
    law = fit(CHINCHILLA, runs)
    (mode,) = modes_of(law, runs)
    spread = np.sqrt(np.diag(mode.root @ mode.root.T))
    for name, k in (("E", 0), ("alpha", 3), ("beta", 4)):
        assert abs(law.parameters[name] - TRUTH[name]) < 3 * spread[k]
