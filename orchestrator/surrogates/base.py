"""What a surrogate is: a model of the rest of a learning curve, fitted to the prefixes at hand.

Touches nothing. Everything is in log loss (of nats per token): curves of different sizes then
have errors of one scale, and an interval never reaches below zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from orchestrator.values import Candidate, Curve, FloatArray, Forecast, IntArray

Observed: TypeAlias = Sequence[tuple[Candidate, Curve]]
Joint: TypeAlias = tuple[FloatArray, FloatArray]


class NoForecast(ValueError):
    """The prefixes cannot carry the surrogate, or it has nothing to say of a candidate; the
    message names what is missing. Whoever asked falls back to what was measured."""


class Forecaster(Protocol):
    """A surrogate that was fitted to prefixes."""

    def forecasts(self, candidate: Candidate) -> bool:
        """Whether it has an answer for this candidate, which may never have started."""
        ...

    def predict(
        self, candidates: Sequence[Candidate], tokens: IntArray, *, draws: int = 0
    ) -> Forecast:
        """Log loss of the curve of `candidates[q]` after `tokens[q]` tokens, for every query q.

        tokens: (queries,). The spread is of the curve itself, evaluation noise left out. With
        `draws` the forecast has samples (draws, queries), joint over the queries and the same for
        the same call. Raises NoForecast where `forecasts` says no.
        """
        ...


class JointForecaster(Forecaster, Protocol):
    """A forecaster whose belief is one normal distribution, exactly: for designs, which would
    drown in the noise of samples."""

    def joint(self, candidates: Sequence[Candidate], tokens: IntArray) -> Joint:
        """Mean (queries,) and covariance (queries, queries) of what `predict` speaks of."""
        ...


class Surrogate(Protocol):
    """A model of learning curves. A value: fitting changes nothing in it."""

    @property
    def name(self) -> str: ...

    def fit(self, observed: Observed, *, seed: int) -> Forecaster:
        """The forecaster for these prefixes: (candidate, curve) of every trial that has points,
        stopped ones included. The same input gives the same forecaster. Raises NoForecast where
        the prefixes are too few."""
        ...


class JointSurrogate(Protocol):
    """A surrogate whose forecasters know their joint covariance."""

    @property
    def name(self) -> str: ...

    def fit(self, observed: Observed, *, seed: int) -> JointForecaster:
        """As for `Surrogate`."""
        ...
