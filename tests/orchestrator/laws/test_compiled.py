"""A compiled law: its values and slopes are those of the line, also where the line overflows."""

from __future__ import annotations

import warnings

import mpmath
import numpy as np
import pytest
import sympy

from orchestrator.laws.expression import Magnitude, Maximum, Minimum, Softplus, parse
from orchestrator.laws.forms.line import law_of

LINES = [
    "E + A/N**alpha + B/D**beta",
    "E + A*(N*D**b)**-a",
    "exp(s*N**q + S) + exp(B*N**p + Q)*D**(-exp(A*N**a + E))",
    "E + A*N**-a + B*(D**(-p*q) + (k*N)**(-p*q))**(1/q)",
    "(a*N**p + c)/(1 + d*log(D))",
    "E + softplus(a + b*log(N))*(log(D) - m)**2*(1 + tanh(t)*tanh(log(D) - m))",
    "E + A*max(D/N - 1, 0)**c + B*min(k*D, N)**-a + d*abs(log(N/D))**g",
    "p0 + exp(p1 + p2*log(D) + p3*log(N) + p4*log(N)*log(D)) + p5*sqrt(log(N))",
]


def drawn(names, count, seed=0):
    return np.random.default_rng(seed).uniform(0.1, 0.9, (count, len(names)))


@pytest.mark.parametrize("line", LINES)
def test_values_and_slopes_are_those_of_the_line(line):
    """Against sympy's own derivative in fifty digits."""
    form = law_of(line)
    names = [known.name for known in form.parameters]
    inputs = np.exp(np.random.default_rng(1).uniform(0.1, 3.0, (len(form.inputs), 4)))
    working = drawn(names, 3)
    loss, slopes = form.jacobian(working, form.covariates(inputs, np.zeros(0)))
    assert loss == pytest.approx(form.loss(working, form.covariates(inputs, np.zeros(0))))
    read = parse(line)
    # To sympy's own functions, which it can differentiate and evaluate.
    plain = read.tree.replace(Softplus, lambda x: sympy.log(1 + sympy.exp(x)))
    plain = plain.replace(Maximum, sympy.Max).replace(Minimum, sympy.Min)
    plain = plain.replace(Magnitude, sympy.Abs)
    with mpmath.workdps(50):
        for s in range(3):
            for r in range(4):
                at = {read.symbol(n): v for n, v in zip(names, working[s], strict=True)}
                at |= {read.symbol(n): v for n, v in zip(form.inputs, inputs[:, r], strict=True)}
                assert loss[s, r] == pytest.approx(float(plain.evalf(30, subs=at)), rel=1e-10)
                for k, name in enumerate(names):
                    slope = float(sympy.diff(plain, read.symbol(name)).subs(at).evalf(30))
                    if not np.isnan(slope):  # sympy has no slope of 0**c
                        assert slopes[s, k, r] == pytest.approx(slope, rel=1e-8, abs=1e-12)
                    assert np.isfinite(slopes[s, k, r])


def test_it_is_finite_where_the_line_overflows():
    """D**(-p*q) is 1e-1150 here; the law is the larger of two powers."""
    form = law_of(
        "L + B*(D**(-p*q) + (k*U)**(-p*q))**(1/q)",
        parameters=["L", "B", "p", "q", "k"],
        inputs=["D", "U"],
    )
    at = np.array([[2.0, 5.0, 2.0, 50.0, 3.0]])
    covariates = form.covariates(np.array([[3e11], [1e10]]), np.zeros(0))
    loss, slopes = form.jacobian(at, covariates)
    assert loss[0, 0] == pytest.approx(2.0 + 5.0 * (3e10) ** -2.0, rel=1e-12)
    assert np.isfinite(slopes).all()


def test_zero_to_a_power_is_zero_with_a_slope():
    form = law_of("E + A*max(D/U - 1, 0)**c", parameters=["E", "A", "c"])
    loss, slopes = form.jacobian(
        np.array([[1.0, 2.0, 0.7]]),
        form.covariates(np.array([[1.0, 3.0], [2.0, 1.0]]), np.zeros(0)),
    )
    assert loss[0] == pytest.approx([1.0, 1.0 + 2.0 * 2.0**0.7])
    assert np.isfinite(slopes).all()


def test_wild_values_give_no_warning():
    form = law_of(LINES[2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        covariates = form.covariates(np.full((2, 5), 1e9), np.zeros(0))
        form.jacobian(np.full((3, 9), 50.0), covariates)


@pytest.mark.parametrize(
    ("line", "linear"),
    [
        ("E + A/N**alpha + B/D**beta", "EAB"),
        ("A/N**a*(1 + C/D**g) + E", "A E"),  # A and C enter as a product: one of them
        ("(a*N**p + c)/(1 + d*log(D))", "ac"),
        ("c0 + c1*log(N) + c2*log(N)*log(D)", "c0 c1 c2"),
        ("exp(c0 + c1*log(N))", ""),
        ("E + C0*exp(k*log(N))*(log(D) - m)**2", "E C0"),
    ],
)
def test_parameters_that_enter_linearly_are_found(line, linear):
    found = [known.name for known in law_of(line).parameters if known.linear]
    expected = linear.split() if " " in linear else list(linear)
    assert found == expected


def test_scales_inside_an_exponential_are_found():
    form = law_of("E + exp(a + b*log(N)) + exp(c + d*log(D))")
    assert [known.name for known in form.parameters if known.exponential] == ["a", "c"]


def test_covariates_may_differ_by_start():
    form = law_of(LINES[0])
    inputs = np.exp(np.random.default_rng(0).uniform(10, 20, (2, 3, 4)))
    working = drawn(form.parameters, 3)
    together = form.loss(working, form.covariates(inputs, np.zeros(0)))
    for s in range(3):
        alone = form.loss(working[s : s + 1], form.covariates(inputs[:, s], np.zeros(0)))
        assert together[s] == pytest.approx(alone[0])
