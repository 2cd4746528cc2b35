"""What is for sale, what is known, and what observing an offer does to a belief.

A belief is a normal distribution given by features whose products are covariances. With x of an
offer and t of the target, observing the offer lowers the variance at the target by
cov(t, x)^2 / (var(x) + noise^2), or its like for several outputs. A batch is bought one by one,
each on the belief that the ones before it have left: that needs no observation, only that there
will be one. What is in flight is taken for observed first. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.runs import Runs
from orchestrator.values import FloatArray, IntArray, flops_in_words

COST_EXPONENT = 0.4
"""A gain is divided by the cost to this power (arXiv 2604.22753)."""
HALF_90 = 1.645
"""Half-width of a normal's central 90 % interval, in sd."""


def _in_flops(amount: float) -> str:
    return f"{flops_in_words(amount)} FLOPs"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Market:
    """Offers and knowledge as arrays. An offer is one run to one length; all of Q offers have the
    same number of outputs, and their inputs stand output by output.

    offers: inputs by name (outputs * Q,). cost (Q,), above zero. owner (Q,): offers of one owner
    are lengths of one run, of which one is bought; it is the trial of the rows known of that run.
    affordable: what may be spent now; held: what is kept back beside it, not spent either. budget:
    of the whole sweep; total: what all that could be run would cost. places: how many may be
    bought now. known: rows seen, None before the first; known_cost (rows,): what the run of a row
    cost. flying: inputs of rows on their way; flying_owner: of each run there. target: inputs
    where the law must be right. everywhere: inputs of all that could ever be run. seed: of this
    decision; sweep_seed: of all of them. said: an amount in the unit of cost and budget, in words.
    """

    offers: Mapping[str, FloatArray]
    cost: FloatArray
    owner: IntArray
    affordable: float
    budget: float
    total: float
    places: int
    known: Runs | None
    known_cost: FloatArray
    flying: Mapping[str, FloatArray]
    target: Mapping[str, FloatArray]
    everywhere: Mapping[str, FloatArray]
    outputs: int
    seed: int
    sweep_seed: int
    flying_owner: tuple[int, ...] = ()
    held: float = 0.0
    said: Callable[[float], str] = _in_flops

    @property
    def spent(self) -> float:
        """Of the budget, what is gone or on its way."""
        return self.budget - self.affordable - self.held

    @property
    def seen(self) -> int:
        """Runs that are known."""
        return 0 if self.known is None else self.known.trials

    @property
    def in_flight(self) -> int:
        """Runs on their way."""
        return len(next(iter(self.flying.values()), ())) // self.outputs

    @property
    def begun(self) -> frozenset[int]:
        """Owners of the runs that are known, on their way, or both."""
        known = () if self.known is None else self.known.trial.tolist()
        return frozenset((*map(int, known), *self.flying_owner))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """An offer by its number, and why in words. before, after: the expected half-width (90 %, of
    log loss, or of the loss where it may be negative) at the target; loss, sd: what is expected
    of the run, sd of log loss. None where nothing is known."""

    offer: int
    why: str
    before: float | None = None
    after: float | None = None
    loss: float | None = None
    sd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is bought now, in order; where nothing more is worth it at all, why."""

    picks: tuple[Pick, ...] = ()
    ended: str | None = None


class Rule(Protocol):
    """Chooses among offers. A pure function of the market."""

    @property
    def name(self) -> str: ...

    def choose(self, market: Market) -> Choice:
        """At most `places` offers, together within what is affordable."""
        ...


def in_order(market: Market, order: NDArray[np.intp], why: str) -> Choice:
    """The first offers in this order that can be afforded together, one an owner."""
    picks: list[Pick] = []
    taken: set[int] = set()
    left = market.affordable
    for offer in (int(number) for number in order):
        if len(picks) == market.places:
            break
        cost, owner = float(market.cost[offer]), int(market.owner[offer])
        if cost <= left and owner not in taken:
            picks.append(Pick(offer=offer, why=why))
            taken.add(owner)
            left -= cost
    return Choice(picks=tuple(picks))


def begun_with(market: Market, *, runs: int, share: float, why: str) -> Choice:
    """The cheapest offers of runs that have not begun, until `runs` have or a share of the budget
    is used; the very first whatever it costs.

    Where a run is offered at several lengths, it is bought once, as long as an even part of that
    share pays for: no run is begun in halves, and a longer length of one is no further run.
    """
    spent, picks = market.spent, list[Pick]()
    begun = market.begun
    even = (share * market.budget - spent) / max(1, runs - len(begun)) if share < 1 else 0.0
    for pick in in_order(market, _new_and_long(market, even), why).picks:
        spent += float(market.cost[pick.offer])
        first = not picks and not begun
        if len(begun) + len(picks) >= runs or (spent > share * market.budget and not first):
            break
        picks.append(pick)
    return Choice(picks=tuple(picks))


def _new_and_long(market: Market, even: float) -> NDArray[np.intp]:
    """Of each run that has not begun, the cheapest first, the longest offer that costs `even` at
    most, or its cheapest."""
    begun, lengths = market.begun, dict[int, list[int]]()
    for offer in np.argsort(market.cost, kind="stable").tolist():
        owner = int(market.owner[offer])
        if owner not in begun:
            lengths.setdefault(owner, []).append(offer)
    paid = [[o for o in offers if market.cost[o] <= even] for offers in lengths.values()]
    cheapest = [offers[0] for offers in lengths.values()]
    chosen = [able[-1] if able else first for able, first in zip(paid, cheapest, strict=True)]
    return np.array(chosen, dtype=np.intp)


def cheapest(market: Market, why: str) -> Choice:
    """The one offer of least cost, of runs that are not begun where there are any."""
    fresh = begun_with(market, runs=len(market.begun) + 1, share=1.0, why=why)
    if fresh.picks:
        return fresh
    return Choice(picks=in_order(market, np.argsort(market.cost, kind="stable"), why).picks[:1])


class Teaching:
    """What observations of offers do to the belief at the target."""

    def __init__(
        self,
        offers: FloatArray,
        target: FloatArray,
        *,
        outputs: int,
        noise: float,
        loss: FloatArray | None = None,
    ) -> None:
        """offers (outputs * Q, F) and target (T, F): features. noise: sd of an observation. loss
        (outputs * Q,): expected of the offers, not finite where nobody says."""
        self._loss = loss
        self._offers, self._target = offers, target
        self._outputs, self._noise = outputs, noise**2
        blocks = offers.reshape(outputs, -1, offers.shape[1])
        self._across = offers @ target.T
        self._blocks = np.einsum("aqf,bqf->qab", blocks, blocks)
        self._variance = np.sum(target**2, axis=1)
        self._learnt: list[FloatArray] = []

    @property
    def half_width(self) -> float:
        """Of the 90 % interval at the target: of the mean variance there."""
        return HALF_90 * math.sqrt(float(self._variance.mean()))

    def gains(self) -> FloatArray:
        """(Q,): by how much each offer would lower the target's mean variance."""
        across = self._across.reshape(self._outputs, -1, len(self._variance))
        if self._outputs == 1:
            squares = np.sum(across[0] ** 2, axis=1)
            return squares / (self._blocks[:, 0, 0] + self._noise) / len(self._variance)
        joint = self._blocks + self._noise * np.eye(self._outputs)
        squares = np.einsum("aqt,bqt->qab", across, across)
        moved = np.asarray(np.linalg.solve(joint, squares), dtype=np.float64)
        return np.trace(moved, axis1=1, axis2=2) / len(self._variance)

    def savings(self) -> FloatArray:
        """(Q,): the share of the half-width at the target that each offer would save."""
        left = 1.0 - self.gains() / max(float(self._variance.mean()), 1e-300)
        return 1.0 - np.sqrt(np.maximum(left, 0.0))

    def expected(self, offer: int) -> tuple[float, float] | None:
        """Loss expected of an offer of one output, and the sd of an observation of it. None where
        a form has no value there."""
        if self._loss is None or self._outputs > 1 or not math.isfinite(self._loss[offer]):
            return None
        return float(self._loss[offer]), math.sqrt(float(self._blocks[offer, 0, 0]) + self._noise)

    def knowledge(self) -> FloatArray:
        """(Q,): log det(1 + covariance / noise^2) of each offer, twice what it tells of the
        belief as a whole, in nats."""
        joint = np.eye(self._outputs) + self._blocks / self._noise
        return np.linalg.slogdet(joint)[1]

    def buy(self, offer: int) -> None:
        """Let all outputs of an offer be observed."""
        for row in self._offers.reshape(self._outputs, -1, self._offers.shape[1])[:, offer]:
            self.observe(row)

    def observe(self, row: FloatArray) -> None:
        """Let a row with these features (F,) be observed."""
        left = row
        for known in self._learnt:
            left = left - known * float(known @ row)
        known = left / math.sqrt(max(float(row @ left), 0.0) + self._noise)
        self._learnt.append(known)
        at_offers, at_target = self._offers @ known, self._target @ known
        split = at_offers.reshape(self._outputs, -1)
        self._across = self._across - np.outer(at_offers, at_target)
        self._blocks = self._blocks - np.einsum("aq,bq->qab", split, split)
        self._variance = np.maximum(self._variance - at_target**2, 0.0)


def greedy(
    market: Market,
    teaching: Teaching,
    *,
    by_knowledge: bool = False,
    enough: float | None = None,
    least_rate: float = 0.0,
) -> Choice:
    """The offers of most gain per cost^0.4, one by one, each on the belief that those before it
    have left.

    by_knowledge: gain is what an offer tells of the whole belief, not of the target. enough: the
    half-width at which nothing more is bought. least_rate: the least share of the half-width that
    a purchase must be expected to save for each share of the budget that it costs.
    """
    free = np.ones(len(market.cost), dtype=np.bool_)
    price = market.cost**COST_EXPONENT
    left, picks = market.affordable, list[Pick]()
    while len(picks) < market.places:
        before = teaching.half_width
        if enough is not None and before <= enough:
            why = (
                f"the half-width at the target is {before:.3g} (90 %, of log loss), at most "
                f"{enough:g} was asked for"
            )
            return Choice(picks=tuple(picks), ended=None if picks else why)
        able = free & (market.cost <= left)
        if not able.any():
            break
        gains = teaching.knowledge() if by_knowledge else teaching.gains()
        worth = able
        if least_rate > 0:
            rate = teaching.savings() * market.budget / market.cost
            worth = able & (rate >= least_rate)
            if not worth.any():
                best = int(np.argmax(np.where(able, rate, -math.inf)))
                why = _worthless(market, best, teaching, least_rate)
                return Choice(picks=tuple(picks), ended=None if picks else why)
        offer = int(np.argmax(np.where(worth, gains / price, -math.inf)))
        loss, sd = teaching.expected(offer) or (None, None)
        teaching.buy(offer)
        after, cost = teaching.half_width, float(market.cost[offer])
        what = "what it tells of the law" if by_knowledge else "what it takes off its square"
        why = (
            f"expected half-width at the target {before:.3g} -> {after:.3g} (90 %, of log loss): "
            f"the best buy of {int(worth.sum())} on offer by {what} for its cost^{COST_EXPONENT:g}"
        )
        picks.append(Pick(offer=offer, why=why, before=before, after=after, loss=loss, sd=sd))
        free &= market.owner != market.owner[offer]
        left -= cost
    return Choice(picks=tuple(picks))


def _worthless(market: Market, offer: int, teaching: Teaching, least_rate: float) -> str:
    """That not even the offer that saves most for its cost is worth it, in words."""
    cost, saved = float(market.cost[offer]), float(teaching.savings()[offer])
    return (
        f"what saves most for its cost, {market.said(cost)}, is expected to save "
        f"{100 * saved:.2g} % of the half-width at the target, {teaching.half_width:.3g}: not "
        f"worth its cost, {100 * cost / market.budget:.2g} % of the budget "
        f"(policy.worth {least_rate:g})"
    )
