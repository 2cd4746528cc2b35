"""`fit`, `report` and `replay`: what a sweep, or recorded curves, teach."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import speech
from orchestrator.cli.look import Json, Storage, Sweep
from orchestrator.report import words

if TYPE_CHECKING:
    from orchestrator.assembly.choosing import Choosing
    from orchestrator.report.conclusions import Conclusions, LawResult


def fit(
    source: Annotated[
        str,
        typer.Argument(metavar="NAME|FOLDER|CURVES.csv", help="A sweep, or a table of curves."),
    ],
    storage: Storage = None,
    form: Annotated[
        list[str] | None,
        typer.Option(
            "--form",
            help="A law form by name, or in one line such as 'E + A/N**alpha + B/D**beta'; may be"
            " repeated (default: those of the sweep).",
        ),
    ] = None,
    forms: Annotated[
        str | None, typer.Option(help="Names of law forms, separated by commas.")
    ] = None,
    burn_in: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=0.99, help="Share of each curve dropped (default: the sweep's; 0.1)."
        ),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(min=0, help="Bootstrap draws (default: the sweep's; 200).")
    ] = None,
    level: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=0.999, help="Level of the intervals (default: the sweep's; 0.9)."
        ),
    ] = None,
    choices: Annotated[
        bool,
        typer.Option("--choices", help="Also fit the law of size in every defensible way."),
    ] = False,
    json: Json = False,
) -> int:
    """Fit the laws and show them with their intervals. Writes nothing."""
    from orchestrator.assembly.replaying import curves_path
    from orchestrator.assembly.tables import conclude_table, question_about

    stated = None
    if form is not None or forms is not None:
        stated = [*(form or ()), *(forms.split(",") if forms is not None else ())]
    if curves_path(source):
        question = question_about(
            ["power_irreducible", "chinchilla"] if stated is None else stated,
            burn_in=0.1 if burn_in is None else burn_in,
            draws=200 if draws is None else draws,
            level=0.9 if level is None else level,
        )
        with speech.busy("fitting the laws"):
            conclusions = conclude_table(source, question)
    else:
        from orchestrator.assembly.concluding import conclude_sweep, question_of
        from orchestrator.assembly.folders import find
        from orchestrator.assembly.reading import read_sweep

        sweep = read_sweep(find(source, storage))
        own = question_of(sweep.spec)
        about = question_about(
            own.forms if stated is None else stated,
            burn_in=own.burn_in if burn_in is None else burn_in,
            draws=own.draws if draws is None else draws,
            level=own.level if level is None else level,
        )
        changed = {name: getattr(about, name) for name in ("forms", "burn_in", "draws", "level")}
        with speech.busy("fitting the laws"):
            conclusions = conclude_sweep(sweep, replace(own, **changed))
    made = None
    if choices:
        from orchestrator.assembly.choosing import choices_about

        with speech.busy("fitting the law in every other way"):
            made = choices_about(source, conclusions, storage=storage)
    from orchestrator.assembly.curvelaws import curves_said

    said = curves_said(source, conclusions, storage=storage)
    if json:
        record = {**conclusions.to_json(), "curves": said.to_json()}
        del record["schema"]
        speech.data("fit", record if made is None else {**record, "choices": made.to_json()})
        return speech.DONE
    show_laws(conclusions)
    speech.say(f"  {said.words}")
    if made is not None:
        show_choices(made)
    return speech.DONE


def show_laws(conclusions: Conclusions, *, brief: bool = False) -> None:
    """The laws for people: the answer, a table of parameters, the doubts (`brief`: those about the
    law that is quoted)."""
    speech.say()
    speech.say(conclusions.sentence, style="bold" if conclusions.headline else "yellow")
    rows: list[list[str]] = []
    for result in conclusions.laws:
        rows += _law_rows(result, conclusions.trials)
    if rows:
        level = words.share(conclusions.question.level)
        speech.table(
            ["law", "parameter", "value", f"{level} interval", "rests on"],
            rows,
            numbers=(2,),
            folds=(4,),
        )
    if conclusions.approaches and not brief:
        _show_approaches(conclusions)
    for result in conclusions.laws:
        if result.why_not is not None:
            speech.say(f"  {result.key}: {result.why_not}", style="yellow")
        for doubt in result.doubts if result is conclusions.headline or not brief else ():
            speech.say(f"  {result.key}: {doubt}", style="yellow")
    for doubt in conclusions.doubts:
        speech.say(f"  {doubt}", style="yellow")


def show_choices(made: Choosing) -> None:
    """How far choices of fitting move the answers, beside the interval that does not know them."""
    speech.say()
    speech.say(
        f"{made.key} in {len(made.variants)} ways, asked for {words.amount(made.params)} params on"
        f" {words.amount(made.tokens)} tokens, and for the best size at the compute of those,"
        f" {words.flops(made.flops)} FLOPs:"
    )
    rows = [
        [
            row.what,
            words.figure(row.base) if row.base is not None else "none",
            row.interval,
            f"{words.figure(row.low)} to {words.figure(row.high)}",
            ", ".join(f"{name} {words.figure(apart)}" for name, apart in row.by),
        ]
        for row in made.rows
    ]
    speech.table(
        ["", "law", "interval", "over all ways", "moved by"], rows, numbers=(1,), folds=(4,)
    )
    for note in (*made.warnings, *made.notes):
        speech.say(f"  {note}", style="yellow")


def _show_approaches(conclusions: Conclusions) -> None:
    """The best size by each approach, at the compute of the largest run."""
    level = words.share(conclusions.question.level)
    speech.say()
    speech.table(
        ["best size by", f"N* ~ C^a ({level})", "params", "tokens"],
        [
            [
                approach.name,
                words.bounded(approach.exponent, "{:.3f}".format),
                words.bounded(approach.params, words.amount),
                words.bounded(approach.tokens, words.amount),
            ]
            for approach in conclusions.approaches
        ],
        folds=(1, 2, 3),
    )
    speech.say(f"  at {words.flops(conclusions.largest_flops)} FLOPs, those of the largest run")
    for approach in conclusions.approaches:
        if approach.why_not is not None:
            speech.say(f"  {approach.name}: {approach.why_not}", style="yellow")


def _law_rows(result: LawResult, trials: int) -> list[list[str]]:
    """A law's parameters, and what it rests on; trials: of all that were seen."""
    rows: list[list[str]] = []
    for place, (name, _, bounded) in enumerate(result.parameters):
        law = result.law
        about = f"{result.expression}, " if place == 0 else ""
        if place == 0 and law is not None:
            about = f"L = {result.expression}"
        elif place == 1 and law is not None:
            points = f", {', '.join(result.phases)} points" if result.phases else ""
            some = "" if law.trials == trials else f"{law.trials} of "
            about = f"{words.several(law.rows, 'row')} of {some}{trials} trials{points}"
        elif place == 2 and result.held_out is not None:
            about = (
                f"{100 * result.held_out.error:+.1f} % at a size held out "
                f"({words.amount(result.held_out.params)})"
            )
        bounds = (
            "none"
            if bounded.low is None or bounded.high is None
            else f"{words.figure(bounded.low)} to {words.figure(bounded.high)}"
        )
        rows.append(
            [result.key if place == 0 else "", name, words.figure(bounded.value), bounds, about]
        )
    return rows


def report(sweep: Sweep, storage: Storage = None, json: Json = False) -> int:
    """Write the report of a sweep again: page, Markdown, picture, law.json."""
    from orchestrator.assembly.concluding import conclude_sweep, write_report
    from orchestrator.assembly.folders import find
    from orchestrator.assembly.reading import read_sweep

    with speech.busy("fitting the laws and writing the report"):
        read = read_sweep(find(sweep, storage))
        written = write_report(read, conclude_sweep(read))
    files = {
        "report": str(written.report),
        "summary": str(written.summary),
        "picture": str(written.plane),
        "law": str(written.law),
    }
    if json:
        speech.data("report", {**files, "answer": written.conclusions.sentence})
        return speech.DONE
    speech.say(written.conclusions.sentence, style="bold")
    for what, path in files.items():
        speech.say(f"{what:8} {path}")
    return speech.DONE


def replay(
    curves: Annotated[str, typer.Argument(metavar="CURVES.csv", help="A table of curves.")],
    policy: Annotated[
        str, typer.Option(help="Policies, separated by commas.")
    ] = "successive_halving,uniform",
    budget: Annotated[
        str, typer.Option(help="FLOPs, or shares of the whole table's cost, separated by commas.")
    ] = "5%,20%",
    seeds: Annotated[
        int, typer.Option(min=1, help="Random pools of 70 % of the curves; 1: all of them.")
    ] = 1,
    json: Json = False,
) -> int:
    """Try policies on recorded curves, with the driver that would run them."""
    from orchestrator.assembly.replaying import replay_table

    with speech.busy("replaying") as progress:
        rows = replay_table(
            curves,
            policies=[name.strip() for name in policy.split(",") if name.strip()],
            budgets=[text.strip() for text in budget.split(",") if text.strip()],
            seeds=seeds,
            progress=progress,
        )
    if json:
        speech.data("replay", {"curves": curves, "rows": [asdict(row) for row in rows]})
        return speech.DONE
    speech.table(
        ["policy", "budget", "FLOPs", "best loss", "regret", "frontier", "spent"],
        [
            [
                row.policy,
                row.budget,
                words.flops(row.budget_flops),
                f"{row.best_loss:.4f}",
                f"{100 * row.regret:.1f} ± {100 * row.regret_sd:.1f} %"
                if row.pools > 1
                else words.share(row.regret),
                words.share(row.frontier_regret),
                words.share(row.spent_share),
            ]
            for row in rows
        ],
        numbers=(2, 3, 4, 5, 6),
    )
    speech.say(
        f"  {words.several(seeds, 'pool')} of curves. regret: best loss against the best that the "
        "budget could have\n  bought in hindsight; frontier: the same over all computes from a "
        "hundredth of it up"
    )
    return speech.DONE
