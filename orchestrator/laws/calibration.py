"""Whether a law is as sure as it should be: fitted without the largest trials, asked for them.

Touches nothing. A law's spread (`laplace`, `uncertainty`) supposes that its form is true. So the
law is fitted again without the largest trials, twice, and its errors at their rows are set against
what it then says of itself. With errors e at the held-out rows, F F' the law's own covariance
there and V = F F' + noise (of a row, and of a trial where rows share one), under a true form

    sum(e^2) / trace(V)  is about F distributed with (nu, df),  nu = trace(V)^2 / trace(V^2)

(Satterthwaite 1946, Biometrics Bulletin 2:110; df: of the law's spread), for errors at many rows
that one wrong slope makes are one error, not many. Where that passes the level of the test the
interval is said to fail, and the law's sd is multiplied by the root of

    (sum(e^2) - trace(noise)) / trace(F F'),

the larger of the two. It is a factor, not a constant, because errors of a wrong form grow with the
distance from the rows much as the law's own spread does (on public forms fitted to each other's
sweeps their ratio moves little from 1 to 10 times beyond the rows). Targets take no part in any
of this. Several forms are averaged with weights of one over their squared error at the largest
trials held out, each with its own factor, and what they disagree about is added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtri, fdtri

from orchestrator.laws.averaging import Average, averaged, larger_rows
from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit, fit_again
from orchestrator.laws.forms import LawForm
from orchestrator.laws.law import LawFit, Objective
from orchestrator.laws.mixture import Mixture, mixture
from orchestrator.laws.runs import Array, Runs
from orchestrator.laws.uncertainty import LawPosterior

CUTS = (0.2, 0.35)
"""Shares of the trials, the largest, that are held out; errors at the first weigh averages."""
_LEVEL = 0.9  # of the test
_STARTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A law without the largest `share` of the trials, asked for the `rows` rows of those.

    error: root mean square, of log loss (of loss, for a law fitted to it), weighted. expected:
    what it would be under a true form. factor: what the law's sd falls short by, at least 1;
    fails: whether errors like these are too rare under a true form to be chance.
    """

    share: float
    rows: int
    error: float
    expected: float
    factor: float
    fails: bool

    @classmethod
    def of(
        cls,
        *,
        share: float,
        rows: int,
        total: float,
        expected: float,
        of_law: float,
        squared: float,
        degrees: float,
        believed: float = 0.0,
    ) -> Check:
        """By the rule above. total: mean squared error; expected: trace(V), of which `of_law` is
        the law's; squared: trace(V^2); degrees: df, infinite where the spread is taken as known.
        believed: how many errors the law's own word is worth beside the nu that were seen, in the
        square of the factor.
        """
        freedom = expected**2 / squared
        if math.isinf(degrees):
            limit = float(chdtri(freedom, 1.0 - _LEVEL)) / freedom
        else:
            limit = float(fdtri(freedom, degrees, _LEVEL))
        left = (total - (expected - of_law)) / max(of_law, 1e-300)
        return cls(
            share=share,
            rows=rows,
            error=math.sqrt(total),
            expected=math.sqrt(expected),
            factor=max(
                1.0, math.sqrt((believed + freedom * max(left, 0.0)) / (believed + freedom))
            ),
            fails=total / expected > limit,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """All checks of a law. notes: in words, what could not be checked; shares are of `what`."""

    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    what: str = "trials"

    @property
    def factor(self) -> float:
        """By how much the law's sd is multiplied; 1 where nothing fails."""
        return max([1.0, *(check.factor for check in self.checks if check.fails)])

    @property
    def warning(self) -> str | None:
        """What a reader must know of a law that fails; None where nothing does."""
        failing = [check for check in self.checks if check.fails]
        if not failing:
            return None
        worst = max(failing, key=lambda check: check.factor)
        return (
            f"without the largest {worst.share:.0%} of the {self.what} the law errs at them by"
            f" {worst.error:.2g} where {worst.expected:.2g} was to be expected: its intervals are"
            f" widened {self.factor:.3g} times"
        )

    @property
    def error(self) -> float:
        """At the fewest trials held out; infinite where there is no check."""
        return self.checks[0].error if self.checks else math.inf


def sizes_of(runs: Runs) -> Array:
    """What rows are ordered by, (R,): C, else the product of N and D, else the one of them.

    Raises FitError for rows that have none of the three.
    """
    if "C" in runs.features:
        return runs.C
    known = [runs.features[name] for name in ("N", "D") if name in runs.features]
    if not known:
        raise FitError("not checked on larger runs: the rows have no N, D or C to order them by")
    return np.prod(np.stack(known), axis=0)


def calibration_of(law: LawFit, runs: Runs, size: ArrayLike | None = None) -> Calibration:
    """The law's form checked on the largest trials of its own rows, fitted as the law was.

    runs: the rows of the fit; size (R,): what makes a row large, by default `sizes_of`.
    """
    checks: list[Check] = []
    notes: list[str] = []
    try:
        sizes = sizes_of(runs) if size is None else np.asarray(size, dtype=np.float64)
    except FitError as error:
        return Calibration(checks=(), notes=(str(error),))
    for share in CUTS:
        try:
            checks.append(_check(law, runs, sizes, share))
        except FitError as error:
            notes.append(f"not checked without the largest {share:.0%} of the trials: {error}")
            if share == CUTS[0]:
                break  # a law that its first cut does not carry is not carried by the second
    return Calibration(checks=tuple(checks), notes=tuple(notes))


def checked(posterior: LawPosterior, found: Calibration) -> LawPosterior:
    """The draws with intervals widened by what the checks of their law found."""
    return replace(posterior, rescaling=found.factor)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Averaged:
    """Forms fitted to the same rows, as one prediction: `mixture` has intervals, widened where a
    form's own failed. calibrations: of the laws, in the order of `average.laws`."""

    average: Average
    calibrations: tuple[Calibration, ...]
    mixture: Mixture
    notes: tuple[str, ...]


def averaged_forms(
    forms: Sequence[LawForm],
    runs: Runs,
    size: ArrayLike | None = None,
    *,
    objective: Objective = "huber_log",
    offsets_sd: float | None = None,
    seed: int = 0,
    starts: int = 64,
) -> Averaged:
    """Every form fitted, checked on its largest trials and averaged by the error there.

    A form that cannot be fitted or checked is left out, and a note says so. Raises FitError where
    none is left.
    """
    laws: list[LawFit] = []
    found: list[Calibration] = []
    notes: list[str] = []
    for form in forms:
        try:
            law = fit(
                form,
                runs,
                objective=objective,
                offsets_sd=offsets_sd,
                seed=seed,
                starts=starts,
            )
        except FitError as error:
            notes.append(f"{form.name}: {error}")
            continue
        calibration = calibration_of(law, runs, size)
        said = calibration.notes if calibration.warning is None else (calibration.warning,)
        notes += [f"{form.name}: {note}" for note in said]
        if calibration.checks:
            laws.append(law)
            found.append(calibration)
    if not laws:
        raise FitError("no average of laws: " + ("; ".join(notes) or "no form was named"))
    return averaged_laws(laws, found, runs, notes)


def averaged_laws(
    laws: Sequence[LawFit],
    calibrations: Sequence[Calibration],
    runs: Runs,
    notes: Sequence[str] = (),
) -> Averaged:
    """Laws of the same rows that were checked already, averaged by their errors."""
    kept = [k for k, found in enumerate(calibrations) if math.isfinite(found.error)]
    average = averaged([laws[k] for k in kept], [calibrations[k].error for k in kept])
    factors = {id(laws[k]): calibrations[k].factor for k in kept}
    plain = mixture(average.laws, runs, average.weights)
    modes = tuple(replace(m, root=m.root * factors[id(m.law)]) for m in plain.modes)
    return Averaged(
        average=average,
        calibrations=tuple(calibrations[k] for k in kept),
        mixture=Mixture(modes=modes),
        notes=tuple(notes),
    )


def _check(law: LawFit, runs: Runs, sizes: Array, share: float) -> Check:
    labels, place = np.unique(runs.trial, return_inverse=True)
    largest = np.zeros(len(labels))
    np.maximum.at(largest, place, sizes)
    out = larger_rows(largest, share=share)[place]
    rest, held = runs.take(~out), runs.take(out)
    again = fit_again(law, rest, starts=_STARTS)
    one = mixture([again], rest)
    said = one.predict(held.features)
    errors = (np.log(held.loss) if one.in_logs else held.loss) - said.mean
    root = np.sqrt(held.weight / held.weight.sum())
    own = one.features(held.features) * root[:, None]
    # V = G G' + noise^2 of a row, with a column for every trial that scatters as a whole.
    common = own
    if runs.trials < len(runs):
        member = held.trial[:, None] == np.unique(held.trial)
        common = np.concatenate([own, again.scatter * root[:, None] * member], axis=1)
    row = (one.noise * root) ** 2
    expected = float(np.sum(common**2) + np.sum(row))
    squared = np.sum((common.T @ common) ** 2) + np.sum(row * (2 * np.sum(common**2, 1) + row))
    return Check.of(
        share=share,
        rows=len(held),
        total=float(np.sum((errors * root) ** 2)),
        expected=expected,
        of_law=float(np.sum(own**2)),
        squared=float(squared),
        degrees=one.degrees,
    )
