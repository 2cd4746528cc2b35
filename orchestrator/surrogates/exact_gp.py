"""An exact GP of zero mean in gpytorch: the search for its kernel parameters, and its forecasts.

Touches memory only; what the two GPs of this folder share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import gpytorch
import numpy as np
import torch
from linear_operator.utils.errors import NanError, NotPSDError

from orchestrator.values import FloatArray


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


def search(model: ExactModel, penalty: Callable[[], torch.Tensor], iterations: int) -> float:
    """Moves the parameters to where evidence and priors are highest (L-BFGS), and leaves the
    model ready to forecast. penalty: minus the log of the priors.

    Returns minus the log posterior; infinite where the search leaves the positive definite.
    """
    inputs = cast("tuple[torch.Tensor, ...]", model.train_inputs)[0]
    targets = cast("torch.Tensor", model.train_targets)
    model.train()
    evidence = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    steps = torch.optim.LBFGS(
        model.parameters(), max_iter=iterations, line_search_fn="strong_wolfe"
    )

    def objective() -> torch.Tensor:
        fit = cast("torch.Tensor", evidence(model(inputs), targets, inputs))
        return penalty() - len(targets) * fit

    def closure() -> float:
        steps.zero_grad()
        loss = objective()
        loss.backward()
        return float(loss.detach())

    try:
        steps.step(closure)
        with torch.no_grad():
            value = float(objective())
    except (NotPSDError, NanError):
        value = float("inf")
    model.eval()
    return value if np.isfinite(value) else float("inf")


def said(model: ExactModel, inputs: torch.Tensor) -> tuple[FloatArray, FloatArray]:
    """Mean (queries,) and covariance (queries, queries) of the curve itself, noise left out."""
    with torch.no_grad():
        found = cast("gpytorch.distributions.MultivariateNormal", model(inputs))
        return found.mean.numpy(), found.covariance_matrix.numpy()
