"""The sections on what was learnt: answer, doubts, aims, laws. Touches nothing."""

from __future__ import annotations

from orchestrator.report import words
from orchestrator.report.answers import best_at, interval, settings_in_words
from orchestrator.report.conclusions import Answer, Bounded, Conclusions, LawResult
from orchestrator.report.html import (
    Content,
    Markup,
    element,
    items,
    joined,
    section,
    table,
)
from orchestrator.report.material import Material


def opening(material: Material) -> Markup:
    conclusions = material.conclusions
    answered = conclusions.headline is not None
    return joined(
        [
            element(
                "header",
                element(
                    "p",
                    f"Scaling law report, {material.standing}, written "
                    f"{words.moment(material.written_s)}",
                    class_="kind",
                ),
                element("h1", material.name),
            ),
            element("p", material.recommended, class_="answer") if material.recommended else "",
            element("p", conclusions.sentence, class_="answer" if answered else "answer none"),
            _facts(material),
            items([element("span", note) for note in material.notes], classes="soft")
            if material.notes
            else "",
        ]
    )


def _facts(material: Material) -> Markup:
    conclusions, spending = material.conclusions, material.spending
    best, headline = conclusions.best, conclusions.headline
    facts: list[tuple[str, str, str]] = []
    if best is not None:
        facts.append(
            (
                "Lowest loss seen",
                words.loss(best.loss),
                f"{words.amount(best.params)} parameters, {words.amount(best.tokens)} tokens",
            )
        )
    if headline is not None and headline.held_out is not None:
        held = headline.held_out
        facts.append(
            (
                "Error at a size held out",
                f"{100 * held.error:+.1f} %",
                f"said {words.loss(held.predicted)}, seen {words.loss(held.seen)}, at "
                f"{words.amount(held.params)} parameters",
            )
        )
    target = conclusions.target
    if target is not None and target.loss.low is not None and target.loss.high is not None:
        half = (target.loss.high - target.loss.low) / 2
        facts.append(
            (
                "Uncertainty of the answer",
                f"± {words.loss(half)}",
                f"half-width in nats, {target.what}",
            )
        )
    facts.append(
        (
            "Compute spent",
            words.share(spending.share),
            f"of what all {len(material.state.pool)} candidates to their end would cost",
        )
    )
    return element(
        "dl",
        joined(
            element("div", element("dt", what), element("dd", value, element("small", note)))
            for what, value, note in facts
        ),
        class_="facts",
    )


def doubts(material: Material) -> Markup:
    conclusions = material.conclusions
    found = [*conclusions.doubts]
    for result in conclusions.laws:
        if result is conclusions.headline:
            found += [f"{result.key}: {doubt}" for doubt in result.doubts]
        if result.why_not is not None:
            found.append(f"{result.key}: {result.why_not}")
    for answer in (conclusions.target, conclusions.recommended):
        if answer is not None:
            found += [doubt for doubt in answer.doubts if doubt not in found]
    stable = conclusions.headline is not None and "annealed" not in conclusions.headline.phases
    if stable:
        found.append(_annealing_note(conclusions.annealing_gain))
    if not found:
        return Markup("")
    return element("div", element("p", "What to doubt"), items(found), class_="doubts")


def _annealing_note(gain: Bounded | None) -> str:
    note = "the law is of constant-rate losses; a run whose rate decays at the end lies lower"
    if gain is None or gain.low is None or gain.high is None:
        return f"{note}, by an amount that this sweep did not measure"
    return (
        f"{note}: the sweep's own decays lowered the loss by {words.loss(gain.value)} nats "
        f"(median; {words.loss(gain.low)} to {words.loss(gain.high)}), their own tokens included"
    )


def aims(material: Material) -> Markup:
    """All three aims, whichever the spec named: they differ, and a reader may have another."""
    conclusions = material.conclusions
    level, asked = conclusions.question.level, conclusions.question.aim
    rows: list[list[Content]] = []
    if conclusions.best is not None:
        best = conclusions.best
        rows.append(
            [
                _aim("frontier", asked),
                "the lowest loss seen",
                words.flops(best.flops),
                words.amount(best.params),
                words.amount(best.tokens),
                words.loss(best.loss),
                f"seen, by {best.trial}",
            ]
        )
    found = {"target": conclusions.target, "recommend": conclusions.recommended}
    answers = {name: answer for name, answer in found.items() if answer is not None}
    rows += [_answer_row(_aim(name, asked), answer, level) for name, answer in answers.items()]
    flops = conclusions.question.deployment_flops
    if "recommend" not in answers and flops is not None:
        rows.append(_unanswered_row(_aim("recommend", asked), flops))
    if not rows:
        return Markup("")
    heads = ["aim", "question", "FLOPs", "parameters", "tokens", "loss", "by"]
    return section(
        "Three aims",
        table(heads, rows, numbers=(2, 3, 4)),
        element("p", _aims_note(conclusions.recommended, len(answers)), class_="soft"),
        id="aims",
    )


def _aim(name: str, asked: str) -> Content:
    return element("strong", f"{name} (asked)") if name == asked else name


def _answer_row(name: Content, answer: Answer, level: float) -> list[Content]:
    return [
        name,
        answer.what,
        words.flops(answer.flops),
        _ranged(answer.params),
        _ranged(answer.tokens),
        interval(answer.loss, level),
        answer.by,
    ]


def _unanswered_row(name: Content, flops: float) -> list[Content]:
    unknown = ["not known"] * 3
    return [name, "the deployment compute", words.flops(flops), *unknown, "no law reaches so far"]


def _ranged(bounded: Bounded | None) -> str:
    if bounded is None:
        return "not known"
    if bounded.low is None or bounded.high is None:
        return words.amount(bounded.value)
    return (
        f"{words.amount(bounded.value)} ({words.amount(bounded.low)} to "
        f"{words.amount(bounded.high)})"
    )


def _aims_note(recommended: Answer | None, answers: int) -> str:
    note = "The lowest loss seen is a fact of this sweep"
    if answers:
        others = "the other is" if answers == 1 else "the other two are"
        note += f"; {others} what the law says beyond it"
    note += "."
    if recommended is not None and recommended.settings:
        note += (
            " Settings to begin with, those of the best run that went furthest: "
            f"{settings_in_words(recommended.settings)}."
        )
    return note


def planning(material: Material) -> Markup:
    """What a few computes would buy, by the headline law."""
    conclusions = material.conclusions
    headline = conclusions.headline
    if headline is None or headline.line is None:
        return Markup("")
    rows: list[list[Content]] = []
    for times in (1.0, 2.0, 5.0, 10.0):
        flops = times * conclusions.largest_flops
        params, loss = best_at(conclusions, flops)
        if loss is None:
            value, low, high, _ = headline.line.at(flops)
            sure = headline.posterior is None
            loss = Bounded(value=value) if sure else Bounded(value=value, low=low, high=high)
        rows.append(
            [
                f"{times:g} times the largest run",
                words.flops(flops),
                words.amount(params) if params else "not known",
                interval(loss, conclusions.question.level),
            ]
        )
    return section(
        "What compute would buy",
        table(["compute", "FLOPs", "best size", "loss"], rows, numbers=(1, 2)),
        element("p", f"Loss by {headline.key}: {headline.basis}.", class_="soft"),
        id="planning",
    )


def laws(material: Material) -> Markup:
    conclusions = material.conclusions
    level = words.share(conclusions.question.level)
    first = sorted(conclusions.laws, key=lambda result: result is not conclusions.headline)
    blocks = [_law(result, level, result is conclusions.headline) for result in first]
    return section(
        "The laws",
        joined(blocks),
        _approaches(conclusions),
        element(
            "p",
            "N parameters of blocks and head, D tokens, C FLOPs. Points of the constant rate and "
            "annealed ends are never in one fit. Forecasts enter no law.",
            class_="soft",
        ),
        id="laws",
    )


def _approaches(conclusions: Conclusions) -> Markup:
    """The best size found in several ways, and why some found none."""
    if not conclusions.approaches:
        return Markup("")
    rows: list[list[Content]] = [
        [
            approach.name,
            words.bounded(approach.exponent, "{:.3f}".format),
            words.bounded(approach.params, words.amount),
            words.bounded(approach.tokens, words.amount),
        ]
        for approach in conclusions.approaches
    ]
    missing = [f"{a.name}: {a.why_not}" for a in conclusions.approaches if a.why_not is not None]
    level = words.share(conclusions.question.level)
    return joined(
        [
            element("h3", "The best size, found in several ways"),
            table(["by", "power of compute", "parameters", "tokens"], rows, numbers=(1, 2, 3)),
            element(
                "p",
                f"At {words.flops(conclusions.largest_flops)} FLOPs, those of the largest run,"
                f" with {level} intervals. Each checks the others; what is quoted is the law.",
                class_="soft",
            ),
            items(missing, classes="soft") if missing else "",
        ]
    )


def _law(result: LawResult, level: str, chosen: bool) -> Markup:
    title = element("h3", result.key.replace("_", " ") + (", the law quoted" if chosen else ""))
    about = element(
        "p",
        element("span", f"L = {result.expression}", class_="formula"),
        f"  ({result.source}). Rests on {result.basis}.",
    )
    if result.law is None:
        return joined([title, about, element("p", f"No law: {result.why_not}.")])
    law = result.law
    rows: list[list[Content]] = [
        [name, meaning, words.figure(b.value), _parameter_interval(b)]
        for name, meaning, b in result.parameters
    ]
    held = result.held_out
    checked = (
        f" Without the size of the costliest run ({words.amount(held.params)} parameters) it says "
        f"{words.loss(held.predicted)} for that run, where {words.loss(held.seen)} was seen: "
        f"{100 * held.error:+.2f} %."
        if held is not None
        else ""
    )
    note = (
        f"{words.several(law.rows, 'row')} of {words.several(law.trials, 'trial')}, phases: "
        f"{', '.join(result.phases)}; residuals {100 * law.rmse:.2f} % (rms).{checked}"
    )
    return joined(
        [
            title,
            about,
            table(["parameter", "meaning", "value", f"{level} interval"], rows, numbers=(2, 3)),
            element("p", note, class_="soft"),
            items(result.doubts, classes="soft") if result.doubts and not chosen else "",
        ]
    )


def _parameter_interval(bounded: Bounded) -> str:
    if bounded.low is None or bounded.high is None:
        return "none"
    return f"{words.figure(bounded.low)} to {words.figure(bounded.high)}"
