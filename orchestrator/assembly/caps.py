"""Hours and money as caps beside the FLOPs: what they make purchases cost, when one is spent, and
how to go on then.

Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from orchestrator.policies.pricing import Purse
from orchestrator.spec import SweepSpec
from orchestrator.state import SweepState
from orchestrator.values import Environment, Used
from trainers.peaks import peak_flops


def purse_of(spec: SweepSpec) -> Purse:
    """What the sweep may take of hours and money, and what is known of speed."""
    budget = spec.budget
    return Purse(
        gpu_hours=budget.gpu_hours,
        dollars=budget.dollars,
        dollars_per_gpu_hour=budget.dollars_per_gpu_hour,
        gpus=spec.resources.gpus_counted,
        flops_per_s=budget.flops_per_s,
        peak=_peak,
    )


def hours_of(spec: SweepSpec) -> float | None:
    """GPU-hours that the caps allow; None without one."""
    budget, price = spec.budget, spec.budget.dollars_per_gpu_hour
    bought = budget.dollars / price if budget.dollars is not None and price is not None else None
    return min((cap for cap in (budget.gpu_hours, bought) if cap is not None), default=None)


def trunks_purse_of(spec: SweepSpec) -> Purse:
    """The same without the part that annealing is to take: what the policy itself pays with."""
    purse = purse_of(spec)
    return purse if spec.anneal is None else purse.part(1.0 - spec.anneal.share)


def _peak(environment: Environment) -> float | None:
    """FLOP/s of the device that workers told of, at most; None where it is not known."""
    name = dict(environment.facts).get("device_name")
    return None if name is None else peak_flops(name)


def cap_of(spec: SweepSpec) -> Callable[[SweepState], str | None]:
    """Which cap is spent, in a sentence, told by the training seconds that workers report; None
    while there is room."""

    def cap(state: SweepState) -> str | None:
        budget, hours = spec.budget, _hours(state)
        if budget.gpu_hours is not None and hours >= budget.gpu_hours:
            return (
                f"{hours:.3g} GPU-hours are spent of budget.gpu_hours {budget.gpu_hours:g}: raise "
                "it and go on, or take the law as it stands"
            )
        dollars = _dollars(spec, hours)
        if budget.dollars is not None and dollars is not None and dollars >= budget.dollars:
            return (
                f"{dollars:.3g} dollars are spent of budget.dollars {budget.dollars:g}: raise it "
                "and go on, or take the law as it stands"
            )
        return None

    return cap


def used_of(spec: SweepSpec) -> Callable[[SweepState], Used]:
    """What of the budget runs out first, and how much of it is used: FLOPs, hours or money,
    whichever has the largest share behind it; hours and money where they are even."""

    def used(state: SweepState) -> Used:
        return max(uses(spec, state), key=lambda each: each.share)

    return used


def uses(spec: SweepSpec, state: SweepState) -> tuple[Used, ...]:
    """Every part of the budget with what is used of it, FLOPs last."""
    budget, hours = spec.budget, _hours(state)
    parts = (
        ("GPU-hours", hours, budget.gpu_hours),
        ("dollars", _dollars(spec, hours), budget.dollars),
        ("FLOPs", float(state.ledger.spent), float(state.terms.budget)),
    )
    return tuple(
        Used(unit=unit, amount=amount, budget=most)
        for unit, amount, most in parts
        if amount is not None and most is not None
    )


def raised(spec: SweepSpec, state: SweepState) -> tuple[str, ...]:
    """For every cap that is spent, an assignment that leaves room beyond it again: twice what the
    spec allows, or half more than was used where that is not enough."""
    budget, hours = spec.budget, _hours(state)
    dollars = _dollars(spec, hours)
    lost = state.ledger.lost / state.terms.budget if state.terms.budget else 0.0
    spent = (
        ("gpu_hours", hours, budget.gpu_hours, hours >= (budget.gpu_hours or 0), math.inf),
        ("dollars", dollars, budget.dollars, (dollars or 0) >= (budget.dollars or 0), math.inf),
        ("lost", lost, budget.lost, state.ledger.lost > state.terms.lost_ceiling, 1.0),
    )
    return tuple(
        f"budget.{key}={min(max(2 * allowed, 1.5 * used), most):.3g}"
        for key, used, allowed, over, most in spent
        if over and used is not None and allowed is not None and allowed < most
    )


def _hours(state: SweepState) -> float:
    return state.ledger.gpu_s / 3600


def _dollars(spec: SweepSpec, hours: float) -> float | None:
    price = spec.budget.dollars_per_gpu_hour
    return None if price is None else hours * price
