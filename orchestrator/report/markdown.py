"""The report in Markdown, to be pasted where pages cannot go. Touches nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.report import words
from orchestrator.report.answers import interval
from orchestrator.report.material import Material

_SPECIAL = "\\`*_{}[]<>#|~"


def markdown(material: Material, *, picture: str) -> str:
    """The answer, the picture, the laws, what was spent, and the trials."""
    conclusions = material.conclusions
    level = conclusions.question.level
    parts = [
        f"# {_text(material.name)}: scaling law report",
        *([_text(material.recommended)] if material.recommended else []),
        _text(conclusions.sentence),
        f"![loss against compute]({picture})",
        f"Spent {words.flops(material.spending.spent)} FLOPs, "
        f"{words.share(material.spending.share)} of the "
        f"{words.flops(material.spending.exhaustive)} "
        f"that all {len(material.state.pool)} candidates to their end would cost. "
        f"Policy: {_text(material.policy)}.",
        *([_text(material.ending)] if material.ending else []),
    ]
    # Both aims may ask the same; the recommendation then only adds settings.
    answers = {
        answer.what: answer
        for answer in (conclusions.target, conclusions.recommended)
        if answer is not None
    }
    if answers:
        rows = [
            [
                answer.what,
                words.flops(answer.flops),
                words.amount(answer.params.value) if answer.params else "not known",
                words.amount(answer.tokens.value) if answer.tokens else "not known",
                interval(answer.loss, level),
                answer.by,
            ]
            for answer in answers.values()
        ]
        parts.append(_table(["question", "FLOPs", "parameters", "tokens", "loss", "by"], rows))
    for result in conclusions.laws:
        parts.append(f"## {_text(result.key)}\n\n`L = {result.expression}`")
        if result.why_not is not None:
            parts.append(f"No law: {_text(result.why_not)}.")
            continue
        rows = [
            [
                name,
                words.figure(bounded.value),
                "none"
                if bounded.low is None or bounded.high is None
                else f"{words.figure(bounded.low)} to {words.figure(bounded.high)}",
            ]
            for name, _, bounded in result.parameters
        ]
        parts.append(_table(["parameter", "value", f"{words.share(level)} interval"], rows))
        parts.append(f"Rests on {_text(result.basis)}; phases: {', '.join(result.phases)}.")
        parts += [f"- {_text(doubt)}" for doubt in result.doubts]
    rows = [
        [
            trial.id,
            words.amount(trial.params),
            trial.status,
            words.amount(trial.tokens),
            words.loss(trial.loss),
            trial.reason,
        ]
        for trial in material.trials
    ]
    parts.append("## Trials")
    parts.append(_table(["trial", "params", "state", "tokens", "loss", "why"], rows))
    return "\n\n".join(parts) + "\n"


def _text(text: str) -> str:
    """The text as text: whatever Markdown or HTML would act on is escaped."""
    return "".join(f"\\{c}" if c in _SPECIAL else c for c in words.plain(text))


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(c if c == "---" else _text(c) for c in row) + " |" for row in lines
    )
