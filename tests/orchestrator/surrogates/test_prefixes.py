"""What is read of observed curves, and how configurations become numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.surrogates.base import NoForecast
from orchestrator.surrogates.configuration import WORD_GAP, Encoding, size_of
from orchestrator.surrogates.gaussian import draw, factor
from orchestrator.surrogates.prefixes import rows_of, usable
from orchestrator.values import Curve, Phase, Point
from tests.orchestrator.surrogates.grown import candidate, grown, ladder, observed


def curve(losses: list[float], phases: list[Phase] | None = None) -> Curve:
    words: list[Phase] = phases or ["stable" for _ in losses]
    return Curve.of(
        Point(tokens=10**8 * (k + 1), flops=1e16 * (k + 1), loss=loss, phase=word)
        for k, (loss, word) in enumerate(zip(losses, words, strict=True))
    )


def test_rows_are_few_and_none_is_invented() -> None:
    rows = rows_of(observed(30, 50), most=240)
    assert len(rows) <= 240
    assert set(rows.trial.tolist()) == set(range(30))
    assert (rows.share <= 1.0).all() and (rows.share > 0.09).all()
    short = rows_of([(ladder(1)[0], curve([4.0, 3.5]))], most=240)
    assert short.log_loss == pytest.approx(np.log([4.0, 3.5]))


def test_warm_up_is_left_out_where_other_points_remain() -> None:
    mixed = curve([9.0, 8.0, 4.0, 3.5], ["warmup", "warmup", "stable", "stable"])
    assert usable(mixed, 0.1)[1] == pytest.approx(np.log([4.0, 3.5]))
    only = curve([9.0, 8.0], ["warmup", "warmup"])
    assert len(usable(only, 0.1)[1]) == 2


def test_a_loss_of_zero_is_refused_by_name() -> None:
    with pytest.raises(NoForecast, match="t00"):
        rows_of([(ladder(1)[0], curve([1.0, 0.0]))], most=10)


def test_empty_curves_are_passed_over() -> None:
    first, second = ladder(2)
    rows = rows_of([(first, Curve()), (second, grown(second, 4))], most=10)
    assert [known.id for known in rows.candidates] == [second.id]


def test_distances_count_e_folds_and_words() -> None:
    here = candidate("a", 10**8, settings=(("rate", 1e-3), ("kind", "x"), ("drop", 0.0)))
    there = candidate("b", 10**8, settings=(("rate", 1e-3 * np.e), ("kind", "y"), ("drop", 0.0)))
    encoding = Encoding.of([here, there])
    assert encoding.distances([here], [here])[0, 0] == 0.0
    assert encoding.distances([here], [there])[0, 0] == pytest.approx(1.0 + WORD_GAP**2)


def test_settings_unlike_those_seen_have_a_place_too() -> None:
    known = candidate("a", 10**8, settings=(("rate", 1e-3), ("kind", "x")))
    odd = candidate("b", 10**8, settings=(("rate", "auto"), ("kind", 3)))
    encoding = Encoding.of([known])
    assert np.isfinite(encoding.columns([odd])).all()
    assert encoding.flags([odd]).tolist() == [[0.0]]
    assert encoding.distances([known], [odd])[0, 0] == pytest.approx(WORD_GAP**2)


def test_a_table_without_sizes_is_read_by_its_flops() -> None:
    nameless = replace(candidate("a", 10**8), params=1)
    assert size_of(nameless) == pytest.approx(1e8)


def test_draws_have_the_covariance_asked_for() -> None:
    covariance = np.array([[2.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])  # singular
    drawn = draw(np.zeros(3), covariance, 20_000, seed=1)
    assert np.cov(drawn.T) == pytest.approx(covariance, abs=0.06)
    assert factor(np.eye(2)) == pytest.approx(np.eye(2))
    with pytest.raises(np.linalg.LinAlgError):
        factor(np.array([[1.0, 0.0], [0.0, -1.0]]))


def test_units_of_size_and_of_settings_count_as_told() -> None:
    """Twice the size at one rate, and twice the rate at one size: log 2 squared each, weighed."""
    small, large, fast = (
        replace(candidate(name, size, settings=(("rate", rate),)), horizon=10**9)
        for name, size, rate in (("a", 10**8, 1e-3), ("b", 2 * 10**8, 1e-3), ("c", 10**8, 2e-3))
    )
    encoding = Encoding.of([small, large, fast])
    apart = encoding.distances([small], [large, fast], size=0.5, settings=2.0)[0]
    alike = encoding.distances([small], [large, fast])[0]
    assert apart == pytest.approx(alike * np.array([0.25, 4.0]))
    assert alike == pytest.approx(np.log(2.0) ** 2)
