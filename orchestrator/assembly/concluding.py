"""After a session, or any time: fit the laws that the spec names and write them down.

Writes law.json, report.html, report.md and the plane's picture into the sweep's folder, each in
one step. Reads the journal without a lock, so a report can be written while the sweep runs.
"""

from __future__ import annotations

import json
import math
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.assembly.caps import uses
from orchestrator.assembly.folders import SweepFolder
from orchestrator.assembly.parts import in_words
from orchestrator.assembly.reading import Sweep
from orchestrator.assembly.recommending import Recommendation, recommendation
from orchestrator.assembly.stoprules import two_widths, unheard
from orchestrator.report.conclusions import Bounded, Conclusions, Question
from orchestrator.spec import SweepSpec

if TYPE_CHECKING:
    from orchestrator.report.material import Material
    from orchestrator.sinks.mlflow import MlflowSink


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A report on disk, and what it says; `recommended`, the candidate that a sweep of that aim
    names, in a sentence; `widths`, why the policy's own half-widths are not the answer's."""

    conclusions: Conclusions
    report: Path
    law: Path
    summary: Path
    plane: Path
    journal: Path
    recommended: Recommendation | None = None
    widths: str | None = None

    def publish(self, window: MlflowSink) -> None:
        """Hand the law and the files to MLflow's record of the sweep."""
        window.publish(
            law=figures_of(self.conclusions),
            artifacts=(self.report, self.law, self.summary, self.plane, self.journal),
            answer=" ".join([*self._first, self.conclusions.sentence]),
        )

    @property
    def _first(self) -> list[str]:
        """What a sweep that was to recommend says before its law."""
        return [] if self.recommended is None else [f"{self.recommended.what}."]


def question_of(spec: SweepSpec) -> Question:
    """What the spec wants to know."""
    target = spec.target
    return Question(
        forms=spec.law.forms,
        burn_in=spec.law.burn_in,
        draws=spec.law.bootstrap,
        level=spec.law.level,
        seed=spec.seed,
        aim=spec.aim,
        target=(target.params, target.tokens) if target is not None else None,
        deployment_flops=spec.deployment_flops,
    )


def conclude_sweep(sweep: Sweep, question: Question | None = None) -> Conclusions:
    """The laws and the answers that the sweep's real points give, to its own question or to
    another. Those forms answer together that chose the runs, and no others."""
    from orchestrator.assembly.averaged import averaged_of
    from orchestrator.report.concluding import conclude
    from orchestrator.report.evidence import evidence_of

    own = question_of(sweep.spec)
    question = own if question is None else question
    evidence = evidence_of(sweep.state, burn_in=question.burn_in)
    together = None
    if (question.forms, question.level) == (own.forms, own.level):
        together = averaged_of(sweep.spec, sweep.state, evidence)
    return conclude(evidence, question, together)


def write_report(sweep: Sweep, conclusions: Conclusions) -> Written:
    """The page, the Markdown, the picture and law.json. Raises OSError where the disk does not
    allow it; what was written before stays whole."""
    from orchestrator.report.markdown import markdown
    from orchestrator.report.page import page, plane_png

    folder = sweep.folder
    recommended = recommendation(sweep.spec, sweep.state)
    material = _material(sweep, conclusions, recommended)
    law = {"sweep": sweep.spec.name, "written_s": material.written_s, **conclusions.to_json()}
    law |= {} if recommended is None else {"recommendation": recommended.said}
    folder.write(folder.law, json.dumps(law, indent=1, allow_nan=False) + "\n")
    folder.write(folder.plane, plane_png(material))
    folder.write(folder.summary, markdown(material, picture="plots/loss-compute.png"))
    folder.write(folder.report, page(material))
    return Written(
        conclusions=conclusions,
        report=folder.report,
        law=folder.law,
        summary=folder.summary,
        plane=folder.plane,
        journal=folder.journal,
        recommended=recommended,
        widths=two_widths(sweep.spec, conclusions),
    )


def figures_of(conclusions: Conclusions) -> dict[str, float]:
    """The law that is quoted as single figures: parameters and the target's loss, with bounds."""
    figures: dict[str, float] = {}

    def put(name: str, bounded: Bounded) -> None:
        for suffix, value in (("", bounded.value), ("_low", bounded.low), ("_high", bounded.high)):
            if value is not None and math.isfinite(value):
                figures[name + suffix] = value

    headline, target = conclusions.headline, conclusions.target
    if headline is not None:
        for name, _, bounded in headline.parameters:
            put(name, bounded)
        if headline.held_out is not None:
            figures["held_out_error"] = headline.held_out.error
    if target is not None:
        put("target_loss", target.loss)
        figures["target_flops"] = target.flops
    return figures


def _material(
    sweep: Sweep, conclusions: Conclusions, recommended: Recommendation | None
) -> Material:
    from orchestrator.report.material import gathered

    return gathered(
        sweep.state,
        sweep.story(),
        conclusions,
        policy=in_words(sweep.spec),
        spec_text=_readable(sweep),
        written_s=time.time(),
        facts=_facts(sweep),
        notes=(
            *(() if recommended is None else (f"Why it is recommended: {recommended.why}.",)),
            *sweep.pool.notes,
            *_notes(sweep),
        ),
        recommended="" if recommended is None else f"{recommended.what}.",
        ending=_ending(sweep, conclusions),
        commands=_commands(sweep.folder),
    )


def _readable(sweep: Sweep) -> str:
    return json.dumps(json.loads(sweep.opened.spec), indent=2)


def _facts(sweep: Sweep) -> tuple[tuple[str, str], ...]:
    environment = sweep.state.environment
    facts = environment.facts if environment is not None else ()
    slots = str(environment.slots) if environment is not None else "none yet"
    recorded = sweep.spec.recorded
    curves = (("recorded curves, SHA-256", recorded.sha256 or "not known"),) if recorded else ()
    return (
        ("backend", f"{sweep.spec.resources.backend}, {slots} slots"),
        *facts,
        *curves,
        ("spec, SHA-256", sweep.opened.digest),
        ("seed", str(sweep.spec.seed)),
        ("journal", f"{sweep.records} records"),
    )


def _ending(sweep: Sweep, conclusions: Conclusions) -> str:
    """What is used of hours and money, why the sweep ended, why what may end one earlier did not,
    and why its widths are not the answer's; in sentences."""
    state = sweep.state
    caps = [used for used in uses(sweep.spec, state) if used.unit != "FLOPs"]
    said = [f"{used.amount:.3g} of {used.budget:g} {used.unit} are used" for used in caps]
    if state.closed is not None:
        said.append(f"the sweep ended: {state.closed}")
    doubts = (unheard(sweep.spec, state), two_widths(sweep.spec, conclusions))
    said += [why for why in doubts if why is not None]
    return " ".join(f"{each[0].upper()}{each[1:]}." for each in said)


def _notes(sweep: Sweep) -> tuple[str, ...]:
    if sweep.spec.recorded is None:
        return ()
    return (
        "Replayed from recorded curves: nothing was trained. Their phases are not known, so every "
        "point counts as one of a constant rate; where all curves decay on one horizon, points "
        "before the end are no shorter runs.",
    )


def _commands(folder: SweepFolder) -> tuple[str, ...]:
    path = shlex.quote(str(folder.path))
    name = shlex.quote(folder.name)
    return (
        f"frontrunner report {name}     # write this page again, in the folder that holds sweeps/",
        f"frontrunner fit {name} --json  # the laws alone",
        f"# journal, law.json and checkpoints: {path}",
    )
