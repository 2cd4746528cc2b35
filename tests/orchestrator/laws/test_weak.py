"""Weak priors: what rows cannot tell apart stays small, and what they tell stays as it is."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.laws.fit import fit
from orchestrator.laws.forms.line import Known, law_of
from orchestrator.laws.law import Prior
from orchestrator.laws.runs import finished_runs
from orchestrator.laws.weak import weak_priors
from tests.orchestrator.laws.sweeps import runs_of_truth

LINE = law_of(
    "exp(a + b*log(N) + c*log(D) + d*log(N)*log(D))",
    parameters={"b": Known(low=-9.0, high=9.0), "c": Known(low=-9.0, high=9.0)},
)


def almost_alike(count=40, noise=0.01, seed=0):
    """Rows on which size and tokens grow together, but for a thousandth."""
    rng = np.random.default_rng(seed)
    N = np.geomspace(1e7, 1e9, count)
    D = 20 * N * np.exp(1e-3 * rng.normal(size=count))
    loss = 30 * (N * D) ** -0.05
    return finished_runs(N, D, loss * np.exp(noise * rng.normal(size=count)))


def test_effects_that_cancel_stay_small():
    runs = almost_alike()
    free, held = (fit(LINE, runs, weak_priors=sd) for sd in (None, 1.0))
    apart = {"N": 1e9, "D": 2e9}
    truth = 30 * (1e9 * 2e9) ** -0.05
    assert abs(np.log(free.predict(**apart) / truth)) > 1.0
    assert abs(np.log(held.predict(**apart) / truth)) < 0.5
    assert held.rmse == pytest.approx(free.rmse, rel=0.2)


def test_what_rows_tell_stays():
    runs = runs_of_truth(count=60, noise=0.002)
    free, held = (fit(LINE, runs, weak_priors=sd) for sd in (None, 1.0))
    said = [law.predict(N=runs.N, D=runs.D) for law in (free, held)]
    assert np.abs(np.log(said[1] / said[0])).max() < 0.1 * free.rmse
    assert held.starts == free.starts


def test_only_what_may_be_zero_gets_one_and_a_stated_prior_stays():
    form = law_of(
        "E + A/N**alpha + f*log(D)",
        parameters={"E": Known(low=0.0), "A": Known(low=0.0, high=1e4), "alpha": Known(low=0.0)},
    )
    runs = runs_of_truth(count=40, noise=0.002)
    law = fit(form, runs)
    assert [prior.parameter for prior in weak_priors(law, runs, effect_sd=1.0)] == ["f"]
    stated = Prior(parameter="f", mean=0.01, sd=0.001)
    assert fit(form, runs, priors=[stated], weak_priors=1.0).priors == (stated,)
    (prior,) = weak_priors(law, runs, effect_sd=1.0)
    effect = np.std(prior.sd * np.log(runs.D) / law.predict(N=runs.N, D=runs.D))
    assert effect == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_an_sd_without_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="weak_priors is"):
        fit(LINE, runs_of_truth(count=20), weak_priors=wrong)
