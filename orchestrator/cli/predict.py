"""`predict`: ask a law that was fitted, without the sweep or what trained it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import speech
from orchestrator.cli.look import Json, Storage
from orchestrator.report import words

if TYPE_CHECKING:
    from orchestrator.assembly.predicting import Plan, Prediction
    from orchestrator.report.conclusions import Bounded


def predict(
    law: Annotated[
        str,
        typer.Argument(
            metavar="LAW.json|NAME|FOLDER",
            help="A law: law.json, what `fit --json` printed, or a sweep that has a report.",
        ),
    ],
    asked: Annotated[
        list[str],
        typer.Argument(
            metavar="params=N tokens=D | flops=C | loss=L",
            help="A plan, a compute, or a loss to reach; other inputs of the law by name.",
        ),
    ],
    by: Annotated[
        str | None, typer.Option("--law", help="The law that answers (default: the quoted one).")
    ] = None,
    level: Annotated[
        float, typer.Option(min=0.01, max=0.999, help="Level of the intervals.")
    ] = 0.9,
    storage: Storage = None,
    json: Json = False,
) -> int:
    """What a law says of a plan, a compute or a loss, and how far that is beyond its data."""
    from orchestrator.assembly.lawfiles import read_laws
    from orchestrator.assembly.predicting import asked_of
    from orchestrator.assembly.predicting import predict as answer_of

    question = asked_of(asked)
    file = read_laws(law, storage)
    answer = answer_of(file, question, law=by, level=level)
    if json:
        speech.data("predict", {"file": str(file.path), **answer.to_json()})
    else:
        show_prediction(answer)
    return speech.DONE


def show_prediction(answer: Prediction) -> None:
    """The answer for people: what it is about, the figures, the best plan, the doubts."""
    speech.say()
    speech.say(_sentence(answer), style="bold")
    decades = dict(answer.decades)
    rows = [["loss", words.loss(answer.loss.value), _bounds(answer.loss, words.loss), ""]]
    for name, found, said in (
        ("params", answer.params, words.amount),
        ("tokens", answer.tokens, words.amount),
        ("flops", answer.flops, words.flops),
    ):
        if found is not None:
            beyond = _decades(decades.get(name))
            rows.append([name, said(found.value), _bounds(found, said), beyond])
    level = "interval" if answer.level is None else f"{words.share(answer.level)} interval"
    speech.table(["", "value", level, "against the data"], rows, numbers=(1,))
    if answer.optimum is not None:
        speech.say(_best(answer.optimum, answer.level))
    phases = f", {' and '.join(answer.phases)} points" if answer.phases else ""
    law = f": L = {answer.expression}" if answer.expression else ""
    speech.say(
        f"  {answer.by}{law}{phases};"
        f" single runs scatter by {words.share(answer.scatter)} about it"
    )
    for note in answer.notes:
        speech.say(f"  {note}", style="yellow")


def _sentence(answer: Prediction) -> str:
    asked = dict(answer.asked)
    if "loss" in asked and answer.flops is not None:
        return (
            f"A loss of {asked['loss']:g} nats per token takes"
            f" {words.flops(answer.flops.value)} FLOPs{_sure(answer.flops, answer.level)}."
        )
    what = ", ".join(_said(name, value) for name, value in answer.asked)
    kind = "an annealed loss" if "annealed" in answer.phases else "a loss"
    says = "the law says" if answer.expression else f"{answer.by} says"
    return (
        f"At {what} {says} {kind} of {words.loss(answer.loss.value)}"
        f"{_sure(answer.loss, answer.level, words.loss)} nats per token."
    )


def _said(name: str, value: float) -> str:
    if name == "flops":
        return f"{words.flops(value)} FLOPs"
    if name in ("params", "tokens"):
        return f"{words.amount(value)} {name}"
    return f"{name} {words.figure(value)}"


def _best(plan: Plan, level: float | None) -> str:
    """What to train with that compute."""
    low, high = (words.amount(size) for size in plan.flat_params)
    ratio = plan.tokens.value / plan.params.value
    return (
        f"  compute-optimal at {words.flops(plan.flops)} FLOPs:"
        f" {words.amount(plan.params.value)} params"
        f"{_sure(plan.params, level, words.amount)} on {words.amount(plan.tokens.value)} tokens"
        f"{_sure(plan.tokens, level, words.amount)},\n"
        f"  {words.factor(ratio)} tokens a parameter, loss {words.loss(plan.loss.value)};"
        f" {low} to {high} params are within 0.5 % of it;"
        f" N* grows there as C^{plan.exponent_params.value:.3f}"
        f"{_sure(plan.exponent_params, level, '{:.3f}'.format)}"
    )


def _sure(found: Bounded, level: float | None, said: Callable[[float], str] = words.flops) -> str:
    """The interval in brackets; nothing where there is none."""
    if level is None or (found.low is None and found.high is None):
        return ""
    return f" ({words.share(level)}: {_bounds(found, said)})"


def _bounds(found: Bounded, said: Callable[[float], str]) -> str:
    if found.low is None and found.high is None:
        return ""
    low = "no bound" if found.low is None else said(found.low)
    high = "no bound" if found.high is None else said(found.high)
    return f"{low} to {high}"


def _decades(value: float | None) -> str:
    if value is None:
        return "not known"
    if abs(value) < 0.05:
        return "inside"
    return f"{abs(value):.1f} decades {'beyond' if value > 0 else 'under'}"
