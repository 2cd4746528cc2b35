"""Rates, phases and places of evaluation are pure functions of tokens."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.config import TrainConfig
from trainers.schedule import Anneal, Schedule, anneal_points, evaluation_points

PEAK = 0.5


def config(**parts: object) -> TrainConfig:
    base = {
        "model": {"layers": 1, "width": 8, "context": 10},
        "batch_tokens": 10,
        "horizon": 1005,
        "optimizer": {"learning_rate": PEAK},
        "schedule": {"warmup": 100},
    }
    return TrainConfig.model_validate(base | parts)


def test_warm_up_is_linear_and_its_last_step_is_the_peak() -> None:
    schedule = Schedule(config())
    assert schedule.rate_at(0) == pytest.approx(PEAK / 10)
    assert schedule.rate_at(40) == pytest.approx(PEAK / 2)
    assert schedule.rate_at(90) == PEAK
    assert [schedule.phase_at(t) for t in (10, 90, 100, 1000)] == ["warmup"] * 2 + ["stable"] * 2
    assert Schedule(config(schedule={"warmup": 0})).rate_at(0) == PEAK


def test_a_prefix_of_constant_is_a_shorter_run() -> None:
    long = Schedule(config(horizon=10_000))
    assert all(long.rate_at(t) == Schedule(config()).rate_at(t) for t in range(0, 1000, 10))


def test_cosine_ends_at_its_final_share() -> None:
    schedule = Schedule(config(schedule={"warmup": 100, "kind": "cosine", "final": 0.1}))
    assert schedule.rate_at(100) == PEAK
    assert schedule.rate_at(550) == pytest.approx(PEAK * 0.55)
    assert schedule.rate_at(1000) == pytest.approx(PEAK * 0.1)
    assert [schedule.phase_at(t) for t in (50, 100, 990, 1000)] == [
        "warmup", "decay", "decay", "annealed",
    ]  # fmt: skip


def test_wsd_is_constant_and_then_the_anneal_of_a_branch() -> None:
    schedule = Schedule(config(schedule={"warmup": 100, "kind": "wsd"}))
    branch = Schedule(config(horizon=800), Anneal(start=800, end=1000))
    constant = Schedule(config())
    assert all(schedule.rate_at(t) == constant.rate_at(t) for t in range(0, 800, 10))
    assert all(schedule.rate_at(t) == branch.rate_at(t) for t in range(800, 1000, 10))
    assert [schedule.phase_at(t) for t in (50, 100, 800, 810, 1000)] == [
        "warmup", "stable", "stable", "decay", "annealed",
    ]  # fmt: skip


@pytest.mark.parametrize(("shape", "middle"), [("1-sqrt", 1 - math.sqrt(0.5)), ("linear", 0.5)])
def test_anneal(shape: str, middle: float) -> None:
    anneal = Anneal(start=400, end=600)
    schedule = Schedule(config(schedule={"warmup": 100, "anneal": shape}), anneal)
    assert schedule.rate_at(400) == PEAK
    assert schedule.rate_at(500) == pytest.approx(PEAK * middle)
    assert 0 < schedule.rate_at(590) < PEAK * 0.06
    assert [schedule.phase_at(t) for t in (410, 590, 600)] == ["decay", "decay", "annealed"]


def test_an_anneal_starts_where_a_cosine_stands() -> None:
    cosine = config(schedule={"warmup": 100, "kind": "cosine"})
    branch = Schedule(cosine, Anneal(start=550, end=700))
    assert branch.rate_at(550) == pytest.approx(PEAK / 2)


@given(st.integers(1, 200), st.integers(10, 10**9))
def test_evaluation_points_are_rising_whole_steps_ending_at_the_horizon(
    points: int, horizon: int
) -> None:
    made = config(evaluation={"points": points}, horizon=horizon, schedule={"warmup": 0})
    places = evaluation_points(made)
    assert list(places) == sorted(set(places))
    assert all(place > 0 and place % 10 == 0 for place in places)
    assert places[-1] == made.floor_tokens(horizon)
    assert len(places) <= points


def test_half_of_the_points_are_early() -> None:
    places = evaluation_points(config(evaluation={"points": 32}, horizon=10**6))
    assert sum(place <= 10**6 / 16 for place in places) in range(8, 13)
    gaps = {b - a for a, b in zip(places[-4:], places[-3:], strict=False)}
    assert max(gaps) <= 10**6 / 16 + 10


@given(st.integers(0, 100), st.integers(1, 100))
def test_anneal_points(start: int, steps: int) -> None:
    anneal = Anneal(start=start * 10, end=(start + steps) * 10)
    places = anneal_points(config(), anneal)
    assert 1 <= len(places) <= 4
    assert places[-1] == anneal.end
    assert all(place > anneal.start for place in places)
