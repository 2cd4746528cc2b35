"""A table of curves or of finished runs, as evidence for a law. Reads one file, touches nothing
else.

A table without a curve_id column holds finished runs: each row is a run of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from orchestrator.assembly.finished import finished_in, phases_in, starts_in
from orchestrator.assembly.refusal import Refused
from orchestrator.recorded import RecordedCurve, RecordedError, read_recorded
from orchestrator.report.conclusions import Conclusions, Question

if TYPE_CHECKING:
    from orchestrator.report.evidence import Evidence
    from orchestrator.values import Curve

Settings: TypeAlias = tuple[tuple[str, bool | int | float | str], ...]
PHASES = ("warmup", "stable", "decay", "annealed")
"""Words of a table's phase column where it has several."""


def conclude_table(path: str, question: Question) -> Conclusions:
    """The laws of a CSV table of curves (`curve_id, params, tokens, flops, loss`), where a
    finished run is a curve of one point. Raises Refused for a table that cannot be read or has
    no sizes."""
    from orchestrator.report.concluding import conclude

    return conclude(evidence_in_table(path, question.burn_in), question)


def evidence_in_table(path: str, burn_in: float) -> Evidence:
    """The curves of a table as evidence. A phase column may say which points are stable and which
    are annealed ends of the same curve_id. Raises Refused as `conclude_table` does."""
    try:
        finished = finished_in(path)
        phases = phases_in(path)
        if len(phases) > 1:
            return _of_phases(path, phases, finished is None, burn_in)
        return _of_one_phase(read_recorded(path) if finished is None else finished, path, burn_in)
    except RecordedError as error:
        raise Refused(str(error)) from None


def _of_one_phase(curves: Mapping[str, RecordedCurve], path: str, burn_in: float) -> Evidence:
    from orchestrator.report.evidence import evidence_from_curves

    rows = {name: _read(path, curve) for name, curve in curves.items()}
    evidence = evidence_from_curves(rows, burn_in=burn_in)
    phases = tuple(phases_in(path))
    known = phases in (("stable",), ("annealed",))
    return replace(evidence, phases=phases) if known else evidence


def _of_phases(path: str, phases: Mapping[str, int], curves: bool, burn_in: float) -> Evidence:
    """Stable points, and annealed ends beside the curves that they branched off; warm-up and
    decays enter no law."""
    from orchestrator.report.evidence import Branch, evidence_from_curves

    strange = [phase for phase in phases if phase not in PHASES]
    if strange or "stable" not in phases or not curves:
        wrong = "no row is stable"
        if strange:
            line = phases[strange[0]]
            wrong = f"{strange[0]!r} of line {line} is none of {', '.join(PHASES)}"
        elif not curves:
            wrong = "without a curve_id no annealed row says which curve it branched off"
        raise Refused(
            f"{path} holds points of the phases {', '.join(map(repr, phases))}: {wrong}. Annealed"
            " ends go beside stable points under the curve_id of their trunk; else keep the rows"
            " of one phase"
        )
    stable = read_recorded(path, phase="stable")
    starts = starts_in(path)
    # By curve_id: the path-safe names of the annealed rows alone may be those of other trunks.
    trunks = {curve.curve_id: name for name, curve in stable.items()}
    branches: dict[str, tuple[Branch, ...]] = {}
    alone: list[str] = []
    for curve in read_recorded(path, phase="annealed").values():
        name = trunks.get(curve.curve_id)
        if name is None:
            alone.append(f"{curve.curve_id} (annealed, without a trunk)")
            continue
        if curve.params != stable[name].params:
            raise Refused(
                f"{path}: curve {curve.curve_id!r} has {stable[name].params} params on its stable"
                f" rows and {curve.params} on its annealed ones; one is wrong"
            )
        branches[name] = tuple(
            Branch(
                tokens=int(tokens),
                flops=float(flops),
                loss=float(loss),
                trunk_loss=None,
                start=starts.get((curve.curve_id, int(tokens))),
            )
            for tokens, flops, loss in zip(curve.tokens, curve.flops, curve.loss, strict=True)
        )
    rows = {name: _read(path, curve) for name, curve in stable.items()}
    evidence = evidence_from_curves(rows, burn_in=burn_in)
    trials = tuple(replace(t, annealed=branches.get(t.id, ())) for t in evidence.trials)
    return replace(evidence, trials=trials, phases=("stable",), left_out=tuple(alone))


def _read(path: str, recorded: RecordedCurve) -> tuple[int, Curve, Settings]:
    """A curve of the table: its size, its points, its settings."""
    from orchestrator.values import Curve, Point

    if recorded.params is None:
        raise Refused(
            f"{path} has no params column: a law of size needs the size of each curve; add"
            " params to every row"
        )
    points = zip(recorded.tokens, recorded.flops, recorded.loss, strict=True)
    curve = Curve.of(Point(tokens=int(t), flops=float(f), loss=float(v)) for t, f, v in points)
    if not np.isfinite(curve.last_loss):
        raise Refused(f"{path}: a curve ends in a loss that is not finite; leave it out")
    told = tuple(pair for pair in recorded.settings if pair[0] not in ("phase", "decay_start"))
    return recorded.params, curve, told


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
