"""The policy that a spec names, built and in words. Each is imported when it is built. Touches
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator import blocks
from orchestrator.assembly.refusal import Refused
from orchestrator.assembly.surrogates import surrogate_of
from orchestrator.policies.base import Policy
from orchestrator.spec import SweepSpec

if TYPE_CHECKING:
    from orchestrator.policies.ranking import Ranking


def bare_policy(spec: SweepSpec) -> Policy:
    """The spec's policy without annealing. Raises Refused where the spec lacks what it needs."""
    if isinstance(spec.policy, blocks.Select):
        from orchestrator.assembly.selecting import selection_of

        return selection_of(spec.policy, spec)
    return built(spec.policy, spec.deployment_flops)


def built(chosen: blocks.Policy, deployment_flops: float | None) -> Policy:
    """The policy of a block. Raises Refused for one that needs a deployment compute and has
    none."""
    match chosen:
        case blocks.Exhaustive():
            from orchestrator.policies.exhaustive import Exhaustive

            return Exhaustive()
        case blocks.Uniform():
            from orchestrator.policies.uniform import Uniform

            return Uniform()
        case blocks.SuccessiveHalving() as plan:
            from orchestrator.policies.successive_halving import SuccessiveHalving

            return SuccessiveHalving(
                eta=plan.eta,
                spend_out=plan.spend_out,
                group_by=plan.group_by,
                ranking=_ranking(plan),
            )
        case blocks.Hyperband() as plan:
            from orchestrator.policies.hyperband import Hyperband

            return Hyperband(eta=plan.eta, spend_out=plan.spend_out, ranking=_ranking(plan))
        case blocks.Asha() as plan:
            from orchestrator.policies.asha import Asha

            return Asha(eta=plan.eta, spend_out=plan.spend_out)
        case blocks.OneShot() as plan:
            from orchestrator.policies.one_shot import OneShot

            return OneShot(tokens_per_param=plan.tokens_per_param)
        case blocks.StaticLadder() as plan:
            from orchestrator.policies.static_ladder import StaticLadder

            return StaticLadder(
                tokens_per_param=plan.tokens_per_param, runs=plan.runs, share=plan.share
            )
        case blocks.Frontier() | blocks.Recommend() as plan:
            return _forecasting(plan, deployment_flops)
        case blocks.Select() as plan:
            raise Refused(f"policy {plan.kind} needs a target; name it in a sweep file")


def _ranking(plan: blocks.SuccessiveHalving | blocks.Hyperband) -> Ranking:
    if plan.surrogate is None:
        from orchestrator.policies.ranking import ByLoss

        return ByLoss()
    from orchestrator.policies.by_forecast import ByForecast

    return ByForecast(surrogate=surrogate_of(plan.surrogate), gate=plan.gate)


def _forecasting(plan: blocks.Frontier | blocks.Recommend, deployment: float | None) -> Policy:
    from orchestrator.policies.choosing import Rule

    rule = Rule(tokens_per_param=plan.tokens_per_param, certainty=plan.certainty)
    from orchestrator.policies.frontier import Frontier

    surrogate = surrogate_of(plan.surrogate)
    frontier = Frontier(surrogate=surrogate, most=plan.most, rule=rule, gate=plan.gate)
    if isinstance(plan, blocks.Frontier):
        return frontier
    from orchestrator.policies.recommend import Recommend

    if deployment is None:
        raise Refused(
            "policy recommend needs the compute that you would deploy; add deployment_flops: 1e21"
        )
    return Recommend(
        surrogate=surrogate,
        deployment_flops=deployment,
        then=frontier,
        most=plan.most,
        rule=rule,
        gate=plan.gate,
    )


def policy_in_words(spec: SweepSpec) -> str:
    """The policy as a person would say it, without annealing."""
    match spec.policy:
        case blocks.SuccessiveHalving() as plan:
            by = f" within {plan.group_by}" if plan.group_by else ""
            return f"successive halving (keep 1 in {plan.eta}{by}{_guided(plan)})"
        case blocks.Hyperband() as plan:
            return f"hyperband (brackets of halving, keep 1 in {plan.eta}{_guided(plan)})"
        case blocks.Asha() as plan:
            return f"asha (asynchronous halving, keep 1 in {plan.eta})"
        case blocks.OneShot() as plan:
            return f"one_shot (one run at {plan.tokens_per_param:g} tokens a parameter)"
        case blocks.StaticLadder() as plan:
            return (
                f"static_ladder (at most {plan.runs} runs at {plan.tokens_per_param:g} tokens a "
                "parameter)"
            )
        case blocks.Frontier() as plan:
            return f"frontier (the lowest loss for the compute, by {plan.surrogate})"
        case blocks.Recommend() as plan:
            return f"recommend (what tells most about the deployment, by {plan.surrogate})"
        case blocks.Select() as plan:
            what = "lengths of runs" if plan.by == "curves" else "runs"
            return f"{plan.kind} (buys {what} for a law that is right at the target)"
        case blocks.Uniform():
            return "uniform (the budget divided evenly)"
        case blocks.Exhaustive():
            return "exhaustive (every candidate to its end)"


def _guided(plan: blocks.SuccessiveHalving | blocks.Hyperband) -> str:
    if plan.surrogate is None:
        return ""
    return f", ranked by {plan.surrogate}" + (" where its backtest allows" if plan.gate else "")
