"""All candidates of a sweep, each with its exact cost: the spec's space, expanded and priced.

Zip blocks vary slowest, then the axes in the order of the spec. Every candidate is checked as a
`TrainConfig` before anything runs, and what is wrong with one is told at the place of the setting
that causes it. Reads the spec's recorded curves, if it has any, and imports a trainer of the
user's own, if the spec names one; touches nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import cast

from orchestrator import expansion, naming
from orchestrator.demand import Demand, demand_of
from orchestrator.places import Places
from orchestrator.recorded import RecordedError, read_recorded
from orchestrator.spec import SuccessiveHalving, SweepSpec, load_spec_document
from orchestrator.values import Candidate, Scalar, flops_in_words
from trainers.config import TrainConfig
from trainers.documents import Document, validate
from trainers.findings import FieldError
from trainers.own import OwnConfig, RunConfig, anneals, cost_of
from trainers.quantity import format_quantity
from trainers.rules import left_out

LARGEST = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The candidates in their fixed order, and how to train each.

    `configs` run beside `candidates`, or are empty for recorded curves. `excluded` counts what the
    conditions left out; `notes` are sentences for whoever reads the plan.
    """

    candidates: tuple[Candidate, ...]
    configs: tuple[RunConfig, ...] = ()
    excluded: int = 0
    notes: tuple[str, ...] = ()
    _positions: dict[str, int] = field(init=False, repr=False, compare=False)
    _stacks: dict[str, str | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positions = {candidate.id: i for i, candidate in enumerate(self.candidates)}
        if not self.candidates or len(positions) < len(self.candidates):
            raise ValueError("a pool needs at least one candidate, each with an id of its own")
        if self.configs and len(self.configs) != len(self.candidates):
            raise ValueError(
                f"{len(self.configs)} configurations for {len(self.candidates)} candidates"
            )
        object.__setattr__(self, "_positions", positions)
        object.__setattr__(self, "_stacks", {})

    def __len__(self) -> int:
        return len(self.candidates)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.candidates)

    def __contains__(self, trial: object) -> bool:
        return trial in self._positions

    def __getitem__(self, trial: str) -> Candidate:
        return self.candidates[self.position(trial)]

    def position(self, trial: str) -> int:
        """The place of a candidate in the pool, from 0. Raises KeyError for an unknown id."""
        try:
            return self._positions[trial]
        except KeyError:
            some = ", ".join(list(self._positions)[:5])
            raise KeyError(
                f"no candidate {trial!r} in this pool of {len(self)}; it begins {some}"
            ) from None

    def train_config(self, trial: str) -> RunConfig:
        """What the trainers are given. Raises LookupError for a pool of recorded curves."""
        if not self.configs:
            raise LookupError(f"{trial!r} is a recorded curve and cannot be trained")
        return self.configs[self.position(trial)]

    def stack_key(self, trial: str) -> str | None:
        """The same text for candidates that can be trained as one; None for one that cannot."""
        if trial not in self._stacks:
            config = self.configs[self.position(trial)] if self.configs else None
            self._stacks[trial] = config.stack_key if isinstance(config, TrainConfig) else None
        return self._stacks[trial]

    @property
    def exhaustive_flops(self) -> int:
        """FLOPs of every candidate to its horizon."""
        return sum(candidate.cost for candidate in self.candidates)

    def subset(self, trials: Sequence[str]) -> Pool:
        """Only these candidates, in the order given."""
        positions = [self.position(trial) for trial in trials]
        return Pool(
            candidates=tuple(self.candidates[i] for i in positions),
            configs=tuple(self.configs[i] for i in positions) if self.configs else (),
            notes=self.notes,
        )


def load_sweep(path: str | Path, overrides: Sequence[str] = ()) -> tuple[SweepSpec, Pool]:
    """A sweep file, read and expanded; every problem of either step is told with its place.

    Raises trainers.documents.SpecError.
    """
    document = load_spec_document(path, overrides)
    spec = validate(document, SweepSpec)
    return spec, build_pool(spec, document)


def build_pool(spec: SweepSpec, document: Document | None = None) -> Pool:
    """The candidates of a spec. Raises SpecError, with places where the document is given."""
    places = Places(spec, document)
    pool = _recorded_pool(spec, places) if spec.recorded else _trained_pool(spec, places)
    _check_policy(spec, pool, places)
    _check_budget(spec, pool, places)
    _check_anneal(spec, pool, places)
    _check_shared(spec, pool, places)
    places.raise_found()
    return pool


def budget_flops(spec: SweepSpec, pool: Pool) -> int:
    """The budget in FLOPs; a share is a share of the pool's exhaustive cost, rounded down."""
    flops = spec.budget.flops
    if isinstance(flops, str):
        return math.floor(Fraction(flops.removesuffix("%")) / 100 * pool.exhaustive_flops)
    return int(flops)


def demand_for(spec: SweepSpec, pool: Pool) -> Demand:
    """What each segment takes of the place where it runs. Raises FieldError with the key of
    `resources` that is at fault, which a pool that was built from the spec has not."""
    resources = spec.resources
    return demand_of(
        pool.candidates,
        pool.configs,
        gpus=resources.gpus_per_trial,
        cpus=resources.cpus_per_trial,
        processes=resources.processes_per_trial,
    )


def _trained_pool(spec: SweepSpec, places: Places) -> Pool:
    expansion.check_axes(spec, places)
    places.raise_found()
    combinations = expansion.combination_count(spec)
    if combinations > LARGEST:
        places.add(("space",), f"spans {combinations} candidates, at most {LARGEST}; shorten it")
    conditions = expansion.read_conditions(spec, places)
    places.raise_found()
    kept: list[expansion.Built] = []
    excluded = 0
    for choice in expansion.choices(spec):
        built = expansion.build(spec, choice, conditions, places)
        if built is None:
            excluded += 1
        else:
            kept.append(built)
        if places.many:
            break
    places.raise_found()
    if not kept:
        places.add(
            ("space", "exclude"), f"leaves none of {combinations} candidates; loosen a condition"
        )
        places.raise_found()
    return _named(kept, excluded, _ruled(spec, kept))


def _ruled(spec: SweepSpec, kept: Sequence[expansion.Built]) -> tuple[str, ...]:
    """What the file leaves to a rule, as one sentence with the figures of smallest and largest."""
    stated = expansion.stated_keys(spec)
    trained = [b.config for b in kept if isinstance(b.config, TrainConfig)]
    if not trained:
        return ()
    configs = sorted(trained, key=lambda config: cost_of(config).params)
    ends = {key: (_figure(configs[0], key), _figure(configs[-1], key)) for key in left_out(stated)}
    if not ends:
        return ()
    told = [
        f"{key} {low}" + (f" to {high}" if high != low else "")
        for key, (low, high) in ends.items()
    ]
    varies = any(low != high for low, high in ends.values())
    order = ", smallest to largest" if varies else ""
    return (f"by the rule {configs[0].rule}{order}: {', '.join(told)}",)


def _figure(config: TrainConfig, key: str) -> str:
    value: object = config
    for word in key.split("."):
        value = getattr(value, word)
    number = cast("float", value)
    return format_quantity(number) if number >= 1 else f"{number:.3g}"


def _named(kept: Sequence[expansion.Built], excluded: int, notes: tuple[str, ...]) -> Pool:
    settings = _varying([built.settings for built in kept])
    ids = naming.candidate_ids(settings)
    candidates: list[Candidate] = []
    for name, varied, built in zip(ids, settings, kept, strict=True):
        cost = cost_of(built.config)
        candidates.append(
            Candidate(
                id=name,
                params=cost.params,
                horizon=built.config.horizon,
                flops_per_token=cost.flops_per_token,
                tokens_per_step=cost.tokens_per_step,
                settings=varied,
            )
        )
    return Pool(
        candidates=tuple(candidates),
        configs=tuple(built.config for built in kept),
        excluded=excluded,
        notes=notes,
    )


def _varying(
    rows: Sequence[Mapping[str, Scalar]],
) -> list[tuple[tuple[str, Scalar], ...]]:
    """Each row without the keys that have one value over all rows."""
    keys = [key for key in rows[0] if len({(type(row[key]), row[key]) for row in rows}) > 1]
    return [tuple((key, row[key]) for key in keys) for row in rows]


def _recorded_pool(spec: SweepSpec, places: Places) -> Pool:
    recorded = spec.recorded
    if recorded is None:
        raise ValueError("the spec has no recorded curves")
    try:
        curves = read_recorded(recorded.curves, sha256=recorded.sha256)
    except RecordedError as error:
        places.add(("recorded", "curves"), str(error))
        places.raise_found()
        raise
    notes: tuple[str, ...] = ()
    if any(curve.params is None for curve in curves.values()):
        notes = (
            f"{Path(recorded.curves).name} has no params column: every candidate counts as 1 "
            "parameter, so no law in parameters can be fitted",
        )
    return Pool(
        candidates=tuple(curve.candidate(name) for name, curve in curves.items()), notes=notes
    )


def _check_policy(spec: SweepSpec, pool: Pool, places: Places) -> None:
    policy = spec.policy
    if not isinstance(policy, SuccessiveHalving) or policy.group_by is None:
        return
    try:
        pool.candidates[0].setting(policy.group_by)
    except KeyError:
        first = pool.candidates[0]
        known = ["params", *(key for key, _ in first.settings), "horizon"]
        places.add(
            ("policy", "group_by"),
            naming.unknown(policy.group_by, known, "is not params nor a setting that varies"),
        )


def _check_budget(spec: SweepSpec, pool: Pool, places: Places) -> None:
    budget = budget_flops(spec, pool)
    least = min(candidate.flops(candidate.tokens_per_step) for candidate in pool)
    if budget < least:
        places.add(
            ("budget", "flops"),
            f"{flops_in_words(budget)} FLOPs do not pay for the first step of any candidate "
            f"({flops_in_words(least)}); "
            f"the whole pool costs {flops_in_words(pool.exhaustive_flops)}",
        )


def _check_anneal(spec: SweepSpec, pool: Pool, places: Places) -> None:
    if spec.anneal is not None and any(
        isinstance(c, TrainConfig) and c.schedule.kind != "constant" for c in pool.configs
    ):
        places.add(
            ("anneal",),
            "branches off a constant rate, but these trials decay by themselves; remove the block "
            "or set trial.schedule.kind: constant",
        )
    first = pool.configs[0] if pool.configs else None
    if spec.anneal is not None and isinstance(first, OwnConfig) and not anneals(first.trainer):
        places.add(("anneal",), f"needs a method anneal, which {first.trainer} has not; remove it")


def _check_shared(spec: SweepSpec, pool: Pool, places: Places) -> None:
    most = spec.resources.lockstep
    if most != 1 and all(pool.stack_key(candidate.id) is None for candidate in pool):
        first = pool.configs[0] if pool.configs else None
        what = first.model.family if isinstance(first, TrainConfig) else "a trainer of your own"
        places.add(("resources", "lockstep"), f"{what} cannot be trained as a stack; remove it")
    try:
        demand = demand_for(spec, pool)
    except FieldError as error:
        places.add(("resources", *error.key.split(".")), error.message)
        return
    workers, largest = spec.resources.workers, demand.largest_slots
    if workers is not None and workers < largest:
        why = f"hold no trial of {demand.kinds[-1].said}"
        if demand.slots_of(demand.kinds[-1]) <= workers:
            why = "make no whole GPU, and where trials differ no less is reserved"
        places.add(
            ("resources", "workers"),
            f"{workers} {why}: a worker is the place of the smallest trial, "
            f"{demand.smallest.said}; use {largest} or more",
        )
