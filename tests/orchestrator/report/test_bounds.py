"""Parameters and lines of laws, with their intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws.fit import fit
from orchestrator.laws.forms import CHINCHILLA
from orchestrator.laws.runs import runs_from_curves
from orchestrator.laws.uncertainty import bootstrap
from orchestrator.report.bounds import parameters_of
from orchestrator.report.conclusions import Bounded
from tests.orchestrator.laws.sweeps import curves_of_truth


def test_draws_that_all_rest_at_one_value_are_no_interval() -> None:
    """An exponent "1.1 to 1.1" reads as if it were known exactly, where it is not known at all."""
    runs = runs_from_curves(curves_of_truth())
    law = fit(CHINCHILLA, runs)
    posterior = bootstrap(law, runs, draws=20)
    draws = np.array(posterior.draws)
    draws[:, 3] = CHINCHILLA.parameters[3].upper
    posterior = replace(posterior, draws=tuple(map(tuple, draws.tolist())), rescaling=2.0)
    found = {name: bounded for name, _, bounded in parameters_of(law, posterior, 0.9)}
    assert found["alpha"] == Bounded(value=pytest.approx(law.parameters["alpha"]))
    for name in ("E", "A", "B", "beta"):
        low, high = found[name].low, found[name].high
        assert low is not None and high is not None and low < high, name
