"""How a sweep stands, as values: for `frontrunner status`, and for what resume finds.

Reads the sweep's folder; writes nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from orchestrator.assembly.caps import raised, uses
from orchestrator.assembly.reading import Sweep
from orchestrator.report.shown import ShownTrial, shown_trials
from orchestrator.report.words import several
from orchestrator.state import SweepState
from orchestrator.values import Used


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One sweep. `condition` is running, paused, done, or interrupted (its driver is gone);
    `raised` the assignments under which it goes on where a cap is spent; `uses` what is used of
    each part of the budget; `law` is the sentence of the last report, None
    before there is one; times in UNIX seconds."""

    name: str
    folder: str
    condition: str
    why: str | None
    raised: tuple[str, ...]
    held_by: str | None
    policy: str
    session: int
    begun_s: float
    last_s: float
    records: int
    uses: tuple[Used, ...]
    budget: int
    spent: int
    reserved: int
    lost: int
    exhaustive: int
    device_s: float
    counts: dict[str, int]
    trials: tuple[ShownTrial, ...]
    law: str | None
    law_s: float | None
    report: str | None
    drift_facts: tuple[tuple[str, str], ...]


def standing_of(sweep: Sweep) -> Standing:
    """The sweep as it stands now."""
    from orchestrator.assembly.parts import in_words

    state = sweep.state
    held_by = sweep.held_by
    condition, why = _condition(state, held_by)
    law, law_s = _law(sweep.folder.law)
    trials = shown_trials(state)
    counts: dict[str, int] = {}
    for trial in trials:
        counts[trial.status] = counts.get(trial.status, 0) + 1
    unstarted = len(state.pool) - len(trials)
    if unstarted:
        counts["unstarted"] = unstarted
    report = sweep.folder.report
    environment = state.environment
    return Standing(
        name=sweep.spec.name,
        folder=str(sweep.folder.path),
        condition=condition,
        why=why,
        raised=raised(sweep.spec, state),
        held_by=held_by,
        policy=in_words(sweep.spec),
        session=state.session,
        begun_s=sweep.begun_s,
        last_s=sweep.last_s,
        records=sweep.records,
        uses=uses(sweep.spec, state),
        budget=state.terms.budget,
        spent=state.ledger.spent,
        reserved=state.ledger.reserved,
        lost=state.ledger.lost,
        exhaustive=state.pool.exhaustive_flops,
        device_s=state.ledger.device_s,
        counts=counts,
        trials=trials,
        law=law,
        law_s=law_s,
        report=str(report) if report.is_file() else None,
        drift_facts=environment.facts if environment is not None else (),
    )


def _condition(state: SweepState, held_by: str | None) -> tuple[str, str | None]:
    if state.closed is not None:
        return "done", state.closed
    if held_by is not None:
        return "running", None
    if state.stop_asked is not None:
        return "paused", state.stop_asked
    return "interrupted", "its driver is gone"


def unusable(state: SweepState) -> str | None:
    """Why a sweep that is done has no point for any law, and what to do; None where it has one."""
    kept = [trial for trial in state.trials.values() if trial.diverged is None]
    if any(len(track.curve) for trial in kept for track in trial.tracks):
        return None
    out = [trial for trial in state.trials.values() if trial.out]
    why = "no trial reported a loss"
    if out:
        why = (
            f"{len(out)} of {several(len(state.trials), 'trial')} diverged or failed, first "
            f"{out[0].id}: {out[0].diverged or out[0].failed}"
        )
    return (
        f"nothing usable is left: {why}. Mend the cause, and launch it under another name "
        "(name=...)"
    )


def _law(path: Path) -> tuple[str | None, float | None]:
    """The answer of the last report. A file that cannot be read is no answer."""
    try:
        record = cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
        return str(record["answer"]), float(record["written_s"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def to_json(standing: Standing) -> dict[str, object]:
    """Plain JSON values; curves stay in the journal."""
    trials = [
        {
            "trial": trial.id,
            "params": trial.params,
            "state": trial.status,
            "tokens": trial.tokens,
            "horizon": trial.horizon,
            "flops": trial.flops,
            "loss": trial.loss if len(trial.curve) else None,
            "annealed": [loss for _, loss in trial.annealed],
            "reason": trial.reason,
        }
        for trial in standing.trials
    ]
    return {
        "name": standing.name,
        "folder": standing.folder,
        "condition": standing.condition,
        "why": standing.why,
        "held_by": standing.held_by,
        "policy": standing.policy,
        "session": standing.session,
        "begun_s": standing.begun_s,
        "last_s": standing.last_s,
        "records": standing.records,
        "budget": {
            "flops": standing.budget,
            "spent": standing.spent,
            "reserved": standing.reserved,
            "lost": standing.lost,
            "exhaustive": standing.exhaustive,
            "device_s": standing.device_s,
            "used": [{**asdict(used), "share": used.share} for used in standing.uses],
        },
        "counts": standing.counts,
        "trials": trials,
        "law": standing.law,
        "report": standing.report,
    }
