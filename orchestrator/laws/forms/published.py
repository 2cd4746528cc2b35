"""Law forms of the literature, one line each, with their sources. Touches nothing.

Compiled when asked for (`published`), not on import. Inputs: N parameters, D tokens, C FLOPs, and
those that the comments name. Bounds are those of the formula's meaning (a scale is positive, an
exponent moderate), never of some data set.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from orchestrator.laws.forms.line import Known, LineForm, law_of

_SCALE = Known(low=0.0, meaning="scale")
_EXPONENT = Known(low=0.0, high=3.0, meaning="exponent", start=(0.02, 1.2))
_FLOOR = Known(low=0.0, high="loss", meaning="irreducible loss")
_CHINCHILLA = {
    "E": _FLOOR,
    "A": _SCALE,
    "alpha": _EXPONENT,
    "B": _SCALE,
    "beta": _EXPONENT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    name: str
    line: str
    inputs: tuple[str, ...]
    known: dict[str, Known]
    source: str


def _table() -> tuple[_Published, ...]:
    return (
        _Published(
            name="kaplan",
            line="((Nc/N)**(alphaN/alphaD) + Dc/D)**alphaD",
            inputs=("N", "D"),
            known={
                "Nc": Known(low=1.0, high=1e30, meaning="parameters at which the loss is 1"),
                "alphaN": Known(low=0.005, high=1.0, meaning="exponent of N"),
                "Dc": Known(low=1.0, high=1e30, meaning="tokens at which the loss is 1"),
                "alphaD": Known(low=0.005, high=1.0, meaning="exponent of D"),
            },
            source="Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5",
        ),
        # U: tokens at hand, all of which differ; a run of less than an epoch sees D of them. The
        # part of the formula that discounts parameters is left out.
        _Published(
            name="data_constrained",
            line="E + A/N**alpha + B/(min(U, D)*(1 + R*(1 - exp(-(D/min(U, D) - 1)/R))))**beta",
            inputs=("N", "D", "U"),
            known=_CHINCHILLA
            | {"R": Known(low=0.1, high=1000.0, meaning="repetitions after which they fade")},
            source="Muennighoff et al. 2023, arXiv 2305.16264 (the value of repeated data)",
        ),
        _Published(
            name="broken_power",
            line="a + b*C**-c0*(1 + (C/d)**(1/f))**(-c1*f)",
            inputs=("C",),
            known={
                "a": _FLOOR,
                "b": _SCALE,
                "c0": Known(low=0.0, high=2.0, meaning="exponent before the break"),
                "c1": Known(low=-2.0, high=2.0, meaning="what the break adds to the exponent"),
                "d": Known(low=1e10, high=1e30, meaning="compute of the break"),
                "f": Known(low=0.05, high=3.0, meaning="width of the break in log C"),
            },
            source="Caballero et al. 2022, arXiv 2210.14891, eq. 1, one break",
        ),
        # E: experts.
        _Published(
            name="mixture_of_experts",
            line="exp(d + a*log(N) + b*log(E) + c*log(N)*log(E))",
            inputs=("N", "E"),
            known={
                name: Known(low=-50.0, high=50.0, meaning=meaning)
                for name, meaning in (
                    ("d", "level of log loss"),
                    ("a", "slope in log N"),
                    ("b", "slope in log E"),
                    ("c", "interaction"),
                )
            },
            source="Clark et al. 2022, arXiv 2202.01169, bilinear form without saturation",
        ),
        # Nnv, Nv: parameters outside and inside the vocabulary. Losses may be negative.
        _Published(
            name="vocabulary",
            line="A1/Nnv**alpha1 + A2/Nv**alpha2 + B/D**beta - E",
            inputs=("Nnv", "Nv", "D"),
            known={
                "E": Known(meaning="level"),
                "A1": _SCALE,
                "alpha1": _EXPONENT,
                "A2": _SCALE,
                "alpha2": _EXPONENT,
                "B": _SCALE,
                "beta": _EXPONENT,
            },
            source="Tao et al. 2024, arXiv 2407.13623 (parametric fit of the loss)",
        ),
        # lr: peak learning rate. b: batch size.
        _Published(
            name="step_law",
            line=(
                "E + A/N**alpha + B/D**beta"
                " + K*(log(lr) - (u0 + uN*log(N) + uD*log(D)))**2"
                " + M*(log(b) - (v0 + vD*log(D)))**2"
            ),
            inputs=("N", "D", "lr", "b"),
            known=_CHINCHILLA
            | {
                "K": Known(low=0.0, meaning="curvature in log lr"),
                "M": Known(low=0.0, meaning="curvature in log b"),
                "u0": Known(low=-100.0, high=100.0, meaning="level of the best log lr"),
                "uN": Known(low=-3.0, high=3.0, meaning="its exponent of N"),
                "uD": Known(low=-3.0, high=3.0, meaning="its exponent of D"),
                "v0": Known(low=-100.0, high=100.0, meaning="level of the best log b"),
                "vD": Known(low=-3.0, high=3.0, meaning="its exponent of D"),
            },
            source="Li et al. 2025, arXiv 2503.04715: optima as powers; bowls around them ours",
        ),
        _Published(
            name="rate_and_batch",
            line=(
                "A/N**alpha + B/D**beta + p0 + p1*log(lr) + p2*log(b)"
                " + p11*log(lr)**2 + p22*log(b)**2 + p12*log(lr)*log(b)"
            ),
            inputs=("N", "D", "lr", "b"),
            known={n: _CHINCHILLA[n] for n in ("A", "alpha", "B", "beta")}
            | {n: Known(meaning="coefficient") for n in ("p0", "p1", "p2", "p11", "p22", "p12")},
            source="second-order Taylor expansion in log lr and log b",
        ),
        _Published(
            name="farseer",
            line="exp(s*N**q + S) + exp(B*N**b + Q)*D**(-exp(A*N**a + E))",
            inputs=("N", "D"),
            known={
                "s": Known(low=-10.0, high=10.0),
                "q": Known(low=-1.0, high=1.0),
                "S": Known(low=-50.0, high=50.0),
                "B": Known(low=-1000.0, high=1000.0),
                "b": Known(low=-1.0, high=1.0),
                "Q": Known(low=-50.0, high=50.0),
                "A": Known(low=-50.0, high=50.0),
                "a": Known(low=-1.0, high=1.0),
                "E": Known(low=-50.0, high=50.0),
            },
            source="Li et al. 2025, arXiv 2506.10972",
        ),
        # S: share of weights that are zero. N: those that are not.
        _Published(
            name="sparsity",
            line="(aS*(1 - S)**bS + cS)*N**-bN + (aD/D)**bD + c",
            inputs=("S", "N", "D"),
            known={
                "aS": _SCALE,
                "bS": _EXPONENT,
                "cS": _SCALE,
                "bN": _EXPONENT,
                "aD": Known(low=1.0, high=1e20, meaning="scale in D"),
                "bD": Known(low=0.01, high=3.0, meaning="exponent", start=(0.02, 1.2)),
                "c": _FLOOR,
            },
            source="Frantar et al. 2023, arXiv 2309.08520, eq. 1",
        ),
        # S: parallel streams.
        _Published(
            name="parallel",
            line="(A/(N*(k*log(S) + 1)))**alpha + E",
            inputs=("N", "S"),
            known={
                "A": Known(low=1.0, high=1e20, meaning="scale in N"),
                "k": Known(low=0.0, high=10.0, meaning="worth of a stream"),
                "alpha": Known(low=0.01, high=3.0, meaning="exponent", start=(0.02, 1.2)),
                "E": _FLOOR,
            },
            source="Chen et al. 2025, arXiv 2505.10475, eq. 5",
        ),
        # r1, r2, r3: shares of domains in the data. The loss is that of one domain.
        _Published(
            name="domain_mixture",
            line="c + k*exp(t1*r1 + t2*r2 + t3*r3)",
            inputs=("r1", "r2", "r3"),
            known={
                "c": _FLOOR,
                "k": _SCALE,
                **{f"t{i}": Known(low=-50.0, high=50.0) for i in (1, 2, 3)},
            },
            source="Ye et al. 2024, arXiv 2403.16952 (exponential in the mixture; three domains)",
        ),
    )


def published_names() -> tuple[str, ...]:
    """Names of the forms here."""
    return tuple(form.name for form in _table())


@functools.cache
def published(name: str) -> LineForm:
    """The form of this name, compiled once. Raises KeyError for another name."""
    for form in _table():
        if form.name == name:
            return law_of(
                form.line,
                name=form.name,
                parameters=form.known,
                inputs=form.inputs,
                source=form.source,
                levels=(2,) * len(form.inputs),
            )
    raise KeyError(name)
