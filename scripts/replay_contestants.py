"""Who takes part in `bench_replay`: each policy with its surrogate, and what it recommends by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from orchestrator.assembly.surrogates import surrogate_of
from orchestrator.judge import Shared
from orchestrator.judge.ceilings import Hindsight, Oracle
from orchestrator.judge.recommending import Recommender, by_forecasts, by_textbook, leader
from orchestrator.policies.asha import Asha
from orchestrator.policies.base import Policy
from orchestrator.policies.by_forecast import ByForecast
from orchestrator.policies.choosing import Rule
from orchestrator.policies.frontier import Frontier
from orchestrator.policies.hyperband import Hyperband
from orchestrator.policies.one_shot import OneShot
from orchestrator.policies.ranking import ByChance
from orchestrator.policies.recommend import Recommend
from orchestrator.policies.static_ladder import StaticLadder
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.policies.uniform import Uniform
from orchestrator.recorded import RecordedCurve

BASELINE = "successive_halving_literal"
PLAIN = (
    BASELINE,
    "successive_halving",
    "successive_halving_eta3",
    "successive_halving_eta4",
    "random_pruning",
    "uniform",
    "one_shot",
    "static_ladder",
    "asha",
    "hyperband",
    "oracle_halving",
    "hindsight",
)
GUIDED = (
    "successive_halving_literal",
    "successive_halving_ungated",
    "successive_halving",
    "frontier",
    "recommend",
)
"""Policies that a surrogate guides; the first two without the gate, as published."""
DEFAULT_SURROGATES = ("joint_law", "multi_task_gp", "deep_ensemble", "power_law")
LEAVING = ("frontier", "recommend")
"""Those that leave the halving skeleton: by default with the joint law alone."""
RIVALS = (
    "successive_halving",
    "successive_halving_eta3",
    "successive_halving_eta4",
    "one_shot",
    "static_ladder",
    "uniform",
)
"""Whom a recommendation is held against."""
SAFE = ("successive_halving", "static_ladder")
"""The better of these is what nobody behind the gate may be worse than."""
GATED = ("successive_halving", "frontier")
"""Policies that promise it, with whichever surrogate."""
RATIO = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A policy by name, with a surrogate by name or none."""

    policy: str
    surrogate: str | None = None

    @property
    def key(self) -> str:
        return self.policy if self.surrogate is None else f"{self.policy}+{self.surrogate}"


def contestants(policies: list[str], surrogates: list[str]) -> list[Contestant]:
    """Those of the names asked for, all without names; guided by the surrogates asked for, the
    usual ones without names, and by nobody for "none". Raises ValueError for an unknown policy."""
    known = {*PLAIN, *GUIDED}
    for name in policies:
        if name not in known:
            raise ValueError(f"{name!r} is no policy here; there are {', '.join(sorted(known))}")
    found = [Contestant(policy=name) for name in PLAIN if not policies or name in policies]
    for name in GUIDED if surrogates != ["none"] else ():
        if policies and name not in policies:
            continue
        usual = ("joint_law",) if name in LEAVING else DEFAULT_SURROGATES
        found += [Contestant(policy=name, surrogate=each) for each in surrogates or usual]
    baseline = Contestant(policy=BASELINE)
    return [baseline, *(each for each in found if each != baseline)]


def judges_coverage(who: Contestant) -> bool:
    """Whether the intervals of its surrogate are scored on what it bought: once for halving."""
    return who.policy in (*GATED, *LEAVING)


@cache
def shared(name: str) -> Shared:
    """The surrogate of that name, one for all contestants of this process."""
    return Shared(surrogate_of(name))


def entry(
    who: Contestant, curves: Mapping[str, RecordedCurve], budget: int, eta: int
) -> tuple[Policy, Recommender]:
    """The policy, and the rule by which it recommends a configuration."""
    if who.surrogate is not None:
        return _guided(who, who.surrogate, budget, eta)
    match who.policy:
        case "successive_halving_literal":
            return SuccessiveHalving(eta=eta, spend_out=False), leader
        case "successive_halving":
            return SuccessiveHalving(eta=eta), leader
        case "successive_halving_eta3":
            return SuccessiveHalving(eta=3), leader
        case "successive_halving_eta4":
            return SuccessiveHalving(eta=4), leader
        case "random_pruning":
            return SuccessiveHalving(eta=eta, ranking=ByChance()), leader
        case "uniform":
            return Uniform(), leader
        case "one_shot":
            return OneShot(tokens_per_param=RATIO), by_textbook(RATIO)
        case "static_ladder":
            return StaticLadder(tokens_per_param=RATIO), by_textbook(RATIO)
        case "asha":
            return Asha(eta=eta), leader
        case "hyperband":
            return Hyperband(eta=eta), leader
        case "oracle_halving":
            return SuccessiveHalving(eta=eta, ranking=Oracle(curves)), leader
        case "hindsight":
            return Hindsight(curves), leader
        case _:
            raise ValueError(f"{who.policy!r} needs a surrogate: name one with --surrogate")


def _guided(
    who: Contestant, surrogate_name: str, budget: int, eta: int
) -> tuple[Policy, Recommender]:
    surrogate = shared(surrogate_name)
    named = by_forecasts(surrogate, Rule())
    match who.policy:
        case "successive_halving_literal":
            ranking = ByForecast(surrogate=surrogate, gate=False)
            return SuccessiveHalving(eta=eta, spend_out=False, ranking=ranking), leader
        case "successive_halving_ungated":
            ranking = ByForecast(surrogate=surrogate, gate=False)
            return SuccessiveHalving(eta=eta, ranking=ranking), leader
        case "successive_halving":
            return SuccessiveHalving(eta=eta, ranking=ByForecast(surrogate=surrogate)), leader
        case "frontier":
            return Frontier(surrogate=surrogate), named
        case _:
            then = Frontier(surrogate=surrogate)
            return Recommend(surrogate=surrogate, deployment_flops=10.0 * budget, then=then), named
