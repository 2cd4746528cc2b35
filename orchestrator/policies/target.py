"""The aim `target` on curves: buy the lengths of runs that make the law surest at the target.

A joint normal belief of all curves (law, offsets, what the law misses, drift) says what each
purchase would do to the variance at the target, before it is made. Each time a plan for the whole
rest of the budget is drawn up (`design`), and its cheapest steps are bought first: they are in
the plan anyway, and what they teach of the belief itself mends the rest of it. What is in flight
counts as seen. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.policies.base import ended
from orchestrator.policies.buying import HALF_90
from orchestrator.policies.design import (
    POWER,
    Aim,
    Ground,
    Plan,
    Standing,
    Step,
    drawn_up,
    noises,
    shows,
)
from orchestrator.policies.ending import Until, stops
from orchestrator.policies.pricing import IN_FLOPS, Prices, Purse
from orchestrator.policies.searching import POINT_SD, observed_of
from orchestrator.state import SweepState
from orchestrator.surrogates.base import Joint, JointSurrogate, NoForecast
from orchestrator.values import Candidate, Decision, Expectation, Extend

LENGTHS = 4
"""Lengths of a run that are offered: its end, and halves of it. Shorter ones mislead. This, the
misfit and the power of the cost were chosen on generated worlds and inside the first halves of
recorded curves without their largest models, none on how a recorded target ends."""
SHORTEST = 4
"""As far as the rest of the budget reaches is a length too, if not so many times shorter than the
shortest (`design.REACHED` says when it is bought)."""
FEW = 1
"""While no more runs than this are known or on their way: what a second one says of size depends
on its size, and a small budget reaches the usual lengths of small models alone. Later ones lose by
it at 10 %."""
FIRST_SHARE = 0.01
"""Of the budget, at most, for the first run beyond its shortest length: it is bought once."""
MOST, LEAST = 100, 20
"""Candidates that are looked at in one decision, and of them at least so many new ones."""
MISFIT = 6.0
"""For `surrogates/joint_law`: who trusts the law alone buys what is cheap and misleads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`targets`: (candidate, tokens) where the law must be right; the candidates need not be in
    the pool. `half_width` (90 %, of log loss) at which to end. `at_once`: segments in flight at
    most, all that are free without it. `worth`: the least share of the half-width that a purchase
    must be expected to save for each share of the budget that it costs. `purse`: what is paid
    with."""

    surrogate: JointSurrogate
    targets: tuple[tuple[Candidate, int], ...]
    half_width: float | None = None
    at_once: int | None = None
    lengths: int = LENGTHS
    aim: Aim = "target"
    power: float = POWER
    worth: float = 0.0
    purse: Purse = IN_FLOPS

    @property
    def name(self) -> str:
        return "active"

    @property
    def watches_points(self) -> bool:
        return False

    def decide(self, state: SweepState) -> list[Decision]:
        free = _free(state, self.at_once)
        standings = _thinned(state, _standings(state, self.lengths))
        if free < 1 or not standings or ended(state):
            return []
        observed = observed_of(state)
        if not observed:
            return [] if state.in_flight else _first(standings, self.purse.prices(state))
        prices = self.purse.prices(state)
        try:
            forecaster = self.surrogate.fit(observed, seed=state.terms.seed)
            known = [s for s in standings if forecaster.forecasts(s.candidate)]
            few = len({c.id for c, _ in observed} | _flying(state)) <= FEW
            standings = [_reaching(state, s, prices, few=few) for s in known]
            asked = [*self.targets, *((s.candidate, n) for s in standings for n in s.lengths)]
            belief = forecaster.joint(
                [candidate for candidate, _ in asked],
                np.array([tokens for _, tokens in asked], dtype=np.int64),
            )
        except NoForecast as error:
            return [] if state.in_flight else _first(standings, prices, str(error))
        ground = _ground(belief, standings, len(self.targets))
        _see_flights(state, ground, standings)
        if self.half_width is not None and HALF_90 * math.sqrt(ground.spread) <= self.half_width:
            return [] if state.in_flight else _enough(state, self.half_width, ground.spread)
        idle = [_without_flight(state, standing) for standing in standings]
        plan = drawn_up(ground, idle, prices.left, aim=self.aim, power=self.power, price=prices.of)
        why = self._worthless(plan, prices)
        if why is not None:
            return [] if state.in_flight else stops(state, why)
        bought: list[Decision] = [*self._bought(plan, ground, idle, belief, free, prices)]
        nothing = prices.nothing_fits
        if not bought and nothing is not None and not state.in_flight:
            return stops(state, nothing)
        return bought

    def _worthless(self, plan: Plan, prices: Prices) -> str | None:
        """That no beginning of the plan is worth its cost, in words."""
        until = Until(what="half-width at the target", worth=self.worth)
        paid, begun = 0.0, list[tuple[float, float]]()
        for step, spread in zip(plan.steps, plan.left, strict=True):
            paid += step.price
            begun.append((1 - math.sqrt(spread / plan.before), paid))
        if not begun:
            return None
        saved, price = max(begun, key=lambda entry: entry[0] / entry[1])
        return until.worthless(saved, price, prices)

    def _bought(
        self,
        plan: Plan,
        ground: Ground,
        standings: Sequence[Standing],
        belief: Joint,
        free: int,
        prices: Prices,
    ) -> list[Extend]:
        """The cheapest steps of the plan that can begin now, one a candidate, and what each is
        expected to do on the belief that those before it leave. Further steps of the same
        candidate, which would come before the next cheapest, are bought with it: each purchase is
        a start-up."""
        begun: set[int] = set()
        bought: list[Extend] = []
        goals: list[tuple[Candidate, int]] = []
        openings = sorted(_openings(plan), key=lambda step: step.price)
        for place, opening in enumerate(openings):
            if len(bought) == free:
                break
            standing = standings[opening.who]
            most = openings[place + 1].price if place + 1 < len(openings) else 0.0
            step = _at_once(plan, opening, standing, most, prices)
            goal = (standing.candidate, standing.lengths[step.length])
            if step.who in begun or prices.together([*goals, goal]) == len(goals):
                continue
            begun.add(step.who)
            goals.append(goal)
            bought.append(self._extend(step, plan, ground, standing, belief, prices))
        return bought

    def _extend(
        self,
        step: Step,
        plan: Plan,
        ground: Ground,
        standing: Standing,
        belief: Joint,
        prices: Prices,
    ) -> Extend:
        first = int(ground.first[step.who])
        before = HALF_90 * math.sqrt(ground.spread)
        ground.observe(
            shows(standing, step.length, standing.done, first),
            noises(standing, step.length, ground.noise),
        )
        after = HALF_90 * math.sqrt(ground.spread)
        place = first + step.length
        tokens = standing.lengths[step.length]
        far = ", as far as the budget reaches" if step.length == standing.reach else ""
        return Extend(
            trial=standing.candidate.id,
            tokens=tokens,
            reason=f"expected half-width at the target {before:.4f} -> {after:.4f} for "
            f"{prices.told(standing.candidate, tokens)}{far}: the cheapest step not on its "
            "way of the plan for all that is left of the budget, which takes "
            f"{_several(plan)} further and ends at "
            f"{HALF_90 * math.sqrt(plan.after):.4f} (90 %, of log loss)",
            expected=Expectation(
                tokens=tokens,
                loss=math.exp(float(belief[0][place])),
                sd=math.sqrt(max(float(belief[1][place, place]), 0.0)),
                by=self.surrogate.name,
            ),
        )


def _several(plan: Plan) -> str:
    count = len(_openings(plan))
    return f"{count} candidates" if count > 1 else "one candidate"


def _openings(plan: Plan) -> list[Step]:
    """The first step of each candidate in the plan."""
    first: dict[int, Step] = {}
    for step in plan.steps:
        first.setdefault(step.who, step)
    return list(first.values())


def _at_once(plan: Plan, opening: Step, standing: Standing, most: float, prices: Prices) -> Step:
    """The furthest step of the opening's candidate that the plan holds and that costs `most`, from
    where the candidate stands; the opening itself where none does."""
    found, candidate = opening, standing.candidate
    for step in plan.steps:
        if step.who != opening.who or step.length <= found.length:
            continue
        tokens = standing.lengths[step.length]
        price = prices.of(candidate, standing.tokens, tokens)
        if price <= most:
            flops = candidate.flops(tokens) - candidate.flops(standing.tokens)
            found = Step(who=step.who, length=step.length, flops=flops, price=price)
    return found


def _free(state: SweepState, at_once: int | None) -> int:
    """How many segments may begin now."""
    if at_once is None:
        return state.unclaimed
    return min(state.unclaimed, at_once - len(_flying(state)))


def _flying(state: SweepState) -> set[str]:
    """The trials of which something runs or waits."""
    return {name for name, trial in state.trials.items() if trial.in_flight}


def _standings(state: SweepState, lengths: int) -> list[Standing]:
    found = [_standing(state, candidate, lengths) for candidate in state.pool]
    return [standing for standing in found if standing is not None]


def _thinned(state: SweepState, standings: list[Standing]) -> list[Standing]:
    """All that have begun, and of the others at most so many that MOST are left, evenly by their
    cost: a belief is of all pairs of places."""
    begun = [s for s in standings if s.candidate.id in state.trials]
    others = [s for s in standings if s.candidate.id not in state.trials]
    room = max(MOST - len(begun), LEAST)
    if len(others) <= room:
        return standings
    others.sort(key=lambda s: (s.candidate.flops(s.lengths[-1]), s.candidate.id))
    picks = np.unique(np.linspace(0, len(others) - 1, room).round().astype(int))
    return [*begun, *(others[k] for k in picks)]


def _standing(state: SweepState, candidate: Candidate, lengths: int) -> Standing | None:
    """What is still to be had of a candidate; None for one that is out or at its end."""
    trial = state.trials.get(candidate.id)
    if trial is not None and trial.out:
        return None
    tokens = trial.trunk.tokens if trial is not None else 0
    if tokens >= candidate.end:
        return None
    step = candidate.tokens_per_step
    goals = {int(candidate.end / 2**k) // step * step for k in range(lengths)}
    ordered = tuple(sorted(goal for goal in goals if goal > 0))
    return Standing(
        candidate=candidate,
        lengths=ordered,
        done=sum(goal <= tokens for goal in ordered),
        tokens=tokens,
    )


def _reaching(state: SweepState, standing: Standing, prices: Prices, *, few: bool) -> Standing:
    """The standing with one length more: where a candidate on its way is going, or, where few runs
    are known, what all that is left of the budget would reach."""
    candidate, begin = standing.candidate, standing.tokens
    trial = state.trials.get(candidate.id)
    goal = begin
    if trial is not None and trial.in_flight:
        goal = trial.trunk.target
    elif few:
        goal = candidate.tokens_within(state.remaining + candidate.flops(begin))
        goal = prices.within(candidate, goal, hours=prices.hours_left)
        goal = goal if SHORTEST * goal >= standing.lengths[0] else begin
    if goal <= begin or goal in standing.lengths:
        return standing
    lengths = tuple(sorted((*standing.lengths, goal)))
    return replace(standing, lengths=lengths, reach=lengths.index(goal))


def _ground(belief: Joint, standings: Sequence[Standing], targets: int) -> Ground:
    counts = [len(standing.lengths) for standing in standings]
    return Ground(
        covariance=belief[1],
        targets=targets,
        first=(targets + np.cumsum([0, *counts[:-1]])).astype(np.int64),
        noise=POINT_SD**2,
    )


def _see_flights(state: SweepState, ground: Ground, standings: Sequence[Standing]) -> None:
    """What is on its way counts as seen."""
    for who, standing in enumerate(standings):
        aim = _flight(state, standing)
        if aim is not None:
            first = int(ground.first[who])
            ground.observe(
                shows(standing, aim, standing.done, first),
                noises(standing, aim, ground.noise),
            )


def _flight(state: SweepState, standing: Standing) -> int | None:
    """The length that a candidate is on its way to."""
    trial = state.trials.get(standing.candidate.id)
    if trial is None or not trial.in_flight:
        return None
    reached = sum(goal <= trial.trunk.target for goal in standing.lengths)
    return reached - 1 if reached > standing.done else None


def _without_flight(state: SweepState, standing: Standing) -> Standing:
    """Nothing is offered of a candidate that is on its way."""
    trial = state.trials.get(standing.candidate.id)
    if trial is None or not trial.in_flight:
        return standing
    return replace(standing, done=len(standing.lengths))


def _first(standings: Sequence[Standing], prices: Prices, why: str = "") -> list[Decision]:
    """Where nothing can be forecast yet: the cheapest step there is, on to the longest length that
    a small share of the budget pays for."""
    costs = [
        (prices.to(s.candidate, s.lengths[s.done]), place)
        for place, s in enumerate(standings)
        if s.done < len(s.lengths)
    ]
    if not costs:
        return []
    cheapest, place = min(costs)
    chosen = standings[place]
    candidate = chosen.candidate
    paid = [
        tokens
        for tokens in chosen.lengths[chosen.done :]
        if prices.to(candidate, tokens) <= FIRST_SHARE * prices.left
    ]
    tokens = paid[-1] if paid else chosen.lengths[chosen.done]
    reason = (
        f"the cheapest run there is, for {prices.told(candidate, tokens)}: "
        "nothing can be forecast yet"
    ) + (why and f" ({why})")
    if cheapest > prices.left:
        share = candidate.flops(chosen.lengths[chosen.done]) * prices.left / cheapest
        tokens = candidate.tokens_within(share) if chosen.tokens == 0 else 0
        reason = "no step fits the budget: the cheapest, as far as it goes"
    return [Extend(trial=chosen.candidate.id, tokens=tokens, reason=reason)] if tokens else []


def _enough(state: SweepState, asked: float, variance: float) -> list[Decision]:
    """Say why nothing more is bought, to the trials that could go on."""
    why = (
        f"the half-width at the target is {HALF_90 * math.sqrt(variance):.4f} of log loss (90 %), "
        f"and {asked:.4f} was asked for"
    )
    return stops(state, why)
