"""The deep ensemble: its written-out gradient and Adam are those of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from orchestrator.surrogates import deep_ensemble as module
from orchestrator.surrogates.deep_ensemble import DeepEnsemble
from orchestrator.surrogates.families import POWER_LAW
from orchestrator.surrogates.prefixes import Rows, rows_of
from tests.orchestrator.surrogates.grown import grown, ladder


@pytest.fixture
def rows() -> Rows:
    """Curves of unlike length, some far enough off for the linear part of the Huber loss."""
    return rows_of(
        [
            (trial, grown(trial, 3 + 4 * place, upto=0.1 + 0.1 * place, shift=0.2 * place))
            for place, trial in enumerate(ladder(5))
        ],
        most=240,
    )


def objective(
    ensemble: DeepEnsemble, layers: list[torch.Tensor], scale: module._Scale, rows: Rows
) -> torch.Tensor:
    inputs, trial = scale.inputs(rows.candidates), torch.from_numpy(rows.trial)
    x = scale.x(rows.candidates, rows.trial, rows.log_tokens)
    coefficients = module._coefficients(ensemble, layers, scale, inputs)
    said = module._curves(ensemble, coefficients, trial, x)
    target, share = torch.from_numpy(rows.log_loss), torch.from_numpy(rows.share)
    off = torch.nn.functional.huber_loss(
        said, target.expand_as(said), reduction="none", delta=module.KNEE
    )
    return (off * share).sum() / (share.sum() * module.KNEE**2)


def test_the_gradient_is_that_of_autograd(rows: Rows) -> None:
    ensemble = DeepEnsemble(family=POWER_LAW, members=3)
    scale = module._Scale.of(rows)
    layers = [layer.requires_grad_() for layer in module._started(ensemble, scale, seed=4)]
    objective(ensemble, layers, scale, rows).backward()
    _, weights = module._flattened([layer.detach() for layer in layers])
    slopes = [np.full_like(weight, np.nan) for weight in weights]
    module._Lesson.of(ensemble, scale, rows).gradient(weights, slopes)
    for layer, slope in zip(layers, slopes, strict=True):
        assert layer.grad is not None
        wanted = layer.grad.numpy()
        np.testing.assert_allclose(slope, wanted, rtol=1e-5, atol=1e-8 * np.abs(wanted).max())


def test_the_steps_are_those_of_adam_with_a_cosine(rows: Rows) -> None:
    ensemble = DeepEnsemble(members=2, steps=25)
    scale = module._Scale.of(rows)
    ours = module._started(ensemble, scale, seed=4)
    theirs = [layer.clone().requires_grad_() for layer in ours]
    module._train(ensemble, ours, scale, rows)
    search = torch.optim.Adam(theirs, lr=module.RATE, weight_decay=module.DECAY)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(search, ensemble.steps)
    for _ in range(ensemble.steps):
        search.zero_grad()
        objective(ensemble, theirs, scale, rows).backward()
        search.step()
        slower.step()
    for mine, its in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.numpy(), its.detach().numpy(), rtol=1e-3, atol=1e-5)


def test_one_member_has_no_spread() -> None:
    with pytest.raises(ValueError, match="members is 1"):
        DeepEnsemble(members=1)
