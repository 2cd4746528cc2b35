"""Rows and curves are valid from birth; burn-in and weights are as said."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.laws.runs import (
    CurveRows,
    Runs,
    count_levels,
    finished_runs,
    levels_of,
    runs_from_curves,
)


def columns(**changed):
    rows = {
        "N": [1e6, 2e6],
        "D": [1e8, 1e8],
        "C": [6e14, 1.2e15],
        "loss": [4.0, 3.5],
        "trial": [0, 1],
        "weight": [1.0, 1.0],
    }
    return rows | changed


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"loss": [4.0, float("nan")]}, r"loss\[1\] is nan"),
        ({"loss": [0.0, 1.0]}, r"loss\[0\] is 0.0"),
        ({"N": [1e6, -2.0]}, r"N\[1\] is -2.0"),
        ({"D": [1e8, float("inf")]}, r"D\[1\] is inf"),
        ({"weight": [1.0, 0.0]}, r"weight\[1\]"),
        ({"C": [6e14]}, "equal lengths"),
        ({"trial": [0.5, 1.0]}, "whole numbers"),
        ({"loss": [[4.0, 3.5]]}, "one-dimensional"),
    ],
)
def test_bad_rows_are_refused(changed, said):
    with pytest.raises(ValueError, match=said):
        Runs(**columns(**changed))


def test_rows_cannot_be_changed():
    source = np.array([4.0, 3.5])
    runs = Runs(**columns(loss=source))
    source[0] = 99.0
    assert runs.loss[0] == 4.0
    with pytest.raises(ValueError, match="read-only"):
        runs.loss[0] = 1.0


def test_finished_runs_count_six_n_d():
    runs = finished_runs([1e6], [1e8], [4.0])
    assert runs.C[0] == pytest.approx(6e14)
    assert runs.trials == 1


def curve(tokens, loss=None, phase=None, N=1e6):
    tokens = np.asarray(tokens, dtype=float)
    return CurveRows(
        N=N,
        tokens=tokens,
        flops=6 * N * tokens,
        loss=np.linspace(5, 4, len(tokens)) if loss is None else loss,
        phase=phase,
    )


def test_burn_in_is_of_each_curves_own_tokens():
    short, long = curve([1, 5, 9, 10, 50, 100]), curve([10, 99, 100, 500, 1000])
    runs = runs_from_curves([short, long])
    assert list(runs.D[runs.trial == 0]) == [10, 50, 100]
    assert list(runs.D[runs.trial == 1]) == [100, 500, 1000]


def test_weights_follow_tokens_and_every_curve_counts_one():
    runs = runs_from_curves([curve([10, 30, 60]), curve([100, 300])])
    assert runs.weight[runs.trial == 0] == pytest.approx([0.1, 0.3, 0.6])
    assert runs.weight[runs.trial == 1] == pytest.approx([0.25, 0.75])
    even = runs_from_curves([curve([10, 30, 60])], weigh_by_tokens=False)
    assert even.weight == pytest.approx([1 / 3] * 3)


def test_trial_is_the_curves_place_even_where_one_has_no_point():
    runs = runs_from_curves([curve([]), curve([10, 20])])
    assert set(runs.trial) == {1}


def test_only_the_phases_asked_for():
    words = ("warmup", "stable", "stable", "annealed")
    runs = runs_from_curves([curve([10, 20, 30, 33], phase=words)], phases=("stable",))
    assert list(runs.D) == [20, 30]
    assert runs.phases == ("stable",)
    every = runs_from_curves([curve([10, 20, 30, 33], phase=words)])
    assert every.phases == ("annealed", "stable", "warmup")


def test_phases_that_nobody_knows_are_refused():
    with pytest.raises(ValueError, match="carry no phase"):
        runs_from_curves([curve([10, 20])], phases=("stable",))
    with pytest.raises(ValueError, match="has a point left"):
        runs_from_curves([curve([10], phase=("warmup",))], phases=("annealed",))
    with pytest.raises(ValueError, match=r"burn_in is 1\.0"):
        runs_from_curves([curve([10, 20])], burn_in=1.0)


def test_a_curve_must_increase():
    with pytest.raises(ValueError, match="tokens must increase"):
        curve([10, 10])


def test_levels_join_neighbours_within_a_percent():
    column = np.array([2e6, 1e6, 1.005e6, 4e6, 2.001e6])
    assert list(levels_of(column)) == [1, 0, 0, 2, 1]
    assert count_levels(column) == 3
    assert count_levels(np.geomspace(1e8, 1.2e8, 200)) > 10, "near neighbours do not chain"
