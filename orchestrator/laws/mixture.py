"""What a fit does not know, as a mixture of normal distributions: one at every optimum of weight.

Touches nothing. Plain values, made to be asked at thousands of inputs at once: the mean and the
variance of the log loss there, apart by where they come from (within an optimum, between optima
of one form, between forms), and features whose Gram matrix is the covariance of the mixture.

At an optimum the working values are normal about it (`laplace`). Optima weigh as the likelihood
of an unknown scale does, objective^(-df/2), tempered where rows of a trial move together (Pauli,
Racugno and Ventura 2011, Statistica Sinica 21:149); forms by their error at rows larger than
those of their fit (`averaging`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit

from orchestrator.laws.errors import FitError
from orchestrator.laws.laplace import Normal, normal_about
from orchestrator.laws.law import LawFit, LocalOptimum
from orchestrator.laws.levenberg import minimise
from orchestrator.laws.posing import posed_again
from orchestrator.laws.runs import Array, Runs

_LEAST_WEIGHT = 1e-3  # of an optimum within its form: below it nothing changes
_MOST_OPTIMA = 8
_POLISH = 20  # steps from the optima as published to the optima themselves


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mode:
    """One optimum of a law's fit: working values, normal about `values` (P,) with covariance
    root @ root.T, root (P, K).

    noise: sd of a row's residual, in the fit's unit (log loss, or loss). degrees: of freedom of
    the covariance. weight: among all modes of the mixture.
    """

    law: LawFit
    values: Array
    root: Array
    noise: float
    degrees: float
    weight: float

    @property
    def in_logs(self) -> bool:
        return self.law.objective == "huber_log"

    def effects(self, inputs: Mapping[str, ArrayLike]) -> tuple[Array, Array]:
        """Log loss (or loss) at Q inputs, (Q,), and what a unit of each direction of `root` does
        to it, (Q, K). Not a number where the law has no value."""
        form = self.law.form
        columns = [np.asarray(inputs[name], dtype=np.float64) for name in form.inputs]
        asked = np.stack(np.broadcast_arrays(*columns))
        covariates = form.covariates(asked, np.array(self.law.centre))
        loss, partials = form.jacobian(self.values[None, :], covariates)
        effects = partials[0].T @ self.root
        if not self.in_logs:
            return loss[0], effects
        with np.errstate(all="ignore"):
            return np.log(loss[0]), effects / loss[0][:, None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predicted:
    """Of log loss (of loss, for laws fitted to it) at Q inputs, all (Q,): its mean, and its
    variance within optima, between optima of one form, and between forms."""

    mean: Array
    within: Array
    between_optima: Array
    between_forms: Array

    @property
    def variance(self) -> Array:
        return self.within + self.between_optima + self.between_forms


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixture:
    """Modes whose weights sum to 1; those of one law stand together.

    In log loss where the laws were fitted to it, else in loss.
    """

    modes: tuple[Mode, ...]

    def __post_init__(self) -> None:
        total = math.fsum(mode.weight for mode in self.modes)
        if not self.modes or not math.isclose(total, 1.0, rel_tol=1e-6):
            raise ValueError(f"the weights of a mixture sum to 1, not to {total:g}")
        if len({mode.in_logs for mode in self.modes}) > 1:
            raise ValueError("laws of log loss and laws of loss do not mix; fit them alike")

    @property
    def in_logs(self) -> bool:
        """Whether means and variances are of log loss."""
        return self.modes[0].in_logs

    @property
    def noise(self) -> float:
        """Sd of a row's residual about the law, weighted over modes."""
        return math.sqrt(math.fsum(mode.weight * mode.noise**2 for mode in self.modes))

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the variance: the weighted harmonic mean of the modes'."""
        return 1.0 / math.fsum(mode.weight / mode.degrees for mode in self.modes)

    def predict(self, inputs: Mapping[str, ArrayLike]) -> Predicted:
        """Mean and variances at inputs by name, each (Q,) or a number.

        A mode without a value at an input is left out there. Raises FitError where none has one,
        KeyError where an input of a form is missing.
        """
        said, effects, weights = self._asked(inputs)
        within = sum(
            (w * np.sum(of**2, axis=1) for w, of in zip(weights, effects, strict=True)),
            start=np.zeros(said.shape[1]),
        )
        mean = np.sum(weights * said, axis=0)
        optima, forms = np.zeros_like(mean), np.zeros_like(mean)
        for of_form in self._forms():
            share = weights[of_form].sum(axis=0)
            own = np.sum(weights[of_form] * said[of_form], axis=0) / np.where(share > 0, share, 1)
            optima += np.sum(weights[of_form] * (said[of_form] - own) ** 2, axis=0)
            forms += share * (own - mean) ** 2
        return Predicted(mean=mean, within=within, between_optima=optima, between_forms=forms)

    def features(self, inputs: Mapping[str, ArrayLike]) -> Array:
        """(Q, F) whose products F @ F.T are the covariance of the log loss (or loss) between
        inputs: sqrt(w) J L of every mode, and sqrt(w) times its distance from the mean.

        The same F columns for every call, so the rows of two calls may be multiplied.
        """
        said, effects, weights = self._asked(inputs)
        away = np.sqrt(weights) * (said - np.sum(weights * said, axis=0))
        inner = [np.sqrt(w)[:, None] * of for w, of in zip(weights, effects, strict=True)]
        return np.concatenate([*inner, away.T], axis=1)

    def interval(
        self, inputs: Mapping[str, ArrayLike], level: float = 0.9, *, extra: ArrayLike = 0.0
    ) -> tuple[Array, Array]:
        """Low and high of the loss (Q,) of the law, not of a run: the mean and Student's t times
        the root of the variance. extra: a variance (Q,) that is added, such as a discrepancy's.
        """
        found = self.predict(inputs)
        wide = student(level, self.degrees) * np.sqrt(found.variance + np.asarray(extra))
        low, high = found.mean - wide, found.mean + wide
        return (np.exp(low), np.exp(high)) if self.in_logs else (low, high)

    def _forms(self) -> list[slice]:
        cuts = [
            k for k in range(1, len(self.modes)) if self.modes[k].law is not self.modes[k - 1].law
        ]
        ends = [*cuts, len(self.modes)]
        return [slice(first, last) for first, last in zip([0, *cuts], ends, strict=True)]

    def _asked(self, inputs: Mapping[str, ArrayLike]) -> tuple[Array, list[Array], Array]:
        """What every mode says (M, Q), its effects (Q, K), and its weights there (M, Q)."""
        found = [mode.effects(inputs) for mode in self.modes]
        said, effects = np.stack([each for each, _ in found]), [of for _, of in found]
        able = np.isfinite(said) & np.stack([np.isfinite(of).all(axis=1) for of in effects])
        weights = np.where(able, np.array([[mode.weight] for mode in self.modes]), 0.0)
        total = weights.sum(axis=0)
        if not (total > 0).all():
            raise FitError(
                f"no prediction at {int((total <= 0).sum())} of {len(total)} inputs: no law of"
                " the mixture has a value there"
            )
        effects = [np.where(ok[:, None], of, 0.0) for ok, of in zip(able, effects, strict=True)]
        return np.where(able, said, 0.0), effects, weights / total


def student(level: float, degrees: float) -> float:
    """Half-width of a central interval in units of the sd. Raises ValueError for no level."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}; it lies between 0 and 1, such as 0.9")
    tail = 0.5 + 0.5 * level
    return float(ndtri(tail) if math.isinf(degrees) else stdtrit(degrees, tail))


def modes_of(law: LawFit, runs: Runs) -> tuple[Mode, ...]:
    """The optima of a fit that have weight, best first; weights sum to 1.

    runs: the rows that the law was fitted to.
    """
    posed = posed_again(law, runs)
    problem = posed.problem(law.scale)
    centre = np.array(law.centre)
    starts = np.array([law.working])
    told = np.array([optimum.values for optimum in _near(law)])
    if len(told):
        starts = np.concatenate([starts, law.form.absorb(told, centre)])
    starts = starts[np.isfinite(starts).all(axis=1)]
    # Published values are rounded by huge scales: a few steps lead back, and find the offsets.
    solution = minimise(problem, starts, tolerance=1e-9, most_iterations=_POLISH)
    solution.values[0] = np.clip(law.working, problem.lower, problem.upper)
    order = [int(k) for k in np.argsort(solution.objective) if np.isfinite(solution.objective[k])]
    if not order:
        raise FitError(f"no uncertainty of {law.form.name}: none of its optima has an objective")
    found: list[Normal] = [
        normal_about(problem, solution.values[k], solution.offsets[k], runs.trial) for k in order
    ]
    tiny = 1e-26 * float(np.sum(problem.weight))
    excess = np.log((solution.objective[order] + tiny) / (solution.objective[order[0]] + tiny))
    raw = np.exp(-found[0].power * excess)
    kept = [int(k) for k in np.flatnonzero(raw >= _LEAST_WEIGHT)[:_MOST_OPTIMA]]
    return tuple(
        Mode(
            law=law,
            values=solution.values[order[k]],
            root=found[k].root,
            noise=found[k].noise,
            degrees=found[k].degrees,
            weight=float(raw[k] / raw[kept].sum()),
        )
        for k in kept
    )


def _near(law: LawFit) -> Sequence[LocalOptimum]:
    """The optima beside the best that may have weight, judged by the trials alone: by the rows,
    which are more, they have less."""
    power = 0.5 * max(law.trials - len(law.working), 1)
    most = (law.objective_value + 1e-300) * _LEAST_WEIGHT ** (-1.0 / power)
    return [other for other in law.optima[1 : 4 * _MOST_OPTIMA] if other.objective <= most]


def mixture(laws: Sequence[LawFit], runs: Runs, weights: Sequence[float] | None = None) -> Mixture:
    """Laws fitted to the same rows as one mixture. weights: of the laws, such as `averaged`'s;
    equal where left out. Raises ValueError where their number differs or none is above zero."""
    shares = [1.0] * len(laws) if weights is None else [float(weight) for weight in weights]
    if len(shares) != len(laws) or not laws or min(shares) < 0 or not math.fsum(shares) > 0:
        raise ValueError(f"{len(laws)} laws and the weights {shares}: one each, some above zero")
    total = math.fsum(shares)
    modes = [
        replace(mode, weight=mode.weight * share / total)
        for law, share in zip(laws, shares, strict=True)
        if share > 0
        for mode in modes_of(law, runs)
    ]
    return Mixture(modes=tuple(modes))
