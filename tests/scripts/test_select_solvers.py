"""The rival's fitter: its past fits are among its starts, each once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from orchestrator.laws.forms.line import law_of
from orchestrator.laws.least_squares import SquaredFit
from orchestrator.laws.runs import Runs
from scripts import select_solvers
from scripts.select_solvers import LbfgsbFitter
from tests.orchestrator.policies.markets import market

FORM = law_of("a + b*log(N)", parameters=["a", "b"])


def test_past_fits_that_differ_are_among_the_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = iter([[1.0, 2.0], [1.0 + 1e-5, 2.0], [3.0, 2.0], [3.0, 2.0]])
    given: list[np.ndarray] = []

    def fitted(form: Any, runs: Any, *, warm: np.ndarray, **_: Any) -> SquaredFit:
        given.append(warm)
        return SquaredFit(values=np.array([next(ends)]), error=np.array([0.1]))

    monkeypatch.setattr(select_solvers, "squared_fit", fitted)
    fitter = LbfgsbFitter()
    for count in (3, 4, 5, 6):
        N = np.geomspace(1e3, 1e6, count)
        now, _ = market(list(range(count)))
        fitter.solve(FORM, Runs(features={"N": N}, loss=3.0 - 0.1 * np.log(N)), now)
    assert [len(warm) for warm in given] == [0, 1, 1, 2]
    assert given[-1].tolist() == [[1.0, 2.0], [3.0, 2.0]]


def test_the_same_rows_are_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def fitted(form: Any, runs: Any, **_: Any) -> SquaredFit:
        calls.append(len(runs))
        return SquaredFit(values=np.array([[1.0, 2.0]]), error=np.array([0.1]))

    monkeypatch.setattr(select_solvers, "squared_fit", fitted)
    fitter, (now, _) = LbfgsbFitter(), market([0, 1, 2])
    assert now.known is not None
    for _ in range(2):
        fitter.solve(FORM, now.known, now)
    assert calls == [3]
