"""The rounds of a policy on paper: how many trials reach how much compute, before anything runs.

Exact for policies that decide without watching; for those that watch, what they may do at most.
Touches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator import blocks
from orchestrator.policies.rungs import grouped, ladder, survivors
from orchestrator.policies.textbook import by_ratio
from orchestrator.pool import Pool
from orchestrator.spec import SweepSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RungRow:
    """A round: `live` trials reach `flops` each; the round costs `cost` in all."""

    rung: int
    live: int
    flops: int
    cost: int


def rounds_of(spec: SweepSpec, pool: Pool, budget: int) -> tuple[tuple[RungRow, ...], int]:
    """The rounds, and what they can cost at most; spare compute goes to trials left behind."""
    most = min(budget, pool.exhaustive_flops)
    match spec.policy:
        case blocks.SuccessiveHalving() as plan:
            groups = [len(group) for group in grouped(pool.candidates, plan.group_by).values()]
            rows = [(rung.live, rung.flops) for rung in ladder(groups, budget, plan.eta)]
            return _climbing(rows), most
        case blocks.Hyperband() as plan:
            return _climbing(_brackets(len(pool), budget, plan.eta)), most
        case blocks.Asha() as plan:
            return _climbing(_levels(pool, budget, plan.eta)), most
        case blocks.OneShot() as plan:
            return _textbook(pool, budget, plan.tokens_per_param, 1, 1.0, spec.seed)
        case blocks.StaticLadder() as plan:
            return _textbook(pool, budget, plan.tokens_per_param, plan.runs, plan.share, spec.seed)
        case blocks.Frontier() | blocks.Recommend() as plan:
            return _searching(plan, pool, budget), most
        case blocks.Active() as plan if spec.aim != "target":
            return _searching(plan, pool, budget), most
        case blocks.Active() | blocks.Select():
            return _cheapest(pool, budget), most
        case blocks.Uniform():
            share = budget // len(pool)
            spent = sum(min(candidate.cost, share) for candidate in pool)
            return (RungRow(rung=1, live=len(pool), flops=share, cost=spent),), spent
        case blocks.Exhaustive():
            return _in_order(pool, budget)


def _cheapest(pool: Pool, budget: int) -> tuple[RungRow, ...]:
    """As many whole runs as the budget buys of the cheapest: which are bought, and how far,
    follows from what is seen."""
    live, spent, most = 0, 0, 0
    for cost in sorted(candidate.cost for candidate in pool):
        if spent + cost > budget:
            break
        live, spent, most = live + 1, spent + cost, cost
    if not live:
        return (RungRow(rung=1, live=1, flops=budget, cost=budget),)
    return (RungRow(rung=1, live=live, flops=most, cost=spent),)


def _climbing(rows: list[tuple[int, int]]) -> tuple[RungRow, ...]:
    """(live, FLOPs each has then) of rounds that go on from one another."""
    found: list[RungRow] = []
    before = 0
    for number, (live, flops) in enumerate(rows, 1):
        found.append(RungRow(rung=number, live=live, flops=flops, cost=live * (flops - before)))
        before = flops
    return tuple(found)


def _brackets(candidates: int, budget: int, eta: int) -> list[tuple[int, int]]:
    """The rungs of the bravest bracket, which has the most rounds."""
    from orchestrator.policies.hyperband import bracket_sizes

    sizes = bracket_sizes(candidates, eta)
    return [(rung.live, rung.flops) for rung in ladder(sizes[:1], budget // len(sizes), eta)]


def _levels(pool: Pool, budget: int, eta: int) -> list[tuple[int, int]]:
    first = ladder([len(pool)], budget, eta)[0]
    rows, live, flops = [(first.live, first.flops)], first.live, first.flops
    while live > 1:
        live, flops = survivors(live, eta), flops * eta
        rows.append((live, flops))
    return rows


def _textbook(
    pool: Pool, budget: int, ratio: float, runs: int, share: float, seed: int
) -> tuple[tuple[RungRow, ...], int]:
    """Runs that are laid out beforehand, the shortest first: no round waits for another."""
    left, unused = budget, list(pool.candidates)
    costs: list[int] = []
    for _ in range(runs):
        flops = int(share * left)
        order = by_ratio(unused, flops, ratio, seed=seed)
        if not order:
            break
        costs.append(order[0].flops(order[0].tokens_within(flops)))
        left -= costs[-1]
        unused.remove(order[0])
    rows = [RungRow(rung=n, live=1, flops=c, cost=c) for n, c in enumerate(sorted(costs), 1)]
    return tuple(rows), sum(costs)


def _searching(
    plan: blocks.Frontier | blocks.Recommend | blocks.Active, pool: Pool, budget: int
) -> tuple[RungRow, ...]:
    """The starts, and the most that one trial may take at the end."""
    from orchestrator.policies.searching import Starts

    starts = Starts()
    live = min(starts.count, len(pool))
    largest = max(candidate.cost for candidate in pool)
    return _climbing(
        [(live, int(starts.share * budget)), (1, min(int(plan.most * budget), largest))]
    )


def _in_order(pool: Pool, budget: int) -> tuple[tuple[RungRow, ...], int]:
    spent, started, longest = 0, 0, 0
    for candidate in pool:
        if candidate.cost <= budget - spent:
            spent += candidate.cost
            started += 1
            longest = max(longest, candidate.cost)
    return (RungRow(rung=1, live=started, flops=longest, cost=spent),), spent


def kept_sizes(sizes: int, candidates: int, last: int, spec: SweepSpec) -> str:
    """What the law can rest on, in a sentence. `last`: trials in the last round."""
    match spec.policy:
        case blocks.SuccessiveHalving(group_by="params"):
            return f"all {sizes} sizes reach the last rung, with {last} trials"
        case blocks.SuccessiveHalving() | blocks.Asha() | blocks.Hyperband():
            return (
                f"all {sizes} sizes up to the first rung; the losses decide which of them are "
                f"among the {last} at the last"
            )
        case blocks.Uniform():
            return f"all {sizes} sizes, each trial with an even share"
        case blocks.OneShot():
            return "one size: no law can be fitted to one run"
        case blocks.StaticLadder() as plan:
            return f"at most {plan.runs} sizes, one run each"
        case blocks.Active() | blocks.Select() if spec.aim == "target":
            return f"the cheapest of {candidates} candidates, then what narrows the target most"
        case blocks.Frontier() | blocks.Recommend() | blocks.Active():
            from orchestrator.policies.searching import Starts

            live = min(Starts().count, sizes)
            return f"the {live} sizes that start, and those that forecasts choose"
        case blocks.Select():
            return f"the cheapest of {candidates} candidates, then what narrows the target most"
        case blocks.Exhaustive():
            return f"{last} of {candidates} candidates, in the order of the pool, to their end"
