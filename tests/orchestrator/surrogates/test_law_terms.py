"""The terms beside the law are covariances, and say of the unseen what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.surrogates.law_terms import (
    NOISE,
    TERM_SD,
    TERM_WIDTH,
    TERMS,
    Kernels,
    Root,
    Where,
)
from orchestrator.surrogates.prefixes import rows_of
from orchestrator.values import Candidate, FloatArray, IntArray
from tests.orchestrator.surrogates.grown import candidate, observed


def between(misfit: float = 0.0, rooted: Root = "start") -> tuple[Kernels, Where]:
    rows = rows_of(list(observed(4, 12, upto=0.5)), most=40)
    at = Where.of(rows.candidates, rows.trial, rows.log_tokens, (18.0, 20.0))
    return Kernels.of(rows, at, misfit, rooted), at


def places(trial: Candidate, log_tokens: list[float]) -> Where:
    index: IntArray = np.zeros(len(log_tokens), dtype=np.int64)
    return Where.of((trial,), index, np.array(log_tokens), (18.0, 20.0))


def square(kernels: Kernels, at: Where) -> FloatArray:
    tilts = np.full(len(at.trial), 0.4)
    return kernels.between(at, at, np.outer(tilts, tilts))


@pytest.mark.parametrize("rooted", ["start", "end"])
@pytest.mark.parametrize("misfit", [0.0, 1.0])
def test_every_term_is_a_covariance(misfit: float, rooted: Root) -> None:
    kernels, at = between(misfit, rooted)
    found = square(kernels, at)
    assert len(found) == NOISE == len(TERMS) - 1
    assert len(TERM_SD) == len(TERM_WIDTH) == len(TERMS)
    for kernel in found:
        assert kernel == pytest.approx(kernel.T)
        assert np.linalg.eigvalsh(kernel).min() > -1e-9 * max(1.0, float(kernel.max()))


def test_a_bend_is_an_integrated_walk_from_the_trials_first_row() -> None:
    kernels, at = between()
    trial = at.candidates[0]
    begun = float(at.log_tokens[at.trial == 0].min())
    asked = places(trial, [20.0 + begun, 21.0 + begun, 22.0 + begun])
    bend = square(kernels, asked)[TERMS.index("bend")]
    assert bend.diagonal() == pytest.approx([0.0, 1 / 3, 8 / 3])
    assert bend[1, 2] == pytest.approx(5 / 6)


def test_rooted_at_the_end_a_walk_is_nothing_there_and_grows_towards_the_start() -> None:
    kernels, at = between(rooted="end")
    trial = at.candidates[0]
    end = float(np.log(trial.horizon))
    asked = places(trial, [end - 2.0, end - 1.0, end, end + 1.0])
    found = square(kernels, asked)
    assert found[TERMS.index("drift")].diagonal() == pytest.approx([2.0, 1.0, 0.0, 0.0])
    assert found[TERMS.index("bend")].diagonal() == pytest.approx([8 / 3, 1 / 3, 0.0, 0.0])


def test_what_is_a_trials_own_is_shared_with_no_other() -> None:
    kernels, at = between()
    other = places(candidate("other", 10**8), [20.0, 21.0])
    found = kernels.between(at, other, np.ones((len(at.trial), 2)))
    own = [TERMS.index(name) for name in ("offset", "slope", "drift", "bend")]
    assert not found[own].any()
    assert found[TERMS.index("level")].any()
