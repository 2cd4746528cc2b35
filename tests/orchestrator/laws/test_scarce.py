"""Beliefs from few rows hold the known truth, and never claim what nobody would believe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws.errors import FitError
from orchestrator.laws.forms.chinchilla import CHINCHILLA
from orchestrator.laws.forms.line import law_of
from orchestrator.laws.misfit import LENGTHS, misfit_over
from orchestrator.laws.refining import NOISE, Scene
from orchestrator.laws.runs import Runs
from orchestrator.laws.scarce import Belief, believed

SIZES = np.geomspace(1e7, 1e9, 6)
TARGET = {"N": np.array([1e10]), "D": np.array([2e11])}


def truth(N: np.ndarray, D: np.ndarray) -> np.ndarray:
    return 1.7 + 400 / N**0.34 + 410 / D**0.28


def grid() -> dict[str, np.ndarray]:
    N, ratio = (part.ravel() for part in np.meshgrid(SIZES, [5.0, 20.0, 80.0]))
    return {"N": N, "D": N * ratio}


def scene(misfit: float | None = 0.02) -> Scene:
    pool = grid()
    both = {name: np.concatenate([pool[name], TARGET[name]]) for name in pool}
    lengths = () if misfit is None else LENGTHS
    misfits = tuple(misfit_over(both, sd=misfit or 0.0, length=each) for each in lengths)
    return Scene(pool=pool, target=TARGET, misfits=misfits)


def rows(chosen: np.ndarray | slice, noise: float = 0.003, seed: int = 0) -> Runs:
    pool = {name: column[chosen] for name, column in grid().items()}
    rng = np.random.default_rng(seed)
    loss = truth(pool["N"], pool["D"]) * np.exp(noise * rng.normal(size=len(pool["N"])))
    return Runs(features=pool, loss=loss)


def half_width(belief: Belief) -> float:
    return 1.645 * float(np.sqrt(np.sum(belief.features(TARGET) ** 2)))


def test_all_rows_give_the_law_at_the_target() -> None:
    belief = believed(CHINCHILLA, rows(slice(None)), scene(), seed=0)
    said = float(belief.predict(TARGET)[0])
    assert abs(np.log(said / truth(TARGET["N"], TARGET["D"])[0])) < half_width(belief)
    assert half_width(belief) < 0.1


def test_more_rows_know_more_and_two_rows_know_little() -> None:
    wide = [half_width(believed(CHINCHILLA, rows(slice(n)), scene(), seed=0)) for n in (2, 8, 18)]
    assert wide[0] > 2 * wide[1] > 2 * wide[2] > 0


def test_fewer_rows_than_parameters_are_believable() -> None:
    for count in (1, 2, 3, 4):
        runs = rows(slice(count))
        belief = believed(CHINCHILLA, runs, scene(), seed=0)
        said = belief.predict(TARGET)
        assert runs.loss.min() * np.exp(-1.0) < said < runs.loss.max() * np.exp(0.5)


def test_rows_that_any_law_meets_leave_noise_and_misfit_as_they_usually_are() -> None:
    usual = {misfit.length: misfit for misfit in scene().misfits}
    for count in (1, 3):
        belief = believed(CHINCHILLA, rows(slice(count)), scene(), seed=0)
        assert belief.misfit is not None and 0.5 * NOISE < belief.noise < 2.0 * NOISE
        assert belief.misfit.mixing == pytest.approx(usual[belief.misfit.length].mixing)


def test_features_are_covariances_between_any_inputs() -> None:
    belief = believed(CHINCHILLA, rows(slice(12)), scene(), seed=0)
    pool, target = belief.features(grid()), belief.features(TARGET)
    both = {name: np.concatenate([grid()[name], TARGET[name]]) for name in TARGET}
    together = belief.features(both)
    assert np.allclose(together @ together.T, np.concatenate([pool, target]) @ together.T)
    assert pool.shape[1] == target.shape[1]


@pytest.mark.parametrize("misfit", [None, 0.02])
def test_products_of_features_are_what_the_optima_spread(misfit: float | None) -> None:
    """By hand: within each optimum its slopes times its covariance, between them their distance
    from the mean."""
    belief = believed(CHINCHILLA, rows(slice(4)), scene(misfit), seed=0)
    said, step = belief.said(TARGET)[:, 0], 1e-6
    away = said - belief.weights @ said
    expected = float(belief.weights @ away**2)
    assert len(said) > 1
    for k, weight in enumerate(belief.weights):
        slopes: list[float] = []
        for number in range(belief.values.shape[1] + belief.tilt.shape[1]):
            values, tilt = belief.values.copy(), belief.tilt.copy()
            of_law = number < values.shape[1]
            moved = values if of_law else tilt
            moved[k, number if of_law else number - values.shape[1]] += step
            there = replace(belief, values=values, tilt=tilt).said(TARGET)[k, 0]
            slopes.append((there - said[k]) / step)
        effect = np.array(slopes) @ belief.roots[k]
        expected += weight * float(effect @ effect)
    found = belief.features(TARGET)
    assert float(np.sum(found**2)) == pytest.approx(expected, rel=1e-3)


def test_an_outlier_hardly_moves_the_belief() -> None:
    runs = rows(slice(None))
    loss = runs.loss.copy()
    loss[7] *= 1.5
    broken = Runs(features=dict(runs.features), loss=loss)
    clean = believed(CHINCHILLA, runs, scene(), seed=0).predict(TARGET)
    moved = believed(CHINCHILLA, broken, scene(), seed=0).predict(TARGET)
    assert abs(float(np.log(moved / clean)[0])) < 0.02


def test_losses_below_zero_are_fitted_as_they_are() -> None:
    form = law_of("a + b*log(N)", parameters=["a", "b"])
    N = np.geomspace(1e3, 1e6, 8)
    runs = Runs(features={"N": N}, loss=5.0 - 0.6 * np.log(N), signed=True)
    where = Scene(pool={"N": N}, target={"N": np.array([1e7])})
    belief = believed(form, runs, where, seed=0)
    assert belief.predict(where.target)[0] == pytest.approx(5.0 - 0.6 * np.log(1e7), abs=0.05)


def test_a_start_from_given_optima_ends_where_they_are() -> None:
    cold = believed(CHINCHILLA, rows(slice(12)), scene(), seed=0)
    warm = believed(CHINCHILLA, rows(slice(13)), scene(), seed=1, warm=cold.values)
    again = believed(CHINCHILLA, rows(slice(13)), scene(), seed=2)
    assert warm.predict(TARGET) == pytest.approx(again.predict(TARGET), rel=0.01)


def test_starts_that_come_to_one_optimum_count_once() -> None:
    cold = believed(CHINCHILLA, rows(slice(12)), scene(), seed=0)
    twice = np.concatenate([cold.values, cold.values * (1 + 1e-6)])
    again = believed(CHINCHILLA, rows(slice(12)), scene(), seed=0, warm=twice)
    assert len(again.weights) == len(cold.weights)
    assert again.weights == pytest.approx(cold.weights, abs=0.05)


@pytest.mark.parametrize("length", LENGTHS)
def test_the_rows_tell_how_far_a_misfit_reaches(length: float) -> None:
    rng = np.random.default_rng(1)
    N, D = (np.exp(rng.uniform(*np.log(ends), 90)) for ends in ((1e7, 1e9), (1e9, 1e11)))
    pool = {"N": N, "D": D}
    where = Scene(
        pool=pool,
        target=TARGET,
        misfits=tuple(misfit_over(pool, sd=0.02, length=each) for each in LENGTHS),
    )
    own = misfit_over(pool, sd=0.06, length=length).features(pool)
    off = own @ rng.normal(size=own.shape[1]) + 0.003 * rng.normal(size=90)
    runs = Runs(features=pool, loss=truth(N, D) * np.exp(off))
    found = believed(CHINCHILLA, runs, where, seed=0).misfit
    assert found is not None and found.length == length


def test_of_optima_that_fit_alike_the_one_that_was_to_be_expected_weighs_more() -> None:
    """Any b near 0 is believable at the target, and the rows pick one of many; of those near 1
    only one is, and the rows say the same."""
    line = "3 + 0.01*b*(b - 1)*((N - 2)*(1 - b) + b*exp(N - 2))"
    apart = "2e-5*b*(N - 1)*(N - 2)*(N - 3)"  # nothing at the rows, a little at the target
    form = law_of(f"{line} + {apart}", parameters=["b"])
    N = np.array([1.0, 2.0, 3.0] * 6)
    runs = Runs(features={"N": N}, loss=np.full(18, 3.0))
    where = Scene(pool={"N": N}, target={"N": np.array([10.0])})
    belief = believed(form, runs, where, seed=0, warm=np.array([[0.0], [1.0]]))
    assert belief.values[:, 0] == pytest.approx([1.0, 0.0], abs=1e-3)
    assert belief.weights[0] > 5 * belief.weights[1]


def test_optima_that_no_row_allows_are_refused() -> None:
    line = law_of("log(N - b) + a", parameters=["a", "b"])
    with pytest.raises(FitError, match="finite loss at all rows"):
        believed(line, rows(slice(6)), scene(), seed=0, warm=np.array([[0.0, 1e12]]))


def test_nothing_to_start_from_is_said() -> None:
    with pytest.raises(FitError):
        believed(law_of("log(N - 1e20) + a", parameters=["a"]), rows(slice(6)), scene(), seed=0)


def test_the_misfit_is_a_covariance_of_its_sd() -> None:
    pool = grid()
    process = misfit_over(pool, sd=0.03)
    features = process.features(pool)
    assert np.allclose(np.sum(features**2, axis=1), 0.03**2, rtol=1e-3)
    near = process.features({"N": np.array([1e7, 1.01e7, 1e9]), "D": np.array([1e9, 1e9, 1e9])})
    products = near @ near.T / 0.03**2
    assert products[0, 1] > 0.99 > 0.6 > products[0, 2]


def test_a_law_without_a_logarithm_somewhere_is_refused_or_whole() -> None:
    """A straight line may fall below zero, where log loss has no value: never an empty belief."""
    form = law_of("a + b*log(N) + c*log(D) + d*log(N)*log(D)", parameters=["a", "b", "c", "d"])
    for count in (1, 3, 5, 9):
        try:
            belief = believed(form, rows(slice(count)), scene(), seed=0)
        except FitError:
            continue
        assert len(belief.weights) and belief.weights.sum() == pytest.approx(1.0)
