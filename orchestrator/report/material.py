"""All that a report is made of, gathered once, so that page, Markdown and pictures agree.

Touches nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.events import Record
from orchestrator.report.conclusions import Conclusions, LawResult, Line
from orchestrator.report.plane import LawLine, Plane
from orchestrator.report.shown import ShownTrial, shown_trials
from orchestrator.report.spending import Spending, spending_of
from orchestrator.report.timeline import Timeline, timeline_of
from orchestrator.report.words import share
from orchestrator.state import SweepState


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """`facts` are (name, value) pairs: versions, device, digests. `notes` are what a reader must
    know of this sweep beforehand. `recommended` is the candidate that a sweep of that aim names,
    in a sentence. `ending` says why it ended, and what did not end it, in sentences. `commands`
    write this report, or the sweep, again."""

    state: SweepState
    timeline: Timeline
    trials: tuple[ShownTrial, ...]
    spending: Spending
    conclusions: Conclusions
    policy: str
    spec_text: str
    written_s: float
    facts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    recommended: str = ""
    ending: str = ""
    commands: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.state.terms.name

    @property
    def standing(self) -> str:
        """How the sweep stands, in a few words."""
        state = self.state
        if state.closed is not None:
            return "done"
        if state.stop_asked is not None:
            return "paused"
        return "under way" if state.session else "not started"

    def plane(self, *, title: str = "") -> Plane:
        return Plane(
            trials=self.trials,
            frontier=self.conclusions.frontier,
            laws=[
                _line(result, result.line, self.conclusions)
                for result in drawn(self.conclusions)
                if result.line is not None
            ],
            interval=_interval(self.conclusions),
            title=title,
        )


def gathered(
    state: SweepState,
    records: Iterable[Record],
    conclusions: Conclusions,
    *,
    policy: str,
    spec_text: str,
    written_s: float,
    facts: tuple[tuple[str, str], ...] = (),
    notes: tuple[str, ...] = (),
    recommended: str = "",
    ending: str = "",
    commands: tuple[str, ...] = (),
) -> Material:
    """The material of a report on `state`, which the records led to."""
    return Material(
        state=state,
        timeline=timeline_of(records),
        trials=shown_trials(state),
        spending=spending_of(state),
        conclusions=conclusions,
        policy=policy,
        spec_text=spec_text,
        written_s=written_s,
        facts=facts,
        notes=notes,
        recommended=recommended,
        ending=ending,
        commands=commands,
    )


def drawn(conclusions: Conclusions) -> list[LawResult]:
    """The laws that the plane shows: the headline, and at most one more that the rows fix."""
    found = [
        result
        for result in conclusions.laws
        if result.line is not None and (result is conclusions.headline or not result.doubtful)
    ]
    found.sort(key=lambda result: result is not conclusions.headline)
    return found[:2]


def _interval(conclusions: Conclusions) -> str:
    """What the bands of the plane are."""
    level = f"{share(conclusions.question.level)} interval"
    alike = all(result.gain is None for result in drawn(conclusions))
    return f"{level}, bootstrap over trials" if alike else level


def _line(result: LawResult, line: Line, conclusions: Conclusions) -> LawLine:
    kind = "annealed" if "annealed" in result.phases else "constant-rate"
    along = "at the best size" if line.params is not None else "along the frontier"
    return LawLine(
        name=f"{result.form.replace('_', ' ')}, {along} ({kind} loss)",
        flops=line.flops,
        loss=line.loss,
        low=line.low,
        high=line.high,
        seen=conclusions.largest_flops,
    )
