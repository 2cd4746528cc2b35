"""Small pools and recorded curves with known truth, for the tests of the core."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from orchestrator.backends.replay import Order, ReplayBackend
from orchestrator.driver import Driver, Outcome
from orchestrator.events import Opened, Record
from orchestrator.journal import Journal, MemoryJournal
from orchestrator.policies.base import Policy
from orchestrator.pool import Pool
from orchestrator.recorded import RecordedCurve
from orchestrator.state import SweepState, Terms, fold
from orchestrator.values import Candidate


def chinchilla(params: float, tokens: float, rate: float = 1.0) -> float:
    """A loss that falls in N and D, worse away from a learning rate of 1."""
    return 1.8 + 400 / params**0.34 + 410 / tokens**0.28 + 0.05 * math.log(rate) ** 2


def small_pool(sizes: Sequence[int] = (1000, 2000, 4000, 8000), rates: Sequence[float] = (1, 3)):
    """A pool of sizes x rates with curves of eight points each, in that order."""
    candidates: list[Candidate] = []
    recordings: dict[str, RecordedCurve] = {}
    for params in sizes:
        for rate in rates:
            candidate = Candidate(
                id=f"n{params}-r{rate}",
                params=params,
                horizon=params * 20,
                flops_per_token=6.0 * params,
                tokens_per_step=10,
                settings=(("rate", rate),),
            )
            tokens = np.unique(np.geomspace(20, candidate.horizon, 8).astype(np.int64))
            loss = np.array([chinchilla(params, float(t), rate) for t in tokens])
            candidates.append(candidate)
            recordings[candidate.id] = RecordedCurve(
                curve_id=candidate.id, tokens=tokens, flops=6.0 * params * tokens, loss=loss
            )
    return Pool(candidates=tuple(candidates)), recordings


def fresh(pool: Pool, budget: float, **changes: int) -> SweepState:
    """The state of a sweep before its first event."""
    terms = {"seed": 7, "lost_ceiling": int(budget), "max_failures": 3} | changes
    return SweepState(pool=pool, terms=Terms(name="small", budget=int(budget), **terms))


def opened(session: int, backend: ReplayBackend) -> Opened:
    return Opened(
        session=session,
        name="small",
        spec="{}",
        digest="0" * 64,
        owner="test",
        environment=backend.environment,
    )


def drive(
    pool: Pool,
    recordings: dict[str, RecordedCurve],
    policy: Policy,
    budget: float,
    *,
    journal: Journal | None = None,
    before: Sequence[Record] = (),
    slots: int = 3,
    order: Order = "progress",
    flops_per_s: float = 1e6,
) -> Outcome:
    """Fold `before`, then run a session over the recorded curves to its end."""
    backend = ReplayBackend(
        recordings, pool, slots=slots, order=order, flops_per_s=flops_per_s, batch=1
    )
    state = fold(fresh(pool, budget), (record.event for record in before))
    driver = Driver(
        state=state,
        policy=policy,
        backend=backend,
        journal=journal if journal is not None else MemoryJournal(list(before)),
        clock=backend.clock,
    )
    return driver.run(opened(state.session + 1, backend))
