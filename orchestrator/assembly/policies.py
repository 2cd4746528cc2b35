"""The policy that a spec names, built and in words. Each is imported when it is built. Touches
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator import blocks
from orchestrator.assembly.caps import trunks_purse_of
from orchestrator.assembly.refusal import Refused
from orchestrator.assembly.surrogates import surrogate_of
from orchestrator.policies.base import Policy
from orchestrator.policies.pricing import IN_FLOPS, Purse
from orchestrator.policies.within import within
from orchestrator.spec import SweepSpec

if TYPE_CHECKING:
    from orchestrator.policies.ranking import Ranking
    from orchestrator.policies.recommend import Recommend


FOR: dict[blocks.Aim, str] = {
    "frontier": "the lowest loss for the compute",
    "recommend": "what tells most about the deployment",
    "target": "a law that is right at the target",
}


def bare_policy(spec: SweepSpec) -> Policy:
    """The spec's policy without annealing. Raises Refused where the spec lacks what it needs."""
    plan = spec.policy
    if isinstance(plan, blocks.Select) or (
        isinstance(plan, blocks.Active) and spec.aim == "target"
    ):
        from orchestrator.assembly.selecting import selection_of

        return selection_of(plan, spec)
    if isinstance(plan, blocks.Active):
        return _forecasting(plan, spec.aim, spec.deployment_flops, trunks_purse_of(spec))
    return built(plan, spec.deployment_flops, trunks_purse_of(spec))


def built(
    chosen: blocks.Policy, deployment_flops: float | None, purse: Purse = IN_FLOPS
) -> Policy:
    """The policy of a block. Raises Refused for one that needs a deployment compute or a target
    and has none."""
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
            return _forecasting(plan, plan.kind, deployment_flops, purse)
        case blocks.Active() | blocks.Select() as plan:
            raise Refused(f"policy {plan.kind} needs a target; name it in a sweep file")


def _ranking(plan: blocks.SuccessiveHalving | blocks.Hyperband) -> Ranking:
    if plan.surrogate is None:
        from orchestrator.policies.ranking import ByLoss

        return ByLoss()
    from orchestrator.policies.by_forecast import ByForecast

    return ByForecast(surrogate=surrogate_of(plan.surrogate), gate=plan.gate)


def _forecasting(
    plan: blocks.Frontier | blocks.Recommend | blocks.Active,
    aim: blocks.Aim,
    deployment: float | None,
    purse: Purse,
) -> Policy:
    """The policy that serves `frontier` or `recommend`, within what hours and money buy."""
    from orchestrator.assembly.stoprules import heard
    from orchestrator.policies.choosing import Rule
    from orchestrator.policies.frontier import Frontier
    from orchestrator.policies.trust import Believer

    rule = Rule(tokens_per_param=plan.tokens_per_param, certainty=plan.certainty)
    surrogate = surrogate_of(plan.surrogate)
    believer = Believer()
    frontier = Frontier(
        surrogate=surrogate,
        most=plan.most,
        rule=rule,
        gate=plan.gate,
        worth=plan.worth,
        purse=purse,
        believer=believer,
    )
    if aim == "frontier":
        return heard(within(frontier, purse), plan, believer)
    from orchestrator.policies.recommend import Recommend

    if deployment is None:
        raise Refused(
            "policy recommend needs the compute that you would deploy; add deployment_flops: 1e21"
        )
    recommend = Recommend(
        surrogate=surrogate,
        deployment_flops=deployment,
        then=frontier,
        most=plan.most,
        rule=rule,
        gate=plan.gate,
        regret=None if isinstance(plan, blocks.Frontier) else plan.regret,
        worth=plan.worth,
        purse=purse,
        believer=believer,
    )
    return heard(within(recommend, purse), plan, believer)


def recommender(spec: SweepSpec) -> Recommend:
    """The policy `recommend` for the spec's deployment, whatever policy bought the runs. Raises
    Refused where none is named."""
    from orchestrator.policies.recommend import Recommend
    from orchestrator.policies.unheard import Unheard

    plan = spec.policy
    if not isinstance(plan, blocks.Recommend | blocks.Active):
        plan = blocks.Recommend()
    policy = _forecasting(plan, "recommend", spec.deployment_flops, IN_FLOPS)
    policy = policy.policy if isinstance(policy, Unheard) else policy
    if not isinstance(policy, Recommend):
        raise TypeError(f"{policy.name} names no candidate")
    return policy


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
            return f"frontier ({FOR['frontier']}, by {plan.surrogate})"
        case blocks.Recommend() as plan:
            return f"recommend ({FOR['recommend']}, by {plan.surrogate})"
        case blocks.Active() as plan if spec.aim == "target":
            what = "lengths of runs" if plan.by == "curves" or plan.lengths > 1 else "runs"
            return f"active (buys {what} for {FOR['target']})"
        case blocks.Active() as plan:
            return f"active (buys lengths of runs for {FOR[spec.aim]}, by {plan.surrogate})"
        case blocks.Select() as plan:
            return f"{plan.kind} (buys runs for {FOR['target']})"
        case blocks.Uniform():
            return "uniform (the budget divided evenly)"
        case blocks.Exhaustive():
            return "exhaustive (every candidate to its end)"


def _guided(plan: blocks.SuccessiveHalving | blocks.Hyperband) -> str:
    if plan.surrogate is None:
        return ""
    return f", ranked by {plan.surrogate}" + (" where its backtest allows" if plan.gate else "")
