"""What the bought runs say of one law or several, as features for buying more.

Optima are found afresh whenever the rows have grown by half, and followed from there with every
row since: what a decision rests on is a function of the rows alone, in their order, so a resumed
sweep decides as the first would have. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from orchestrator.laws.averaging import larger_rows
from orchestrator.laws.errors import FitError
from orchestrator.laws.forms.base import LawForm
from orchestrator.laws.misfit import SD, misfit_over
from orchestrator.laws.runs import Runs
from orchestrator.laws.scarce import Belief, Scene, believed
from orchestrator.policies.buying import Market
from orchestrator.policies.trust import Remembered
from orchestrator.values import FloatArray

GROWTH = 1.5
"""Optima are looked for afresh when the runs have grown by this factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """One belief a form, and their weights, which sum to 1."""

    beliefs: tuple[Belief, ...]
    weights: tuple[float, ...]

    @property
    def noise(self) -> float:
        """Sd of a row, weighted over forms."""
        terms = zip(self.weights, self.beliefs, strict=True)
        return math.sqrt(math.fsum(weight * belief.noise**2 for weight, belief in terms))

    def predict(self, inputs: Mapping[str, FloatArray]) -> FloatArray:
        """Expected loss (Q,)."""
        said = [belief.predict(inputs) for belief in self.beliefs]
        return np.array(self.weights) @ np.stack(said)

    def features(self, inputs: Mapping[str, FloatArray]) -> FloatArray:
        """(Q, F): products of rows are covariances, between optima and between forms included."""
        if len(self.beliefs) == 1:
            return self.beliefs[0].features(inputs)
        roots = np.sqrt(np.array(self.weights))
        inner = [
            root * belief.features(inputs)
            for root, belief in zip(roots, self.beliefs, strict=True)
        ]
        means = np.stack([belief.weights @ belief.said(inputs) for belief in self.beliefs])
        away = roots[:, None] * (means - np.array(self.weights) @ means)
        return np.concatenate([*inner, away.T], axis=1)


def scene_of(market: Market, misfit: float | None) -> Scene:
    """Where the law is asked: everything that could be run, and the target."""
    together = {
        name: np.concatenate([market.everywhere[name], market.target[name]])
        for name in market.target
    }
    return Scene(
        pool=market.everywhere,
        target=market.target,
        misfit=misfit_over(together, sd=misfit) if misfit else None,
    )


@dataclass(frozen=True, kw_only=True)
class Learner:
    """Fits `forms` to what a market knows. misfit: sd of log loss that no law says, or None."""

    forms: tuple[LawForm, ...]
    misfit: float | None = SD
    seed: int = 0
    _anchors: Remembered[FloatArray | None] = field(
        default_factory=lambda: Remembered[FloatArray | None](), repr=False, compare=False
    )

    def learn(self, market: Market, *, afresh: bool = False) -> Posterior:
        """Raises FitError where no form has a believable optimum, or nothing is known.

        afresh: look for optima among all rows, as for a law that is to be told.
        """
        if market.known is None:
            raise FitError("nothing is known yet")
        scene = scene_of(market, self.misfit)
        found: list[Belief] = []
        reasons: list[str] = []
        for form in self.forms:
            try:
                found.append(self._one(form, market.known, scene, afresh))
            except FitError as error:
                reasons.append(str(error))
        if not found:
            raise FitError("; ".join(reasons))
        weights = [1.0] if len(found) == 1 else self._weights(found, market, scene)
        return Posterior(beliefs=tuple(found), weights=tuple(weights))

    def _one(self, form: LawForm, runs: Runs, scene: Scene, afresh: bool) -> Belief:
        if afresh:
            return believed(form, runs, scene, seed=self.seed)
        labels = list(dict.fromkeys(int(t) for t in runs.trial))
        count = 1.0
        while count * GROWTH <= len(labels):
            count *= GROWTH
        first = set(labels[: math.floor(count)])
        early = runs.take(np.array([int(t) in first for t in runs.trial]))
        key = (
            form.expression,
            early.loss.tobytes(),
            *(c.tobytes() for c in early.features.values()),
        )
        warm = self._anchors.get(key, lambda: _values(form, early, scene, self.seed))
        if warm is None:
            return believed(form, runs, scene, seed=self.seed)
        return believed(form, runs, scene, seed=self.seed, warm=warm, starts=0)

    def _weights(self, found: Sequence[Belief], market: Market, scene: Scene) -> list[float]:
        """One over the squared error at the dearest of the known rows, predicted from the others."""
        known = market.known
        even = [1.0 / len(found)] * len(found)
        if known is None:
            return even
        try:
            larger = larger_rows(market.known_cost)
        except FitError:
            return even
        held, rest = known.take(larger), known.take(~larger)
        errors: list[float] = []
        for belief in found:
            try:
                early = believed(
                    belief.form, rest, scene, seed=self.seed, warm=belief.values, starts=8
                )
                gap = early.predict(held.features) - held.loss
                errors.append(float(np.mean(np.abs(gap))) / belief.unit)
            except FitError:
                errors.append(math.inf)
        least = min(errors)
        if not math.isfinite(least):
            return even
        raw = [(max(least, 1e-4) / max(error, 1e-4)) ** 2 for error in errors]
        return [weight / math.fsum(raw) for weight in raw]


def _values(form: LawForm, runs: Runs, scene: Scene, seed: int) -> FloatArray | None:
    try:
        return believed(form, runs, scene, seed=seed).values
    except FitError:
        return None
