"""What ends a sweep before its budget: told in the plan, and, where it did not, why it did not;
and how the width that it goes by differs from the answer's.

Touches nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from orchestrator import blocks
from orchestrator.assembly.surrogates import surrogate_of
from orchestrator.policies.base import Policy
from orchestrator.policies.pricing import NOTHING_FITS
from orchestrator.policies.trust import Believer
from orchestrator.policies.unheard import Unheard, doubt, named
from orchestrator.report import words
from orchestrator.spec import SweepSpec
from orchestrator.state import SweepState
from orchestrator.values import NO_MORE

if TYPE_CHECKING:
    from orchestrator.report.conclusions import Conclusions

Forecasting = blocks.Frontier | blocks.Recommend | blocks.Active


def asked_of(plan: blocks.Policy) -> tuple[str, ...]:
    """The settings by name that may end a sweep early, as far as they are asked for."""
    names = ("half_width", "regret", "worth")
    return tuple(name for name in names if getattr(plan, name, None))


def heard(policy: Policy, plan: Forecasting, believer: Believer) -> Policy:
    """The policy, which says where its stop rules have no say; itself where it has none."""
    asked = asked_of(plan)
    if not asked or not plan.gate:
        return policy
    return Unheard(
        policy=policy,
        settings=asked,
        surrogate=surrogate_of(plan.surrogate),
        gate=plan.gate,
        believer=believer,
    )


def foretold(spec: SweepSpec) -> tuple[str, ...]:
    """When the stop rules of a spec can act, for its plan."""
    asked = asked_of(spec.policy)
    if not asked:
        return ()
    rules = named(asked)
    plan = _forecasting(spec)
    if plan is None:
        return (f"{rules} may end it earlier, once a law can be fitted to what was seen",)
    if not plan.gate:
        return (f"{rules} may end it earlier, by forecasts that are not tested (policy.gate)",)
    return (
        f"{rules} may end it earlier, but only while a backtest on the curves at hand trusts the "
        f"forecasts of {plan.surrogate}: where none is trusted, it goes on to the end of "
        "its budget, and each purchase says so",
    )


def unheard(spec: SweepSpec, state: SweepState) -> str | None:
    """Why the stop rules of a spec did not end the sweep, or cannot at this state; None where they
    did, may yet, or nobody asked for any."""
    asked, closed = asked_of(spec.policy), state.closed or ""
    if not asked or (closed.startswith(NO_MORE) and NOTHING_FITS not in closed):
        return None
    why = _untrusted(spec, state)
    if why is not None:
        over = "could not end it" if state.closed is not None else "cannot end it as it stands"
        return f"{named(asked)} {over}, since no forecast is trusted: {why}"
    if state.closed is None:
        return None
    stated = ", ".join(f"{name} {getattr(spec.policy, name):g}" for name in asked)
    return f"the stop rules that were asked for ({stated}) were not met by what was bought"


def two_widths(spec: SweepSpec, conclusions: Conclusions) -> str | None:
    """Why the half-widths that the policy names are not that of the answer at the target, in
    sentences; None where it names none, where the answer has no interval, and where all forms
    answer together, by the belief that bought."""
    answer, together = conclusions.target, conclusions.averaged
    if not isinstance(spec.policy, blocks.Active) or spec.aim != "target" or answer is None:
        return None
    low, high = answer.loss.low, answer.loss.high
    if low is None or high is None or not 0 < low < high:
        return None
    if together is not None and answer.by == together.key:
        return None
    half = 0.5 * math.log(high / low)
    return (
        f"the interval of the answer is ± {half:.2g} of log loss ({words.share(spec.law.level)}), "
        f"a factor of {math.exp(half):.2f} either way, and rests on the trials alone; "
        "the half-widths that the policy names (90 %), by which it buys and stops, are of its own "
        "belief, which also knows what laws are usually like: where trials are few the two differ "
        "several times, so plan by the wider"
    )


def _untrusted(spec: SweepSpec, state: SweepState) -> str | None:
    plan = _forecasting(spec)
    if plan is None:
        return None
    return doubt(surrogate_of(plan.surrogate), state, gate=plan.gate, believer=Believer())


def _forecasting(spec: SweepSpec) -> Forecasting | None:
    """The policy's block, where forecasts of curves decide what it buys."""
    plan = spec.policy
    if isinstance(plan, blocks.Frontier | blocks.Recommend):
        return plan
    return plan if isinstance(plan, blocks.Active) and spec.aim != "target" else None
