"""Laws written as one line: definitions, boxes, priors, and the published ones on known truth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from orchestrator.laws.averaging import averaged, best_knee, errors_at_larger, larger_rows
from orchestrator.laws.errors import FitError
from orchestrator.laws.expression import ExpressionError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import form_named
from orchestrator.laws.forms.base import Parameter
from orchestrator.laws.forms.line import Known, law_from, law_of
from orchestrator.laws.forms.published import published, published_names
from orchestrator.laws.forms.written import WrittenForm
from orchestrator.laws.law import LawFit, Prior
from orchestrator.laws.runs import Runs
from orchestrator.laws.uncertainty import bootstrap
from tests.orchestrator.laws.sweeps import TRUTH, runs_of_truth

CHINCHILLA = "E + A/N**alpha + B/D**beta"
BOUNDS = {name: Known(low=0.0) for name in TRUTH}

# What is recovered from noise of 0.5 %: values, ranges of the inputs, and names that such rows
# leave loose (their products and sums are what the loss sees).
KNOWN = {
    "kaplan": ({"Nc": 8.8e13, "alphaN": 0.076, "Dc": 5.4e13, "alphaD": 0.095}, {"Nc", "Dc"}),
    "data_constrained": (TRUTH | {"R": 15.0}, {"A", "B", "R"}),
    "broken_power": (
        {"a": 1.5, "b": 60.0, "c0": 0.09, "c1": 0.12, "d": 1e19, "f": 0.3},
        {"a", "b", "d", "f", "c0", "c1"},
    ),
    "mixture_of_experts": ({"d": 2.5, "a": -0.08, "b": -0.15, "c": 0.005}, set()),
    "vocabulary": (
        {
            "E": 5.0,
            "A1": 150.0,
            "alpha1": 0.3,
            "A2": 40.0,
            "alpha2": 0.3,
            "B": 2000.0,
            "beta": 0.36,
        },
        {"E", "A1", "A2", "B", "alpha1", "alpha2", "beta"},
    ),
    "step_law": (
        TRUTH
        | {"K": 0.02, "M": 0.01, "u0": 0.58, "uN": -0.713, "uD": 0.307, "v0": -8.0, "vD": 0.571},
        {"A", "B", "u0", "v0"},
    ),
    "rate_and_batch": (
        {"A": 480.0, "alpha": 0.35, "B": 2085.0, "beta": 0.37, "p0": 4.0, "p1": 0.6, "p2": -0.1}
        | {"p11": 0.05, "p22": 0.02, "p12": -0.01},
        {"A", "B", "p12", "p2"},
    ),
    "farseer": (
        {"s": -0.2, "q": 0.1, "S": 1.5, "B": 40.0, "b": -0.13, "Q": 0.5, "A": -1.3, "a": 0.05}
        | {"E": 2.1},
        {"s", "q", "S", "B", "b", "Q", "A", "a", "E"},
    ),
    "sparsity": (
        {"aS": 20.0, "bS": 0.7, "cS": 60.0, "bN": 0.25, "aD": 1e9, "bD": 0.3, "c": 0.6},
        {"aS", "bS", "cS", "aD"},
    ),
    "parallel": ({"A": 2e8, "k": 0.35, "alpha": 0.2, "E": 1.0}, {"A", "k"}),
    "domain_mixture": ({"c": 1.2, "k": 3.0, "t1": -2.0, "t2": 0.5, "t3": -0.8}, {"c", "k"}),
}
RANGES = {
    "N": (1e7, 3e9), "D": (1e9, 3e11), "C": (1e16, 1e22), "U": (1e8, 1e10), "E": (1, 256),
    "Nnv": (1e7, 3e9), "Nv": (1e6, 1e9), "lr": (1e-4, 1e-2), "b": (3e4, 3e6), "S": (1, 8),
    "r1": (0.05, 0.6), "r2": (0.05, 0.6), "r3": (0.05, 0.6),
}  # fmt: skip


def drawn_runs(form, truth, *, count=400, noise=0.005, seed=0):
    rng = np.random.default_rng(seed)
    ranges = RANGES | ({"S": (0.05, 0.9)} if form.name == "sparsity" else {})
    inputs = np.exp([rng.uniform(*np.log(ranges[name]), count) for name in form.inputs])
    loss = form.loss(
        form.absorb(np.array([[truth[p.name] for p in form.parameters]]), np.zeros(0)),
        form.covariates(inputs, np.zeros(0)),
    )[0]
    features = dict(zip(form.inputs, inputs, strict=True))
    signed = bool((loss <= 0).any())
    seen = loss * (1 + noise * rng.normal(size=count))
    return Runs(features=features, loss=seen, signed=signed), loss


@pytest.mark.parametrize("name", published_names())
def test_published_laws_are_recovered(name):
    """0.5 % noise: the law itself to a fifth of that, and what the rows fix of its parameters."""
    form, (truth, loose) = published(name), KNOWN[name]
    runs, loss = drawn_runs(form, truth)
    law = fit(form, runs, objective="huber" if runs.signed else "huber_log", starts=32)
    said = law.predict(**dict(runs.features))
    assert np.sqrt(np.mean((said - loss) ** 2)) < 0.002 * np.mean(np.abs(loss))
    for parameter, value in truth.items():
        if parameter not in loose:
            assert law.parameters[parameter] == pytest.approx(value, rel=0.1, abs=0.02), parameter


def test_published_laws_are_found_by_name_and_have_a_source():
    for name in published_names():
        form = form_named(name)
        assert form is form_named(name)
        assert len(form.source) > 10


def test_a_line_is_the_law_written_by_hand():
    runs = runs_of_truth(count=60, noise=0.005)
    by_hand = fit(form_named("chinchilla"), runs)
    line = fit(law_of(CHINCHILLA, parameters=BOUNDS), runs)
    assert line.parameters == pytest.approx(by_hand.parameters, rel=1e-4)
    assert line.objective_value == pytest.approx(by_hand.objective_value, rel=1e-6)


def test_a_bootstrap_of_a_line_covers_like_one_by_hand():
    runs = runs_of_truth(count=60, noise=0.005)
    low, high = bootstrap(fit(law_of(CHINCHILLA, parameters=BOUNDS), runs), runs).interval(
        1e9, 1e11
    )
    other = bootstrap(fit(form_named("chinchilla"), runs), runs).interval(1e9, 1e11)
    assert [float(low), float(high)] == pytest.approx([float(x) for x in other], abs=2e-3)


def test_squared_error_of_a_linear_law_is_least_squares():
    rng = np.random.default_rng(0)
    x, y = np.exp(rng.uniform(0, 3, (2, 50)))
    loss = 1.0 - 0.3 * np.log(x) + 0.1 * np.log(x) * np.log(y) + 0.05 * rng.normal(size=50)
    line = "c0 + c1*log(x) + c2*log(x)*log(y)"
    form = law_of(line, parameters=["c0", "c1", "c2"])
    law = fit(form, Runs(features={"x": x, "y": y}, loss=loss, signed=True), objective="squared")
    columns = np.stack([np.ones(50), np.log(x), np.log(x) * np.log(y)], axis=1)
    solved = np.linalg.lstsq(columns, loss, rcond=None)[0]
    assert list(law.parameters.values()) == pytest.approx(list(solved), rel=1e-9)


def test_bounds_hold_and_are_told():
    runs = runs_of_truth(count=60, noise=0.002)
    law = fit(law_of(CHINCHILLA, parameters=BOUNDS | {"alpha": Known(low=0.4, high=2.0)}), runs)
    assert law.parameters["alpha"] == pytest.approx(0.4)
    assert "bound" in {warning.kind for warning in law.warnings}


def test_a_prior_of_the_form_acts_and_one_given_replaces_it():
    runs = runs_of_truth(count=60, noise=0.002)
    firm = law_of(CHINCHILLA, parameters=BOUNDS | {"alpha": Known(low=0.0, prior=(0.6, 1e-5))})
    assert fit(firm, runs).parameters["alpha"] == pytest.approx(0.6, abs=1e-3)
    given = [Prior(parameter="alpha", mean=0.2, sd=1e-5)]
    assert fit(firm, runs, priors=given).parameters["alpha"] == pytest.approx(0.2, abs=1e-3)


def test_a_prior_that_a_scale_cannot_have_is_refused():
    stated = {"S": Known(low=0.0, high=1e9, prior=(0.0, 1.0)), "b": Known(low=0.0, high=2.0)}
    with pytest.raises(ValueError, match=r"prior on S of .* needs a mean above zero"):
        fit(law_of("(S/N)**b", parameters=stated), runs_of_truth())


def test_a_law_of_nothing_is_refused():
    with pytest.raises(ValueError, match="depends on no input"):
        fit(law_of("E"), runs_of_truth())


def test_less_than_an_epoch_counts_as_its_tokens():
    """Of tokens at hand that a run never came to, it learnt nothing."""
    form = published("data_constrained")
    truth = np.array([[{"R": 15.0, **TRUTH}[p.name] for p in form.parameters]])

    def loss(D, U):
        inputs = np.array([[1e9], [D], [U]])
        working = form.absorb(truth, np.zeros(0))
        return float(form.loss(working, form.covariates(inputs, np.zeros(0)))[0, 0])

    plain = TRUTH["E"] + TRUTH["A"] / 1e9 ** TRUTH["alpha"] + TRUTH["B"] / 1e9 ** TRUTH["beta"]
    assert loss(1e9, 1e9) == pytest.approx(plain)
    assert loss(1e9, 5e9) == pytest.approx(plain)
    assert loss(5e9, 1e9) < plain


def test_an_input_may_be_zero():
    S = np.tile([0.0, 0.25, 0.5, 1.0], 10)
    runs = Runs(loss=1.0 + 2.0 * S**0.7, features={"S": S})
    found = fit(law_of("a + b*S**c", inputs=["S"]), runs).parameters
    assert found == pytest.approx({"a": 1.0, "b": 2.0, "c": 0.7}, rel=1e-4)


def test_slopes_that_are_nowhere_finite_are_no_law():
    def function(values, inputs):
        return values[:, [0]] + 0.0 * inputs[:1], np.full(
            (len(values), 1, inputs.shape[1]), np.nan
        )

    form = WrittenForm(
        name="steep",
        expression="a",
        inputs=("N",),
        parameters=(Parameter(name="a", meaning="a", lower=1.0, upper=4.0, linear=False),),
        function=function,
    )
    with pytest.raises(FitError, match="slopes at the rows are not finite"):
        fit(form, runs_of_truth())


def test_definitions_and_laws_go_through_json():
    form = law_from(
        {
            "name": "mine",
            "loss": CHINCHILLA,
            "parameters": {
                "E": {"bounds": [0, "loss"]},
                "alpha": {"bounds": [0, 2]},
                "beta": None,
            },
        }
    )
    assert law_from(json.loads(json.dumps(form.to_json()))) == form
    law = fit(form, runs_of_truth())
    assert LawFit.from_json(json.loads(json.dumps(law.to_json()))) == law


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ({"loss": "E + A/N^2"}, r"written `\*\*`"),
        ({}, "`loss` holds the line"),
        ({"loss": CHINCHILLA, "form": "x"}, "no key 'form'"),
        ({"loss": CHINCHILLA, "parameters": {"gamma": None}}, "no parameter 'gamma'"),
        ({"loss": CHINCHILLA, "inputs": ["N", "S"]}, "no input 'S'"),
        ({"loss": CHINCHILLA, "inputs": ["N"], "parameters": ["E", "N"]}, "as an input"),
        ({"loss": CHINCHILLA, "parameters": {"E": {"bounds": [2, 1]}}}, "hold nothing"),
        ({"loss": CHINCHILLA, "parameters": {"E": {"bounds": 2}}}, "holds two values"),
        ({"loss": CHINCHILLA, "parameters": {"E": {"bound": [0, 1]}}}, "no 'bound'"),
        ({"loss": "N*D", "inputs": ["N", "D"]}, "no parameter"),
        ({"loss": CHINCHILLA, "parameters": ["E", "A", "E"]}, "parameter 'E' is named twice"),
        ({"loss": CHINCHILLA, "inputs": ["N", "D", "N"]}, "input 'N' is named twice"),
        ({"loss": CHINCHILLA, "parameters": {"E": {"start": ["a", 1]}}}, "E: `start` holds num"),
        ({"loss": CHINCHILLA, "parameters": {"E": {"bounds": ["a", 1]}}}, "E: `bounds` holds num"),
        ({"loss": CHINCHILLA, "parameters": {"E": {"prior": [None, 1]}}}, "E: `prior` holds num"),
        ({"loss": CHINCHILLA, "parameters": {"E": {"start": [2, 1]}}}, "two finite values"),
    ],
)
def test_definitions_without_sense_are_refused(definition, said):
    with pytest.raises(ValueError, match=said):
        law_from(definition)


def test_a_line_that_is_no_law_says_where():
    with pytest.raises(ExpressionError, match="character 4"):
        law_of("E +")


def test_losses_below_zero_need_an_objective_without_logarithms():
    runs = Runs(
        features={"N": np.geomspace(1e6, 1e9, 20)}, loss=np.linspace(1, -1, 20), signed=True
    )
    form = law_of("a + b*log(N)")
    with pytest.raises(ValueError, match="'huber' or 'squared'"):
        fit(form, runs)
    assert fit(form, runs, objective="huber").rmse < 1e-9


def test_a_column_that_is_missing_is_named():
    with pytest.raises(ValueError, match="no column 'lr'"):
        fit(law_of("a + b*log(lr)", inputs=["lr"]), runs_of_truth())


def test_a_python_function_with_its_jacobian_is_a_form():
    def saturating(values, inputs):
        a, b = values[:, :1], values[:, 1:]
        power = np.exp(-b * np.log(inputs[0] / 1e8))
        return 1.0 + a * power, np.stack([power, -a * power * np.log(inputs[0] / 1e8)], axis=1)

    form = WrittenForm(
        name="mine",
        expression="1 + a*(N/1e8)**-b",
        inputs=("N",),
        parameters=(
            Parameter(name="a", meaning="scale", lower=0.0, upper=np.inf, linear=True),
            Parameter(name="b", meaning="exponent", lower=0.0, upper=2.0, linear=False),
        ),
        function=saturating,
    )
    N = np.geomspace(1e6, 1e9, 30)
    law = fit(form, Runs(features={"N": N}, loss=1.0 + 0.7 * (N / 1e8) ** -0.3))
    assert law.parameters == pytest.approx({"a": 0.7, "b": 0.3}, rel=1e-6)


# --- laws averaged by their error at larger rows -------------------------------------------------


def test_averages_trust_what_extrapolates():
    runs = runs_of_truth(count=120, noise=0.003)
    good, poor = law_of(CHINCHILLA, parameters=BOUNDS), law_of("a - b*log(N) - c*log(D)")
    errors = [errors_at_larger(form, runs, runs.C, starts=16) for form in (good, poor)]
    means = [float(error.mean()) for error in errors]
    both = averaged([fit(good, runs), fit(poor, runs)], means)
    assert both.weights[0] > 0.8
    assert sum(both.weights) == pytest.approx(1.0)
    assert np.isfinite(both.predict(runs)).all()


def test_larger_rows_are_a_fifth_and_never_all():
    assert larger_rows(np.arange(100)).sum() == 20
    assert list(larger_rows([1.0, 1.0, 1.0, 2.0])) == [False, False, False, True]
    with pytest.raises(FitError, match="one size"):
        larger_rows([3.0, 3.0])


def test_another_knee_must_be_clearly_better():
    usual = np.abs(np.random.default_rng(0).normal(size=200))
    assert (
        best_knee({1.345: [usual], 0.2: [usual + 0.01 * np.resize([1, -1, 1.01], 200)]}) == 1.345
    )
    assert best_knee({1.345: [usual], 0.2: [usual * 0.8]}) == 0.2
    assert best_knee({1.345: [usual], 0.2: [usual + np.inf]}) == 1.345
