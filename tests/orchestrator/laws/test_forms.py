"""Every law form: its code says what its printed expression says."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from orchestrator.laws.forms import NAMED, form_named

NAMES = ["E", "A", "B", "N", "D", "C", "alpha", "beta", "gamma"]
SYMBOLS = {name: sympy.Symbol(name, positive=True) for name in NAMES}


def working_values(form, count, seed=0):
    """Values inside the form's box: linear ones of the order of a loss."""
    rng = np.random.default_rng(seed)
    columns = [
        rng.uniform(0.3, 2.0, count) if known.linear else rng.uniform(0.1, 0.8, count)
        for known in form.parameters
    ]
    return np.stack(columns, axis=1)


@pytest.fixture(params=NAMED, ids=lambda form: form.name)
def form(request):
    return request.param


def test_loss_is_the_printed_expression(form):
    expression = sympy.parse_expr(form.expression, local_dict=SYMBOLS)
    names = [known.name for known in form.parameters]
    by_hand = sympy.lambdify([SYMBOLS[n] for n in (*names, *form.inputs)], expression)
    rng = np.random.default_rng(1)
    centre = np.full(len(form.inputs), np.log(1e9))
    inputs = np.exp(rng.uniform(np.log(1e8), np.log(1e10), (len(form.inputs), 7)))
    working = working_values(form, 5)
    published = form.publish(working, centre)
    said = form.loss(working, np.log(inputs) - centre[:, None])
    for start in range(5):
        assert said[start] == pytest.approx(by_hand(*published[start], *inputs), rel=1e-9)


def test_jacobian_is_the_derivative(form):
    """Against central differences in working values, which sympy does not see."""
    logs = np.random.default_rng(2).uniform(-3, 3, (len(form.inputs), 11))
    working = working_values(form, 4)
    loss, partials = form.jacobian(working, logs)
    assert loss == pytest.approx(form.loss(working, logs))
    assert partials.shape == (4, len(form.parameters), 11)
    for k in range(len(form.parameters)):
        step = np.zeros_like(working)
        step[:, k] = 1e-6
        slope = (form.loss(working + step, logs) - form.loss(working - step, logs)) / 2e-6
        assert partials[:, k] == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_linear_parameters_enter_linearly(form):
    """What the fitter relies on: the columns do not move with the linear parameters."""
    logs = np.random.default_rng(3).uniform(-3, 3, (len(form.inputs), 9))
    working = working_values(form, 1)
    linear = [k for k, known in enumerate(form.parameters) if known.linear]
    assert linear, "the shipped forms all have a linear part"
    other = working.copy()
    other[:, linear] *= 3.7
    assert form.jacobian(other, logs)[1][:, linear] == pytest.approx(
        form.jacobian(working, logs)[1][:, linear]
    )


def test_publish_and_absorb_are_inverse(form):
    working = working_values(form, 6)
    centre = np.linspace(18.0, 25.0, len(form.inputs))
    assert form.absorb(form.publish(working, centre), centre) == pytest.approx(working, rel=1e-9)


def test_levels_match_inputs(form):
    assert len(form.levels) == len(form.inputs)
    assert form_named(form.name) is form


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="chinchilla") as caught:
        form_named("gompertz")
    assert "gompertz" in str(caught.value)
