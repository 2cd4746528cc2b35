"""Designs on curves: which runs to train how far, so that a normal belief is surest at a target.

A place is a candidate after some tokens; training a candidate to a length shows the loss at every
place up to it, of which the early ones teach little and are left out. With t the target and r the
places that a purchase shows, it lowers the variance at the target by cov(t, r) (cov(r, r) +
noise)^-1 cov(r, t), whatever the losses turn out to be: so a whole plan can be made before any of
it is bought, each purchase on the belief that those before it leave (V-optimal design, Fedorov
1972; greedy with deflation as in Krause, Singh and Guestrin 2008, JMLR 9:235). Touches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from orchestrator.values import Candidate, FloatArray, IntArray

Aim: TypeAlias = Literal["target", "knowledge"]

SHOWN = 4
"""Places of a purchase that teach: the last ones, where places stand evenly in log tokens."""
POWER = 0.4
"""A gain is divided by its cost to this power (arXiv 2604.22753; on curves too: dividing by the
cost itself buys the short and misleading, and a plan's own variance does not tell: of plans by
the powers 0, .2 and .4 the one that ends surest stakes all on few runs, and is worse at 10 % of
the pool's cost, error .066 -> .075 on 120 generated worlds)."""
REACHED = 0.95
"""A plan that also takes runs as far as the budget reaches, instead of to their usual lengths, is
followed where it leaves at most this share of the usual plan's sd at the target. Small budgets
reach the usual lengths of small models alone, which leaves what size does unknown; large ones
lose nothing by rounding, and a short run misleads by more than a belief says. (Generated worlds
and inside the first halves of recorded curves: before the second run the share is .79 to .97 at 1
and 2 % of the pool's cost, .96 to 1 at 5 and 10 %.)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A candidate that can be trained on: to which `lengths` (tokens, increasing), and how many
    of them, the first `done`, are behind it already; `tokens` it has. `reach`: the number of the
    length that is none of the usual ones, but what the budget reaches, or where a candidate on its
    way is going."""

    candidate: Candidate
    lengths: tuple[int, ...]
    done: int
    tokens: int
    reach: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Train the candidate number `who` on to its length number `length`, for `flops` more, at a
    `price` in the unit of the budget."""

    who: int
    length: int
    flops: int
    price: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Steps in the order of choice; several of one candidate go ever further. `before`, `after`:
    mean variance at the target; `left` of it after each step."""

    steps: tuple[Step, ...]
    before: float
    after: float
    left: tuple[float, ...]


@dataclass(slots=True, kw_only=True, eq=False)
class Ground:
    """What is known, while a plan is made. covariance (targets + places): targets first, then the
    lengths of each candidate in turn; first (candidates,): where those begin. noise: variance of
    one evaluation."""

    covariance: FloatArray
    targets: int
    first: IntArray
    noise: float

    @property
    def spread(self) -> float:
        """Mean variance at the target."""
        return float(self.covariance.diagonal()[: self.targets].mean())

    def copy(self) -> Ground:
        return Ground(
            covariance=self.covariance.copy(),
            targets=self.targets,
            first=self.first,
            noise=self.noise,
        )

    def gains(self, rows: IntArray, noise: FloatArray, aim: Aim) -> FloatArray:
        """What each purchase brings: (purchases,). rows (purchases, SHOWN): its places, -1 for
        none; noise like it, their variances."""
        own, across = self._blocks(rows, noise)
        if aim == "knowledge":
            return np.linalg.slogdet(own / noise[:, :, None])[1]
        moved = np.linalg.solve(own, across)
        return np.einsum("prt,prt->p", across, moved) / self.targets

    def observe(self, rows: IntArray, noise: FloatArray) -> None:
        """Let these places (shown,) be seen."""
        kept = rows >= 0
        rows, noise = rows[kept], noise[kept]
        across = self.covariance[rows]
        own = across[:, rows] + np.diag(noise)
        self.covariance = self.covariance - across.T @ np.linalg.solve(own, across)

    def _blocks(self, rows: IntArray, noise: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Covariance of the observations (purchases, SHOWN, SHOWN), and with the targets
        (purchases, SHOWN, targets); nothing where there is no place."""
        there = (rows >= 0).astype(np.float64)
        own = self.covariance[rows[:, :, None], rows[:, None, :]]
        own = own * (there[:, :, None] * there[:, None, :])
        own = own + noise[:, :, None] * np.eye(rows.shape[1])
        return own, self.covariance[rows, : self.targets] * there[:, :, None]


def shows(standing: Standing, length: int, done: int, first: int) -> IntArray:
    """The places (SHOWN,) that training from length `done` to `length` shows, -1 for none."""
    rows = np.arange(length - SHOWN + 1, length + 1)
    return np.where(rows >= max(done, 0), rows + first, -1).astype(np.int64)


def noises(standing: Standing, length: int, variance: float) -> FloatArray:
    """Variance of what is seen at the last places up to a length: earlier ones count less, in
    proportion to tokens."""
    lengths = np.array(standing.lengths, dtype=np.float64)
    rows = np.maximum(np.arange(length - SHOWN + 1, length + 1), 0)
    return variance * lengths[length] / lengths[rows]


Price: TypeAlias = Callable[[Candidate, int, int], float]
"""Of training a candidate on from some tokens to others."""


def in_flops(candidate: Candidate, begin: int, end: int) -> float:
    """FLOPs of training a candidate on from `begin` to `end` tokens."""
    return float(candidate.flops(end) - candidate.flops(begin))


def planned(
    ground: Ground,
    standings: Sequence[Standing],
    budget: float,
    *,
    aim: Aim = "target",
    power: float = POWER,
    price: Price = in_flops,
    reaching: bool = False,
) -> Plan:
    """Greedy within `budget`, in the unit of `price`; without steps where nothing fits. Leaves the
    ground as it was. `reaching`: beside usual lengths, to those that the budget reaches."""
    ground = ground.copy()
    before, left = ground.spread, budget
    done = [standing.done for standing in standings]
    tokens = [standing.tokens for standing in standings]
    steps: list[Step] = []
    spreads: list[float] = []
    while True:
        offers = [
            Step(who=who, length=length, flops=flops, price=cost)
            for who, standing in enumerate(standings)
            for length in range(done[who], len(standing.lengths))
            if reaching or length != standing.reach
            if (flops := _cost(standing, length, tokens[who])) > 0
            if (cost := price(standing.candidate, tokens[who], standing.lengths[length])) <= left
        ]
        if not offers:
            return Plan(
                steps=tuple(steps), before=before, after=ground.spread, left=tuple(spreads)
            )
        rows = np.stack([
            shows(standings[o.who], o.length, done[o.who], int(ground.first[o.who]))
            for o in offers
        ])  # fmt: skip
        noise = np.stack([noises(standings[o.who], o.length, ground.noise) for o in offers])
        gains = ground.gains(rows, noise, aim)
        best = int(np.argmax(gains / np.array([o.price for o in offers]) ** power))
        step = offers[best]
        ground.observe(rows[best], noise[best])
        done[step.who] = step.length + 1
        tokens[step.who] = standings[step.who].lengths[step.length]
        left -= step.price
        steps.append(step)
        spreads.append(ground.spread)


def drawn_up(
    ground: Ground,
    standings: Sequence[Standing],
    budget: float,
    *,
    aim: Aim = "target",
    power: float = POWER,
    price: Price = in_flops,
) -> Plan:
    """The plan by the usual lengths, or the reaching one where it promises clearly more."""
    usual = planned(ground, standings, budget, aim=aim, power=power, price=price)
    if not any(s.reach is not None and s.reach >= s.done for s in standings):
        return usual
    reaching = planned(ground, standings, budget, aim=aim, power=power, price=price, reaching=True)
    return reaching if reaching.after <= REACHED**2 * usual.after else usual


def _cost(standing: Standing, length: int, tokens: int) -> int:
    candidate = standing.candidate
    return candidate.flops(standing.lengths[length]) - candidate.flops(tokens)
