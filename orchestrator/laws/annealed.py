"""The law of annealed loss: that of stable loss, less the gain of annealing.

Touches nothing. Many trials have stable points and few have an annealed end, so the stable law
gives the shape and the cooldowns give the gain (`annealing`):

    L = S(N, D) exp(-gain (N/N0)^gain_N (D/D0)^gain_D)

(far under the smallest pair N and D stand for themselves no more, lest the gain take all there).
No fit meets stable and annealed points as if they were the same: one is of the first, one of the
differences between both. The result is a law in one line with draws, so whatever asks a law
(intervals, the best size, the cheapest compute, JSON) asks this one alike. A draw is one of the
stable law and one of the gain; they are independent, as a pair's difference holds neither the
level nor the offset of its trial. Where the intervals of the stable law are widened, the draws of
the gain are narrowed by as much beforehand, so that the widening gives them back their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.laws.annealing import Gain, fit_gain
from orchestrator.laws.cooldowns import Cooldown, Pairs, paired
from orchestrator.laws.errors import FitError
from orchestrator.laws.forms.line import Known, LineForm
from orchestrator.laws.law import LawFit
from orchestrator.laws.runs import Array, CurveRows
from orchestrator.laws.stable import Base, CurvesBase, StableLaw, line_of
from orchestrator.laws.uncertainty import LawPosterior

PHASES = ("annealed", "stable")
CURVES = CurvesBase()
_LEVEL = 0.9  # at which the gain keeps its own width
_GAIN = "exp(-gain * max(N / {:.5g}, {:.5g})**gain_N * max(D / {:.5g}, {:.5g})**gain_D)"
_BELOW = 4.0  # times under the smallest pair the gain changes no more: else it grows to all of it
_KNOWN = {
    "gain": Known(low=0.0, meaning="gain from annealing, log loss"),
    "gain_N": Known(meaning="exponent of N in the gain"),
    "gain_D": Known(meaning="exponent of D in the gain"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnnealedLaw:
    """A law of annealed loss, and what it is made of."""

    posterior: LawPosterior
    gain: Gain
    pairs: Pairs
    stable: StableLaw

    @property
    def words(self) -> str:
        """What it is, in one line."""
        nats, sd = self.gain.nats
        count = self.gain.pairs
        return (
            f"annealed loss = stable law of {self.stable.trials} trials, less a gain of"
            f" {nats:.3f} +- {sd:.3f} nats learned on {count} cooldowns"
        )

    def counted(self, cooldowns: Sequence[Cooldown]) -> list[Cooldown]:
        """Those of the cooldowns that the gain did not leave out as strays."""
        strays = set(self.gain.strays)
        return [c for c in cooldowns if (c.trial, c.tokens, c.loss) not in strays]


def name_less_gain(name: str) -> str:
    """The name of the law on top of a base of this name."""
    return f"{name}_less_gain" if name.isidentifier() else f"({name}) less gain"


def annealed_law(stable: StableLaw, gain: Gain, pairs: Pairs, *, seed: int = 0) -> AnnealedLaw:
    """Both together. Raises FitError where a parameter of the stable law is named as one of the
    gain."""
    taken = [name for name in _KNOWN if name in stable.known]
    if taken:
        raise FitError(
            f"no law of annealed loss: the parameter {taken[0]!r} of {stable.name} is named as one"
            " of the gain; rename it"
        )
    form = line_of(
        name_less_gain(stable.name),
        f"({stable.expression}) * {_gain_of(gain, pairs)}",
        {**stable.known, **_KNOWN},
        "; ".join(said for said in (stable.source, "the gain: of the sweep's cooldowns") if said),
    )
    known = stable.posterior
    own = gain.own
    drawn = gain.samples(len(stable.draws), seed)
    if known is not None:
        drawn = own + (drawn - own) / known.widened(_LEVEL)
    published = np.concatenate([stable.draws, np.exp(drawn[:, :1]), drawn[:, 1:]], axis=1)
    centre = np.zeros(0)
    middle = np.concatenate([stable.own, np.exp(own[:1]), own[1:]])
    law = LawFit(
        form=form,
        working=_floats(form.absorb(middle[None, :], centre)[0]),
        centre=(),
        objective="huber_log",
        objective_value=0.0,
        delta=None,
        scale=stable.scale,
        rmse=float(np.sqrt(np.mean(_left(form, middle, pairs) ** 2))),
        scatter=math.hypot(stable.scatter, gain.scatter),
        rows=stable.rows + gain.pairs,
        trials=stable.trials,
        ranges=stable.ranges,
        furthest=stable.furthest,
        optima=(),
        warnings=stable.warnings,
        starts=0,
        seed=seed,
        phases=PHASES,
    )
    posterior = LawPosterior(
        law=law,
        draws=tuple(_floats(row) for row in form.absorb(published, centre)),
        asked=len(published),
        failed=0,
        widening=1.0 if known is None else known.widening,
        degrees=None if known is None else known.degrees,
        rescaling=1.0 if known is None else known.rescaling,
        seed=seed,
    )
    return AnnealedLaw(posterior=posterior, gain=gain, pairs=pairs, stable=stable)


def fit_annealed(
    curves: Sequence[CurveRows],
    cooldowns: Sequence[Cooldown],
    *,
    base: Base = CURVES,
    draws: int = 200,
    seed: int = 0,
) -> AnnealedLaw:
    """The annealed law on top of a base's. curves: points of the constant rate alone; a cooldown's
    trial is its trunk's place among them. Raises FitError where either law fails."""
    return on_top_of(base.of(curves, draws=draws, seed=seed), curves, cooldowns, seed=seed)


def on_top_of(
    stable: StableLaw,
    curves: Sequence[CurveRows],
    cooldowns: Sequence[Cooldown],
    *,
    seed: int = 0,
) -> AnnealedLaw:
    """The annealed law on top of a stable one. Raises FitError where there is no law of the
    gain."""
    pairs = paired(curves, cooldowns, stable.law)
    return annealed_law(stable, fit_gain(pairs), pairs, seed=seed)


def widened(law: AnnealedLaw, factor: float) -> AnnealedLaw:
    """The law with its intervals `factor` times as wide (in logarithms)."""
    posterior = law.posterior
    return replace(
        law, posterior=replace(posterior, rescaling=posterior.rescaling * max(factor, 1.0))
    )


def _gain_of(gain: Gain, pairs: Pairs) -> str:
    """The factor of the gain, as a line."""
    n0, d0 = gain.centre
    least_n, least_d = float(pairs.N.min()) / _BELOW, float(pairs.D.min()) / _BELOW
    return _GAIN.format(n0, least_n / n0, d0, least_d / d0)


def _left(form: LineForm, published: Array, pairs: Pairs) -> Array:
    """Log loss of the annealed ends less that of the law."""
    covariates = form.covariates(np.stack([pairs.N, pairs.D]), np.zeros(0))
    said = form.loss(form.absorb(published[None, :], np.zeros(0)), covariates)[0]
    return np.log(pairs.loss) - np.log(said)


def _floats(values: Array) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
