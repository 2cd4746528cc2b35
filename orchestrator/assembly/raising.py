"""More budget for a sweep that was begun, or is done: what it would buy, or why it buys nothing.

Policies that decide from what is left go on with more of it, FLOPs, hours and money alike; those
that laid their runs out by the whole budget of FLOPs cannot. Whether a sweep that is done would go
on is asked of its policy, on the state as it would be. Touches nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from orchestrator.assembly.caps import cap_of, used_of
from orchestrator.assembly.parts import policy_of
from orchestrator.assembly.reading import Sweep, under
from orchestrator.assembly.refusal import Refused
from orchestrator.policies.pricing import NOTHING_FITS
from orchestrator.pool import budget_flops
from orchestrator.spec import LAID_OUT, SweepSpec
from orchestrator.state import SweepState, apply
from orchestrator.values import NO_MORE, Stop, flops_in_words

CAPS: tuple[Literal["gpu_hours", "dollars"], ...] = ("gpu_hours", "dollars")


def raised(sweep: Sweep, spec: SweepSpec) -> tuple[str, ...]:
    """In words, what of the budget is more under `spec` than in the sweep's last session."""
    was, now = sweep.spec.budget, spec.budget
    old, new = _flops(sweep, spec)
    words = [f"budget.flops {flops_in_words(old)} -> {flops_in_words(new)}"] if new > old else []
    for key in CAPS:
        cap, other = getattr(was, key), getattr(now, key)
        if cap is not None and (other is None or other > cap):
            words.append(f"budget.{key} {cap:g} -> {'none' if other is None else f'{other:g}'}")
    before, price = was.dollars_per_gpu_hour, now.dollars_per_gpu_hour
    if now.dollars is not None and before is not None and price is not None and price < before:
        words.append(f"budget.dollars_per_gpu_hour {before:g} -> {price:g}")
    return tuple(words)


def check_flops(sweep: Sweep, spec: SweepSpec) -> None:
    """Raise Refused for FLOPs that may not change: under a policy that laid its runs out by them;
    and, while a sweep goes on, for fewer than were allowed."""
    old, new = _flops(sweep, spec)
    name, kind = sweep.spec.name, spec.policy.kind
    if new != old and kind in LAID_OUT:
        raise Refused(
            f"budget.flops is settled for the sweep {name}: policy {kind} laid its runs out by "
            f"{flops_in_words(old)} FLOPs, and would have begun otherwise with "
            f"{flops_in_words(new)}. Launch it under "
            "another name (name=...). Nothing was started."
        )
    if new < old and sweep.state.closed is None:
        raise Refused(
            f"budget.flops is {flops_in_words(new)} FLOPs here, and {name} was given "
            f"{flops_in_words(old)}: it may be "
            f"raised, not lowered; write budget.flops={sweep.spec.budget.flops}. Nothing was "
            "started."
        )


def _flops(sweep: Sweep, spec: SweepSpec) -> tuple[int, int]:
    """The budget of FLOPs before and now."""
    return sweep.state.terms.budget, budget_flops(spec, sweep.pool)


def lowered(sweep: Sweep, spec: SweepSpec) -> bool:
    """Whether `spec` has another budget than the sweep's last session, and no part of it more."""
    keys = ("flops", *CAPS, "dollars_per_gpu_hour")
    same = all(getattr(sweep.spec.budget, key) == getattr(spec.budget, key) for key in keys)
    return not same and not raised(sweep, spec)


def check_goes_on(sweep: Sweep, spec: SweepSpec, words: tuple[str, ...]) -> None:
    """Ask the policy of a sweep that is done what it would do under the raised budget. Raises
    Refused where that is nothing, and says why."""
    state = _reopened(sweep, spec, words)
    spent = cap_of(spec)(state)
    if spent is not None:
        raise Refused(f"{spec.name} is done, and {', '.join(words)} buys nothing: {spent}")
    decisions = policy_of(spec).decide(state)
    if any(not isinstance(decision, Stop) for decision in decisions):
        return
    why = next((d.reason.removeprefix(NO_MORE) for d in decisions), None)
    raise Refused(
        f"{spec.name} is done, and {', '.join(words)} buys nothing more: "
        f"{why or _nothing(spec, state)}. Nothing was started; `frontrunner report {spec.name}` "
        "writes the report again."
    )


def not_worth_it(state: SweepState) -> bool:
    """Whether a sweep ended since no purchase was worth its share of the budget: of a larger one
    the same costs less, and what did not fit may be bought."""
    return (state.closed or "").startswith(NO_MORE) and "(policy.worth " in (state.closed or "")


def more_of(spec: SweepSpec, state: SweepState) -> str | None:
    """The assignment that doubles what a sweep ran out of, where its policy would go on with it,
    or may (`not_worth_it`); None where it ended for another reason."""
    closed = state.closed or ""
    first = used_of(spec)(state)
    at_end = len(state.trials) == len(state.pool) and all(
        trial.out or trial.trunk.tokens >= trial.candidate.end for trial in state.trials.values()
    )
    enough = closed.startswith(NO_MORE) and NOTHING_FITS not in closed and not not_worth_it(state)
    if not closed or enough or at_end or spec.policy.kind in LAID_OUT:
        return None
    if first.unit == "GPU-hours":
        return f"budget.gpu_hours={2 * first.budget:g}"
    if first.unit == "dollars":
        return f"budget.dollars={2 * first.budget:g}"
    share = spec.budget.share
    return (
        f"budget.flops={flops_in_words(2 * first.budget)}"
        if share is None
        else (f"budget.flops={min(200 * share, 100):g}%" if share < 1 else None)
    )


def _reopened(sweep: Sweep, spec: SweepSpec, words: tuple[str, ...]) -> SweepState:
    state = under(spec, sweep.state)
    return apply(
        state,
        replace(sweep.opened, session=state.session + 1, budget=state.terms.budget, raised=words),
    )


def _nothing(spec: SweepSpec, state: SweepState) -> str:
    """That the policy has nothing to decide, with what is used of the budget."""
    first = used_of(spec)(state)
    return (
        f"policy {spec.policy.kind} finds nothing left that it wants and that can be paid for "
        f"({first.said} are used, and of FLOPs {100 * state.ledger.spent / state.terms.budget:.0f}"
        f" % of {flops_in_words(state.terms.budget)})"
    )
