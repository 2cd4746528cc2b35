"""The race against L-BFGS-B and the choice of settings, on a pool whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.laws.forms.line import Known, law_of
from scripts.laws_choice import SETTINGS, Pool, Setting, choose, score, towards
from scripts.laws_race import STARTS, races, summary
from tests.orchestrator.laws.sweeps import runs_of_truth

BOX = {"E": (0.0, 5.0), "A": (0.0, 1e4), "alpha": (0.0, 1.0), "B": (0.0, 1e4), "beta": (0.0, 1.0)}


def form_of(line="E + A/N**alpha + B/D**beta", box=BOX):
    return law_of(line, parameters={n: Known(low=a, high=b) for n, (a, b) in box.items()})


def test_the_race_compares_the_same_starts_and_says_who_got_how_far():
    form = form_of()
    bounds = [BOX[known.name] for known in form.parameters]
    runs = runs_of_truth(count=40, noise=0.005)
    found = races(form, {"bounds": bounds}, runs, "huber_log", 1.345, 6)
    assert found["objective_own"] <= found["objective_lbfgsb"] * (1 + 1e-6)
    assert found["squared_objective_own"] <= found["squared_objective_lbfgsb"] * (1 + 1e-6)
    assert 0.0 <= found["lbfgsb_reached"] <= 1.0
    assert found["speedup_vs_lbfgsb"] == pytest.approx(
        found["lbfgsb_s"] / found["own_s"], rel=0.1, abs=0.1
    )
    said = summary([{"form": "x", **found}, {"form": "mean", "speedup_vs_lbfgsb": None}])
    assert "objective of the fits, 1 forms" in said
    assert "squared, 1 forms" in said
    assert STARTS == 64


def test_the_setting_that_predicts_the_dearest_rows_is_chosen():
    """A box that shuts the truth out loses to one that keeps only its signs."""
    runs = runs_of_truth(count=60, noise=0.002)
    shut = form_of(box=BOX | {"alpha": (0.0, 0.05)})
    open_ = form_of(box=dict.fromkeys(BOX, (0.0, np.inf)))
    pool = Pool(
        name="known",
        parts={"all": (runs, runs.N * runs.D)},
        objective="huber_log",
        forms=lambda boxes: [shut if boxes == "stated" else open_],
    )
    plain = Setting(boxes="stated", knee=None)
    assert score(open_, pool, plain, 0.2) > max(0.9, score(shut, pool, plain, 0.2))
    chosen, table = choose([pool])
    assert chosen.boxes == "signs"
    assert set(table) == set(SETTINGS)


def test_rows_furthest_towards_the_questions_are_told_by_features_alone():
    runs = runs_of_truth(count=60, noise=0.002)
    asked = {name: column.copy() for name, column in runs.features.items()}
    asked["N"] = 100 * asked["N"]
    assert np.argsort(towards(runs, asked)).tolist() == np.argsort(runs.N).tolist()
    assert not towards(runs, dict(runs.features)).any()
