"""One suite for every surrogate: finite, honest about distance, repeatable, whatever the order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.surrogates.base import Forecaster, NoForecast, Observed, Surrogate
from orchestrator.surrogates.deep_ensemble import DeepEnsemble
from orchestrator.surrogates.families import EXPONENTIAL, LOG_LINEAR, MMF
from orchestrator.surrogates.joint_law import JointLaw
from orchestrator.surrogates.latent_gp import LatentGP
from orchestrator.surrogates.multi_task_gp import MultiTaskGP
from orchestrator.surrogates.per_curve import PerCurve
from orchestrator.values import Candidate, Curve, Forecast, Point
from tests.orchestrator.surrogates.grown import candidate, grown, ladder, observed, truth

SURROGATES: dict[str, Callable[[], Surrogate]] = {
    "joint_law": JointLaw,
    "multi_task_gp": lambda: MultiTaskGP(most_rows=60, starts=1, iterations=10),
    "latent_gp": lambda: LatentGP(most_rows=60, starts=1, iterations=12),
    "deep_ensemble": lambda: DeepEnsemble(members=3, steps=300, most_rows=60),
    "power_law": PerCurve,
    "exponential": lambda: PerCurve(family=EXPONENTIAL),
    "mmf": lambda: PerCurve(family=MMF),
    "log_linear": lambda: PerCurve(family=LOG_LINEAR),
}
SEED = 3


@pytest.fixture(params=SURROGATES)
def make(request: pytest.FixtureRequest) -> Callable[[], Surrogate]:
    return SURROGATES[request.param]


def at(
    forecaster: Forecaster, candidates: list[Candidate], share: float, draws: int = 0
) -> Forecast:
    """The forecast at a share of each candidate's horizon."""
    tokens = np.array([round(share * c.horizon) for c in candidates], dtype=np.int64)
    return forecaster.predict(candidates, tokens, draws=draws)


def trials_of(pairs: Observed) -> list[Candidate]:
    return [trial for trial, _ in pairs]


SHAPES: dict[str, Observed] = {
    "usual": observed(6, 12),
    "two points each": observed(5, 2),
    "one curve": observed(1, 12),
    "one curve of two points": observed(1, 2),
    "long curves": observed(3, 200),
    "identical configurations": [
        (replace(trial, id=f"same-{k}"), grown(trial, 8, seed=k))
        for k, trial in enumerate([candidate("t", 10**8)] * 3)
    ],
    "uneven lengths": [
        (trial, grown(trial, points, upto=points / 40))
        for trial, points in zip(ladder(5), (2, 3, 5, 9, 17), strict=True)
    ],
    "a diverged curve among them": [
        *observed(5, 10),
        (candidate("bad", 10**8), grown(candidate("bad", 10**8), 10, shift=0.8)),
    ],
    "words and rates": [
        (trial, grown(trial, 8, shift=0.02 * k))
        for k, trial in enumerate(
            candidate(f"s{k}", 10**8, settings=(("optimizer", word), ("rate", rate)))
            for k, (word, rate) in enumerate([("adam", 1e-3), ("muon", 1e-3), ("adam", 3e-3)])
        )
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_it_says_is_finite_and_its_samples_agree(
    make: Callable[[], Surrogate], shape: str
) -> None:
    pairs = SHAPES[shape]
    try:
        forecaster = make().fit(pairs, seed=SEED)
    except NoForecast as refusal:
        assert len(pairs) == 1 or any(len(curve) < 4 for _, curve in pairs), refusal
        return
    known = [trial for trial in trials_of(pairs) if forecaster.forecasts(trial)]
    assert known
    forecast = at(forecaster, known, 0.8, draws=2000)
    assert forecast.samples is not None
    assert forecast.samples.shape == (2000, len(known))
    assert np.isfinite(forecast.mean).all() and np.isfinite(forecast.samples).all()
    assert (forecast.sd > 0).all()
    error = np.abs(forecast.samples.mean(axis=0) - forecast.mean)
    assert (error <= 5 * forecast.sd / np.sqrt(2000)).all()
    assert forecast.samples.std(axis=0) == pytest.approx(forecast.sd, rel=0.15)


def test_it_is_near_a_law_that_it_can_know(make: Callable[[], Surrogate]) -> None:
    pairs = observed(6, 16, upto=0.5)
    forecast = at(make().fit(pairs, seed=SEED), trials_of(pairs), 1.0)
    ends = [float(truth(t.params, np.array([float(t.horizon)]))[0]) for t in trials_of(pairs)]
    assert forecast.mean == pytest.approx(ends, abs=0.03)


def test_the_spread_grows_with_the_horizon(make: Callable[[], Surrogate]) -> None:
    pairs = observed(6, 12, upto=0.1)
    forecaster = make().fit(pairs, seed=SEED)
    spreads = [at(forecaster, trials_of(pairs), share).sd for share in (0.1, 0.2, 0.4, 0.8, 1.0)]
    for nearer, further in itertools.pairwise(spreads):
        assert (further >= 0.98 * nearer).all()
    assert (spreads[-1] > 1.2 * spreads[0]).all()


def test_samples_are_joint(make: Callable[[], Surrogate]) -> None:
    """Two places on one curve a hair apart move together."""
    pairs = observed(6, 12, upto=0.1)
    forecaster = make().fit(pairs, seed=SEED)
    first = pairs[0][0]
    tokens = np.array([first.horizon, first.horizon - first.horizon // 1000], dtype=np.int64)
    samples = forecaster.predict([first, first], tokens, draws=500).samples
    assert samples is not None
    assert float(np.asarray(np.corrcoef(samples.T))[0, 1]) > 0.98


def test_the_order_of_arrival_changes_nothing(make: Callable[[], Surrogate]) -> None:
    pairs = list(observed(6, 10))
    shuffled = pairs.copy()
    random.Random(1).shuffle(shuffled)
    asked = trials_of(pairs)
    here = at(make().fit(pairs, seed=SEED), asked, 1.0)
    there = at(make().fit(shuffled, seed=SEED), asked, 1.0)
    assert there.mean == pytest.approx(here.mean, abs=1e-6)
    assert there.sd == pytest.approx(here.sd, abs=1e-6)


def test_the_order_and_company_of_queries_changes_nothing(make: Callable[[], Surrogate]) -> None:
    pairs = observed(5, 10)
    forecaster = make().fit(pairs, seed=SEED)
    asked = trials_of(pairs)
    all_at_once = at(forecaster, asked, 1.0)
    alone = at(forecaster, [asked[3]], 1.0)
    assert alone.mean[0] == pytest.approx(all_at_once.mean[3], abs=1e-9)
    assert alone.sd[0] == pytest.approx(all_at_once.sd[3], abs=1e-9)


def test_the_same_input_gives_the_same_forecast(make: Callable[[], Surrogate]) -> None:
    pairs = observed(4, 8)
    asked = trials_of(pairs)
    random.seed(5)
    np.random.seed(5)
    once = at(make().fit(pairs, seed=SEED), asked, 1.0, draws=10)
    random.seed(6)
    np.random.seed(6)
    forecaster = make().fit(pairs, seed=SEED)
    twice, again = (at(forecaster, asked, 1.0, draws=10) for _ in range(2))
    for other in (twice, again):
        assert np.array_equal(once.mean, other.mean)
        assert np.array_equal(once.sd, other.sd)
        assert once.samples is not None and other.samples is not None
        assert np.array_equal(once.samples, other.samples)


def test_no_global_randomness_is_touched(make: Callable[[], Surrogate]) -> None:
    torch = pytest.importorskip("torch")
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    threads, kind = torch.get_num_threads(), torch.get_default_dtype()
    pairs = observed(4, 8)
    at(make().fit(pairs, seed=SEED), trials_of(pairs), 1.0, draws=10)
    after = random.getstate(), np.random.get_state(), torch.get_rng_state()
    assert before[0] == after[0]
    assert all(np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True))
    assert torch.equal(before[2], after[2])
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, kind)


def test_nothing_to_go_by_is_refused(make: Callable[[], Surrogate]) -> None:
    with pytest.raises(NoForecast, match="point"):
        make().fit([], seed=SEED)
    with pytest.raises(NoForecast, match="point"):
        make().fit([(trial, Curve()) for trial in ladder(3)], seed=SEED)


def test_a_candidate_that_never_started_is_forecast_or_refused(
    make: Callable[[], Surrogate],
) -> None:
    pairs = observed(6, 12, upto=0.5)
    forecaster = make().fit(pairs, seed=SEED)
    unseen = candidate("unseen", 150_000_000)
    if not forecaster.forecasts(unseen):
        with pytest.raises(NoForecast, match="unseen"):
            at(forecaster, [unseen], 1.0)
        return
    forecast = at(forecaster, [pairs[2][0], unseen], 1.0)
    end = float(truth(1.5e8, np.array([float(unseen.horizon)]))[0])
    assert forecast.mean[1] == pytest.approx(end, abs=0.06)
    assert forecast.sd[1] > forecast.sd[0]


def test_a_loss_without_logarithm_is_named(make: Callable[[], Surrogate]) -> None:
    trial = candidate("sunk", 10**8)
    points = [Point(tokens=10**6 * k, flops=6e14 * k, loss=1.0 - 0.5 * k) for k in range(1, 5)]
    with pytest.raises(NoForecast, match="sunk"):
        make().fit([(trial, Curve.of(points))], seed=SEED)
