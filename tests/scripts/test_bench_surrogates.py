"""The benchmark of surrogates asks fairly and scores rightly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scripts.bench_surrogates import Answer, clustered, crossing, crps, figures
from scripts.curve_worlds import world
from scripts.surrogate_questions import RATIOS, TASKS, inside, posed, size


def test_no_question_shows_what_it_asks() -> None:
    curves = world(1, curves=8, points=20)
    tasks: set[tuple[str, int]] = set()
    for question in posed(curves):
        tasks.add((question.task, question.ratio))
        for trial, seen in question.seen:
            curve = curves[trial.id]
            if question.task == "future":
                assert seen.last_tokens <= curve.tokens[-1] / question.ratio
            elif question.task == "uneven":
                assert seen.last_tokens <= curve.tokens[-1] / 2
            elif question.task == "largest":
                asked = curves[question.asked[0].id]
                assert size(curve) < size(asked)
                assert seen.flops[-1] <= asked.flops[-1] / question.ratio
        for trial, tokens, truth in zip(
            question.asked, question.tokens, question.truth, strict=True
        ):
            curve = curves[trial.id]
            place = int(np.searchsorted(curve.tokens, tokens))
            assert tokens == curve.tokens[place]
            assert truth == pytest.approx(math.log(curve.loss[place]))
            seen = dict((c.id, part) for c, part in question.seen).get(trial.id)
            if question.task in ("uneven", "halved"):
                assert seen is not None
                assert 0.7 * question.ratio < tokens / seen.last_tokens < 1.42 * question.ratio
            else:
                assert place == len(curve.tokens) - 1
    assert tasks >= {(task, ratio) for task in ("future", "uneven", "largest") for ratio in RATIOS}
    assert {task for task, _ in tasks} == set(TASKS)


def test_inside_keeps_ends_and_the_largest_out_of_sight() -> None:
    curves = world(2, curves=9, points=20)
    kept = inside(curves, 0.25)
    assert len(kept) == 6
    largest_kept = max(size(curve) for curve in kept.values())
    assert sum(size(curve) > largest_kept for curve in curves.values()) == 3
    for trial, curve in kept.items():
        assert curve.tokens[-1] <= 0.25 * curves[trial].tokens[-1]


def test_crps_is_that_of_a_normal_forecast() -> None:
    """Against its definition: E|X - y| - E|X - X'| / 2."""
    generator = np.random.default_rng(0)
    one, two = 0.3 * generator.standard_normal((2, 400_000))
    by_draws = np.abs(one - 0.2).mean() - 0.5 * np.abs(one - two).mean()
    assert crps(np.array([0.2]), np.array([0.3]))[0] == pytest.approx(by_draws, rel=0.01)


def test_figures_count_refusals_and_cover_what_they_cover() -> None:
    answers = [
        Answer(cluster=f"c{k % 4}", task="future", ratio=2, error=error, sd=1.0)
        for k, error in enumerate([0.1, -0.5, 1.0, 1.5, -3.0, math.nan])
    ]
    record = figures(answers)
    assert (record["targets"], record["refused"], record["curves"]) == (6, 1, 4)
    assert record["cover_50"] == 0.4
    assert record["cover_80"] == 0.6
    assert record["cover_95"] == 0.8
    assert figures([answers[-1]])["log_error"] is None


def test_whole_curves_are_resampled() -> None:
    names = np.array(["a"] * 50 + ["b"] * 50)
    low, high = clustered(np.repeat([0.0, 1.0], 50), names)
    assert (low, high) == (0.0, 1.0)


def test_a_world_is_the_same_for_a_seed_and_another_for_another() -> None:
    once, twice, other = world(3), world(3), world(4)
    assert list(once) == list(twice)
    assert all(np.array_equal(once[k].loss, twice[k].loss) for k in once)
    assert set(once).isdisjoint(other)
    assert all((np.diff(curve.tokens) > 0).all() for curve in once.values())


def test_crossing_pools_have_names_of_their_own_and_no_largest() -> None:
    first, second = crossing(0), crossing(1)
    assert set(first).isdisjoint(second)
    assert {question.task for question in posed(first)} == {"future", "uneven", "halved"}
