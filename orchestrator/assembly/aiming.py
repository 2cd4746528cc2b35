"""What a plan says of its aim before anything is spent: how far off the target lies, what a law
in one line will fit, and settings that are rarely meant as they stand.

Touches nothing; loads the laws only where one is stated in a line.
"""

from __future__ import annotations

import math

import numpy as np

from orchestrator import blocks
from orchestrator.lawplan import LAW_NAMES
from orchestrator.pool import Pool
from orchestrator.report import words
from orchestrator.report.cost import LONG_REACH, FlopsPerToken
from orchestrator.spec import SweepSpec


def aimed(spec: SweepSpec, pool: Pool) -> tuple[str, ...]:
    """Notes for a plan, in the order of their weight."""
    return (
        *_target(spec, pool),
        *_deployment(spec, pool),
        *_together(spec),
        *_lines(spec, pool),
        *_slips(spec),
    )


def _target(spec: SweepSpec, pool: Pool) -> tuple[str, ...]:
    """How much more the target costs than the dearest candidate, or that one is as large."""
    target = spec.target
    if target is None:
        return ()
    cost = FlopsPerToken.of((c.params, c.cost / c.end) for c in pool.candidates)
    flops = float(cost(np.array([float(target.params)]))[0]) * target.tokens
    reach = flops / max(candidate.cost for candidate in pool.candidates)
    what = f"{words.amount(target.params)} params on {words.amount(target.tokens)} tokens"
    told = f"the target, {what}, costs about {words.flops(flops)} FLOPs: "
    sizes = [candidate.params for candidate in pool.candidates]
    ends = [candidate.end for candidate in pool.candidates]
    if min(sizes) <= target.params <= max(sizes) and target.tokens <= max(ends):
        return (
            f"{told}that size and those tokens lie within the pool, so a run there would tell the "
            "loss without a law",
        )
    far = ", a long reach for any law" if reach > LONG_REACH else ""
    return (f"{told}{words.factor(reach)} times the dearest candidate{far}",)


def _deployment(spec: SweepSpec, pool: Pool) -> tuple[str, ...]:
    """That no candidate takes the compute that would be deployed: each is judged at its end."""
    flops = spec.deployment_flops
    dearest = max(candidate.cost for candidate in pool.candidates)
    if flops is None or spec.aim != "recommend" or flops <= dearest:
        return ()
    return (
        f"no candidate takes deployment_flops {words.flops(flops)}: the dearest trains for "
        f"{words.flops(dearest)} FLOPs to its end, and each is judged at its own; for what is "
        "deployed, add larger sizes or raise the horizon",
    )


def _together(spec: SweepSpec) -> tuple[str, ...]:
    plan, forms = spec.policy, spec.law.forms
    forms_buy = isinstance(plan, blocks.Active) and plan.by != "curves"
    if not forms_buy or spec.aim != "target" or len(forms) < 2:
        return ()
    return (
        f"all {len(forms)} forms of law.forms choose the runs, and answer at the target together",
    )


def _lines(spec: SweepSpec, pool: Pool) -> tuple[str, ...]:
    """The names that a law in one line fits, so that a misspelt input shows; and whether the pool
    has the runs that so many want."""
    lines = [text for text in spec.law.forms if text not in LAW_NAMES]
    if not lines:
        return ()
    from orchestrator.laws.stated import form_stated
    from orchestrator.policies.active import RUNS_PER_PARAMETER

    told: list[str] = []
    for text in lines:
        form = form_stated(text)
        names = [parameter.name for parameter in form.parameters]
        runs = math.ceil(RUNS_PER_PARAMETER * len(names))
        few = ""
        if runs > len(pool):
            few = f"; so many want {runs} runs, and the pool has {len(pool)} candidates"
        told.append(
            f"law.forms: {text} takes {' and '.join(form.inputs)} and fits {len(names)} "
            f"parameters, {', '.join(names)}{few}"
        )
    return tuple(told)


def _slips(spec: SweepSpec) -> tuple[str, ...]:
    """Shares that were written as whole numbers."""
    told: list[str] = []
    for name in ("half_width", "regret"):
        value = getattr(spec.policy, name, None)
        if value is not None and value >= 1:
            told.append(
                f"policy.{name} {value:g} is of log loss, where it means a factor of "
                f"{math.exp(value):.2g}: {value:g} per cent is written {value:g}%"
            )
    worth = getattr(spec.policy, "worth", 0.0)
    if worth > 1:
        told.append(
            f"policy.worth {worth:g} asks a purchase for 1 % of the budget to save {worth:g} % of "
            f"what is left to learn, and may end the sweep at once: {worth:g} per cent is written "
            f"{worth:g}%"
        )
    return tuple(told)
