"""`plan` and `status`: look at a sweep without touching it."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import speech
from orchestrator.report import words

if TYPE_CHECKING:
    from orchestrator.assembly.plan import Plan
    from orchestrator.assembly.standing import Standing

Spec = Annotated[str, typer.Argument(metavar="SPEC", help="A sweep file in YAML.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[a.b=VALUE]...", help="Values that replace those of the file."),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", "-s", metavar="a.b=VALUE", help="As a bare a.b=VALUE.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Storage = Annotated[
    str | None, typer.Option("--storage", help="The folder that holds sweeps (default: sweeps).")
]
Sweep = Annotated[
    str, typer.Argument(metavar="NAME|FOLDER", help="A sweep's name, or its folder.")
]
_ROWS = 40


def plan(
    spec: Spec,
    overrides: Overrides = None,
    set_: Set = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers, where the spec names no number.")
    ] = None,
    flops_per_s: Annotated[
        float | None, typer.Option(min=1.0, help="What one worker does, such as 3e14.")
    ] = None,
    json: Json = False,
) -> None:
    """What a sweep would cost: pool, rungs, FLOPs, longest path. Starts nothing."""
    from orchestrator.assembly.plan import kept_sizes, plan_of
    from orchestrator.assembly.specs import read_spec

    read, pool = read_spec(spec, [*(overrides or ()), *(set_ or ())])
    planned = plan_of(read, pool, workers=workers, flops_per_s=flops_per_s)
    if json:
        record = {**asdict(planned), "share": planned.share, "law": kept_sizes(planned, read)}
        speech.data("plan", record)
        return
    show_plan(planned, kept_sizes(planned, read))
    speech.say(f"Nothing started.   {speech.program()} launch {spec}")


def show_plan(plan: Plan, kept: str) -> None:
    """The plan for people."""
    excluded = f" ({plan.excluded} excluded)" if plan.excluded else ""
    speech.say(f"{plan.name}: {plan.candidates} candidates{excluded}, {len(plan.sizes)} sizes")
    speech.table(
        ["params", "candidates", "tokens", "FLOPs each", "FLOPs"],
        [
            [
                words.amount(row.params),
                str(row.candidates),
                words.amount(row.tokens),
                words.flops(row.flops_each),
                words.flops(row.flops),
            ]
            for row in plan.sizes
        ],
        numbers=(0, 1, 2, 3, 4),
    )
    cumulated = 0
    rows: list[list[str]] = []
    for rung in plan.rungs:
        cumulated += rung.cost
        rows.append(
            [
                str(rung.rung),
                str(rung.live),
                words.flops(rung.flops),
                words.flops(rung.cost),
                words.flops(cumulated),
            ]
        )
    if plan.annealing:
        share = words.flops(plan.annealing)
        rows.append(["decays", "", "", share, words.flops(cumulated + plan.annealing)])
    if not plan.one_by_one:
        heads = ["rung", "trials", "FLOPs each", "cost", "so far"]
        speech.table(heads, rows, numbers=(0, 1, 2, 3, 4))
    for line in _plan_lines(plan, kept):
        speech.say(line)
    for warning in plan.warnings:
        speech.say(f"  note: {warning}", style="yellow")
    for note in plan.notes:
        speech.say(f"  note: {note}", style="yellow")


def _plan_lines(plan: Plan, kept: str) -> list[str]:
    lines = [
        f"  policy       {plan.policy}",
        f"  exhaustive   {words.flops(plan.exhaustive)} FLOPs",
        f"  this plan    {words.flops(plan.planned)} FLOPs at most, {words.share(plan.share)} of "
        f"that; budget {words.flops(plan.budget)}",
        f"  longest path at least {words.flops(plan.path)} FLOPs, one trial after another"
        + _time(plan.seconds(plan.path)),
    ]
    if plan.path_here is not None:
        lines.append(
            f"               at least {words.flops(plan.path_here)} FLOPs with "
            + words.several(plan.workers or 1, "worker")
            + _time(plan.seconds(plan.path_here))
        )
    if plan.gpu_hours is not None:
        cap = f" of {plan.gpu_hours_cap:g}" if plan.gpu_hours_cap is not None else ""
        count = f"; {plan.hours_count}" if plan.hours_count else ""
        lines.append(f"  GPU-hours    {plan.gpu_hours:.3g}{cap}{count}")
    if plan.dollars is not None:
        cap = f" of {plan.dollars_cap:g}" if plan.dollars_cap is not None else ""
        lines.append(f"  money        {plan.dollars:.2f} dollars{cap}")
    if plan.one_by_one:
        lines.append("  rungs        none: each run is bought for what those before it left open")
        if plan.annealing:
            lines.append(f"  decays       {words.flops(plan.annealing)} FLOPs are kept for them")
    lines.append(f"  for the law  {kept}")
    return lines


def _time(seconds: float | None) -> str:
    return "" if seconds is None else f", {words.duration(seconds)}"


def status(
    sweep: Sweep,
    storage: Storage = None,
    all_: Annotated[bool, typer.Option("--all", help="Every trial, however many.")] = False,
    json: Json = False,
) -> None:
    """How a sweep stands: trials, losses, budget, law."""
    from orchestrator.assembly.folders import find
    from orchestrator.assembly.reading import read_sweep
    from orchestrator.assembly.standing import standing_of, to_json

    standing = standing_of(read_sweep(find(sweep, storage)))
    if json:
        speech.data("status", to_json(standing))
        return
    show_standing(standing, rows=None if all_ else _ROWS)


_ORDER = ("running", "waiting", "finished", "idle", "stopped", "diverged", "failed")
_STYLE = {
    "running": "bold",
    "finished": "green",
    "stopped": "dim",
    "diverged": "red",
    "failed": "red",
}


def show_standing(standing: Standing, *, rows: int | None = _ROWS) -> None:
    """The sweep for people."""
    speech.say(f"{standing.name}  {standing.condition.upper()}  {standing.policy}", style="bold")
    for line in _standing_lines(standing):
        speech.say(f"  {line}")
    trials = sorted(standing.trials, key=lambda trial: _ORDER.index(trial.status))
    shown = trials if rows is None else trials[:rows]
    if shown:
        speech.table(
            ["trial", "params", "state", "tokens", "loss", "annealed", "why"],
            [
                [
                    trial.id,
                    words.amount(trial.params),
                    trial.status,
                    f"{words.amount(trial.tokens)}/{words.amount(trial.horizon)}",
                    words.loss(trial.loss),
                    ", ".join(words.loss(loss) for _, loss in trial.annealed),
                    trial.reason,
                ]
                for trial in shown
            ],
            numbers=(1, 3, 4, 5),
            folds=(0, 6),
            styles=[_STYLE.get(trial.status, "") for trial in shown],
        )
    if len(shown) < len(trials):
        speech.say(f"  and {len(trials) - len(shown)} more (--all)")
    _say_law(standing)


def _standing_lines(standing: Standing) -> list[str]:
    counts = ", ".join(f"{count} {state}" for state, count in sorted(standing.counts.items()))
    ago = words.duration(max(0.0, time.time() - standing.last_s))
    lines = [
        f"trials  {counts}",
        f"budget  {words.flops(standing.spent)} of {words.flops(standing.budget)} FLOPs spent "
        f"({words.share(standing.spent / max(standing.budget, 1))}), "
        f"{words.flops(standing.reserved)} reserved; everything to its end would cost "
        f"{words.flops(standing.exhaustive)}",
        f"journal {standing.records} records in session {standing.session}, the last {ago} ago",
    ]
    for used in standing.uses:
        if used.unit != "FLOPs":
            lines.insert(
                2,
                f"        {used.amount:.3g} of {used.budget:g} {used.unit} used "
                f"({words.share(used.share)})",
            )
    if standing.lost:
        lines.append(f"lost    {words.flops(standing.lost)} FLOPs of work done again")
    if standing.held_by is not None:
        lines.append(f"driver  {standing.held_by}")
    if standing.why is not None:
        lines.append(f"why     {standing.why}")
    if standing.condition in ("interrupted", "paused"):
        name = speech.handle(standing.folder, standing.name)
        command = " ".join([f"{speech.program()} resume {name}", *standing.raised])
        lines.append(f"go on   {command}")
    return lines


def _say_law(standing: Standing) -> None:
    name = speech.handle(standing.folder, standing.name)
    if standing.law is None or standing.law_s is None:
        speech.say(f"law: none written yet ({speech.program()} fit {name})")
        return
    ago = words.duration(max(0.0, time.time() - standing.law_s))
    speech.say(f"law: {standing.law} (written {ago} ago)")
    if standing.report is not None:
        speech.say(f"report: {standing.report}")
