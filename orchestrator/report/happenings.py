"""The sections on what happened: the money, the trials, the events, how to do it again.

Touches nothing.
"""

from __future__ import annotations

from orchestrator.report import words
from orchestrator.report.html import (
    Content,
    Markup,
    element,
    folded,
    items,
    joined,
    section,
    table,
)
from orchestrator.report.material import Material

_SHADES = {
    "trained to their end": "#1f6f78",
    "kept, not at their end": "#6aa5ab",
    "stopped": "#b9c0c9",
    "diverged or failed": "#b3261e",
    "annealing branches": "#c98a00",
}
_FOLD_FROM = 3


def spent(material: Material) -> Markup:
    spending = material.spending
    whole = max(spending.budget, spending.spent, 1)
    bar = element(
        "div",
        joined(
            element("span", style=f"width:{100 * flops / whole:.2f}%;background:{_SHADES[what]}")
            for what, flops, _ in spending.parts
        ),
        class_="bar",
    )
    rows: list[list[Content]] = [
        [
            joined([element("span", class_="key", style=f"background:{_SHADES[what]}"), what]),
            str(count),
            words.flops(flops),
            words.share(flops / max(spending.spent, 1)),
        ]
        for what, flops, count in spending.parts
    ]
    lost = (
        f" Beside it, {words.flops(spending.lost)} FLOPs of work were lost to interruptions and "
        "done again."
        if spending.lost
        else ""
    )
    device = (
        f" Workers trained for {words.duration(spending.device_s)} in all."
        if spending.device_s
        else ""
    )
    return section(
        "What was spent",
        element(
            "p",
            f"{words.flops(spending.spent)} FLOPs of a budget of {words.flops(spending.budget)}. "
            f"Training all {len(material.state.pool)} candidates to their end costs "
            f"{words.flops(spending.exhaustive)}; this sweep is {words.share(spending.share)} of "
            f"that. {_bought(material)}{lost}{device}",
        ),
        element("p", material.ending) if material.ending else "",
        bar,
        table(["compute went to trials", "how many", "FLOPs", "of it"], rows, numbers=(1, 2, 3)),
        id="spent",
    )


def _bought(material: Material) -> str:
    """What the money bought, in errors: never a saving alone."""
    conclusions = material.conclusions
    headline, target = conclusions.headline, conclusions.target
    if headline is None:
        return "It bought no law yet."
    parts: list[str] = []
    if target is not None and target.loss.low is not None and target.loss.high is not None:
        half = (target.loss.high - target.loss.low) / 2
        parts.append(f"an interval of ± {words.loss(half)} nats at {target.what}")
    if headline.held_out is not None:
        parts.append(f"an error of {100 * abs(headline.held_out.error):.1f} % at a size held out")
    return f"It bought a law with {' and '.join(parts) or 'no measured error'}."


def trials(material: Material) -> Markup:
    rows: list[list[Content]] = [
        [
            element("code", trial.id),
            words.amount(trial.params),
            element("span", trial.status, class_=f"state {trial.status}"),
            f"{words.amount(trial.tokens)} of {words.amount(trial.horizon)}",
            words.flops(trial.flops),
            words.loss(trial.loss),
            ", ".join(words.loss(loss) for _, loss in trial.annealed),
            trial.reason,
        ]
        for trial in material.trials
    ]
    unstarted = len(material.state.pool) - len(material.trials)
    heads = ["trial", "params", "state", "tokens", "FLOPs", "loss", "annealed", "why"]
    if not any(trial.annealed for trial in material.trials):
        rows = [[*row[:6], row[7]] for row in rows]
        heads.remove("annealed")
    return section(
        "Trials",
        table(heads, rows, numbers=(1, *range(3, len(heads) - 1)), classes="trials"),
        element("p", f"{words.several(unstarted, 'candidate')} never started.", class_="soft")
        if unstarted
        else "",
        id="trials",
    )


def story(material: Material) -> Markup:
    timeline = material.timeline
    head = (
        f"{words.several(timeline.sessions, 'session')}, {words.duration(timeline.clock_s)} in "
        f"all; {words.several(timeline.recoveries, 'recovery', 'recoveries')} from a checkpoint; "
        f"policy {material.policy}."
    )
    entries: list[Content] = []
    for moment in timeline.moments:
        title = joined([element("time", words.moment(moment.time)), moment.title])
        if not moment.details:
            entries.append(title)
        elif len(moment.details) < _FOLD_FROM:
            entries.append(joined([title, items(moment.details)]))
        else:
            entries.append(folded(title, items(moment.details)))
    return section(
        "Decisions and events", element("p", head), items(entries, classes="story"), id="story"
    )


def reproduction(material: Material) -> Markup:
    facts: list[list[Content]] = [[name, value] for name, value in material.facts]
    commands = element("pre", "\n".join(material.commands)) if material.commands else Markup("")
    return section(
        "How to reproduce it",
        commands,
        table(["where it ran", ""], facts) if facts else "",
        folded("the spec as it ran", element("pre", material.spec_text)),
        id="reproduce",
    )


def closing(material: Material) -> Markup:
    return element(
        "footer",
        "Written by Frontrunner from the sweep's journal. Loss is validation cross-entropy in "
        "nats per token. The figures of the laws stand in law.json beside this page.",
    )
