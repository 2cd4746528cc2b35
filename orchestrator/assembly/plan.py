"""What a sweep would cost before anything starts: the pool by size, the rungs, the longest path.

Touches nothing. Every figure follows from the spec and the exact FLOP counts; seconds and dollars
only where somebody says how fast a worker is, because nothing here has measured it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

from orchestrator.assembly import rounds
from orchestrator.assembly.aiming import aimed
from orchestrator.assembly.caps import hours_of
from orchestrator.assembly.policies import policy_in_words
from orchestrator.assembly.rounds import RungRow, rounds_of
from orchestrator.assembly.stoprules import foretold
from orchestrator.blocks import Active, Asha, Select, SuccessiveHalving
from orchestrator.demand import Demand
from orchestrator.policies.rungs import grouped
from orchestrator.pool import Pool, budget_flops, demand_for
from orchestrator.spec import PRICED, SweepSpec
from orchestrator.stacking import most_of
from orchestrator.values import flops_in_words
from trainers.config import TrainConfig
from trainers.quantity import format_quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRow:
    """Candidates of one size: FLOPs of one whole run (the costliest) and of all."""

    params: int
    candidates: int
    tokens: int
    flops_each: int
    flops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A sweep on paper, in FLOPs. `path` is the least that one worker after another must do, the
    decay of a survivor included, so no number of workers beats it; `path_here` is that with the
    workers of the spec (None: unknown), and never less than an even share of all that is planned:
    what spends the budget out comes after the rungs. Waiting and start-up come on top.
    `one_by_one`: whether runs are bought one after another for the target, so that `rungs` are but
    the least of it: the cheapest candidates to their end.
    `hours_count`: in words what an hour of a worker counts for; empty for that of a GPU."""

    name: str
    policy: str
    candidates: int
    excluded: int
    sizes: tuple[SizeRow, ...]
    rungs: tuple[RungRow, ...]
    one_by_one: bool
    exhaustive: int
    budget: int
    planned: int
    annealing: int
    workers: int | None
    path: int
    path_here: int | None
    flops_per_s: float | None
    gpu_hours: float | None
    hours_count: str
    gpu_hours_cap: float | None
    dollars: float | None
    dollars_cap: float | None
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def share(self) -> float:
        return self.planned / self.exhaustive

    def seconds(self, flops: float) -> float | None:
        """How long one worker takes over `flops`, where its speed is known."""
        return flops / self.flops_per_s if self.flops_per_s else None


def plan_of(
    spec: SweepSpec, pool: Pool, *, workers: int | None = None, flops_per_s: float | None = None
) -> Plan:
    """The plan; `workers` stands in where the spec leaves their number to the machine, and
    `flops_per_s` is what one worker does, as the spec says without it."""
    flops_per_s = flops_per_s or spec.budget.flops_per_s
    workers = spec.resources.workers or workers
    budget = _affordable(spec, budget_flops(spec, pool), flops_per_s)
    annealing = int(budget * spec.anneal.share) if spec.anneal else 0
    trunks = budget - annealing
    rungs, planned = rounds_of(spec, pool, trunks)
    decay = _decay(spec, rungs, annealing)
    path = sum(row.flops - before for row, before in _climbs(rungs)) + decay
    whole = planned + annealing
    here = None
    if workers:
        here = max(_path_with(workers, rungs) + decay, math.ceil(whole / workers))
    # Of GPUs, as caps count them: a worker may hold a part of one, or several.
    gpus = spec.resources.gpus_counted
    demand = demand_for(spec, pool)
    hours = whole / flops_per_s / 3600 * gpus if flops_per_s else None
    price = spec.budget.dollars_per_gpu_hour
    dollars = hours * price if hours is not None and price is not None else None
    plan = Plan(
        name=spec.name,
        policy=policy_in_words(spec),
        candidates=len(pool),
        excluded=pool.excluded,
        sizes=_sizes(pool),
        rungs=rungs,
        one_by_one=isinstance(spec.policy, Select)
        or (isinstance(spec.policy, Active) and spec.aim == "target"),
        exhaustive=pool.exhaustive_flops,
        budget=budget,
        planned=whole,
        annealing=annealing,
        workers=workers,
        path=path,
        path_here=here,
        flops_per_s=flops_per_s,
        gpu_hours=hours,
        hours_count=_hours_count(spec, gpus),
        gpu_hours_cap=spec.budget.gpu_hours,
        dollars=dollars,
        dollars_cap=spec.budget.dollars,
        warnings=(),
        notes=(
            *aimed(spec, pool),
            *foretold(spec),
            *pool.notes,
            *_shared(spec, pool, demand),
            *_in_step(spec, pool, demand),
        ),
    )
    return _with_warnings(plan, spec, pool)


def _hours_count(spec: SweepSpec, gpus: float) -> str:
    worker = "the smallest worker" if spec.resources.stepped else "a worker"
    if spec.resources.gpus_per_trial is None:
        return f"{worker} counts as {gpus:g}, one for each process, on GPUs or not"
    if spec.resources.gpus_per_trial == 0:
        return f"no GPU is taken, so {worker} counts as {gpus:g}, one for each process"
    return "" if gpus == 1 and not spec.resources.stepped else f"{worker} counts as {gpus:g}"


def _affordable(spec: SweepSpec, budget: int, flops_per_s: float | None) -> int:
    """The budget of FLOPs, or what hours and money buy of them under a policy that ends there."""
    hours = hours_of(spec)
    if spec.policy.kind not in PRICED or hours is None or flops_per_s is None:
        return budget
    return min(budget, int(hours * 3600 / spec.resources.gpus_counted * flops_per_s))


def _shared(spec: SweepSpec, pool: Pool, demand: Demand) -> tuple[str, ...]:
    """That several processes train each trial, or some of them, where they do."""
    if demand.varies:
        return _differing(spec, pool, demand)
    if demand.smallest.size < 1:
        told = f"each trial takes {demand.smallest.said}, and so does a worker"
        return (f"{told}: {demand.share} of them share a GPU",) if demand.share > 1 else (told,)
    processes = demand.smallest.processes
    if processes == 1:
        return ()
    least = min((c.batch_tokens for c in pool.configs if isinstance(c, TrainConfig)), default=0)
    on = "a GPU each" if demand.smallest.gpus else "on CPUs"
    share = format_quantity(least // processes)
    return (
        f"each trial is trained by {processes} processes on one node, {on}; each takes its share "
        f"of every batch, {share} tokens of the smallest",
    )


def _differing(spec: SweepSpec, pool: Pool, demand: Demand) -> tuple[str, ...]:
    """How much each size takes, and what that does to slots and to the times of this plan."""
    by_size = grouped(pool.candidates, "params")
    told: dict[str, list[int]] = {}
    for group in by_size.values():
        ends = {demand.takes(c, tokens) for c in group for tokens in (c.tokens_per_step, c.end)}
        said = " to ".join(t.said for t in sorted(ends, key=lambda takes: takes.size))
        told.setdefault(said, []).append(group[0].params)
    each = "; ".join(f"{said}: {_sizes_said(sizes)}" for said, sizes in told.items())
    smallest, largest = demand.smallest, demand.kinds[-1]
    workers = spec.resources.workers
    places = f"the {workers} workers are places" if workers else "a worker is a place"
    place = "GPU" if largest.gpus and largest.gpus <= 1 else "node"
    alike = "GPUs" if smallest.gpus else "processes"
    return (
        f"what a trial takes, by its size: {each}",
        f"{places} of {smallest.said}, as the smallest trials take; the largest takes "
        f"{demand.slots_of(largest)} of them, all on one {place}; times above are as if every "
        f"trial had {smallest.said}, and hours as if {alike} were equally fast in any number",
    )


def _sizes_said(sizes: list[int]) -> str:
    ends = sorted({min(sizes), max(sizes)})
    return " to ".join(format_quantity(size) for size in ends) + " parameters"


def _in_step(spec: SweepSpec, pool: Pool, demand: Demand) -> tuple[str, ...]:
    """That trials of one shape train as one, where they may."""
    most = spec.resources.lockstep
    if most == 1:
        return ()
    shapes = Counter(pool.stack_key(candidate.id) for candidate in pool)
    largest = max((count for key, count in shapes.items() if key is not None), default=1)
    if largest == 1:
        return ("resources.lockstep changes nothing: no two candidates are of one shape",)
    many = min(most, largest) if most != "auto" else _by_shape(spec, pool, demand)
    if not many:
        return ("resources.lockstep: auto stacks nothing: no shape here gains by it",)
    told = (
        f"up to {many} trials of one shape train as one stacked model in a slot, "
        "which takes the memory of all of them; losses differ from single training by rounding, "
        "which rates near the edge of stability amplify as they would any other rounding"
    )
    if isinstance(spec.policy, Asha | Active | Select):
        told += f". {spec.policy.kind} starts a trial for each free slot, so few start together"
    return (told,)


def _by_shape(spec: SweepSpec, pool: Pool, demand: Demand) -> str:
    """What `lockstep: auto` chooses, for each kind of device that may train the pool; empty where
    it stacks nothing on any. What several processes train from its start to its end is alone."""
    wanted = {c.device for c in pool.configs if isinstance(c, TrainConfig)}
    if "auto" in wanted:
        wanted |= {"cpu"} if spec.resources.gpus_per_trial == 0 else {"cpu", "cuda"}
    alike = Counter(pool.stack_key(candidate.id) for candidate in pool)
    told: list[str] = []
    for device in sorted(wanted - {"auto"}):
        sizes: dict[int, list[int]] = {}
        for candidate, config in zip(pool, pool.configs, strict=True):
            ends = (candidate.tokens_per_step, candidate.end)
            if all(demand.takes(candidate, tokens).size > 1 for tokens in ends):
                continue
            many = min(most_of("auto", config, device), alike[pool.stack_key(candidate.id)])
            if many > 1:
                sizes.setdefault(many, []).append(candidate.params)
        each = [f"{many} ({_span(sizes[many])})" for many in sorted(sizes, reverse=True)]
        if each:
            told.append(f"{' or '.join(each)} on a {'GPU' if device == 'cuda' else 'CPU'}")
    return ", ".join(told)


def _span(params: list[int]) -> str:
    ends = dict.fromkeys(format_quantity(end) for end in (min(params), max(params)))
    return f"{' to '.join(ends)} parameters"


def _sizes(pool: Pool) -> tuple[SizeRow, ...]:
    by_size = grouped(pool.candidates, "params")
    return tuple(
        SizeRow(
            params=group[0].params,
            candidates=len(group),
            tokens=max(candidate.end for candidate in group),
            flops_each=max(candidate.cost for candidate in group),
            flops=sum(candidate.cost for candidate in group),
        )
        for group in sorted(by_size.values(), key=lambda group: group[0].params)
    )


def _climbs(rungs: tuple[RungRow, ...]) -> list[tuple[RungRow, int]]:
    """Each rung with the compute of the one before."""
    return list(zip(rungs, (0, *(row.flops for row in rungs)), strict=False))


def _path_with(workers: int, rungs: tuple[RungRow, ...]) -> int:
    """FLOPs that the busiest worker does, each round waiting for the one before."""
    return sum(
        math.ceil(row.live / workers) * (row.flops - before) for row, before in _climbs(rungs)
    )


def _decay(spec: SweepSpec, rungs: tuple[RungRow, ...], annealing: int) -> int:
    """FLOPs of one decay off a trial of the last rung."""
    if spec.anneal is None or not rungs:
        return 0
    return min(int(rungs[-1].flops * spec.anneal.decay), annealing)


def _with_warnings(plan: Plan, spec: SweepSpec, pool: Pool) -> Plan:
    found: list[str] = []
    if plan.budget > plan.exhaustive:
        found.append("the budget is larger than the whole pool costs: nothing needs pruning")
    if len(plan.sizes) < 5:
        found.append(
            f"the pool has {len(plan.sizes)} sizes; a law of size and data wants five or more"
        )
    policy = spec.policy
    if isinstance(policy, SuccessiveHalving) and policy.group_by != "params":
        found.append(
            "halving compares all sizes with each other, so whole sizes may be stopped early and "
            "the law lose its spread; policy.group_by: params keeps every size"
        )
    decay = int(plan.rungs[-1].flops * spec.anneal.decay) if spec.anneal and plan.rungs else 0
    if decay > plan.annealing:
        found.append(
            f"anneal.share keeps {flops_in_words(plan.annealing)} FLOPs for decays, and one off "
            f"the longest trial costs {flops_in_words(decay)}: it would get no annealed loss; "
            "raise anneal.share or lower anneal.decay"
        )
    small = [c for c in pool if plan.rungs and c.tokens_within(plan.rungs[0].flops) == 0]
    if small:
        found.append(
            f"the first rung does not pay for one step of {len(small)} candidates (such as "
            f"{small[0].id}): they are ranked last without a loss"
        )
    caps = (
        ("GPU-hours", plan.gpu_hours, plan.gpu_hours_cap, "gpu_hours"),
        ("dollars", plan.dollars, plan.dollars_cap, "dollars"),
    )
    for what, planned, cap, key in caps:
        if cap is None or (planned is not None and planned <= 1.001 * cap):
            continue
        if policy.kind in PRICED:
            found.append(
                f"how much budget.{key} {cap:g} buys is learned from the first segments, and "
                f"{policy.kind} ends there: say how fast a worker is with budget.flops_per_s, or "
                "--flops-per-s, to see it in this plan"
            )
        elif planned is not None:
            found.append(
                f"the plan takes {planned:.3g} {what} and budget.{key} allows {cap:g}: the sweep "
                "will pause before its end"
            )
        else:
            found.append(
                f"budget.{key} cannot be checked: say how fast a worker is with --flops-per-s, or "
                "budget.flops_per_s"
            )
    return replace(plan, warnings=tuple(found))


def kept_sizes(plan: Plan, spec: SweepSpec) -> str:
    """What the law can rest on, in a sentence."""
    last = plan.rungs[-1].live if plan.rungs else 0
    return rounds.kept_sizes(len(plan.sizes), plan.candidates, last, spec)
