"""The parts that a spec names: policy, backend, sinks, terms. Each is imported when it is built.

Building a backend starts processes and reads data; building the rest touches nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from orchestrator.assembly.caps import purse_of, used_of
from orchestrator.assembly.folders import SweepFolder
from orchestrator.assembly.policies import bare_policy, policy_in_words
from orchestrator.assembly.refusal import Refused
from orchestrator.backends.base import Backend
from orchestrator.policies.base import Policy
from orchestrator.pool import Pool, budget_flops, demand_for
from orchestrator.sinks.base import Sink
from orchestrator.spec import SweepSpec
from orchestrator.state import SweepState, Terms

if TYPE_CHECKING:
    from orchestrator.sinks.mlflow import MlflowSink

Say = Callable[[str], None]


def policy_of(spec: SweepSpec) -> Policy:
    """The spec's policy, with annealing around it where the spec asks for that."""
    policy = bare_policy(spec)
    if spec.anneal is None:
        return policy
    from orchestrator.policies.annealed import Annealed

    plan = spec.anneal
    return Annealed(
        policy=policy,
        share=plan.share,
        decay=plan.decay,
        stopped=plan.stopped,
        purse=purse_of(spec),
    )


def in_words(spec: SweepSpec) -> str:
    """The policy as a person would say it."""
    said = policy_in_words(spec)
    if spec.anneal is None:
        return said
    return f"{said}, then short decays from {100 * spec.anneal.share:g} % of the budget"


def terms_of(spec: SweepSpec, pool: Pool) -> Terms:
    """What the spec fixes for the whole sweep."""
    budget = budget_flops(spec, pool)
    return Terms(
        name=spec.name,
        seed=spec.seed,
        budget=budget,
        lost_ceiling=int(budget * spec.budget.lost),
        max_failures=spec.failures,
        demand=demand_for(spec, pool),
    )


def initial_state(spec: SweepSpec, pool: Pool) -> SweepState:
    """The state before the first event."""
    return SweepState(pool=pool, terms=terms_of(spec, pool))


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A backend and the clock that times its sweep: the wall's, or a replay's virtual one."""

    backend: Backend
    clock: Callable[[], float]


def engine_of(
    spec: SweepSpec, pool: Pool, folder: SweepFolder, say: Say, *, start_s: float
) -> Engine:
    """The backend that the spec names, started; a replay's virtual clock begins at `start_s`,
    UNIX seconds. Raises Refused for a spec that names none, BackendError where it cannot run."""
    resources = spec.resources
    if resources.backend == "replay":
        return _replay(spec, pool, start_s)
    import time

    if resources.backend == "inline":
        from orchestrator.backends.inline import InlineBackend

        say("preparing the data and the device")
        backend: Backend = InlineBackend(pool, folder.path, slots=resources.workers or 1)
        return Engine(backend=backend, clock=time.time)
    from orchestrator.backends.ray import RayBackend

    say("starting Ray" if resources.address is None else f"joining Ray at {resources.address}")
    backend = RayBackend(
        pool,
        folder.path,
        slots=resources.workers,
        address=resources.address,
        gpus_per_trial=resources.gpus_per_trial,
        cpus_per_trial=resources.cpus_per_trial,
        processes_per_trial=resources.processes_per_trial,
        progress=say,
    )
    return Engine(backend=backend, clock=time.time)


def _replay(spec: SweepSpec, pool: Pool, start_s: float) -> Engine:
    from orchestrator.backends.replay import ReplayBackend
    from orchestrator.recorded import read_recorded

    if spec.recorded is None:
        raise Refused("the replay backend needs recorded curves: add `recorded: {curves: FILE}`")
    curves = read_recorded(spec.recorded.curves, sha256=spec.recorded.sha256)
    slots = spec.resources.workers or 8
    backend = ReplayBackend(curves, pool, slots=slots, start_s=start_s)
    return Engine(backend=backend, clock=backend.clock)


def sinks_of(
    spec: SweepSpec,
    mlflow: MlflowSink | None,
    *,
    progress: TextIO | None,
    verbose: bool = False,
) -> Sequence[Sink]:
    """The windows of a session: the console where `progress` is given, and MLflow."""
    sinks: list[Sink] = []
    if progress is not None:
        from orchestrator.sinks.console import ConsoleSink

        sinks.append(ConsoleSink(progress, verbose=verbose, used=used_of(spec)))
    if mlflow is not None:
        sinks.append(mlflow)
    return sinks


def tracking_uri(spec: SweepSpec, folder: SweepFolder) -> str | None:
    """Where MLflow's records go; None where the spec wants none. Raises Refused for an empty
    variable. A database beside the sweeps unless the spec or MLFLOW_TRACKING_URI says
    otherwise."""
    if not spec.tracking.mlflow:
        return None
    stated = spec.tracking.uri
    if stated is not None and stated.startswith("env:"):
        variable = stated.removeprefix("env:")
        stated = os.environ.get(variable)
        if not stated:
            raise Refused(
                f"tracking.uri is env:{variable}, and that variable is not set: set it, or remove "
                "tracking.uri for a database beside the sweep"
            )
    stated = stated or os.environ.get("MLFLOW_TRACKING_URI")
    return stated or f"sqlite:///{folder.path.parent / 'mlflow.db'}"
