"""Gains against the closed form, and purchases that are never dearer than what is left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.policies.buying import Teaching, begun_with, cheapest, greedy, in_order
from tests.orchestrator.policies.markets import market

RNG = np.random.default_rng(3)
OFFERS, TARGET = RNG.normal(size=(12, 5)), RNG.normal(size=(3, 5))
NOISE = 0.7


def left(rows: np.ndarray) -> np.ndarray:
    """The covariance of the weights after observing rows."""
    return np.linalg.inv(np.eye(5) + rows.T @ rows / NOISE**2)


def variance(rows: np.ndarray) -> float:
    return float(np.mean(np.einsum("tf,fg,tg->t", TARGET, left(rows), TARGET)))


def test_gains_are_what_the_exact_posterior_says_also_after_purchases() -> None:
    teaching = Teaching(OFFERS, TARGET, outputs=1, noise=NOISE)
    seen: list[int] = []
    for bought in (4, 7, 4):
        before = variance(OFFERS[seen])
        after = [variance(OFFERS[[*seen, k]]) for k in range(12)]
        assert teaching.gains() == pytest.approx(before - np.array(after))
        teaching.buy(bought)
        seen.append(bought)
    assert teaching.half_width == pytest.approx(1.645 * np.sqrt(variance(OFFERS[seen])))


def test_an_offer_of_several_outputs_teaches_what_all_its_rows_teach() -> None:
    teaching = Teaching(OFFERS, TARGET, outputs=3, noise=NOISE)
    blocks = OFFERS.reshape(3, 4, 5)
    after = [variance(blocks[:, k]) for k in range(4)]
    assert teaching.gains() == pytest.approx(variance(OFFERS[:0]) - np.array(after))
    teaching.buy(2)
    both = [variance(np.concatenate([blocks[:, 2], blocks[:, k]])) for k in range(4)]
    assert teaching.gains() == pytest.approx(after[2] - np.array(both))


def test_knowledge_is_the_fall_of_the_entropy() -> None:
    teaching = Teaching(OFFERS, TARGET, outputs=1, noise=NOISE)
    teaching.buy(1)
    fall = [-np.linalg.slogdet(left(OFFERS[[1, k]]))[1] for k in range(12)]
    assert teaching.knowledge() == pytest.approx(
        np.array(fall) + np.linalg.slogdet(left(OFFERS[[1]]))[1]
    )


def test_greedy_stays_within_what_is_left_and_buys_one_length_of_a_run() -> None:
    now, free = market([], budget=0.02, places=20)
    now = replace(now, owner=now.owner // 2)
    rng = np.random.default_rng(0)
    teaching = Teaching(
        rng.normal(size=(len(free), 4)), rng.normal(size=(2, 4)), outputs=1, noise=0.1
    )
    picks = greedy(now, teaching).picks
    assert picks
    assert sum(now.cost[pick.offer] for pick in picks) <= now.affordable
    assert len({int(now.owner[pick.offer]) for pick in picks}) == len(picks)


def test_no_market_is_overspent_and_no_run_bought_at_two_lengths() -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(5, 60))
        cost = np.exp(2.0 * rng.normal(size=count))
        now, _ = market([], places=int(rng.integers(1, 12)))
        now = replace(now, cost=cost, owner=rng.integers(0, count, size=count))
        now = replace(now, affordable=float(rng.uniform(0.02, 0.6) * cost.sum()))
        offers, target = rng.normal(size=(count, 6)), rng.normal(size=(3, 6))
        first = greedy(now, Teaching(offers, target, outputs=1, noise=0.3))
        again = greedy(now, Teaching(offers, target, outputs=1, noise=0.3))
        bought = [pick.offer for pick in first.picks]
        assert first == again and bool(bought) == bool((cost <= now.affordable).any())
        assert cost[bought].sum() <= now.affordable and len(bought) <= now.places
        assert len({int(now.owner[offer]) for offer in bought}) == len(bought)


def test_enough_and_not_worth_it_are_said() -> None:
    now, free = market([], places=2)
    offers = np.full((len(free), 1), 0.01)
    narrow = greedy(now, Teaching(offers, offers[:1], outputs=1, noise=1.0), enough=0.5)
    assert not narrow.picks and narrow.ended is not None and "0.5 was asked" in narrow.ended
    poor = greedy(now, Teaching(offers, offers[:1], outputs=1, noise=9.0), least_rate=1.0)
    assert not poor.picks and poor.ended is not None and "not worth its cost" in poor.ended


def test_a_start_takes_the_first_whatever_it_costs_and_then_its_share() -> None:
    now, _ = market([], places=36)
    cheapest = float(now.cost.min())
    assert len(begun_with(now, runs=5, share=0.0, why="a start").picks) == 1
    picks = begun_with(now, runs=5, share=1.0, why="a start").picks
    assert len(picks) == 5 and now.cost[picks[0].offer] == cheapest
    tight = replace(now, affordable=cheapest / 2)
    assert not begun_with(tight, runs=5, share=1.0, why="a start").picks


def test_a_margin_that_is_kept_back_is_not_spent_on_the_start() -> None:
    now, _ = market([0, 1], budget=0.05, places=1)
    kept = replace(now, affordable=0.6 * now.affordable, held=0.4 * now.affordable)
    assert kept.spent == pytest.approx(now.spent) and kept.spent < 0.01 * now.budget
    for least in (now, kept):
        assert len(begun_with(least, runs=9, share=0.25, why="a start").picks) == 1
    gone = replace(kept, held=0.0)
    assert not begun_with(gone, runs=9, share=0.25, why="a start").picks


def test_an_order_passes_over_what_does_not_fit() -> None:
    now, _ = market([], budget=0.02, places=36)
    order = np.argsort(-now.cost)
    picks = in_order(now, order, "the dearest first").picks
    spent = float(sum(now.cost[pick.offer] for pick in picks))
    rest = np.setdiff1d(np.arange(len(now.cost)), [pick.offer for pick in picks])
    assert spent <= 0.02 < spent + float(now.cost[rest].min())


def test_a_start_buys_each_run_once_as_long_as_an_even_part_of_its_share_pays_for() -> None:
    now, _ = market([], places=2)
    # Each owner's 4 lengths cost 1, 2, 4 and 8 times its size.
    size = np.repeat(np.arange(1.0, 10.0), 4)
    now = replace(
        now,
        owner=np.repeat(np.arange(9), 4),
        cost=size * np.tile([1.0, 2.0, 4.0, 8.0], 9),
        budget=200.0,
        affordable=200.0,
        total=float(size.sum() * 15 / 4),
    )
    picks = begun_with(now, runs=5, share=0.25, why="a start").picks
    # 50 for 5 runs: 10 each, so the smallest is trained to its end at once, the next to a half.
    assert [(pick.offer // 4, pick.offer % 4) for pick in picks] == [(0, 3), (1, 2)]
    # Size 9 has not begun, so it goes before a longer length of those that have.
    seen, _ = market([0, 1, 2, 3], places=1)
    known = seen.known
    assert known is not None
    later = replace(
        now, known=replace(known, trial=np.arange(4)), known_cost=np.ones(4), affordable=160.0
    )
    last = begun_with(later, runs=5, share=0.25, why="a start").picks
    assert [pick.offer // 4 for pick in last] == [4]


def test_what_is_worth_its_cost_is_bought_though_a_dearer_one_gains_more() -> None:
    # The first offer gains more per cost^0.4, and costs .9 of the budget to save a quarter.
    offers, target = np.array([[1.0, 0.0], [0.0, 0.12]]), np.array([[1.0, 1.0]])
    now, _ = market([], budget=1.0, places=1)
    now = replace(now, cost=np.array([0.9, 0.01]), owner=np.array([0, 1]))

    def teaching() -> Teaching:
        return Teaching(offers, target, outputs=1, noise=0.3)

    assert [pick.offer for pick in greedy(now, teaching()).picks] == [0]
    assert [pick.offer for pick in greedy(now, teaching(), least_rate=1.0).picks] == [1]
    saved = teaching().savings()
    bought = teaching()
    bought.buy(1)
    assert saved[1] == pytest.approx(1 - bought.half_width / teaching().half_width)
    stopped = greedy(now, teaching(), least_rate=10.0)
    assert (
        not stopped.picks
        and stopped.ended is not None
        and "for its cost, 1.00e-2 FLOPs" in stopped.ended
    )


def test_a_run_that_flies_and_is_known_has_begun_once() -> None:
    now, _ = market([0, 1, 2], budget=1.0, flying=[2, 3])
    assert now.begun == {0, 1, 2, 3}


def test_a_longer_length_begins_no_run() -> None:
    now, _ = market([0, 1], budget=1.0, places=2)
    now = replace(now, owner=now.owner % 2)
    assert not begun_with(now, runs=5, share=1.0, why="a start").picks
    last = cheapest(now, "no law yet").picks
    assert len(last) == 1 and now.cost[last[0].offer] == now.cost.min()
