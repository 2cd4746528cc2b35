from itertools import pairwise

import numpy as np
import pytest

from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.report import style
from orchestrator.report.plane import Plane
from orchestrator.report.shown import shown_trials
from tests.orchestrator.report.ladders import Ladder, annealed, curves_of, swept


@pytest.fixture(scope="module")
def ladder() -> Ladder:
    pool, curves = curves_of(rates=(1e-4, 1e-3, 3e-3, 1e-2))
    policy = SuccessiveHalving(group_by="params", spend_out=False)
    return annealed(swept(policy, 0.4, pool, curves), gain=0.1)


def marks(plane: Plane, marker: str) -> int:
    with style.house_style("test"):
        axes = plane.figure().axes[0]
    return sum(line.get_marker() == marker for line in axes.lines)


def test_every_stop_is_a_cross_and_every_anneal_a_diamond(ladder: Ladder) -> None:
    plane = ladder.material().plane()
    stopped = [t for t in plane.trials if t.status == "stopped"]
    assert stopped
    assert marks(plane, "x") == len(stopped)
    assert marks(plane, "D") == len(plane.trials)


def test_the_law_is_drawn_no_further_than_ten_times_the_largest_run(ladder: Ladder) -> None:
    plane = ladder.material().plane()
    largest = max(float(t.curve.flops[-1]) for t in plane.trials)
    for law in plane.laws:
        assert law.flops[-1] <= 10.001 * largest


def test_all_that_matters_lies_inside_the_frame(ladder: Ladder) -> None:
    plane = ladder.material().plane()
    with style.house_style("test"):
        axes = plane.figure().axes[0]
    low, high = axes.get_ylim()
    assert all(low < trial.curve.loss.min() for trial in plane.trials)
    assert low < plane.laws[0].loss.min()
    best = min(plane.trials, key=lambda t: t.loss)
    assert high > best.loss * 1.2


def test_colours_are_ordered_by_size_and_differ() -> None:
    found = style.colours([30, 10, 20, 10])
    assert list(found) == [10, 20, 30]
    assert len(set(found.values())) == 3
    lightness = [sum(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in found.values()]
    assert lightness == sorted(lightness)


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    from orchestrator.report.shown import thinned
    from orchestrator.values import Curve, Point

    curve = Curve.of(Point(tokens=i, flops=float(i), loss=5.0 / i**0.1) for i in range(1, 5001))
    few = thinned(curve, 100)
    assert len(few) <= 101
    assert few.flops[0] == 1.0
    assert few.flops[-1] == 5000.0
    assert (np.diff(few.flops) > 0).all()


def test_trials_come_smallest_first_and_best_first_within_a_size(ladder: Ladder) -> None:
    trials = shown_trials(ladder.state)
    assert [t.params for t in trials] == sorted(t.params for t in trials)
    for one, other in pairwise(trials):
        if one.params == other.params:
            assert one.loss <= other.loss
