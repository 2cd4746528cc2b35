"""The aim `frontier`: the lowest loss for the compute, from a hundredth of the budget up to all of
it, by forecasts of a surrogate. It leaves the halving skeleton: candidates may stay unstarted, and
what was left behind may be taken up again.

1. Starts: a few sizes, each for a small share of the budget, so that a law can be fitted at all.
2. Search: short runs that tell most, per FLOP, about the choices in 3 and 4 (knowledge gradient).
3. Rungs: one trial at each of a few levels of compute, so that the frontier holds below the end.
4. Finish: one trial takes the rest, at most `most` of the budget; it is asked about again on the
   way. What it cannot use lowers the frontier where that is cheapest (expected improvement over a
   whole curve, in the manner of Jones et al. 1998).

A choice follows the textbook's size unless the forecasts are surely better (`choosing`); where
they fail their backtest, the current loss decides among candidates of that size, by plain halving
where there are many.

Free workers are given the next purchase while others run (those count as they are expected to
end); the finish alone waits for all of them, and what is left for it is kept. Touches nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from orchestrator.policies.acquisition import different_sizes
from orchestrator.policies.base import ended
from orchestrator.policies.bracket import Bracket
from orchestrator.policies.choosing import Choice, Rule, chosen, seen
from orchestrator.policies.ending import Until, stops
from orchestrator.policies.pricing import IN_FLOPS, Purse
from orchestrator.policies.ranking import ByLoss
from orchestrator.policies.searching import (
    DUST,
    Ahead,
    Starts,
    free_slots,
    lowering,
    observed_of,
    telling,
)
from orchestrator.policies.starting import opening
from orchestrator.policies.textbook import alike
from orchestrator.policies.trust import Belief, Believer
from orchestrator.state import SweepState
from orchestrator.surrogates.base import Surrogate
from orchestrator.trial import Trial
from orchestrator.values import Candidate, Decision, Extend, Stop, flops_in_words

LAW_SIZES = 4
MANY, MANY_SHARE = 4, 0.5
"""So many candidates, and so much of the pool, are alike where the textbook says nothing."""
LEVELS = 14
SLACK = 0.25
"""Of a rung of halving, where hours or money bind: their budget of FLOPs moves with the pace."""
NOT_WORTH = "nothing is expected to lower the loss along the frontier enough for its cost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """`surrogate` forecasts. `most`: the largest share of the budget in one trial. `search`: share
    for what tells most; `rungs`: shares of the levels that hold the frontier. `gate`: use the
    surrogate only where its backtest speaks for it. `worth`: the least fall of the loss, as a
    share of it, that a purchase must be expected to bring for each share of the budget that it
    costs. `purse`: what is paid with. `believer`: who hands over may share it."""

    surrogate: Surrogate
    most: float = 0.75
    starts: Starts = field(default_factory=Starts)
    search: float = 0.07
    rungs: tuple[float, ...] = (0.04, 0.1)
    rule: Rule = field(default_factory=Rule)
    gate: bool = True
    worth: float = 0.0
    purse: Purse = IN_FLOPS
    believer: Believer = field(default_factory=Believer, repr=False, compare=False)

    @property
    def name(self) -> str:
        return "frontier"

    @property
    def watches_points(self) -> bool:
        return False

    def decide(self, state: SweepState) -> list[Decision]:
        begun = opening(
            state, self.starts, self.purse, tokens_per_param=self.rule.tokens_per_param
        )
        if begun is not None:
            return [*begun] if begun or state.trials else self._alone(state)
        if free_slots(state) < 1 or ended(state):
            return []
        belief = self._belief(state)
        if not belief.trusted:
            halved = self._halved(state)
            if halved or (halved is not None and state.in_flight):
                return halved
        bought = (
            (None if belief.trusted else self._tried(state))
            or self._searched(state, belief)
            or self._rung(state, belief)
        )
        return [bought] if bought is not None else self._finish(state, belief)

    def _belief(self, state: SweepState) -> Belief:
        return self.believer.belief(
            self.surrogate, observed_of(state), seed=state.terms.seed, gate=self.gate
        )

    def _halved(self, state: SweepState) -> list[Decision] | None:
        """Where neither forecasts nor the textbook tell candidates apart, plain halving does;
        None where the textbook does."""
        goal = self.most * state.terms.budget
        group = alike(state.pool.candidates, goal, self.rule.tokens_per_param)
        if len(group) < max(MANY, MANY_SHARE * len(state.pool)):
            return None
        bracket = Bracket(
            candidates=tuple(group),
            budget=int(goal),
            eta=2,
            ranking=ByLoss(),
            name=f"no forecast is trusted, and the textbook's size is that of {len(group)}: ",
            slack=SLACK if self.purse.capped else 0.0,
        )
        decisions = list(bracket.next(state).decisions)
        cost = sum(_cost(state, each) for each in decisions if isinstance(each, Extend))
        return decisions if cost <= state.remaining else []

    def _tried(self, state: SweepState) -> Extend | None:
        """Where no forecast is trusted, the losses seen decide among candidates that the textbook
        cannot tell apart: so each of them has to show a point, those for the finish first, as
        long as that can be paid for all of them."""
        budget, start = state.terms.budget, self.starts.share * state.terms.budget
        left = self._searching(state)
        if _highest(state) > 1.01 * self.rungs[0] * budget:
            return None
        for share in (self.most, *self.rungs[::-1]):
            group = alike(_able(state), share * budget, self.rule.tokens_per_param)
            if len(group) >= MANY_SHARE * len(state.pool):
                continue
            told = {c.id: _compute(state.trials[c.id]) for c in group if c.id in state.trials}
            blind = [flops for name, flops in told.items() if not len(state.trials[name].curve)]
            level = max(start, 2 * max(blind, default=0))
            if len(group) * level > (self.starts.count * self.starts.share + self.search) * budget:
                continue
            for candidate in group:
                trial = state.trials.get(candidate.id)
                if trial is not None and (len(trial.curve) or trial.in_flight):
                    continue
                tokens = candidate.tokens_within(level)
                if 0 < candidate.flops(tokens) - told.get(candidate.id, 0) <= left:
                    return Extend(
                        trial=candidate.id,
                        tokens=tokens,
                        reason=f"one of the {len(group)} of the textbook's size for "
                        f"{flops_in_words(share * budget)} FLOPs: no forecast is trusted, so "
                        "each is seen",
                    )
        return None

    def _searching(self, state: SweepState) -> float:
        """FLOPs that are left for looking around."""
        share = self.starts.count * self.starts.share + self.search
        return share * state.terms.budget - (state.terms.budget - state.remaining)

    def _searched(self, state: SweepState, belief: Belief) -> Extend | None:
        """A short run that tells about rungs and finish, while the share for that lasts."""
        budget, start = state.terms.budget, self.starts.share * state.terms.budget
        left = self._searching(state)
        if left < start * 0.5 or _highest(state) > 1.01 * self.rungs[0] * budget:
            return None
        goals = [share * budget for share in (*self.rungs, self.most)]
        able = _able(state)
        ahead = [
            Ahead(options=tuple((c, t) for c in able if (t := c.tokens_within(goal)) > 0))
            for goal in goals
        ]
        return telling(
            state,
            belief,
            ahead,
            [start, self.rungs[0] * budget],
            what=f"the best trials for {' and '.join(map(flops_in_words, goals))} FLOPs",
            affordable=left,
            most=goals[-1],
            by=self.surrogate.name,
            prices=self.purse.prices(state),
        )

    def _rung(self, state: SweepState, belief: Belief) -> Extend | None:
        """One trial to the lowest level of compute that none has reached."""
        budget = state.terms.budget
        for number, share in enumerate(self.rungs, 1):
            flops = share * budget
            if _highest(state) >= 0.7 * flops:
                continue
            found = self._choice(state, belief, flops, None, least=0.7 * flops)
            if found is not None and _flies(state, found.candidate):
                return None
            if found is not None:
                return Extend(
                    trial=found.candidate.id,
                    tokens=found.tokens,
                    reason=f"rung {number} of {len(self.rungs)} below the finish, "
                    f"{flops_in_words(flops)} FLOPs: {found.why}",
                    expected=found.expected,
                )
        return None

    def _finish(self, state: SweepState, belief: Belief) -> list[Decision]:
        """The trial that takes the rest, up to a stop on the way; the others are stopped."""
        budget = state.terms.budget
        halfway = 2 * max((*self.rungs, self.starts.share)) * budget
        living = [trial for trial in state.trials.values() if not trial.out]
        top = max(living, key=_compute, default=None)
        begun = top if top and _compute(top) > 0.6 * halfway else None
        if begun and _compute(begun) >= 0.99 * min(self.most * budget, begun.candidate.cost):
            return self._improve(state, belief, float(state.remaining))
        if begun and begun.in_flight:
            kept = min(self.most * budget, begun.candidate.cost) - _compute(begun)
            return self._improve(state, belief, state.remaining - kept)
        if state.in_flight and not begun:
            return []
        flops = min(self.most * budget, state.remaining + (_compute(top) if top else 0))
        found = self._choice(state, belief, flops, begun.id if begun else None)
        if found is None or _flies(state, found.candidate):
            return []
        why = self._worthless(state, found)
        if why is not None:
            return stops(state, why)
        candidate, tokens = found.candidate, found.tokens
        trial = state.trials.get(candidate.id)
        done = trial.trunk.tokens if trial is not None else 0
        pause = candidate.tokens_within(halfway)
        dust = DUST * budget
        if candidate.flops(pause) - candidate.flops(done) >= dust and pause < tokens / 1.3:
            tokens = pause
        released = _stops(state, found)
        extend = Extend(
            trial=candidate.id,
            tokens=tokens,
            reason=f"the finish, {flops_in_words(state.remaining)} FLOPs left: "
            f"{found.why}{_sizes(state)}",
            expected=found.expected,
        )
        return [*released, extend]

    def _worthless(self, state: SweepState, found: Choice) -> str | None:
        """That the finish is not worth its cost, in words; None where it is, or nobody foresees
        what it brings."""
        lowest = min(seen(state, trial.candidate) for trial in state.trials.values())
        if found.expected is None or math.isinf(lowest):
            return None
        prices = self.purse.prices(state)
        fall = math.log(lowest / found.expected.loss)
        price = prices.to(found.candidate, found.tokens)
        return Until(what="lowest loss", worth=self.worth).worthless(fall, price, prices)

    def _improve(self, state: SweepState, belief: Belief, affordable: float) -> list[Decision]:
        """What the finish cannot use lowers the frontier where that is cheapest."""
        budget = state.terms.budget
        levels = np.geomspace(budget / 100, float(budget), LEVELS)
        prices = self.purse.prices(state)
        found = (
            None
            if not belief.trusted
            else lowering(
                state,
                belief,
                levels,
                affordable=affordable,
                most=self.most * budget,
                by=self.surrogate.name,
                prices=prices,
                least_rate=self.worth / max(prices.budget, 1e-300),
            )
        )
        if found is not None:
            return [found]
        forecaster = belief.forecaster
        told = belief.trusted and forecaster and all(map(forecaster.forecasts, _able(state)))
        if told or state.in_flight:
            over = self.worth > 0 and not state.in_flight and affordable > DUST * budget
            return stops(state, NOT_WORTH + f" (policy.worth {self.worth:g})") if over else []
        flops = min(affordable, self.most * budget)
        return self._extended(state, self._choice(state, belief, flops, None))

    def _choice(
        self,
        state: SweepState,
        belief: Belief,
        flops: float,
        incumbent: str | None,
        *,
        least: float = 0.0,
    ) -> Choice | None:
        """Among what can still be trained further, to `least` FLOPs or more, within `flops` in all
        and the budget."""
        options: list[tuple[Candidate, int]] = []
        for candidate in _able(state):
            trial = state.trials.get(candidate.id)
            told = _compute(trial) if trial is not None else 0
            tokens = candidate.tokens_within(min(flops, told + state.remaining))
            bought = candidate.flops(tokens) - told
            if bought >= DUST * state.terms.budget and candidate.flops(tokens) >= least:
                options.append((candidate, tokens))
        if not options:
            return None
        return chosen(
            state,
            options,
            flops,
            belief,
            self.rule,
            by=self.surrogate.name,
            incumbent=incumbent,
        )

    def _alone(self, state: SweepState) -> list[Decision]:
        """A budget too small for starts: all of it on the first candidate that it can train."""
        blind = Belief(forecaster=None, trusted=False, why="the budget is too small for starts")
        return self._extended(state, self._choice(state, blind, float(state.terms.budget), None))

    @staticmethod
    def _extended(state: SweepState, found: Choice | None) -> list[Decision]:
        if found is None:
            return []
        reason = f"{flops_in_words(state.remaining)} FLOPs left: {found.why}"
        return [Extend(trial=found.candidate.id, tokens=found.tokens, reason=reason)]


def _able(state: SweepState) -> list[Candidate]:
    """The candidates that can be trained, or trained further."""
    return [
        candidate
        for candidate in state.pool.candidates
        if candidate.id not in state.trials or not state.trials[candidate.id].out
    ]


def _flies(state: SweepState, candidate: Candidate) -> bool:
    trial = state.trials.get(candidate.id)
    return trial is not None and trial.in_flight


def _cost(state: SweepState, decision: Extend) -> int:
    trial, candidate = state.trials.get(decision.trial), state.pool[decision.trial]
    done = trial.trunk.tokens if trial is not None else 0
    return candidate.flops(decision.tokens) - candidate.flops(done)


def _compute(trial: Trial) -> int:
    """FLOPs of what the trial has seen, or was told to see."""
    return trial.candidate.flops(max(trial.trunk.tokens, trial.trunk.target))


def _highest(state: SweepState) -> int:
    """The most compute that any trial that is not out has reached, or was told to."""
    return max((_compute(trial) for trial in state.trials.values() if not trial.out), default=0)


def _stops(state: SweepState, found: Choice) -> list[Decision]:
    """Release what the finish leaves behind, where that was not said before."""
    foreseen = f", {found.expected.loss:.4f} foreseen" if found.expected is not None else ""
    return [
        Stop(
            trial=trial.id,
            reason=f"left behind {_standing(trial)}: {found.candidate.id} takes the rest of the "
            f"budget{foreseen}",
        )
        for trial in state.trials.values()
        if trial.id != found.candidate.id
        and not trial.out
        and not trial.in_flight
        and trial.stop_reason is None
        and trial.trunk.tokens < trial.candidate.end
    ]


def _standing(trial: Trial) -> str:
    return f"at loss {trial.curve.last_loss:.4f}" if len(trial.curve) else "without a point"


def _sizes(state: SweepState) -> str:
    """What is to be said where the trials cannot carry a law."""
    known = [t.candidate for t in state.trials.values() if len(t.curve) and t.diverged is None]
    sizes = different_sizes(known)
    if sizes >= LAW_SIZES:
        return ""
    return f"; {sizes} of the {LAW_SIZES} sizes that a law needs have points: no law can be given"
