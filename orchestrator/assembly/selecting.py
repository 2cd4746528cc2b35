"""The policies that buy runs for a law, as a spec names them. Touches nothing."""

from __future__ import annotations

from dataclasses import replace

from orchestrator import blocks
from orchestrator.assembly.caps import trunks_purse_of
from orchestrator.assembly.refusal import Refused
from orchestrator.laws.forms.base import LawForm
from orchestrator.laws.forms.line import LineForm
from orchestrator.laws.stated import form_stated
from orchestrator.policies.base import Policy
from orchestrator.policies.buying import Rule
from orchestrator.policies.pricing import Purse
from orchestrator.spec import SweepSpec
from orchestrator.values import Candidate

TARGET = "(target)"
"""What is asked for, as a candidate; no name of a trial has parentheses."""


def selection_of(plan: blocks.Active | blocks.Select, spec: SweepSpec) -> Policy:
    """The policy of a block, for the spec's target and law forms. Raises Refused where there is
    no target, or the forms are none that the rule can fit."""
    if spec.target is None:
        raise Refused(
            f"policy {plan.kind} needs to know where the law must be right; add target: "
            "{params: 7B, tokens: 140B}"
        )
    if isinstance(plan, blocks.Active) and plan.by == "curves":
        return _on_curves(plan, spec.target, trunks_purse_of(spec))
    from orchestrator.policies.selection import Selection

    forms = tuple(form_stated(text) for text in spec.law.forms)
    params, tokens = float(spec.target.params), float(spec.target.tokens)
    # The usual count of FLOPs stands in for the target's own, which no candidate has.
    usual = {"N": params, "D": tokens, "C": 6.0 * params * tokens}
    names = sorted({name for form in forms for name in form.inputs})
    return Selection(
        rule=_rule(plan, forms),
        target={name: (usual[name],) for name in names},
        lengths=plan.lengths,
        purse=trunks_purse_of(spec),
    )


def _on_curves(plan: blocks.Active, target: blocks.Target, purse: Purse) -> Policy:
    from orchestrator.policies.target import LENGTHS, MISFIT, Target
    from orchestrator.surrogates.joint_law import FOR_LAWS

    # The usual count of FLOPs stands in for the target's own; it is never run.
    asked = Candidate(
        id=TARGET,
        params=target.params,
        horizon=target.tokens,
        flops_per_token=6.0 * target.params,
    )
    return Target(
        surrogate=replace(FOR_LAWS, misfit=MISFIT),
        targets=((asked, target.tokens),),
        half_width=plan.half_width,
        lengths=plan.lengths if plan.lengths > 1 else LENGTHS,
        worth=plan.worth,
        purse=purse,
    )


def _rule(plan: blocks.Active | blocks.Select, forms: tuple[LawForm, ...]) -> Rule:
    from orchestrator.policies.posterior import Learner, Optima

    match plan.kind:
        case "active":
            from orchestrator.policies.active import Active

            return Active(
                learner=Learner(forms=forms), half_width=plan.half_width, worth=plan.worth
            )
        case "random":
            from orchestrator.policies.at_random import AtRandom

            return AtRandom()
        case "cheapest":
            from orchestrator.policies.cheapest import Cheapest

            return Cheapest()
        case "cost_weighted_random":
            from orchestrator.policies.cost_weighted_random import CostWeightedRandom

            return CostWeightedRandom()
        case "d_optimal":
            from orchestrator.policies.d_optimal import DOptimal

            return DOptimal(learner=Learner(forms=forms, misfit=None))
        case "v_optimal":
            from orchestrator.policies.v_optimal import VOptimal

            return VOptimal(learner=Learner(forms=forms, misfit=None))
        case "published":
            from orchestrator.policies.published import Published

            solver = Optima(learner=Learner(forms=forms, misfit=None))
            return Published(forms=_lines(forms), solver=solver)


def _lines(forms: tuple[LawForm, ...]) -> tuple[LineForm, ...]:
    lines = tuple(form for form in forms if isinstance(form, LineForm))
    if len(lines) < len(forms):
        raise Refused(
            "policy published takes laws in one line; set law.forms: "
            '["E + A/N**alpha + B/D**beta"]'
        )
    return lines
