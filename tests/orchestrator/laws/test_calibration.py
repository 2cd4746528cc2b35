"""The check on the largest runs: silent on a true form, loud on a wrong one, and of use."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.laws.averaging import larger_rows
from orchestrator.laws.calibration import (
    CUTS,
    Calibration,
    averaged_forms,
    calibration_of,
    checked,
)
from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import CHINCHILLA, form_named
from orchestrator.laws.forms.line import law_of
from orchestrator.laws.law import LawFit, Prior
from orchestrator.laws.runs import Runs, runs_from_curves
from orchestrator.laws.uncertainty import LawPosterior, bootstrap
from tests.orchestrator.laws.sweeps import curves_of_truth, runs_of_truth, true_loss

KAPLAN = form_named("kaplan")
FAR = {"N": np.array([1e9, 3e9, 1e10]), "D": np.array([1e11, 3e11, 1e12])}


def bent_loss(N, D):
    """Root of squares: what no sum of two powers says."""
    return 1.8 + 1.2 * np.hypot(480 / np.asarray(N) ** 0.35, 2085 / np.asarray(D) ** 0.37)


def bent_runs(seed=0, count=60, noise=0.005):
    plain = runs_of_truth(count=count, seed=seed)
    noisy = bent_loss(plain.N, plain.D) * np.exp(
        noise * np.random.default_rng([seed, 1]).normal(size=count)
    )
    return Runs(features=dict(plain.features), loss=noisy)


def test_a_true_form_seldom_fails():
    """Each check fails one time in ten by its level; two of them, at most one time in five."""
    failed = []
    for seed in range(15):
        runs = runs_of_truth(count=40, noise=0.005, seed=seed)
        found = calibration_of(fit(CHINCHILLA, runs, starts=16), runs)
        assert len(found.checks) == len(CUTS)
        failed += [check.fails for check in found.checks]
        assert all(check.factor >= 1.0 for check in found.checks)
    assert np.mean(failed) <= 0.2


def test_a_wrong_form_fails_and_its_widened_interval_holds_the_truth():
    runs = bent_runs()
    law = fit(CHINCHILLA, runs)
    found = calibration_of(law, runs)
    assert found.factor > 3.0
    assert found.warning is not None
    assert f"widened {found.factor:.3g} times" in found.warning
    plain = bootstrap(law, runs)
    wide = checked(plain, found)
    truth = bent_loss(**FAR)
    low, high = plain.interval(FAR["N"], FAR["D"])
    assert not ((low < truth) & (truth < high)).all()
    low, high = wide.interval(FAR["N"], FAR["D"])
    assert ((low < truth) & (truth < high)).all()
    assert LawPosterior.from_json(wide.to_json()) == wide


def test_what_is_asked_for_takes_no_part():
    """The factor is of the rows alone: a check has no argument through which a target could come,
    and rows that are not there change nothing."""
    runs = bent_runs()
    law = fit(CHINCHILLA, runs)
    assert calibration_of(law, runs) == calibration_of(law, runs)
    larger = calibration_of(law, runs, runs.N)
    assert larger.checks[0].error != calibration_of(law, runs).checks[0].error


def test_whole_trials_are_held_out():
    """A curve's early rows would tell of its end: they go with it."""
    runs = runs_from_curves(curves_of_truth(sizes=8, per_size=1))
    found = calibration_of(fit(CHINCHILLA, runs), runs)
    sizes = np.unique(runs.N)
    assert found.checks[0].rows == int(np.isin(runs.N, sizes[-2:]).sum())


def test_a_trials_own_shift_is_no_error_of_the_law():
    failed = 0
    for seed in range(6):
        runs = runs_from_curves(curves_of_truth(trial_sd=0.02, seed=seed, points=15))
        found = calibration_of(fit(CHINCHILLA, runs, starts=16), runs)
        failed += sum(check.fails for check in found.checks)
    assert failed <= 2


def test_rows_that_cannot_be_ordered_or_parted_are_not_checked_and_it_is_said():
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 1.0, 30)
    rows = Runs(loss=2.0 + x + 0.01 * rng.normal(size=30), features={"x": x})
    found = calibration_of(fit(law_of("a + b*x", inputs=["x"]), rows), rows)
    assert found == Calibration(checks=(), notes=found.notes)
    assert "no N, D or C" in found.notes[0]
    assert found.factor == 1.0
    few = runs_of_truth(count=7, noise=0.005)
    found = calibration_of(fit(CHINCHILLA, few), few)
    assert found.checks == ()
    assert "7 parameters" in found.notes[0] or "5 parameters" in found.notes[0]


def test_forms_are_averaged_by_their_error_at_larger_runs():
    runs = runs_of_truth(count=60, noise=0.005)
    found = averaged_forms([CHINCHILLA, KAPLAN], runs, starts=16)
    assert [law.form.name for law in found.average.laws] == ["chinchilla", "kaplan"]
    errors = [each.error for each in found.calibrations]
    assert errors[0] < errors[1]
    ratio = found.average.weights[1] / found.average.weights[0]
    assert ratio == pytest.approx((errors[0] / errors[1]) ** 2)
    said = found.mixture.predict(FAR)
    assert (said.between_forms > 0).all()
    low, high = found.mixture.interval(FAR)
    truth = true_loss(FAR["N"], FAR["D"])
    assert ((low < truth) & (truth < high)).all()


def test_the_average_of_wrong_forms_still_covers():
    """Four sweeps of a truth that neither form can say; scripts/laws_coverage.py has more."""
    truth, hits = bent_loss(**FAR), []
    for seed in range(4):
        found = averaged_forms([CHINCHILLA, KAPLAN], bent_runs(seed), starts=16)
        low, high = found.mixture.interval(FAR)
        hits.append((low < truth) & (truth < high))
    assert np.mean(hits) >= 0.75


def test_no_form_is_no_average():
    runs = runs_of_truth(count=40, noise=0.005)
    with pytest.raises(FitError, match="no form was named"):
        averaged_forms([], runs)
    with pytest.raises(FitError, match="no average of laws: chinchilla: no law yet"):
        averaged_forms([CHINCHILLA], runs.take(np.arange(5)))


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"knee": 0.2},
        {"delta": 0.004},
        {"objective": "squared"},
        {"objective": "huber", "knee": 0.2},
        {"priors": [Prior(parameter="alpha", mean=0.3, sd=0.01)], "knee": 3.0},
    ],
)
def test_what_is_checked_is_fitted_as_the_law_was(stated):
    """The error of the check is that of the law without the largest rows, all options the same."""
    plain = bent_runs(count=40, noise=0.02)
    odd = np.random.default_rng(1).choice([1.0, 1.3], p=[0.8, 0.2], size=len(plain))
    runs = Runs(features=dict(plain.features), loss=plain.loss * odd)
    law = fit(CHINCHILLA, runs, starts=16, **stated)
    (first, _) = calibration_of(law, runs).checks
    out = larger_rows(runs.N * runs.D, share=first.share)
    again = fit(CHINCHILLA, runs.take(~out), starts=16, **stated)
    held = runs.take(out)
    said = again.predict(held.N, held.D)
    logs = again.objective == "huber_log"
    errors = np.log(held.loss / said) if logs else held.loss - said
    assert first.error == pytest.approx(float(np.sqrt(np.mean(errors**2))), rel=2e-3)
    assert LawFit.from_json(law.to_json()) == law


def test_a_law_of_an_earlier_release_has_the_knee_that_its_delta_was():
    law = fit(CHINCHILLA, runs_of_truth(count=20, noise=0.01), starts=8, knee=0.7)
    record = law.to_json()
    del record["knee"]
    assert LawFit.from_json(record).knee == pytest.approx(0.7)
