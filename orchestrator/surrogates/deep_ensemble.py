"""Small networks that emit the coefficients of a curve family from a configuration.

Touches memory only. The surrogate "DE" of Schram et al. (arXiv 2605.17234): five networks of two
hidden layers, a thousand steps each from different starts; after Deep Power Laws (Kadra et al.
2023, arXiv 2302.00441). What the paper leaves open is chosen here: inputs are log N, FLOPs per
token by N, horizon and the settings, all standardised; 32 units a layer, tanh; Adam on the Huber
loss of log loss, late points weighing more; coefficients start at the family's priors. A mean is
the ensemble's. The spread is that of its members, and of each trial's own mean residual, which no
configuration explains, and grows with the horizon.

All members train at once as one batch of matrices, in NumPy. Every random number comes from a
generator of its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from orchestrator.surrogates.base import Forecaster, NoForecast, Observed
from orchestrator.surrogates.configuration import Encoding
from orchestrator.surrogates.families import POWER_LAW, Family
from orchestrator.surrogates.gaussian import draw
from orchestrator.surrogates.prefixes import Rows, rows_of
from orchestrator.threads import one_thread
from orchestrator.values import Candidate, FloatArray, Forecast, IntArray

FEWEST_ROWS = 4
UNITS = 32
RATE = 5e-3
KNEE = 0.05  # log loss
DECAY = 1e-4
MOMENTUM, SQUARES = 0.9, 0.999  # Adam's memory of gradients and of their squares
STEP = 1e-5  # of central differences, in a coefficient
OWN = 0.005  # sd of a seen trial's own deviation, log loss, at least; twice that unseen
DOUBT = 0.015  # sd of the family itself an e-fold beyond a trial's last point


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepEnsemble:
    """The surrogate. Forecasts every candidate. steps: of Adam, for all members together. Raises
    ValueError for fewer than two members, which cannot differ."""

    family: Family = POWER_LAW
    members: int = 5
    steps: int = 1000
    most_rows: int = 240

    def __post_init__(self) -> None:
        if self.members < 2:
            raise ValueError(
                f"members is {self.members}; the spread is how far members differ: state 2 or more"
            )

    @property
    def name(self) -> str:
        return f"deep_ensemble_{self.family.name}"

    @one_thread
    def fit(self, observed: Observed, *, seed: int) -> Forecaster:
        """Raises NoForecast where there are fewer than four points, or training diverges."""
        rows = rows_of(observed, most=self.most_rows)
        if len(rows) < FEWEST_ROWS:
            raise NoForecast(
                f"{self.name} needs {FEWEST_ROWS} points in all and there are {len(rows)};"
                " wait for more evaluations"
            )
        scale = _Scale.of(rows)
        layers = _started(self, scale, seed)
        _train(self, layers, scale, rows)
        fitted = _Fitted(ensemble=self, scale=scale, layers=tuple(layers), seed=seed)
        residual = rows.log_loss - fitted.members(rows.candidates, rows.trial, rows.log_tokens)
        if not np.isfinite(residual).all():
            raise NoForecast(f"{self.name} diverged while training on these curves")
        weight = np.bincount(rows.trial, weights=rows.share)
        own = np.bincount(rows.trial, weights=rows.share * residual.mean(axis=0)) / weight
        compute = _log_compute(rows.candidates, rows.trial, rows.log_tokens)
        last = np.full(len(weight), -np.inf)
        np.maximum.at(last, rows.trial, compute)
        by_name = {
            candidate.id: (max(OWN, abs(float(o))), float(x))
            for candidate, o, x in zip(rows.candidates, own, last, strict=True)
        }
        return _Fitted(
            ensemble=self,
            scale=scale,
            layers=fitted.layers,
            seed=seed,
            own=by_name,
            unseen=(max(2 * OWN, 2 * float(np.sqrt((own**2).mean()))), float(compute.min())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """How configurations, log compute and the coefficients are standardised."""

    encoding: Encoding
    centre: FloatArray
    spread: FloatArray
    log_compute: float
    lowest: float

    @classmethod
    def of(cls, rows: Rows) -> _Scale:
        encoding = Encoding.of(rows.candidates)
        table = _features(encoding, rows.candidates)
        spread = table.std(axis=0)
        compute = _log_compute(rows.candidates, rows.trial, rows.log_tokens)
        return cls(
            encoding=encoding,
            centre=table.mean(axis=0),
            spread=np.where(spread > 1e-6, spread, 1.0),
            log_compute=float(compute.mean()),
            lowest=float(rows.log_loss.min()),
        )

    def inputs(self, candidates: Sequence[Candidate]) -> torch.Tensor:
        table = (_features(self.encoding, candidates) - self.centre) / self.spread
        return torch.from_numpy(table)

    def x(
        self, candidates: Sequence[Candidate], trial: IntArray, log_tokens: FloatArray
    ) -> torch.Tensor:
        return torch.from_numpy(_log_compute(candidates, trial, log_tokens) - self.log_compute)


def _features(encoding: Encoding, candidates: Sequence[Candidate]) -> FloatArray:
    return np.hstack([encoding.columns(candidates), encoding.flags(candidates)])


def _log_compute(
    candidates: Sequence[Candidate], trial: IntArray, log_tokens: FloatArray
) -> FloatArray:
    cost = np.log([candidate.flops_per_token for candidate in candidates])
    return cost[trial] + log_tokens


def _started(ensemble: DeepEnsemble, scale: _Scale, seed: int) -> list[torch.Tensor]:
    """Weights and biases of three layers, (members, in, out) and (members, 1, out)."""
    generator = torch.Generator().manual_seed(seed)
    widths = (len(scale.centre), UNITS, UNITS, len(ensemble.family.mean))
    layers: list[torch.Tensor] = []
    for into, out in itertools.pairwise(widths):
        shape = (ensemble.members, into, out)
        weight = torch.randn(shape, generator=generator, dtype=torch.float64) / into**0.5
        layers += [weight, torch.zeros(ensemble.members, 1, out, dtype=torch.float64)]
    layers[-2] *= 0.3
    return layers


def _coefficients(
    ensemble: DeepEnsemble, layers: Sequence[torch.Tensor], scale: _Scale, inputs: torch.Tensor
) -> torch.Tensor:
    """(members, candidates, coefficients)."""
    hidden = inputs.expand(ensemble.members, *inputs.shape)
    hidden = torch.tanh(hidden @ layers[0] + layers[1])
    hidden = torch.tanh(hidden @ layers[2] + layers[3])
    start = torch.from_numpy(ensemble.family.prior_mean(scale.lowest))
    width = torch.tensor(ensemble.family.sd, dtype=torch.float64)
    return start + width * (hidden @ layers[4] + layers[5])


def _curves(
    ensemble: DeepEnsemble, coefficients: torch.Tensor, trial: torch.Tensor, x: torch.Tensor
) -> torch.Tensor:
    """Log loss (members, places)."""
    own = coefficients[:, trial]
    return ensemble.family.shape(torch, own.unbind(dim=-1), x)


def _train(ensemble: DeepEnsemble, layers: list[torch.Tensor], scale: _Scale, rows: Rows) -> None:
    """Adam (Kingma and Ba 2015) with torch's settings, its gradient written out: for matrices so
    small, forty calls of torch a step cost six times the arithmetic."""
    flat, weights = _flattened(layers)
    gradient = np.empty_like(flat)
    slopes = _parts(gradient, weights)
    lesson = _Lesson.of(ensemble, scale, rows)
    first, second = np.zeros_like(flat), np.zeros_like(flat)
    with np.errstate(over="ignore"):  # what overflows is a term that has gone to zero
        for step in range(1, ensemble.steps + 1):
            lesson.gradient(weights, slopes)
            gradient += DECAY * flat
            first += (1 - MOMENTUM) * (gradient - first)
            second += (1 - SQUARES) * (gradient * gradient - second)
            size = np.sqrt(second / (1 - SQUARES**step)) + 1e-8
            rate = RATE * 0.5 * (1 + math.cos(math.pi * (step - 1) / ensemble.steps))
            flat -= rate / (1 - MOMENTUM**step) * first / size
    for layer, weight in zip(layers, weights, strict=True):
        layer.copy_(torch.from_numpy(weight))


def _flattened(layers: Sequence[torch.Tensor]) -> tuple[FloatArray, list[FloatArray]]:
    """All numbers of the layers as one vector, and its parts in their shapes: views of it."""
    arrays = [layer.numpy() for layer in layers]
    flat = np.concatenate([array.ravel() for array in arrays])
    return flat, _parts(flat, arrays)


def _parts(flat: FloatArray, like: Sequence[FloatArray]) -> list[FloatArray]:
    cuts = np.cumsum([array.size for array in like])[:-1]
    parts = np.split(flat, cuts)
    return [part.reshape(array.shape) for part, array in zip(parts, like, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lesson:
    """What the members learn from: configurations (candidates, features), log compute `x`, log
    loss and share of the loss by row (rows,), the rows ordered by trial, each trial's first row in
    `firsts`. `start`, `width`: how coefficients are scaled."""

    family: Family
    inputs: FloatArray
    trial: IntArray
    firsts: IntArray
    x: FloatArray
    target: FloatArray
    share: FloatArray
    start: FloatArray
    width: FloatArray

    @classmethod
    def of(cls, ensemble: DeepEnsemble, scale: _Scale, rows: Rows) -> _Lesson:
        order = np.argsort(rows.trial, kind="stable")
        trial = rows.trial[order]
        x = scale.x(rows.candidates, rows.trial, rows.log_tokens).numpy()
        return cls(
            family=ensemble.family,
            inputs=scale.inputs(rows.candidates).numpy(),
            trial=trial,
            firsts=np.searchsorted(trial, np.arange(len(rows.candidates))),
            x=x[order],
            target=rows.log_loss[order],
            share=rows.share[order] / (rows.share.sum() * KNEE**2),
            start=ensemble.family.prior_mean(scale.lowest),
            width=np.array(ensemble.family.sd),
        )

    def gradient(self, weights: Sequence[FloatArray], slopes: Sequence[FloatArray]) -> None:
        """Write into `slopes` the derivative of the Huber loss of all members by their weights."""
        w1, b1, w2, b2, w3, b3 = weights
        first = np.tanh(self.inputs @ w1 + b1)
        second = np.tanh(first @ w2 + b2)
        back = self._by_coefficient(self.start + self.width * (second @ w3 + b3)) * self.width
        np.matmul(second.transpose(0, 2, 1), back, out=slopes[4])
        back.sum(axis=1, keepdims=True, out=slopes[5])
        back = (back @ w3.transpose(0, 2, 1)) * (1 - second * second)
        np.matmul(first.transpose(0, 2, 1), back, out=slopes[2])
        back.sum(axis=1, keepdims=True, out=slopes[3])
        back = (back @ w2.transpose(0, 2, 1)) * (1 - first * first)
        np.matmul(self.inputs.T, back, out=slopes[0])
        back.sum(axis=1, keepdims=True, out=slopes[1])

    def _by_coefficient(self, coefficients: FloatArray) -> FloatArray:
        """The loss's derivative by the coefficients (members, candidates, count), by central
        differences of the curve: the family's shape is all that is known of it."""
        own, count = coefficients[:, self.trial], coefficients.shape[-1]
        nudges = STEP * np.concatenate([np.eye(count), -np.eye(count), np.zeros((1, count))])
        said = self.family.shape(
            np, [own[..., k] + nudges[:, k, None, None] for k in range(count)], self.x
        )
        off = np.clip(said[-1] - self.target, -KNEE, KNEE) * self.share
        by_row = (said[:count] - said[count:-1]) * (off / (2 * STEP))
        by_trial: FloatArray = np.add.reduceat(by_row, self.firsts, axis=2)
        return np.moveaxis(by_trial, 0, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """The ensemble after training. own: the size of each trial's mean residual, and its last log
    compute; unseen: the same for what never started."""

    ensemble: DeepEnsemble
    scale: _Scale
    layers: tuple[torch.Tensor, ...]
    seed: int
    own: Mapping[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    unseen: tuple[float, float] = (0.0, 0.0)

    def forecasts(self, candidate: Candidate) -> bool:
        return True

    def members(
        self, candidates: Sequence[Candidate], trial: IntArray, log_tokens: FloatArray
    ) -> FloatArray:
        """Log loss that each member expects, (members, places)."""
        with torch.no_grad():
            inputs = self.scale.inputs(candidates)
            coefficients = _coefficients(self.ensemble, self.layers, self.scale, inputs)
            x = self.scale.x(candidates, trial, log_tokens)
            return _curves(self.ensemble, coefficients, torch.from_numpy(trial), x).numpy()

    @one_thread
    def predict(
        self, candidates: Sequence[Candidate], tokens: IntArray, *, draws: int = 0
    ) -> Forecast:
        trial = np.arange(len(candidates))
        log_tokens = np.log(tokens.astype(np.float64))
        said = self.members(candidates, trial, log_tokens)
        mean = said.mean(axis=0)
        apart = (said - mean) / np.sqrt(len(said) - 1)
        own = np.array([self.own.get(c.id, self.unseen) for c in candidates])
        compute = _log_compute(candidates, trial, log_tokens)
        beyond = DOUBT * np.maximum(compute - own[:, 1], 0.0)
        names = np.array([candidate.id for candidate in candidates])
        same = names[:, None] == names[None, :]
        alone = np.outer(own[:, 0], own[:, 0]) + np.outer(beyond, beyond)
        covariance = apart.T @ apart + same * alone
        sd = np.sqrt(np.maximum(covariance.diagonal(), 1e-12))
        samples = draw(mean, covariance, draws, self.seed) if draws else None
        return Forecast(mean=mean, sd=sd, samples=samples)
