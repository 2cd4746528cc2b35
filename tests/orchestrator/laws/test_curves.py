"""The law of curves: it finds the truth, lets odd trials go, and says how sure it is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws.curves import (
    USUAL,
    CurveLaw,
    CurveOptions,
    CurvePriors,
    fit_curves,
    prior_law,
)
from orchestrator.laws.errors import FitError
from orchestrator.laws.exponents import PUBLISHED
from orchestrator.laws.runs import CurveRows
from tests.orchestrator.laws.sweeps import curves_of_truth, true_loss

N_ASKED, D_ASKED = 4e9, 1e11


@pytest.fixture(scope="module")
def curves() -> list[CurveRows]:
    return curves_of_truth(trial_sd=0.004, row_sd=0.002)


def _shifted(curve: CurveRows, by: float) -> CurveRows:
    return CurveRows(
        N=curve.N, tokens=curve.tokens, flops=curve.flops, loss=curve.loss * np.exp(by)
    )


def test_truth_beyond_the_rows(curves):
    law = fit_curves(curves)
    truth = float(true_loss(N_ASKED, D_ASKED))
    assert float(law.predict(N_ASKED, D_ASKED)) == pytest.approx(truth, abs=0.02)
    error = abs(float(law.predict(N_ASKED, D_ASKED)) - truth)
    assert error < 3 * float(law.sd(N_ASKED, D_ASKED))


def test_trials_gone_wrong_are_let_go(curves):
    truth = float(true_loss(N_ASKED, D_ASKED))
    broken = list(curves)
    for place in (3, 20, 22):
        broken[place] = _shifted(curves[place], 0.06)
    law = fit_curves(broken)
    assert float(law.predict(N_ASKED, D_ASKED)) == pytest.approx(truth, abs=0.035)
    assert law.trials == tuple(range(len(curves))) and law.offsets[20] > 0.04


def test_priors_hardly_move_what_the_rows_fix(curves):
    usual = USUAL.priors
    asked = [
        float(fit_curves(curves, options=CurveOptions(priors=priors)).predict(2e9, 5e10))
        for priors in (usual, usual.widened(2.0), replace(usual, floor=0.4))
    ]
    assert max(asked) - min(asked) < 0.01


def test_prior_alone_knows_no_rows(curves):
    truth = float(true_loss(N_ASKED, D_ASKED))
    alone = prior_law(curves)
    assert abs(float(alone.predict(N_ASKED, D_ASKED)) - truth) > 0.1
    assert float(alone.sd(N_ASKED, D_ASKED)) > 0.5


def test_one_point_each_is_enough():
    ends = [
        CurveRows(N=c.N, tokens=c.tokens[-1:], flops=c.flops[-1:], loss=c.loss[-1:])
        for c in curves_of_truth(trial_sd=0.003)
    ]
    said = float(fit_curves(ends).predict(2e9, 5e10))
    assert said == pytest.approx(float(true_loss(2e9, 5e10)), abs=0.05)


def test_doubt_grows_away_from_the_rows(curves):
    law = fit_curves(curves)
    near, far, further = law.sd([1e9, 1e10, 1e11], [3e10, 3e11, 3e12])
    assert near < far < further
    assert float(law.sd(1e9, 3e10, single=True)) > float(near)


def test_samples_are_joint_and_match_mean_and_sd(curves):
    law = fit_curves(curves)
    N, D = np.array([3e9, 3.1e9]), np.array([6e10, 6e10])
    drawn = law.samples(N, D, draws=4000, seed=1)
    assert drawn.shape == (4000, 2)
    assert drawn.mean(axis=0) == pytest.approx(law.predict(N, D), abs=0.01)
    assert drawn.std(axis=0) == pytest.approx(law.sd(N, D), rel=0.2)
    assert np.corrcoef(drawn.T)[0, 1] > 0.99
    assert (law.samples(N, D, draws=3, seed=1) == law.samples(N, D, draws=3, seed=1)).all()


def test_the_printed_parameters_are_the_law_in_the_middle_of_its_rows(curves):
    law = fit_curves(curves)
    N, D = np.exp(law.centre)
    at = law.parameters
    terms = at["A"] / N ** at["alpha"], at["B"] * N ** at["gamma"] / D ** at["beta"]
    assert at["E"] + sum(terms) == pytest.approx(float(law.predict(N, D)), rel=1e-9)


def test_json_and_back(curves):
    law = fit_curves(curves)
    again = CurveLaw.from_json(json.loads(json.dumps(law.to_json())))
    assert (again.predict(N_ASKED, D_ASKED), again.sd(N_ASKED, D_ASKED)) == (
        law.predict(N_ASKED, D_ASKED),
        law.sd(N_ASKED, D_ASKED),
    )
    assert (again.trials, again.doubts, again.ranges) == (law.trials, law.doubts, law.ranges)
    with pytest.raises(ValueError, match="schema 7"):
        CurveLaw.from_json({"schema": 7})


def test_warm_start_says_the_same(curves):
    cold = fit_curves(curves)
    warm = fit_curves(curves, warm=fit_curves(curves[:-4]))
    assert float(warm.predict(N_ASKED, D_ASKED)) == pytest.approx(
        float(cold.predict(N_ASKED, D_ASKED)), abs=2e-3
    )


def test_no_law_of_two_sizes(curves):
    with pytest.raises(FitError, match="2 different sizes"):
        fit_curves(curves[:6])


def test_tokens_that_do_not_differ_are_told():
    same = [
        CurveRows(N=c.N, tokens=c.tokens[-1:], flops=c.flops[-1:], loss=c.loss[-1:])
        for c in curves_of_truth(per_size=1)
    ]
    assert any("beta" in doubt for doubt in fit_curves(same).doubts)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan")])
def test_priors_have_widths(wrong):
    with pytest.raises(ValueError, match="alpha_sd"):
        CurvePriors(alpha_sd=wrong)


def test_published_exponents_replace_those_of_the_priors_and_nothing_else():
    moved = USUAL.priors.about(PUBLISHED)
    assert (moved.gamma, moved.gamma_sd) == (PUBLISHED.gamma, PUBLISHED.gamma_sd)
    assert (moved.alpha, moved.beta_sd) == (PUBLISHED.alpha, PUBLISHED.beta_sd)
    assert (moved.floor, moved.term_sd) == (USUAL.priors.floor, USUAL.priors.term_sd)
    alone = prior_law(curves_of_truth(per_size=1), options=replace(USUAL, priors=moved))
    assert alone.parameters["gamma"] == pytest.approx(PUBLISHED.gamma)
