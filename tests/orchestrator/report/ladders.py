"""Sweeps over curves of a known law, for the tests of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.backends.replay import ReplayBackend
from orchestrator.driver import Driver
from orchestrator.events import Opened, PointReported, Record, SegmentEnded, Started
from orchestrator.journal import MemoryJournal
from orchestrator.policies.base import Policy
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve
from orchestrator.report.concluding import conclude
from orchestrator.report.conclusions import Conclusions, Question
from orchestrator.report.evidence import evidence_of
from orchestrator.report.material import Material, gathered
from orchestrator.state import SweepState, Terms, fold
from orchestrator.values import Candidate, Point

SIZES = (20_000, 50_000, 120_000, 300_000, 700_000, 1_600_000)
E, A, B, ALPHA, BETA = 1.6, 90.0, 160.0, 0.35, 0.30


def truth(params: float, tokens: float) -> float:
    """The law behind every curve here, in nats per token."""
    return E + A / params**ALPHA + B / tokens**BETA


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    state: SweepState
    records: tuple[Record, ...]

    def conclusions(self, **changes: object) -> Conclusions:
        plain: dict[str, object] = {"forms": ("power_irreducible", "chinchilla"), "draws": 40}
        question = Question(**{**plain, **changes})  # type: ignore[arg-type]
        return conclude(evidence_of(self.state, burn_in=0.1), question)

    def material(self, conclusions: Conclusions | None = None) -> Material:
        return gathered(
            self.state,
            self.records,
            conclusions or self.conclusions(),
            policy="successive halving",
            spec_text='{"name": "ladder"}',
            written_s=1_763_776_801.0,
            facts=(("torch", "2.13.0"),),
            commands=("frontrunner report ladder",),
        )


def curves_of(
    sizes: Sequence[int] = SIZES,
    rates: Sequence[float] = (1e-3, 1e-2),
    *,
    penalty: float = 0.06,
    noise: float = 0.002,
    ratio: int = 40,
) -> tuple[Pool, dict[str, RecordedCurve]]:
    """Sizes by rates; every rate but the second costs `penalty` of the loss. Names end in the
    rate."""
    rng = np.random.default_rng(5)
    candidates: list[Candidate] = []
    curves: dict[str, RecordedCurve] = {}
    for params in sizes:
        for rate in rates:
            name = f"n{params}-lr{rate:g}"
            horizon = params * ratio
            tokens = np.unique(np.geomspace(horizon / 300, horizon, 40).astype(np.int64))
            loss = np.array([truth(params, float(t)) for t in tokens])
            loss *= 1.0 + (0.0 if rate == rates[-1] else penalty)
            loss *= np.exp(noise * rng.standard_normal(len(tokens)))
            candidates.append(
                Candidate(
                    id=name,
                    params=params,
                    horizon=int(tokens[-1]),
                    flops_per_token=6.0 * params,
                    settings=(("optimizer.learning_rate", rate),),
                )
            )
            curves[name] = RecordedCurve(
                curve_id=name, tokens=tokens, flops=6.0 * params * tokens, loss=loss, params=params
            )
    return Pool(candidates=tuple(candidates)), curves


def swept(
    policy: Policy,
    share: float,
    pool: Pool,
    curves: dict[str, RecordedCurve],
    *,
    name: str = "ladder",
) -> Ladder:
    """The sweep that `policy` makes of the curves with `share` of the exhaustive cost."""
    backend = ReplayBackend(curves, pool, slots=3, flops_per_s=1e9)
    budget = int(share * pool.exhaustive_flops)
    journal = MemoryJournal()
    driver = Driver(
        state=SweepState(
            pool=pool, terms=Terms(name=name, seed=0, budget=budget, lost_ceiling=budget)
        ),
        policy=policy,
        backend=backend,
        journal=journal,
        clock=backend.clock,
    )
    outcome = driver.run(
        Opened(
            session=1,
            name=name,
            spec="{}",
            digest="0" * 64,
            owner="test",
            environment=backend.environment,
        )
    )
    return Ladder(state=outcome.state, records=tuple(journal.records))


def annealed(
    ladder: Ladder, gain: float, *, decay: float = 0.1, trials: int | None = None
) -> Ladder:
    """The ladder with an annealed branch off the end of every trial, or of the first `trials`,
    `gain` nats lower."""
    from orchestrator.events import Decided
    from orchestrator.values import Anneal

    state, records = ladder.state, list(ladder.records)
    # A branch costs tokens of its own: give the ledger room for them.
    terms = Terms(name=state.terms.name, seed=0, budget=state.terms.budget * 2, lost_ceiling=1)
    state = fold(SweepState(pool=state.pool, terms=terms), (r.event for r in records))
    for trial in list(state.trials.values())[:trials]:
        start = trial.trunk.tokens
        end = start + int(start * decay)
        loss = truth(trial.candidate.params, end) - gain
        attempt = trial.attempts + 1
        flops = float(trial.candidate.flops(end))
        point = Point(tokens=end, flops=flops, loss=loss, phase="annealed")
        events = (
            Decided(
                policy="test",
                decisions=(Anneal(trial=trial.id, tokens=end, reason="for the law"),),
            ),
            Started(
                trial=trial.id,
                attempt=attempt,
                until=end,
                resume_from=trial.trunk.checkpoint,
                branch=0,
            ),
            PointReported(trial=trial.id, attempt=attempt, point=point),
            SegmentEnded(trial=trial.id, attempt=attempt, tokens=end, checkpoint=None),
        )
        for event in events:
            records.append(Record(seq=len(records), time=records[-1].time + 1, event=event))
            state = fold(state, [event])
    return Ladder(state=state, records=tuple(records))
