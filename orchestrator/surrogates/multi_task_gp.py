"""All curves as outputs of one Gaussian process: linear model of coregionalisation.

Touches memory only. The surrogate "LMC" of Schram et al. (arXiv 2605.17234): a sum of an
exponential-decay kernel (freeze-thaw, Swersky et al. 2014, arXiv 1406.3896), a bias and white
noise, each with a matrix over the curves,

    cov(y_i(x), y_j(x')) = Bd[i, j] b^a / (x + x' + b)^a + Bb[i, j] + (noise of i where equal)

with B = W W' + diag(kappa), rank 2, x the log of compute scaled to [0, 1] over what was seen, and
y the standardised log loss. Where the paper leaves a detail open or costs too much, this is the
choice made here: at most 240 rows (the paper: 20 a curve), two starts (the paper: 20) of at most
25 L-BFGS iterations, a matrix for white noise that is diagonal, and unit normal priors on W and on
all logarithms, without which two hundred free numbers overfit thirty curves.

Beyond its last point each curve is doubted for itself, in proportion to the distance and more: its
slope walks (an integrated Wiener process of sd BEND, set by hand). Without that the kernel's own
intervals held 0 to 40 % of what they should (80 %) at four times what was seen.

A curve of which no point was seen has no row in B: such a candidate is not forecast.
Every random number comes from a generator of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gpytorch
import numpy as np
import torch

from orchestrator.surrogates.base import Forecaster, NoForecast, Observed
from orchestrator.surrogates.exact_gp import (
    NOISE_FLOOR,
    ExactModel,
    Start,
    forecast,
    rows_for,
    searched,
)
from orchestrator.surrogates.gaussian import integrated_walk
from orchestrator.surrogates.prefixes import Rows
from orchestrator.threads import one_thread
from orchestrator.values import Candidate, FloatArray, Forecast, IntArray

RANK = 2
BEND = 0.01  # log loss an e-fold of tokens beyond the last point


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiTaskGP:
    """The surrogate. Forecasts the curves that it has seen points of.

    most_rows of all curves together, starts of the search for kernel parameters, and iterations
    of each: what the fit may cost.
    """

    name: str = "multi_task_gp"
    most_rows: int = 240
    starts: int = 2
    iterations: int = 25

    @one_thread
    def fit(self, observed: Observed, *, seed: int) -> Forecaster:
        """Raises NoForecast where there are fewer than four points, or no start of the search
        for kernel parameters stays positive definite."""
        rows = rows_for(self.name, observed, self.most_rows)
        scale = _Scale.of(rows)
        inputs = scale.inputs(rows.candidates, rows.trial, rows.log_tokens)
        targets = torch.from_numpy((rows.log_loss - scale.centre) / scale.spread)
        generator = torch.Generator().manual_seed(seed)
        kernels = [_Curves(len(rows.candidates), generator) for _ in range(self.starts)]
        starts = [_start(inputs, targets, kernel) for kernel in kernels]
        model = searched(self.name, starts, self.iterations)
        last = np.full(len(rows.candidates), -np.inf)
        np.maximum.at(last, rows.trial, rows.log_tokens)
        return _Fitted(model=model, scale=scale, candidates=rows.candidates, last=last, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """How log compute and log loss are standardised."""

    first: float
    reach: float
    centre: float
    spread: float

    @classmethod
    def of(cls, rows: Rows) -> _Scale:
        compute = _log_compute(rows.candidates, rows.trial, rows.log_tokens)
        spread = float(rows.log_loss.std())
        return cls(
            first=float(compute.min()),
            reach=max(float(np.ptp(compute)), 1.0),
            centre=float(rows.log_loss.mean()),
            spread=max(spread, 1e-3),
        )

    def inputs(
        self, candidates: Sequence[Candidate], trial: IntArray, log_tokens: FloatArray
    ) -> torch.Tensor:
        """(rows, 2): scaled log compute, and the index of the curve."""
        x = (_log_compute(candidates, trial, log_tokens) - self.first) / self.reach
        return torch.from_numpy(np.column_stack([np.maximum(x, 0.0), trial.astype(np.float64)]))


def _log_compute(
    candidates: Sequence[Candidate], trial: IntArray, log_tokens: FloatArray
) -> FloatArray:
    cost = np.log([candidate.flops_per_token for candidate in candidates])
    return cost[trial] + log_tokens


class _Curves(gpytorch.kernels.Kernel):
    """Coregionalised decay and bias over (scaled log compute, index of the curve)."""

    has_lengthscale = False

    def __init__(self, tasks: int, generator: torch.Generator) -> None:
        super().__init__()

        def start(*shape: int) -> torch.nn.Parameter:
            noise = torch.randn(*shape, generator=generator, dtype=torch.float64)
            return torch.nn.Parameter(0.3 * noise)

        self.decay_w, self.bias_w = start(tasks, RANK), start(tasks, RANK)
        self.decay_w.data[:, 0] += 1.0  # what all curves share
        self.bias_w.data[:, 0] += 1.0
        self.decay_kappa, self.bias_kappa = start(tasks), start(tasks)
        self.decay_kappa.data -= 3.0
        self.bias_kappa.data -= 3.0
        self.shape = start(2)  # log a, log b of the decay

    def forward(
        self,
        x1: torch.Tensor,
        x2: torch.Tensor,
        diag: bool = False,
        last_dim_is_batch: bool = False,
        **params: Any,
    ) -> torch.Tensor:
        left, right = x1[..., 1].long(), x2[..., 1].long()
        if diag:
            together = x1[..., 0] + x2[..., 0]
            decay, bias = self._matrices()
            return decay[left, right] * self._decayed(together) + bias[left, right]
        together = x1[..., :, None, 0] + x2[..., None, :, 0]
        decay, bias = self._matrices()
        pairs = (left[..., :, None], right[..., None, :])
        return decay[pairs] * self._decayed(together) + bias[pairs]

    def _matrices(self) -> tuple[torch.Tensor, torch.Tensor]:
        return (
            self.decay_w @ self.decay_w.T + torch.diag(self.decay_kappa.exp()),
            self.bias_w @ self.bias_w.T + torch.diag(self.bias_kappa.exp()),
        )

    def _decayed(self, together: torch.Tensor) -> torch.Tensor:
        a, b = self.shape.exp()
        return (b / (together + b)) ** a

    def penalty(self) -> torch.Tensor:
        """Minus the log of the priors, up to a constant."""
        total = ((self.decay_w[:, 0] - 1.0) ** 2).sum() + ((self.bias_w[:, 0] - 1.0) ** 2).sum()
        total = total + (self.decay_w[:, 1:] ** 2).sum() + (self.bias_w[:, 1:] ** 2).sum()
        total = total + ((self.decay_kappa + 3.0) ** 2).sum() / 4.0
        return 0.5 * (total + ((self.bias_kappa + 3.0) ** 2).sum() / 4.0 + (self.shape**2).sum())


def _start(inputs: torch.Tensor, targets: torch.Tensor, kernel: _Curves) -> Start:
    likelihood = gpytorch.likelihoods.HadamardGaussianLikelihood(
        num_tasks=len(kernel.decay_w),
        noise_constraint=gpytorch.constraints.GreaterThan(NOISE_FLOOR),
        task_feature_index=1,
    ).double()
    likelihood.noise = torch.full_like(likelihood.noise, 10 * NOISE_FLOOR)
    model = ExactModel(inputs, targets, likelihood, kernel)
    return Start(model=model, penalty=kernel.penalty)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """The multi-task GP after a fit. last (trials,): log tokens of each trial's last row."""

    model: ExactModel
    scale: _Scale
    candidates: tuple[Candidate, ...]
    last: FloatArray
    seed: int

    def forecasts(self, candidate: Candidate) -> bool:
        return any(candidate.id == known.id for known in self.candidates)

    @one_thread
    def predict(
        self, candidates: Sequence[Candidate], tokens: IntArray, *, draws: int = 0
    ) -> Forecast:
        places = {known.id: place for place, known in enumerate(self.candidates)}
        for candidate in candidates:
            if candidate.id not in places:
                raise NoForecast(
                    f"multi_task_gp has seen no point of {candidate.id}; it forecasts only curves"
                    " that have begun"
                )
        trial = np.array([places[candidate.id] for candidate in candidates], dtype=np.int64)
        log_tokens = np.log(tokens.astype(np.float64))
        inputs = self.scale.inputs(self.candidates, trial, log_tokens)
        beyond = log_tokens - self.last[trial]
        same = trial[:, None] == trial[None, :]
        return forecast(
            self.model,
            inputs,
            doubt=same * BEND**2 * integrated_walk(beyond, beyond),
            centre=self.scale.centre,
            spread=self.scale.spread,
            draws=draws,
            seed=self.seed,
        )
