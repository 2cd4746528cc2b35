"""The report as one HTML page: no script, nothing fetched, everything escaped, light and
printable.

Touches nothing but its own style sheet. The answer comes first, then the picture, then what to
doubt; the evidence and the way to reproduce it stand at the end.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from orchestrator.report import figures, happenings, sections, style, words
from orchestrator.report.html import Markup, element, joined, section
from orchestrator.report.material import Material

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
"""Content security policy: the page may style itself and do nothing else."""


def page(material: Material) -> str:
    """The whole page as text."""
    head = element(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="referrer" content="no-referrer">'),
        element("title", f"{material.name}: scaling law report"),
        element("style", Markup(_css())),
    )
    parts = [
        sections.opening(material),
        _plane(material),
        sections.doubts(material),
        sections.aims(material),
        sections.planning(material),
        sections.laws(material),
        _residuals(material),
        happenings.spent(material),
        happenings.trials(material),
        _occupation(material),
        happenings.story(material),
        happenings.reproduction(material),
        happenings.closing(material),
    ]
    body = element("body", joined(parts))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def plane_png(material: Material) -> bytes:
    """The loss-compute plane for a slide, 2,000 by 1,200 pixels."""
    with style.house_style("slide"):
        title = f"{material.name}: loss against compute"
        return style.png(material.plane(title=title).figure())


@cache
def _css() -> str:
    return resources.files("orchestrator.report").joinpath("page.css").read_text(encoding="utf-8")


def _plane(material: Material) -> Markup:
    if not any(len(trial.curve) for trial in material.trials):
        return Markup("")
    plane = material.plane()
    with style.house_style("plane"):
        label = f"Loss against compute for {len(material.trials)} trials. " + (
            material.conclusions.sentence
        )
        drawing = style.svg(plane.figure(), label=label, hints=plane.hints())
    caption = (
        "Every trial's validation loss against its training compute, coloured by size; a cross is "
        "where it was stopped, a dot where it was kept. Circles are the frontier: runs that no "
        "cheaper run beats. The law is drawn no further than ten times the largest run; its band "
        f"is a {words.share(material.conclusions.question.level)} interval from a bootstrap over "
        "trials and does not cover the choice of the form. Compute counts every matrix product "
        "and attention of training; embedding look-ups are free."
    )
    return element("figure", Markup(drawing), element("figcaption", caption))


def _residuals(material: Material) -> Markup:
    result = next((r for r in material.conclusions.laws if r.residuals is not None), None)
    if result is None:
        return Markup("")
    with style.house_style("residuals"):
        figure = figures.residuals(result)
        if figure is None:
            return Markup("")
        drawing = style.svg(figure, label=f"Residuals of {result.key} against compute")
    caption = (
        f"What {result.key} leaves over: loss seen above the law, in percent, for every point of "
        "the fit, coloured as above. A slope or a bend here is a law of the wrong shape."
    )
    return element("figure", Markup(drawing), element("figcaption", caption))


def _occupation(material: Material) -> Markup:
    params = {candidate.id: candidate.params for candidate in material.state.pool.candidates}
    with style.house_style("occupation"):
        figure = figures.occupation(material.timeline, params)
        if figure is None:
            return Markup("")
        drawing = style.svg(figure, label="Which trial trained in which slot, over time")
    caption = (
        "Who trained when: a bar is one attempt in one slot, coloured by size; in a gap "
        "nothing was to be trained there, or the sweep lay idle between sessions."
    )
    return section(
        "When it ran",
        element("figure", Markup(drawing), element("figcaption", caption)),
        id="time",
    )
