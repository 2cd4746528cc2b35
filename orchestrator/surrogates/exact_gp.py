"""An exact GP of zero mean in gpytorch: the search for its kernel parameters, and its forecasts.

Touches memory only; what the two GPs of this folder share. Every start of a search goes the first
few iterations, and the best of them alone the rest: starts that end in the same optimum are most,
and a decision fits a GP five times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import gpytorch
import numpy as np
import torch
from linear_operator.utils.errors import NanError, NotPSDError

from orchestrator.surrogates.base import NoForecast, Observed
from orchestrator.surrogates.gaussian import draw
from orchestrator.surrogates.prefixes import Rows, rows_of
from orchestrator.values import FloatArray, Forecast

FEWEST_ROWS = 4
FIRST_ITERATIONS = 8
NOISE_FLOOR = 1e-4  # of the standardised variance


class ExactModel(gpytorch.models.ExactGP):
    """Zero mean: targets are standardised."""

    def __init__(
        self,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        likelihood: Any,
        kernel: gpytorch.kernels.Kernel,
    ) -> None:
        super().__init__(inputs, targets, likelihood)
        self.covar_module = kernel

    def forward(self, x: torch.Tensor) -> gpytorch.distributions.MultivariateNormal:
        return gpytorch.distributions.MultivariateNormal(x.new_zeros(len(x)), self.covar_module(x))


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A model whose kernel has not been searched, and minus the log of the priors of its kernel's
    parameters."""

    model: ExactModel
    penalty: Callable[[], torch.Tensor]

    def objective(self) -> torch.Tensor:
        """Minus the log posterior of all parameters; the noise's prior is weak, at ten times its
        floor."""
        inputs = cast("tuple[torch.Tensor, ...]", self.model.train_inputs)[0]
        targets = cast("torch.Tensor", self.model.train_targets)
        likelihood = cast("Any", self.model.likelihood)
        evidence = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, self.model)
        fit = cast("torch.Tensor", evidence(self.model(inputs), targets, inputs))
        noise = torch.log(likelihood.noise / (10 * NOISE_FLOOR))
        return self.penalty() + 0.125 * (noise**2).sum() - len(targets) * fit


def rows_for(name: str, observed: Observed, most: int) -> Rows:
    """Rows of the curves, at most `most`. Raises NoForecast where there are fewer than four."""
    rows = rows_of(observed, most=most)
    if len(rows) < FEWEST_ROWS:
        raise NoForecast(
            f"{name} needs {FEWEST_ROWS} points in all and there are {len(rows)};"
            " wait for more evaluations"
        )
    return rows


def searched(name: str, starts: Sequence[Start], iterations: int) -> ExactModel:
    """The model of the best start, where evidence and priors are highest, ready to forecast.

    Raises NoForecast where every start leaves the positive definite.
    """
    first = min(FIRST_ITERATIONS, iterations) if len(starts) > 1 else iterations
    values = [_descended(start, first) for start in starts]
    best = int(np.argmin(values))
    if not np.isfinite(values[best]):
        raise NoForecast(f"{name} found no kernel that is positive definite here")
    if iterations > first:
        before = {key: value.clone() for key, value in starts[best].model.state_dict().items()}
        if not _descended(starts[best], iterations - first) <= values[best]:
            starts[best].model.load_state_dict(before)
    starts[best].model.eval()
    return starts[best].model


def _descended(start: Start, iterations: int) -> float:
    """The objective where L-BFGS ends; infinite where it leaves the positive definite."""
    start.model.train()
    steps = torch.optim.LBFGS(
        start.model.parameters(), max_iter=iterations, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        steps.zero_grad()
        loss = start.objective()
        loss.backward()
        return float(loss.detach())

    try:
        steps.step(closure)
        with torch.no_grad():
            value = float(start.objective())
    except (NotPSDError, NanError):
        return float("inf")
    return value if np.isfinite(value) else float("inf")


def forecast(
    model: ExactModel,
    inputs: torch.Tensor,
    *,
    centre: float,
    spread: float,
    draws: int,
    seed: int,
    doubt: FloatArray | None = None,
) -> Forecast:
    """Of the curve itself, noise left out; the model's unit is `spread` about `centre`. doubt
    (queries, queries): covariance of log loss that the model does not know of."""
    mean, covariance = _said(model, inputs)
    mean, covariance = centre + spread * mean, spread**2 * covariance
    if doubt is not None:
        covariance = covariance + doubt
    sd = np.sqrt(np.maximum(covariance.diagonal(), 1e-12))
    samples = draw(mean, covariance, draws, seed) if draws else None
    return Forecast(mean=mean, sd=sd, samples=samples)


def _said(model: ExactModel, inputs: torch.Tensor) -> tuple[FloatArray, FloatArray]:
    """Mean (queries,) and covariance (queries, queries) of the curve itself, noise left out."""
    with torch.no_grad():
        found = cast("gpytorch.distributions.MultivariateNormal", model(inputs))
        return found.mean.numpy(), found.covariance_matrix.numpy()
