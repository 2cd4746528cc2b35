"""The bootstrap: over trials, honest about failures, and covering at its stated level."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import CHINCHILLA, form_named
from orchestrator.laws.forms.line import Known, law_of
from orchestrator.laws.runs import CurveRows, Runs, runs_from_curves
from orchestrator.laws.uncertainty import LawPosterior, bootstrap, interval_of
from tests.orchestrator.laws.sweeps import TRUTH, curves_of_truth, runs_of_truth, true_loss

QUESTIONS = ([1e9, 3e9, 1e10], [3e10, 9e10, 3e11])


def coverage(repeats, level, **options):
    """Share of repeats whose interval holds the truth: E, alpha, beta, and three predictions."""
    truth = true_loss(*(np.array(q) for q in QUESTIONS))
    hits = []
    for seed in range(repeats):
        runs = runs_from_curves(curves_of_truth(seed=seed))
        law = fit(CHINCHILLA, runs, starts=8, **options)
        posterior = bootstrap(law, runs, seed=seed)
        bounds = posterior.parameter_intervals(level)
        low, high = posterior.interval(*QUESTIONS, level)
        hits.append(
            [bounds[k][0] <= TRUTH[k] <= bounds[k][1] for k in ("E", "alpha", "beta")]
            + list((low <= truth) & (truth <= high))
        )
    return np.mean(hits, axis=0)


def test_intervals_cover_roughly():
    """A small net for gross errors: 20 repeats tell 0.9 from 0.6, not from 0.8."""
    assert (coverage(20, 0.9) >= 0.7).all()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("options", [{}, {"offsets_sd": 0.01}], ids=["plain", "offsets"])
def test_ninety_percent_intervals_cover_between_80_and_97(options):
    """Mean over parameters and predictions; each alone within the noise of 120 repeats."""
    shares = coverage(120, 0.9, **options)
    assert 0.80 <= shares.mean() <= 0.97, shares
    assert (shares >= 0.80).all(), shares


def test_a_level_means_less_and_more():
    runs = runs_from_curves(curves_of_truth())
    posterior = bootstrap(fit(CHINCHILLA, runs), runs)
    narrow, wide = posterior.interval(3e9, 6e10, 0.8), posterior.interval(3e9, 6e10, 0.9)
    assert wide[0] < narrow[0] < posterior.law.predict(3e9, 6e10) < narrow[1] < wide[1]
    with pytest.raises(ValueError, match="level is 90"):
        posterior.interval(3e9, 6e10, 90)


def test_more_points_of_the_same_trials_do_not_make_it_surer():
    """The unit is the trial: four times the points leave the interval as wide."""
    widths = []
    for points in (20, 80):
        curves = curves_of_truth(points=points, trial_sd=0.02, row_sd=0.0, seed=3)
        runs = runs_from_curves(curves)
        low, high = bootstrap(fit(CHINCHILLA, runs), runs).interval(3e9, 6e10, 0.9)
        widths.append(float(high - low))
    assert widths[1] == pytest.approx(widths[0], rel=0.25)


def test_points_of_a_trial_stay_together():
    """A trial whose rows were split into four labels gives a narrower, wrong interval."""
    curves = curves_of_truth(trial_sd=0.02, row_sd=0.0, seed=3)
    split = [
        CurveRows(N=c.N, tokens=c.tokens[k::4], flops=c.flops[k::4], loss=c.loss[k::4])
        for c in curves
        for k in range(4)
    ]
    widths = []
    for rows in (runs_from_curves(curves), runs_from_curves(split)):
        low, high = bootstrap(fit(CHINCHILLA, rows), rows).interval(3e9, 6e10, 0.9)
        widths.append(float(high - low))
    assert widths[1] < 0.7 * widths[0]


def test_draws_are_the_refits():
    """A draw equals the fit to the rows of the trials drawn."""
    runs = runs_of_truth(count=40, noise=0.01)
    law = fit(CHINCHILLA, runs)
    posterior = bootstrap(law, runs, draws=5, seed=9)
    counts = np.random.default_rng(9).multinomial(40, np.full(40, 1 / 40), size=5)
    drawn = runs.take(np.repeat(np.arange(40), counts[2]))
    again = fit(CHINCHILLA, drawn, delta=law.delta)
    assert posterior.predictions(1e9, 1e11)[2] == pytest.approx(again.predict(1e9, 1e11), rel=1e-4)


def test_draws_with_too_few_sizes_fail_and_are_counted():
    curves = curves_of_truth(sizes=3, per_size=1, trial_sd=0.001, points=20)
    curves += curves_of_truth(sizes=3, per_size=1, trial_sd=0.001, points=20, seed=1)
    runs = runs_from_curves(curves)
    posterior = bootstrap(fit(CHINCHILLA, runs), runs, draws=200, seed=0)
    assert 0 < posterior.failed < 100
    assert len(posterior.draws) == 200 - posterior.failed


def test_more_than_half_failed_is_no_uncertainty():
    """Three sizes with one trial each: only 6 of 27 draws keep all three."""
    runs = runs_from_curves(curves_of_truth(sizes=3, per_size=1, points=20))
    law = fit(CHINCHILLA, runs)
    with pytest.raises(FitError, match="of 200 draws failed"):
        bootstrap(law, runs)


def test_two_trials_are_no_sample():
    runs = runs_of_truth(count=40)
    pair = Runs(
        N=runs.N,
        D=runs.D,
        C=runs.C,
        loss=runs.loss,
        trial=np.arange(40) % 2,
        weight=runs.weight,
    )
    with pytest.raises(FitError, match="come from 2 trials"):
        bootstrap(fit(CHINCHILLA, pair), pair)


def test_other_rows_than_those_of_the_fit_are_refused():
    runs = runs_of_truth(count=40)
    law = fit(CHINCHILLA, runs)
    with pytest.raises(ValueError, match="give bootstrap the rows of the fit"):
        bootstrap(law, runs.take(np.arange(39)))


def test_json_round_trip_is_exact():
    runs = runs_from_curves(curves_of_truth(sizes=5, per_size=2))
    posterior = bootstrap(fit(CHINCHILLA, runs), runs, draws=20)
    record = json.loads(json.dumps(posterior.to_json(), allow_nan=False))
    assert LawPosterior.from_json(record) == posterior
    assert set(record["intervals"]) == {"0.8", "0.9"}


def test_widening_is_about_the_laws_own_value():
    draws = np.exp(np.random.default_rng(0).normal(size=4001) * 0.1) * 2.0
    low, high = interval_of(draws, np.float64(2.0), 0.9)
    wide_low, wide_high = interval_of(draws, np.float64(2.0), 0.9, widening=2.0)
    assert np.log(wide_low / 2.0) == pytest.approx(2 * np.log(low / 2.0))
    assert np.log(wide_high / 2.0) == pytest.approx(2 * np.log(high / 2.0))
    below = interval_of(draws - 2.0, np.float64(0.0), 0.9, widening=2.0)
    assert below == pytest.approx((2 * (low - 2.0), 2 * (high - 2.0)))
    at_zero = interval_of(np.zeros(50), np.float64(0.0), 0.9, widening=1.2)
    assert at_zero == (0.0, 0.0)


def test_few_trials_widen_the_interval():
    """T / (T - p) trials, 24 and 5, and Student's t with 19 degrees of freedom: 1.729 at 0.9."""
    runs = runs_from_curves(curves_of_truth())
    posterior = bootstrap(fit(CHINCHILLA, runs), runs, draws=50)
    assert posterior.widening == pytest.approx(np.sqrt(24 / 19))
    assert posterior.widened(0.9) == pytest.approx(np.sqrt(24 / 19) * 1.729 / 1.645, rel=1e-3)
    assert replace(posterior, degrees=None).widened(0.9) == posterior.widening
    bare = interval_of(posterior.samples()["alpha"], np.float64(1.0), 0.9)
    wide = posterior.parameter_intervals(0.9)["alpha"]
    assert wide[1] / wide[0] == pytest.approx((bare[1] / bare[0]) ** posterior.widened(0.9))


def test_two_hundred_draws_are_quick():
    """24 curves of 40 points: bound 10 s on one core, measured 0.02 to 0.1 s."""
    runs = runs_from_curves(curves_of_truth())
    law = fit(CHINCHILLA, runs)
    before = time.process_time()
    bootstrap(law, runs, draws=200)
    assert time.process_time() - before < 5.0


def test_draws_go_to_the_optimum_that_fits_them_better():
    """p and -p do equally well; the law itself tells of one, its draws of both."""
    x, z = np.tile(np.linspace(0.5, 1.5, 20), 2), np.repeat([-0.04, 0.04], 20)
    noise = np.tile(0.1 * np.random.default_rng(0).normal(size=20), 2)
    runs = Runs(loss=x + noise, features={"x": x, "z": z}, signed=True)
    form = law_of("p**2*x + p*z", parameters={"p": Known(low=-3.0, high=3.0)}, inputs=["x", "z"])
    posterior = bootstrap(fit(form, runs, objective="squared"), runs)
    share = np.mean(posterior.samples()["p"] > 0)
    assert 0.3 < share < 0.7


def test_a_flat_valley_is_no_failure():
    """Nine parameters on a hundred rows: the draws creep along a valley, and say much the same."""
    runs = runs_of_truth(count=100, noise=0.005)
    law = fit(form_named("farseer"), runs, starts=16)
    posterior = bootstrap(law, runs, draws=40)
    assert posterior.failed <= 8
    low, high = posterior.interval(5e8, 5e10)
    assert low < law.predict(5e8, 5e10) < high


@pytest.mark.slow
def test_a_thousand_chinchilla_fits_take_less_than_ten_seconds():
    runs = runs_of_truth(count=240, noise=0.01)
    law = fit(CHINCHILLA, runs)
    before = time.process_time()
    assert len(bootstrap(law, runs, draws=1000).draws) > 950
    assert time.process_time() - before < 10.0


def test_a_widened_interval_stays_in_the_parameters_box():
    """Ten times wider, E would be below zero and an exponent beyond what the form allows."""
    runs = runs_from_curves(curves_of_truth())
    posterior = replace(bootstrap(fit(CHINCHILLA, runs), runs, draws=60), rescaling=200.0)
    bounds = posterior.parameter_intervals(0.9)
    for known in CHINCHILLA.parameters:
        if not known.moves:
            low, high = bounds[known.name]
            upper = runs.loss.min() if known.upper is None else known.upper
            assert known.lower <= low < high <= upper + 1e-12, known.name
        else:
            assert 0 <= bounds[known.name][0] < bounds[known.name][1], known.name
    free = interval_of(
        posterior.samples()["E"],
        np.float64(posterior.law.parameters["E"]),
        0.9,
        posterior.widened(0.9),
    )
    assert free[1] > runs.loss.min()  # so that the box is what holds it


def test_a_scale_that_some_draws_do_without_has_no_interval_below_zero():
    """Draws of A at zero have no logarithm, so they were widened as they are."""
    runs = runs_from_curves(curves_of_truth())
    law = fit(CHINCHILLA, runs)
    draw = np.array(law.working)
    draws = [draw * (1.0, 0.2 * (k // 5), 1.0, 1.0, 1.0) for k in range(55)]
    posterior = replace(
        bootstrap(law, runs, draws=20), draws=tuple(map(tuple, draws)), rescaling=3.0
    )
    low, high = posterior.parameter_intervals(0.9)["A"]
    assert low == 0.0 < high


def test_draws_far_from_the_law_do_not_turn_an_interval_round():
    """Widened about a value well below all draws, both ends lay beyond the box, one was cut."""
    runs = runs_from_curves(curves_of_truth())
    posterior = bootstrap(fit(CHINCHILLA, runs), runs, draws=20)
    draws = np.array(posterior.draws)
    draws[:, 3] = np.linspace(1.4, 1.5, len(draws))
    posterior = replace(posterior, draws=tuple(map(tuple, draws)), rescaling=3.0)
    low, high = posterior.parameter_intervals(0.9)["alpha"]
    assert low <= high <= 1.5
