"""One session of a sweep: take it up, drive it until done or paused, conclude and report.

Launching and resuming are the same thing: fold what the journal holds, and go on. Touches the
sweep's folder, and whatever the backend and the sinks touch.
"""

from __future__ import annotations

import platform
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TextIO

from orchestrator.assembly import parts, raising, reading
from orchestrator.assembly.caps import cap_of, raised, used_of, uses
from orchestrator.assembly.folders import SweepFolder, folder_of
from orchestrator.assembly.refusal import Interrupted, Refused
from orchestrator.assembly.standing import unusable
from orchestrator.assembly.stopping import StopRequests, owner
from orchestrator.assembly.stoprules import unheard
from orchestrator.driver import Driver, Outcome
from orchestrator.events import Opened
from orchestrator.journal import FileJournal, JournalError, JournalHeld, JournalTail, holder
from orchestrator.pool import Pool
from orchestrator.spec import SweepSpec, canonical_json, frozen_differences, spec_digest
from orchestrator.state import SweepState
from orchestrator.values import Environment, Used

if TYPE_CHECKING:
    from orchestrator.assembly.concluding import Written
    from orchestrator.sinks.mlflow import MlflowSink


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the person at the terminal wants of a session.

    `progress` takes the console sink's lines; `say` takes single sentences; `asked` gives the
    reason to pause, or None; `finishing` is called when nothing is left that a pause could keep;
    `allow_drift` goes on under other versions, device or precision.
    """

    say: Callable[[str], None]
    asked: Callable[[], str | None]
    finishing: Callable[[], None] = lambda: None
    progress: TextIO | None = None
    verbose: bool = False
    allow_drift: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a session ended: `written` is the report of a sweep that is done, `tracking_uri` where
    MLflow's records went and `charts` the page of their curves (None where they were not wanted
    or not told yet), `raised` the assignments under which a sweep goes on whose caps are spent,
    `unusable` why one that is done has nothing for a law, `unheard` why the stop rules that its
    spec asks for did not end it, `more` the assignment under which it would go on; `used` what is
    used of each part of the budget."""

    folder: SweepFolder
    outcome: Outcome
    written: Written | None
    tracking_uri: str | None
    charts: str | None
    raised: tuple[str, ...] = ()
    unusable: str | None = None
    unheard: str | None = None
    more: str | None = None
    used: tuple[Used, ...] = ()


def check_resumable(folder: SweepFolder, spec: SweepSpec) -> reading.Sweep | None:
    """The sweep that `spec` would go on with; None where none was started.

    Raises Refused where the one that exists was started from another spec, or is driven now.
    """
    if not folder.exists:
        return None
    _check_free(folder)
    sweep = reading.read_sweep(folder)
    changed = frozen_differences(sweep.first, spec)
    if changed:
        listed = "\n".join(f"  {key}: {was!r} then, {now!r} now" for key, was, now in changed)
        raise Refused(
            f"{folder.path} holds a sweep of this name that was started from another spec:\n"
            f"{listed}\nGive this one a name of its own (name=...), or undo the changes to go on "
            "with the old one"
        )
    return sweep


def _check_free(folder: SweepFolder) -> None:
    held_by = holder(folder.journal)
    if held_by is not None and held_by != owner():
        raise Refused(
            f"{folder.path}: the sweep is being driven by {held_by}; wait for it, or ask it to "
            f"pause with `frontrunner stop {folder.name}`"
        )


def drive(spec: SweepSpec, pool: Pool, wishes: Wishes) -> Ended:
    """Run one session of the sweep to done or paused.

    Raises Refused where the sweep is another's, is driven by somebody else, or would go on under
    other versions; BackendError where the backend cannot begin (one that breaks later pauses the
    sweep); Interrupted where the disk fails.
    """
    folder = folder_of(spec)
    check_resumable(folder, spec)
    with ExitStack() as stack:
        try:
            journal = stack.enter_context(FileJournal(folder.journal, owner=owner()))
        except JournalHeld as held:
            raise Refused(str(held)) from None
        if journal.repaired is not None:
            wishes.say(journal.repaired)
        sweep = check_resumable(folder, spec)  # again: until the lock, others could write
        more = ()
        if sweep is not None:
            raising.check_flops(sweep, spec)
            more = raising.raised(sweep, spec)
        pause = StopRequests(folder, wishes.asked, owner())
        stack.callback(pause.answered)
        state = parts.initial_state(spec, pool) if sweep is None else sweep.state
        tracking_uri = parts.tracking_uri(spec, folder)
        # A replay's own clock goes on from the last session's, or begins now.
        start_s = time.time() if sweep is None else sweep.last_s
        engine = parts.engine_of(spec, pool, folder, wishes.say, start_s=start_s)
        stack.callback(engine.backend.close)
        environment = _environment(engine.backend.environment)
        _check_drift(sweep, environment, wishes)
        if sweep is None:
            folder.write(folder.spec, canonical_json(spec) + "\n")
        window = _mlflow(spec, folder, pool, tracking_uri, wishes.say)
        sinks = parts.sinks_of(spec, window, progress=wishes.progress, verbose=wishes.verbose)
        for sink in sinks:
            stack.callback(sink.close)
        driver = Driver(
            state=state if sweep is None else reading.under(spec, state),
            policy=parts.policy_of(spec),
            backend=engine.backend,
            journal=journal,
            sinks=sinks,
            clock=engine.clock,
            pause=pause,
            cap=cap_of(spec),
            lockstep=spec.resources.lockstep,
        )
        try:
            outcome = driver.run(_opened(spec, driver.state, environment, more))
        except JournalError as error:
            raise Interrupted(str(error)) from error
        written = None
        if outcome.kind == "done":
            # The devices are somebody else's while the laws are fitted.
            engine.backend.close()
            written = _finish(reading.read_sweep(folder), window, wishes)
    return Ended(
        folder=folder,
        outcome=outcome,
        written=written,
        tracking_uri=tracking_uri,
        charts=window.charts_url if window is not None else None,
        raised=raised(spec, outcome.state) if outcome.kind == "paused" else (),
        unusable=unusable(outcome.state) if outcome.kind == "done" else None,
        unheard=unheard(spec, outcome.state) if outcome.kind == "done" else None,
        more=raising.more_of(spec, outcome.state),
        used=uses(spec, outcome.state),
    )


def tell_again(sweep: reading.Sweep, spec: SweepSpec, wishes: Wishes) -> Ended:
    """Write the report of a sweep that is done again, and tell MLflow what it missed; `spec` says
    where MLflow is now.

    Drives nothing and needs no lock: what is told twice changes nothing. Raises Refused where its
    driver is still at it or the spec's tracking cannot be read, Interrupted where the disk does
    not take the report.
    """
    _check_free(sweep.folder)
    folder, state = sweep.folder, sweep.state
    uri = parts.tracking_uri(spec, folder)
    window = _mlflow(spec, folder, sweep.pool, uri, wishes.say)
    with ExitStack() as stack:
        if window is not None:
            stack.callback(window.close)
            window.show(deque(sweep.story(), maxlen=1), state)  # the rest is in the journal
        written = _finish(sweep, window, wishes)
    return Ended(
        folder=folder,
        outcome=Outcome(kind="done", reason=state.closed or "", state=state),
        written=written,
        tracking_uri=uri,
        charts=window.charts_url if window is not None else None,
        unusable=unusable(state),
        unheard=unheard(sweep.spec, state),
        more=raising.more_of(sweep.spec, state),
        used=uses(sweep.spec, state),
    )


def _finish(sweep: reading.Sweep, window: MlflowSink | None, wishes: Wishes) -> Written:
    from orchestrator.assembly.concluding import conclude_sweep, write_report

    folder = sweep.folder
    wishes.say("fitting the laws and writing the report")
    wishes.finishing()
    try:
        written = write_report(sweep, conclude_sweep(sweep))
    except OSError as error:
        raise Interrupted(
            f"the sweep is done, but its report could not be written ({error}): make room in "
            f"{folder.path}, then `frontrunner report {folder.name}`"
        ) from error
    if window is not None:
        written.publish(window)
    return written


def _opened(
    spec: SweepSpec, state: SweepState, environment: Environment, more: tuple[str, ...]
) -> Opened:
    return Opened(
        session=state.session + 1,
        name=spec.name,
        spec=canonical_json(spec),
        digest=spec_digest(spec),
        owner=owner(),
        environment=environment,
        budget=state.terms.budget,
        raised=more,
    )


def _environment(environment: Environment) -> Environment:
    """The backend's facts and the interpreter that drives."""
    python = ("python", platform.python_version())
    facts = environment.facts
    if all(name != "python" for name, _ in facts):
        facts = (*facts, python)
    return replace(environment, facts=facts)


def drift(
    before: Environment | None, now: Environment
) -> list[tuple[str, str | None, str | None]]:
    """(fact, then, now) wherever two sessions differ in versions, device or precision."""
    if before is None:
        return []
    then, there = dict(before.facts), dict(now.facts)
    return [
        (name, then.get(name), there.get(name))
        for name in dict.fromkeys((*then, *there))
        if then.get(name) != there.get(name)
    ]


def _check_drift(sweep: reading.Sweep | None, now: Environment, wishes: Wishes) -> None:
    if sweep is None:
        return
    changed = drift(sweep.state.environment, now)
    if not changed:
        return
    listed = "\n".join(f"  {name}: {was} then, {is_now} now" for name, was, is_now in changed)
    if wishes.allow_drift:
        wishes.say(f"going on under what differs from the last session:\n{listed}")
        return
    raise Refused(
        f"the last session of {sweep.folder.name} ran under something else:\n{listed}\n"
        "Losses from before and after may not compare. Go back to what it was, or go on with "
        "--allow-drift"
    )


def _mlflow(
    spec: SweepSpec,
    folder: SweepFolder,
    pool: Pool,
    uri: str | None,
    say: Callable[[str], None],
) -> MlflowSink | None:
    if uri is None:
        return None
    from orchestrator.sinks.mlflow import MlflowSink

    return MlflowSink(
        initial=parts.initial_state(spec, pool),
        read_after=JournalTail(folder.journal).after,
        tracking_uri=uri,
        experiment=spec.tracking.experiment or spec.name,
        storage=folder.path,
        spec_text=canonical_json(spec),
        say=say,
        used=used_of(spec),
    )
