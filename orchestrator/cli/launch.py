"""`launch`, `resume` and `stop`: one session of a sweep, from the terminal."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import speech
from orchestrator.cli.learn import show_laws
from orchestrator.cli.look import (
    Json,
    Overrides,
    Set,
    Spec,
    Storage,
    Sweep,
    show_plan,
)
from orchestrator.cli.signals import Interrupts
from orchestrator.report import words

if TYPE_CHECKING:
    from orchestrator.assembly.reading import Sweep as BegunSweep
    from orchestrator.assembly.session import Ended
    from orchestrator.pool import Pool
    from orchestrator.spec import SweepSpec

Drift = Annotated[
    bool,
    typer.Option("--allow-drift", help="Go on under other versions, device or precision."),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="A line for every point.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the end.")]


def launch(
    spec: Spec,
    overrides: Overrides = None,
    set_: Set = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start without asking.")] = False,
    allow_drift: Drift = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json: Json = False,
) -> int:
    """Run a sweep; where it was begun before, go on with it."""
    from orchestrator.assembly.folders import folder_of
    from orchestrator.assembly.plan import kept_sizes, plan_of
    from orchestrator.assembly.session import check_resumable
    from orchestrator.assembly.specs import located, read_spec

    assignments = [*(overrides or ()), *(set_ or ())]
    read, pool = read_spec(spec, assignments)
    begun = check_resumable(folder_of(read), read)
    if begun is None:
        planned = plan_of(read, pool)
        if not quiet:
            show_plan(planned, kept_sizes(planned, read))
        costs = read.resources.address or planned.gpu_hours_cap or planned.dollars_cap
        if costs and not yes and sys.stdin.isatty():
            typer.confirm("Start it?", default=False, abort=True, err=True)
    elif begun.state.closed is not None and not _raised(begun, read):
        return _done_before(begun, read, quiet, json)
    else:
        speech.say(f"{read.name} was begun before: going on with it")
        _found(begun)
    with located(spec, assignments):
        return _drive(read, pool, allow_drift, verbose, quiet, json)


def resume(
    sweep: Sweep,
    overrides: Overrides = None,
    set_: Set = None,
    storage: Storage = None,
    allow_drift: Drift = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
    json: Json = False,
) -> int:
    """Go on with a sweep where its journal left it; where it runs and its caps may change."""
    from orchestrator.assembly.folders import find
    from orchestrator.assembly.raising import lowered
    from orchestrator.assembly.reading import read_sweep
    from orchestrator.assembly.refusal import Refused
    from orchestrator.assembly.specs import changed

    found = read_sweep(find(sweep, storage))
    spec = changed(found, [*(overrides or ()), *(set_ or ())])
    if found.state.closed is not None and not _raised(found, spec):
        if lowered(found, spec):
            raise Refused(
                f"{found.spec.name} is done ({found.state.closed}), and what you gave allows no "
                "more than it had: nothing was started"
            )
        return _done_before(found, spec, quiet, json)
    _found(found)
    return _drive(spec, found.pool, allow_drift, verbose, quiet, json)


def _raised(begun: BegunSweep, spec: SweepSpec) -> bool:
    """Whether a sweep that is done goes on, since it may spend more now. Raises Refused where
    more would buy nothing."""
    from orchestrator.assembly.raising import check_flops, check_goes_on, raised

    check_flops(begun, spec)
    words = raised(begun, spec)
    if words:
        check_goes_on(begun, spec, words)
        speech.say(
            f"{begun.spec.name} was done ({begun.state.closed}), and goes on: " + ", ".join(words)
        )
    return bool(words)


def _done_before(begun: BegunSweep, spec: SweepSpec, quiet: bool, json: bool) -> int:
    """Nothing is left to drive: the report is written, and MLflow told, again."""
    from orchestrator.assembly.session import Wishes, tell_again

    speech.say(f"{begun.spec.name} is done ({begun.state.closed}): nothing is left to run")
    with Interrupts() as interrupts:
        ended = tell_again(
            begun,
            spec,
            Wishes(
                say=_nothing if quiet else speech.say,
                asked=interrupts.asked,
                finishing=interrupts.leave_at_once,
            ),
        )
    return _told(ended, json)


def _found(begun: BegunSweep) -> None:
    """What a resume begins with, for people."""
    from orchestrator.assembly.standing import standing_of

    standing = standing_of(begun)
    counts = standing.counts
    running = counts.get("running", 0)
    speech.say(
        f"found   {standing.records} records, the last of {words.moment(standing.last_s)}; "
        f"{words.flops(standing.spent)} of {words.flops(standing.budget)} FLOPs spent"
    )
    speech.say(
        f"        {running} were running (they go on from their checkpoints), "
        f"{counts.get('waiting', 0)} waiting, {counts.get('stopped', 0)} stopped, "
        f"{counts.get('finished', 0)} finished, {counts.get('unstarted', 0)} not started"
    )


def _drive(
    spec: SweepSpec, pool: Pool, allow_drift: bool, verbose: bool, quiet: bool, json: bool
) -> int:
    from orchestrator.assembly.session import Wishes, drive

    with Interrupts() as interrupts:
        wishes = Wishes(
            say=_nothing if quiet else speech.say,
            asked=interrupts.asked,
            finishing=interrupts.leave_at_once,
            progress=None if quiet else sys.stderr,
            verbose=verbose,
            allow_drift=allow_drift,
        )
        ended = drive(spec, pool, wishes)
    return _told(ended, json)


def _nothing(_: str) -> None:
    """For --quiet."""


def _told(ended: Ended, json: bool) -> int:
    """The end of a session in words, and its exit code."""
    from orchestrator.assembly.raising import not_worth_it

    handle = speech.handle(str(ended.folder.path), ended.folder.name)
    resume_command = " ".join([f"{speech.program()} resume {handle}", *ended.raised])
    written, state = ended.written, ended.outcome.state
    named = written.recommended if written else None
    if json:
        speech.data(
            "launch",
            {
                "name": ended.folder.name,
                "folder": str(ended.folder.path),
                "outcome": ended.outcome.kind,
                "reason": ended.outcome.reason,
                "unheard": ended.unheard,
                "spent": state.ledger.spent,
                "budget": state.terms.budget,
                "report": str(written.report) if written else None,
                "law": written.conclusions.to_json() if written else None,
                "recommended": named.said if named is not None else None,
                "tracking_uri": ended.tracking_uri,
                "resume": resume_command,
            },
        )
    if ended.outcome.kind == "paused" or written is None:
        speech.say(f"paused: {ended.outcome.reason}", style="yellow")
        if state.running:
            cut = words.several(state.running, "running segment")
            speech.say(f"{cut} cut off: the work since the last checkpoints will be done again")
        speech.say(f"go on with   {resume_command}")
        return speech.LATER
    show_laws(written.conclusions, brief=True)
    speech.say()
    if written.recommended is not None:
        speech.say(written.recommended.said, style="bold")
    speech.say(f"ended    {state.closed}")
    told: list[str] = []
    for each in ended.used:
        said = words.flops if each.unit == "FLOPs" else "{:.3g}".format
        told.append(f"{said(each.amount)} of {said(each.budget)} {each.unit}")
    speech.say(f"used     {', '.join(told)}")
    if ended.unheard is not None:
        speech.say(f"         {ended.unheard}", style="yellow")
    if ended.more is not None:
        goes = "may find something worth its cost" if not_worth_it(state) else "goes on"
        speech.say(f"         more budget {goes}: {resume_command} {ended.more}")
    if written.widths is not None:
        speech.say(f"widths   {written.widths}")
    speech.say(f"report   {written.report}")
    speech.say(f"picture  {written.plane}")
    speech.say(f"law      {written.law}")
    _say_curves(ended)
    if ended.unusable is None:
        return speech.DONE
    speech.say(ended.unusable, style="red")
    return speech.BAD


def _say_curves(ended: Ended) -> None:
    """Where MLflow shows the curves."""
    if ended.tracking_uri is None:
        return
    shown = shlex.quote(ended.tracking_uri)
    beside = speech.beside("mlflow")
    if ended.tracking_uri.startswith("sqlite:"):
        speech.say(f"curves   {beside} ui --backend-store-uri {shown}")
        if ended.charts is not None:
            speech.say(f"         then open http://127.0.0.1:5000/{ended.charts}")
    else:
        speech.say(f"curves   {ended.charts or ended.tracking_uri}")


def stop(sweep: Sweep, storage: Storage = None, json: Json = False) -> int:
    """Ask the driver of a sweep to pause it with checkpoints."""
    from orchestrator.assembly.folders import find
    from orchestrator.assembly.reading import read_sweep
    from orchestrator.assembly.standing import standing_of
    from orchestrator.assembly.stopping import ask_to_stop

    folder = find(sweep, storage)
    held_by = ask_to_stop(folder, "asked to stop")
    handle = speech.handle(str(folder.path), folder.name)
    if json:
        speech.data("stop", {"name": folder.name, "asked": held_by is not None, "driver": held_by})
    elif held_by is None:
        standing = standing_of(read_sweep(folder))
        speech.say(f"nobody drives {folder.name}; it is {standing.condition}. Nothing was asked.")
    else:
        speech.say(f"asked {held_by} to pause {folder.name}; its trials stop at a checkpoint")
        speech.say(f"go on later with   {speech.program()} resume {handle}")
    return speech.DONE
