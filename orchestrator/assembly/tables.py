"""A table of curves or of finished runs, as evidence for a law. Reads one file, touches nothing
else.

A table without a curve_id column holds finished runs: each row is a run of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.assembly.finished import finished_in, phases_in
from orchestrator.assembly.refusal import Refused
from orchestrator.recorded import RecordedError, read_recorded
from orchestrator.report.conclusions import Conclusions, Question

if TYPE_CHECKING:
    from orchestrator.report.evidence import Evidence


def conclude_table(path: str, question: Question) -> Conclusions:
    """The laws of a CSV table of curves (`curve_id, params, tokens, flops, loss`), where a
    finished run is a curve of one point. Raises Refused for a table that cannot be read or has
    no sizes."""
    from orchestrator.report.concluding import conclude

    return conclude(evidence_in_table(path, question.burn_in), question)


def evidence_in_table(path: str, burn_in: float) -> Evidence:
    """The curves of a table as evidence. Raises Refused as `conclude_table` does."""
    from orchestrator.report.evidence import evidence_from_curves
    from orchestrator.values import Curve, Point

    try:
        finished = finished_in(path)
        curves = read_recorded(path) if finished is None else finished
        phases = phases_in(path)
    except RecordedError as error:
        raise Refused(str(error)) from None
    if len(phases) > 1:
        raise Refused(
            f"{path} holds points of the phases {', '.join(map(repr, phases))}, and a law is of"
            " one: annealing lowers a loss by what depends on size; keep the rows of one phase"
        )
    rows: dict[str, tuple[int, Curve, tuple[tuple[str, bool | int | float | str], ...]]] = {}
    for name, recorded in curves.items():
        if recorded.params is None:
            raise Refused(
                f"{path} has no params column: a law of size needs the size of each curve; add"
                " params to every row"
            )
        points = zip(recorded.tokens, recorded.flops, recorded.loss, strict=True)
        curve = Curve.of(Point(tokens=int(t), flops=float(f), loss=float(v)) for t, f, v in points)
        rows[name] = (recorded.params, curve, recorded.settings)
    if not np.isfinite([curve.last_loss for _, curve, _ in rows.values()]).all():
        raise Refused(f"{path}: a curve ends in a loss that is not finite; leave it out")
    evidence = evidence_from_curves(rows, burn_in=burn_in)
    return replace(evidence, phases=phases) if phases == ("stable",) else evidence


def question_about(forms: Sequence[str], *, burn_in: float, draws: int, level: float) -> Question:
    """The question to put to a table: about named forms and laws in one line. Raises Refused for
    a form that does not exist, or that asks for what tables have not."""
    from orchestrator.laws.stated import form_stated

    names = tuple(dict.fromkeys(name.strip() for name in forms if name.strip()))
    try:
        for name in names:
            form_stated(name)
    except ValueError as error:
        raise Refused(f"--form: {error}") from None
    if not names:
        raise Refused("--form names no law form; write --form chinchilla")
    return Question(forms=names, burn_in=burn_in, draws=draws, level=level)
