"""What a sweep that `active` bought says at its target where several law forms are stated.

No form is the true one, and the one that fits best is often not the one that is right far away.
So the answer is that of the belief by which the runs were bought: all forms, half of their weight
shared alike and half by how they foresaw the dearest rows, with the misfit that no form says. Its
interval is of all of them, what lies between forms included. It is asked of the rows of trials
near their size's best, as the laws of the report are. Touches nothing.
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

from orchestrator import blocks
from orchestrator.laws.errors import FitError
from orchestrator.policies.active import Active
from orchestrator.policies.buying import Market
from orchestrator.policies.selection import Selection, market_of
from orchestrator.report.conclusions import Averaged, Bounded
from orchestrator.report.evidence import Evidence
from orchestrator.spec import SweepSpec
from orchestrator.state import SweepState


def averaged_of(spec: SweepSpec, state: SweepState, evidence: Evidence) -> Averaged | None:
    """The loss at the target by all forms together. None where the sweep was not bought by
    `active` for its target, where one form is stated, or where no form has a belief."""
    plan = spec.policy
    if not isinstance(plan, blocks.Active) or spec.aim != "target" or len(spec.law.forms) < 2:
        return None
    from orchestrator.assembly.selecting import selection_of

    policy = selection_of(plan, spec)
    if not isinstance(policy, Selection) or not isinstance(policy.rule, Active):
        return None
    market = market_of(state, (), policy.target, lengths=policy.lengths, places=0)
    market = _near_best(market, state, evidence)
    try:
        belief = policy.rule.learner.told(market)
    except FitError:
        return None
    mean = math.log(float(belief.predict(market.target)[0]))
    sd = math.sqrt(float((belief.features(market.target) ** 2).sum()))
    wide = NormalDist().inv_cdf(0.5 + 0.5 * spec.law.level) * sd
    return Averaged(
        loss=Bounded(value=math.exp(mean), low=math.exp(mean - wide), high=math.exp(mean + wide)),
        forms=belief.shares,
    )


def _near_best(market: Market, state: SweepState, evidence: Evidence) -> Market:
    """The market with the rows of the trials that the evidence's laws are of."""
    if market.known is None:
        return market
    kept = {state.pool.position(trial.id) for trial in evidence.near_best()}
    chosen = [int(owner) in kept for owner in market.known.trial]
    if not any(chosen):
        return replace(market, known=None, known_cost=market.known_cost[:0])
    return replace(market, known=market.known.take(chosen), known_cost=market.known_cost[chosen])
