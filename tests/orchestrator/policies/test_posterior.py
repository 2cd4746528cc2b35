"""Beliefs of several forms as one: what a form without a value somewhere takes from the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from threadpoolctl import threadpool_info, threadpool_limits

from orchestrator.laws.errors import FitError
from orchestrator.laws.forms.base import LawForm
from orchestrator.laws.forms.chinchilla import CHINCHILLA
from orchestrator.laws.forms.line import law_of
from orchestrator.laws.runs import Runs
from orchestrator.laws.scarce import Belief, believed
from orchestrator.policies import posterior
from orchestrator.policies.active import Active
from orchestrator.policies.buying import Market, Teaching
from orchestrator.policies.posterior import TRUST, Learner, Posterior
from tests.orchestrator.policies.markets import market

density = posterior._density  # pyright: ignore[reportPrivateUsage]
OTHER = law_of("a + b*log(N) + c*log(D)", parameters=["a", "b", "c"])


@dataclass(frozen=True, slots=True)
class Gapped:
    """A belief that has no value where N is in a range."""

    whole: Belief
    low: float
    high: float

    @property
    def noise(self) -> float:
        return self.whole.noise

    @property
    def weights(self) -> np.ndarray:
        return self.whole.weights

    def _gaps(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return (inputs["N"] >= self.low) & (inputs["N"] <= self.high)

    def said(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.where(self._gaps(inputs), np.nan, self.whole.said(inputs))

    def predict(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.where(self._gaps(inputs), np.nan, self.whole.predict(inputs))

    def features(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        found = self.whole.features(inputs)
        found[self._gaps(inputs), 0] = np.inf
        return found


def known(places: int = 3) -> Market:
    return market(list(range(0, 36, 2)), budget=1.0, places=places)[0]


@pytest.fixture(scope="module")
def both() -> Posterior:
    return Learner(forms=(CHINCHILLA, OTHER)).learn(known())


def gapped(both: Posterior, form: int, low: float, high: float) -> Posterior:
    beliefs: list[object] = list(both.beliefs)
    beliefs[form] = Gapped(both.beliefs[form], low, high)
    return Posterior(beliefs=tuple(beliefs), weights=both.weights)  # type: ignore[arg-type]


def test_a_belief_is_made_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def watched(*args: Any, **kwargs: Any) -> Belief:
        counts.extend(pool["num_threads"] for pool in threadpool_info())
        return believed(*args, **kwargs)

    def teaching(*args: Any, **kwargs: Any) -> Teaching:
        counts.extend(pool["num_threads"] for pool in threadpool_info())
        return Teaching(*args, **kwargs)

    monkeypatch.setattr(posterior, "believed", watched)
    monkeypatch.setattr(posterior, "Teaching", teaching)
    learner = Learner(forms=(CHINCHILLA,))
    with threadpool_limits(limits=2, user_api="blas"):
        for work in (lambda: learner.told(known()), lambda: learner.learn(known())):
            found = work()
            assert counts and set(counts) == {1}
            counts.clear()
        found.teaching(known())
    assert counts and set(counts) == {1}


def test_a_gap_of_one_form_at_one_offer_leaves_the_others_as_they_were(both: Posterior) -> None:
    now = known()
    size = float(np.unique(now.offers["N"])[-1])
    whole, less = both.teaching(now), gapped(both, 1, size, size).teaching(now)
    gap = now.offers["N"] == size
    assert less.half_width == pytest.approx(whole.half_width)
    assert less.gains()[~gap] == pytest.approx(whole.gains()[~gap])
    assert (less.gains()[gap] > 0).all()  # the other form still learns there
    for offer in (int(np.flatnonzero(~gap)[0]), int(np.flatnonzero(gap)[0])):
        expected = less.expected(offer)
        assert (expected is None) == bool(gap[offer])
        assert expected is None or expected == pytest.approx(whole.expected(offer))


def test_a_form_without_a_value_at_the_target_is_left_out(both: Posterior) -> None:
    now = known()
    alone = Posterior(beliefs=both.beliefs[:1], weights=(1.0,))
    less = gapped(both, 1, 1e9, np.inf)
    assert less.teaching(now).half_width == pytest.approx(alone.teaching(now).half_width)
    assert less.teaching(now).gains() == pytest.approx(alone.teaching(now).gains())


def test_no_value_at_any_offer_or_at_the_target_is_told(both: Posterior) -> None:
    now = known()
    one = Posterior(beliefs=both.beliefs[1:], weights=(1.0,))
    with pytest.raises(FitError, match="at any of the runs that could be bought"):
        gapped(one, 0, 0.0, 1e9).teaching(now)
    with pytest.raises(FitError, match="no law has a value at the target"):
        gapped(one, 0, 1e9, np.inf).teaching(now)


def test_what_has_a_value_has_to_be_affordable(both: Posterior) -> None:
    """The cheapest size alone has a value, and costs more than is left."""
    now = known()
    sizes = np.unique(now.offers["N"])
    one = gapped(Posterior(beliefs=both.beliefs[1:], weights=(1.0,)), 0, sizes[1] - 1.0, 1e9)
    valued = now.offers["N"] == sizes[0]
    assert (one.teaching(now).gains()[valued] > 0).all()
    poor = replace(now, affordable=0.9 * float(now.cost[valued].min()))
    with pytest.raises(FitError, match="at any of the runs that could be bought"):
        one.teaching(poor)


def test_an_offer_of_two_outputs_has_a_value_where_one_of_them_has(both: Posterior) -> None:
    """Inputs stand output by output: the second one of the smallest size alone has a value."""
    now = market(list(range(0, 36, 2)), budget=1.0, outputs=2)[0]
    size = now.offers["N"][: len(now.cost)]
    smallest = size == size.min()
    second = np.where(smallest, size, 1e12)
    now = replace(now, offers={**now.offers, "N": np.concatenate([0.0 * size + 1e12, second])})
    one = gapped(Posterior(beliefs=both.beliefs[1:], weights=(1.0,)), 0, 1e12, 1e12)
    able = replace(now, cost=np.where(smallest, 1.0, 9.0), affordable=2.0)
    gains = one.teaching(able).gains()
    assert (gains[smallest] > 0).all() and not gains[~smallest].any()
    with pytest.raises(FitError, match="at any of the runs that could be bought"):
        one.teaching(replace(now, cost=np.where(smallest, 9.0, 1.0), affordable=2.0))


def test_one_gap_does_not_turn_a_choice_to_the_cheapest(
    both: Posterior, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = known(places=1)
    rule = Active(learner=Learner(forms=(CHINCHILLA, OTHER)))
    first = rule.choose(now).picks[0]
    other = float(now.offers["N"][now.offers["N"] != now.offers["N"][first.offer]].max())
    broken = gapped(both, 1, other, other)
    monkeypatch.setattr(Learner, "learn", lambda self, market: broken)
    again = rule.choose(now).picks[0]
    assert "half-width at the target" in again.why and again.offer == first.offer


@dataclass(frozen=True, slots=True)
class Foreseeing:
    """A belief of some rows that is off by `gap` of log loss, and as wide as `width`."""

    whole: Belief
    gap: float
    width: float

    @property
    def noise(self) -> float:
        return self.width

    @property
    def in_logs(self) -> bool:
        return self.whole.in_logs

    @property
    def weights(self) -> np.ndarray:
        return self.whole.weights

    def said(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return self.whole.said(inputs) + self.gap

    def features(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return 0.0 * self.whole.features(inputs)


def weighed(
    monkeypatch: pytest.MonkeyPatch, *, gaps: tuple[float, float], widths: tuple[float, float]
) -> Posterior:
    """The posterior of two forms of which what foresees the dearest rows is off and wide so."""
    now = known()
    rows = len(now.known.loss) if now.known is not None else 0

    def early(form: LawForm, runs: Runs, *args: Any, **options: Any) -> Belief:
        number = (CHINCHILLA, OTHER).index(form)
        whole = believed(form, runs, *args, **options)
        if len(runs) == rows:
            return whole
        return Foreseeing(whole, gaps[number], widths[number])  # type: ignore[return-value]

    monkeypatch.setattr(posterior, "believed", early)
    return Learner(forms=(CHINCHILLA, OTHER)).told(now)


def early_belief() -> tuple[Belief, Runs]:
    """Of some rows, and further ones that it has not seen."""
    now = known()
    assert now.known is not None
    scene = posterior.scene_of(now, misfit=0.02)
    early = believed(CHINCHILLA, now.known.take(np.arange(10)), scene, seed=0)
    return early, now.known.take(np.arange(10, 18))


def test_the_density_is_that_of_the_normal_that_the_belief_is() -> None:
    early, rows = early_belief()
    spread = early.features(rows.features) @ early.features(rows.features).T
    normal = multivariate_normal(cov=spread + early.noise**2 * np.eye(8))
    away = np.log(rows.loss) - early.weights @ early.said(rows.features)
    same = 4.0 * np.log(2.0 * np.pi)
    assert density(early, rows) == pytest.approx(normal.logpdf(away) + same)


def test_a_run_that_was_evaluated_often_weighs_as_one() -> None:
    """Rows that say the same six times, at a sixth of the weight, whatever the noise is."""
    early, rows = early_belief()
    often = Runs(
        features={name: np.repeat(column, 6) for name, column in rows.features.items()},
        loss=np.repeat(rows.loss, 6),
        trial=np.repeat(rows.trial, 6),
        weight=np.full(48, 1.0 / 6.0),
    )
    for noise in (0.003, 0.01, 0.1):
        belief = replace(early, noise=noise)
        once = density(belief, rows) - 24.0 * np.log(6.0)
        assert density(belief, often) == pytest.approx(once, abs=1e-3)


def test_a_belief_so_wide_that_rounding_loses_the_noise_foresees_nothing() -> None:
    early, rows = early_belief()
    for width in (1e20, 1e200):

        def features(_: Mapping[str, np.ndarray], width: float = width) -> np.ndarray:
            return np.full((8, 1), width)

        wide: Any = SimpleNamespace(
            weights=early.weights, said=early.said, features=features, noise=0.01, in_logs=True
        )
        assert density(wide, rows) == -np.inf


def test_forms_are_weighed_by_the_rows_at_which_optima_were_last_looked_for() -> None:
    """The first 17 of 18 to 25; of 27, the first 25."""
    rows = list(range(0, 36, 2)) + list(range(1, 20, 2))
    few, more, afresh = (market(rows[:count], budget=1.0)[0] for count in (18, 25, 27))
    learner = Learner(forms=(CHINCHILLA, OTHER))
    weights = learner.learn(few).weights
    assert Learner(forms=(CHINCHILLA, OTHER)).learn(more).weights == weights
    assert learner.learn(afresh).weights != weights


def test_a_form_that_knew_that_it_did_not_know_outweighs_one_that_was_sure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = weighed(monkeypatch, gaps=(0.2, 0.3), widths=(0.01, 0.3))
    assert found.weights == pytest.approx(((1 - TRUST) / 2, (1 + TRUST) / 2), abs=1e-6)


def test_of_two_as_sure_the_nearer_weighs_more(monkeypatch: pytest.MonkeyPatch) -> None:
    found = weighed(monkeypatch, gaps=(0.0, 0.3), widths=(0.1, 0.1))
    assert found.weights == pytest.approx(((1 + TRUST) / 2, (1 - TRUST) / 2), abs=0.01)


def test_forms_weigh_alike_where_none_foresees(monkeypatch: pytest.MonkeyPatch) -> None:
    found = weighed(monkeypatch, gaps=(np.nan, np.nan), widths=(0.1, 0.1))
    assert found.weights == (0.5, 0.5)


def test_a_form_that_foresees_nothing_keeps_its_even_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = weighed(monkeypatch, gaps=(0.0, np.nan), widths=(0.1, 0.1))
    assert found.weights == pytest.approx(((1 + TRUST) / 2, (1 - TRUST) / 2))


def test_the_same_form_twice_shares_alike() -> None:
    twice = Learner(forms=(CHINCHILLA, CHINCHILLA)).told(known())
    assert twice.weights == pytest.approx((0.5, 0.5))
