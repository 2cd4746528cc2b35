"""Curves of candidates that never started: a hierarchical GP whose outputs lie in a latent space.

Touches memory only. After Schram et al. (arXiv 2510.16743), who use the latent-variable
hierarchical multi-output GP of Ma et al. (2023): a function common to all curves, and deviations
from it that are alike where the latent places h of two curves are close,

    cov(y_i(x), y_j(x')) = g(x, x') + exp(-|h_i - h_j|^2 / 2) l(x, x') + [i = j] o(x, x')

with Matern 3/2 over x, the standardised log of tokens, and Q = 2 latent dimensions. Three choices
differ. A place is a linear map of the configuration (log N, settings), learnt with the rest,
instead of a free variable per level of a two-level grid: any candidate then has one. Beside the
Matern kernels stand a level and a slope in x, because ends lie beyond what was seen. And the GP is
exact: at most 240 rows need no inducing points. Every random number comes from a generator of its
own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gpytorch
import numpy as np
import torch

from orchestrator.surrogates.base import Forecaster, Observed
from orchestrator.surrogates.configuration import Encoding
from orchestrator.surrogates.exact_gp import (
    NOISE_FLOOR,
    ExactModel,
    Start,
    forecast,
    rows_for,
    searched,
)
from orchestrator.surrogates.prefixes import Rows
from orchestrator.threads import one_thread
from orchestrator.values import Candidate, FloatArray, Forecast, IntArray

LATENT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentGP:
    """The surrogate. Forecasts every candidate, started or not.

    most_rows of all curves together, starts of the search for kernel parameters, and iterations
    of each: what the fit may cost.
    """

    name: str = "latent_gp"
    most_rows: int = 240
    starts: int = 2
    iterations: int = 30

    @one_thread
    def fit(self, observed: Observed, *, seed: int) -> Forecaster:
        """Raises NoForecast where there are fewer than four points, or no start of the search
        stays positive definite."""
        rows = rows_for(self.name, observed, self.most_rows)
        scale = _Scale.of(rows)
        inputs = scale.inputs(rows.candidates, rows.trial, rows.log_tokens)
        targets = torch.from_numpy((rows.log_loss - scale.centre) / scale.spread)
        generator = torch.Generator().manual_seed(seed)
        kernels = [_Places(inputs.shape[1] - 2, generator) for _ in range(self.starts)]
        starts = [_start(inputs, targets, kernel) for kernel in kernels]
        model = searched(self.name, starts, self.iterations)
        return _Fitted(model=model, scale=scale, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """How log tokens, log loss and configurations are standardised. order: trials by name."""

    encoding: Encoding
    order: dict[str, int]
    tokens: tuple[float, float]
    features: tuple[FloatArray, FloatArray]
    centre: float
    spread: float

    @classmethod
    def of(cls, rows: Rows) -> _Scale:
        encoding = Encoding.of(rows.candidates)
        table = _features(encoding, rows.candidates)
        width = table.std(axis=0)
        return cls(
            encoding=encoding,
            order={candidate.id: place for place, candidate in enumerate(rows.candidates)},
            tokens=(float(rows.log_tokens.mean()), max(float(rows.log_tokens.std()), 0.3)),
            features=(table.mean(axis=0), np.where(width > 1e-6, width, 1.0)),
            centre=float(rows.log_loss.mean()),
            spread=max(float(rows.log_loss.std()), 1e-3),
        )

    def inputs(
        self, candidates: Sequence[Candidate], trial: IntArray, log_tokens: FloatArray
    ) -> torch.Tensor:
        """(rows, 2 + features): scaled log tokens, the number of the trial (those never seen are
        numbered on), and the configuration."""
        order = dict(self.order)
        number = np.array([float(order.setdefault(c.id, len(order))) for c in candidates])
        x = (log_tokens - self.tokens[0]) / self.tokens[1]
        table = (_features(self.encoding, candidates) - self.features[0]) / self.features[1]
        return torch.from_numpy(np.column_stack([x, number[trial], table[trial]]))


def _features(encoding: Encoding, candidates: Sequence[Candidate]) -> FloatArray:
    return np.hstack([encoding.columns(candidates), encoding.flags(candidates)])


class _Places(gpytorch.kernels.Kernel):
    """The hierarchical kernel over (scaled log tokens, number of the trial, configuration).

    sizes (3, 3): logs of the variances of level, slope and Matern part, for what all curves
    share, what alike curves share, and what is a curve's own. scales (3,): logs of the Matern
    lengths of the same.
    """

    has_lengthscale = False

    def __init__(self, features: int, generator: torch.Generator) -> None:
        super().__init__()
        noise = torch.randn(features, LATENT, generator=generator, dtype=torch.float64)
        self.map = torch.nn.Parameter(0.5 * noise / features**0.5)
        self.sizes = torch.nn.Parameter(_usual_sizes())
        self.scales = torch.nn.Parameter(torch.full((3,), 0.5, dtype=torch.float64))

    def forward(
        self,
        x1: torch.Tensor,
        x2: torch.Tensor,
        diag: bool = False,
        last_dim_is_batch: bool = False,
        **params: Any,
    ) -> torch.Tensor:
        left, right = (x1, x2) if diag else (x1[..., :, None, :], x2[..., None, :, :])
        gap = (left[..., 2:] - right[..., 2:]) @ self.map
        alike = torch.exp(-0.5 * (gap**2).sum(dim=-1))
        same = (left[..., 1] == right[..., 1]).to(alike.dtype)
        over = [self._over(left[..., 0], right[..., 0], tier) for tier in range(3)]
        return over[0] + alike * over[1] + same * over[2]

    def _over(self, left: torch.Tensor, right: torch.Tensor, tier: int) -> torch.Tensor:
        level, slope, rest = self.sizes[tier].exp()
        apart = 3.0**0.5 * (left - right).abs() / self.scales[tier].exp()
        return level + slope * left * right + rest * (1.0 + apart) * torch.exp(-apart)

    def penalty(self) -> torch.Tensor:
        """Minus the log of the priors, up to a constant."""
        total = (self.map**2).sum() + ((self.sizes - _usual_sizes()) ** 2).sum() / 4.0
        return 0.5 * (total + ((self.scales - 0.5) ** 2).sum() / 0.25)


def _usual_sizes() -> torch.Tensor:
    rows = [[0.0, 0.0, -3.0], [-1.5, -3.0, -4.0], [-5.0, -6.0, -6.0]]
    return torch.tensor(rows, dtype=torch.float64)


def _start(inputs: torch.Tensor, targets: torch.Tensor, kernel: _Places) -> Start:
    likelihood = gpytorch.likelihoods.GaussianLikelihood(
        noise_constraint=gpytorch.constraints.GreaterThan(NOISE_FLOOR)
    ).double()
    likelihood.noise = torch.tensor(10 * NOISE_FLOOR, dtype=torch.float64)
    model = ExactModel(inputs, targets, likelihood, kernel)
    return Start(model=model, penalty=kernel.penalty)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """The latent GP after a fit."""

    model: ExactModel
    scale: _Scale
    seed: int

    def forecasts(self, candidate: Candidate) -> bool:
        return True

    @one_thread
    def predict(
        self, candidates: Sequence[Candidate], tokens: IntArray, *, draws: int = 0
    ) -> Forecast:
        log_tokens = np.log(tokens.astype(np.float64))
        inputs = self.scale.inputs(candidates, np.arange(len(candidates)), log_tokens)
        return forecast(
            self.model,
            inputs,
            centre=self.scale.centre,
            spread=self.scale.spread,
            draws=draws,
            seed=self.seed,
        )
