"""Ways of telling the annealed loss of a model that was never trained, for `bench_annealing`.

Touches nothing. All see the same: the pool's points at a constant rate and a few cooldowns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from orchestrator.laws.annealed import CURVES, AnnealedLaw, fit_annealed, on_top_of, widened
from orchestrator.laws.annealed_check import check_annealed
from orchestrator.laws.calibration import calibration_of, checked
from orchestrator.laws.cooldowns import Cooldown, paired
from orchestrator.laws.curves import CurveLaw, fit_curves
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import CHINCHILLA
from orchestrator.laws.runs import Array, CurveRows, finished_runs
from orchestrator.laws.stable import Base, FormBase, StableLaw
from orchestrator.laws.uncertainty import bootstrap, interval_of

LEVEL = 0.8
DRAWS = 200
_FORM = FormBase(form=CHINCHILLA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A pool: curves at a constant rate, and cooldowns of some of them."""

    curves: tuple[CurveRows, ...]
    cooldowns: tuple[Cooldown, ...]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Loss at the questions (Q,), and an interval of single runs there; NaN where none."""

    loss: Array
    low: Array
    high: Array


Teller = Callable[[Given, Array, Array], Told]


def corrected(given: Given, N: Array, D: Array) -> Told:
    """The law of curves less the gain, as a report quotes it."""
    return _quoted(CURVES, _stable_of(CURVES, given.curves, given.seed), given, N, D)


def corrected_form(given: Given, N: Array, D: Array) -> Told:
    """Chinchilla's law of the stable points less the gain, as a report quotes it where that is
    stated."""
    return _quoted(_FORM, _stable_of(_FORM, given.curves, given.seed), given, N, D)


def _quoted(base: Base, stable: StableLaw, given: Given, N: Array, D: Array) -> Told:
    """The law on top of this base, widened as its checks say."""

    def build(curves: Sequence[CurveRows], cooldowns: Sequence[Cooldown]) -> AnnealedLaw:
        return fit_annealed(curves, cooldowns, base=base, draws=DRAWS, seed=given.seed)

    law = on_top_of(stable, given.curves, given.cooldowns, seed=given.seed)
    found = check_annealed(build, given.curves, law.counted(given.cooldowns))
    factor = max(found.factor, _own_factor(base, given.curves, given.seed))
    return _asked(widened(law, factor), N, D, given.seed)


@cache
def _stable_of(base: Base, curves: tuple[CurveRows, ...], seed: int) -> StableLaw:
    return base.of(curves, draws=DRAWS, seed=seed)


@cache
def _own_factor(base: Base, curves: tuple[CurveRows, ...], seed: int) -> float:
    return base.calibration(_stable_of(base, curves, seed), curves).factor


@cache
def _curves_of(curves: tuple[CurveRows, ...]) -> CurveLaw:
    return fit_curves(curves)


def annealed_rows(given: Given, N: Array, D: Array) -> Told:
    """A law of the annealed ends alone, Chinchilla's, with its interval. FitError for too few."""
    ends = given.cooldowns
    runs = finished_runs(
        [given.curves[c.trial].N for c in ends], [c.tokens for c in ends], [c.loss for c in ends]
    )
    law = fit(CHINCHILLA, runs, seed=given.seed)
    posterior = checked(
        bootstrap(law, runs, draws=DRAWS, seed=given.seed), calibration_of(law, runs)
    )
    return _spread(
        posterior.predictions(N, D), law.predict(N, D), posterior.widened(LEVEL), law.scatter,
        given.seed,
    )  # fmt: skip


def uncorrected(given: Given, N: Array, D: Array) -> Told:
    """The law of curves, of stable loss."""
    law = _curves_of(given.curves)
    sd = law.sd(N, D, single=True)
    return _normal(law.predict(N, D), sd)


def less_mean(given: Given, N: Array, D: Array) -> Told:
    """The law of curves less the mean gain of the cooldowns, in nats at equal tokens."""
    law = _curves_of(given.curves)
    pairs = paired(given.curves, given.cooldowns, law.predict)
    gains = pairs.level - pairs.loss
    spread = float(np.std(gains, ddof=1)) if len(gains) > 1 else 0.0
    return _normal(law.predict(N, D) - gains.mean(), np.hypot(law.sd(N, D, single=True), spread))


TELLERS: dict[str, Teller] = {
    "corrected": corrected,
    "corrected chinchilla": corrected_form,
    "annealed rows": annealed_rows,
    "stable law": uncorrected,
    "stable less mean": less_mean,
}


def _asked(law: AnnealedLaw, N: Array, D: Array, seed: int) -> Told:
    posterior = law.posterior
    return _spread(
        posterior.predictions(N, D), posterior.law.predict(N, D), posterior.widened(LEVEL),
        posterior.law.scatter, seed,
    )  # fmt: skip


def _spread(drawn: Array, own: Array, widening: float, scatter: float, seed: int) -> Told:
    """Draws widened about the law's own value, each with a single run's scatter about it."""
    rng = np.random.default_rng([seed, 3])
    away = widening * np.log(drawn / own) + scatter * rng.standard_normal(drawn.shape)
    low, high = interval_of(own * np.exp(away), own, LEVEL)
    return Told(loss=own, low=low, high=high)


def _normal(loss: Array, sd: Array) -> Told:
    reach = 1.2815515655446004 * sd
    return Told(loss=loss, low=loss - reach, high=loss + reach)
