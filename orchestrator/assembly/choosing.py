"""The law of size fitted in every defensible way, on a sweep or on a table of curves.

Reads the sweep's journal or the table; writes nothing. See `laws.specification`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from orchestrator.assembly.refusal import Refused
from orchestrator.laws.errors import FitError
from orchestrator.laws.optimum import Interval, compute_optimal
from orchestrator.laws.runs import CurveRows
from orchestrator.laws.specification import (
    FIGURES,
    Choices,
    Convention,
    Figure,
    Specification,
    Variant,
    as_recorded,
    six_ND,
    specification,
)
from orchestrator.pool import Pool
from orchestrator.report import words
from orchestrator.report.conclusions import Conclusions, LawResult
from orchestrator.report.evidence import Evidence, TrialEvidence

_WHAT: dict[Figure, str] = {
    "loss": "loss",
    "exponent_N": "N* ~ C^a",
    "tokens_per_param": "D* / N*",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """One figure: the law's own, its interval in words, and how far the choices move it; `by`
    says how far each choice does."""

    what: str
    base: float | None
    interval: str
    low: float
    high: float
    by: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choosing:
    """All ways of fitting the law `key`, asked for params and tokens, and for the best size at
    `flops`, the compute of those."""

    key: str
    params: float
    tokens: float
    flops: float
    variants: tuple[Variant, ...]
    rows: tuple[Moved, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return {
            "law": self.key,
            "params": self.params,
            "tokens": self.tokens,
            "flops": self.flops,
            "spread": [asdict(row) for row in self.rows],
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "variants": [asdict(variant) for variant in self.variants],
        }


def choices_about(
    source: str, conclusions: Conclusions, *, storage: str | None = None
) -> Choosing:
    """The ways of fitting the first law of N and D, asked for the target of the conclusions.
    Raises Refused where there is no such law, or nothing to ask it."""
    result = next(
        (r for r in conclusions.laws if r.law is not None and r.law.form.inputs == ("N", "D")),
        None,
    )
    if result is None or result.law is None or "annealed" in result.phases:
        raise Refused("--choices needs a law of params and tokens, and none was fitted")
    target = conclusions.target
    if target is None or target.params is None or target.tokens is None:
        raise Refused("--choices: the law names no size and tokens to be asked for")
    evidence, pool = evidence_about(source, conclusions, storage)
    trials = evidence.near_best()
    curves = [trial.stable for trial in trials]
    burn_in = conclusions.question.burn_in
    found = specification(
        curves,
        target.params.value,
        target.tokens.value,
        conventions=_conventions(trials, pool) or _of_table(curves),
        choices=Choices(burn_ins=_burn_ins(curves, burn_in)),
        form=result.law.form,
        offsets_sd=result.law.offsets_sd,
        seed=conclusions.question.seed,
    )
    return _beside(found, result, conclusions, target.flops)


def _of_table(curves: Sequence[CurveRows]) -> tuple[Convention, ...]:
    """FLOPs as a table has them, and 6 N D where that is something else."""
    recorded, plain = as_recorded(curves), six_ND(curves)
    same = np.allclose(recorded.flops_per_token, plain.flops_per_token, rtol=1e-6)
    return (recorded,) if same else (recorded, plain)


def _burn_ins(curves: Sequence[CurveRows], burn_in: float) -> tuple[float, ...]:
    """Shares to drop, the conclusions' own first; finished runs have no start to be dropped."""
    if all(len(curve) == 1 for curve in curves):
        return (burn_in,)
    return tuple(dict.fromkeys((burn_in, 0.0, 0.3)))


def evidence_about(
    source: str, conclusions: Conclusions, storage: str | None
) -> tuple[Evidence, Pool | None]:
    """What the conclusions about a sweep or a table rest on, and the sweep's pool."""
    from orchestrator.assembly.replaying import curves_path

    burn_in = conclusions.question.burn_in
    if curves_path(source):
        from orchestrator.assembly.tables import evidence_in_table

        return evidence_in_table(source, burn_in), None
    from orchestrator.assembly.folders import find
    from orchestrator.assembly.reading import read_sweep
    from orchestrator.report.evidence import evidence_of

    sweep = read_sweep(find(source, storage))
    return evidence_of(sweep.state, burn_in=burn_in), sweep.pool


def _conventions(trials: tuple[TrialEvidence, ...], pool: Pool | None) -> tuple[Convention, ...]:
    """Every way of counting what was trained, where its configuration is known."""
    if pool is None or not pool.configs:
        return ()
    from trainers.config import TrainConfig
    from trainers.flops import model_cost

    configs = [pool.train_config(trial.id) for trial in trials]
    costs = [model_cost(config.model) for config in configs if isinstance(config, TrainConfig)]
    if len(costs) < len(configs):
        return ()
    sizes = {
        "body": [float(cost.body_params) for cost in costs],
        "all": [float(cost.stored_params) for cost in costs],
    }
    usual = [float(cost.params) for cost in costs]
    return tuple(
        Convention(
            name=name,
            sizes=tuple(sizes.get(name, usual)),
            flops_per_token=tuple(float(cost.conventions()[name]) for cost in costs),
        )
        for name in costs[0].conventions()
    )


def _beside(
    found: Specification, result: LawResult, conclusions: Conclusions, flops: float
) -> Choosing:
    """The spread of every figure, and a warning where it passes the interval."""
    intervals = _intervals(found, result, conclusions, flops)
    rows: list[Moved] = []
    warnings: list[str] = []
    for of in FIGURES:
        spread, interval = found.spread(of), intervals.get(of)
        if spread is None:
            continue
        rows.append(
            Moved(
                what=_WHAT[of],
                base=spread.base,
                interval=_in_words(interval),
                low=spread.low,
                high=spread.high,
                by=tuple((name.replace("_", "-"), apart) for name, apart in spread.by if apart),
            )
        )
        said = found.warning(of, interval) if interval is not None else None
        if said is not None:
            warnings.append(said)
    return Choosing(
        key=result.key,
        params=found.N,
        tokens=found.D,
        variants=found.variants,
        flops=flops,
        rows=tuple(rows),
        warnings=tuple(warnings),
        notes=found.notes,
    )


def _in_words(interval: Interval | None) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return "none"
    return f"{words.figure(interval.low)} to {words.figure(interval.high)}"


def _intervals(
    found: Specification, result: LawResult, conclusions: Conclusions, flops: float
) -> dict[Figure, Interval]:
    """The law's own intervals of the figures; none of what it has none of."""
    posterior, cost = result.posterior, conclusions.cost
    if posterior is None or cost is None:
        return {}
    level = conclusions.question.level
    low, high = posterior.interval(found.N, found.D, level=level)
    value = float(posterior.law.predict(found.N, found.D))
    intervals: dict[Figure, Interval] = {
        "loss": Interval(value=value, low=float(low), high=float(high))
    }
    try:
        best = compute_optimal(posterior, flops, flops_per_token=cost, level=level)
    except FitError:
        # The variants say the same in their own words.
        return intervals
    return {**intervals, "exponent_N": best.exponent_N}
