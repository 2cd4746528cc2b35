"""Records of bench_select: repeats of a form are no new trials, and gains are paired."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.select_records import records_of


def run(
    form: str, seed: int, r2: float, rule: str = "active", task: str = "one"
) -> dict[str, Any]:
    return {
        "task": task,
        "form": form,
        "rule": rule,
        "fitter": "ours",
        "seed": seed,
        "budgets_pct": [5.0],
        "r2": [r2],
        "cpu_s": 1.0,
    }


SCORES = {"a": 0.9, "b": 0.2, "c": 0.6, "d": 0.7}


def test_seeds_that_all_say_the_same_narrow_nothing() -> None:
    once = records_of([run(form, 0, score) for form, score in SCORES.items()])[0]
    often = records_of([run(f, seed, score) for f, score in SCORES.items() for seed in range(20)])
    assert often[0]["r2_mean"] == once["r2_mean"] == pytest.approx(0.6)
    width = once["ci_high"] - once["ci_low"]
    assert often[0]["ci_high"] - often[0]["ci_low"] == pytest.approx(width, rel=0.1)
    assert often[0]["seeds"] == 20


def test_one_form_has_the_interval_of_its_seeds() -> None:
    row = records_of([run("a", seed, 0.5 + 0.1 * seed) for seed in range(5)])[0]
    assert row["r2_mean"] == pytest.approx(0.7)
    assert 0.5 <= row["ci_low"] < 0.65 and 0.75 < row["ci_high"] <= 0.9


def test_gains_are_paired_and_tasks_weigh_the_same() -> None:
    runs = [run(form, 0, score) for form, score in SCORES.items()]
    runs += [run(form, 0, score - 0.1, "cheapest") for form, score in SCORES.items()]
    runs += [run("z", 0, 0.8, task="two"), run("z", 0, 0.5, "cheapest", task="two")]
    gain = [row for row in records_of(runs) if row["task"] == "gain of active"]
    assert [row["rule"] for row in gain] == ["cheapest"]
    assert gain[0]["r2_mean"] == pytest.approx((0.1 + 0.3) / 2)
    assert gain[0]["ci_low"] == pytest.approx(0.2) == gain[0]["ci_high"]


def test_averages_over_forms_are_paired_with_averages() -> None:
    runs = [run("a", 0, 0.9), run("all", 0, 0.8, "active_averaged")]
    runs += [run("a", 0, 0.5, "cheapest"), run("all", 0, 0.7, "cheapest_averaged")]
    gains = {r["rule"]: r["r2_mean"] for r in records_of(runs) if r["task"] == "gain of active"}
    assert gains == pytest.approx({"cheapest": 0.4, "cheapest_averaged": 0.1})
