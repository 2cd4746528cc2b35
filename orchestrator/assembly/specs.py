"""A sweep's spec with its overrides: read from a file and expanded, or taken up from a journal.

Reads one file at most; touches nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from orchestrator.assembly.reading import Sweep, moved_to
from orchestrator.assembly.refusal import Refused
from orchestrator.pool import Pool, load_sweep
from orchestrator.spec import (
    CHANGEABLE,
    SweepSpec,
    canonical_json,
    frozen_differences,
    load_spec_document,
)
from trainers.documents import Document, SpecError, validate


def read_spec(path: str, overrides: Sequence[str]) -> tuple[SweepSpec, Pool]:
    """The spec and its pool. Raises SpecError with the place of every problem, Refused for an
    override that is none."""
    _check_shape(overrides)
    spec, pool = load_sweep(path, overrides)
    found = _no_laws(spec)
    if found:
        document = load_spec_document(path, overrides)
        raise SpecError(
            document.problem(_of_form(document, place), message) for place, message in found
        )
    return spec, pool


@contextmanager
def located(path: str, overrides: Sequence[str]) -> Generator[None]:
    """Where one trial takes more than any node of the cluster has, say so at the place of the spec
    that says how much. Raises SpecError."""
    from orchestrator.backends.base import TooLargeError

    try:
        yield
    except TooLargeError as error:
        document = load_spec_document(path, overrides)
        raise SpecError([document.problem(error.key.split("."), str(error))]) from error


def changed(sweep: Sweep, overrides: Sequence[str]) -> SweepSpec:
    """The spec under which a sweep goes on: that of its last session, where its folder lies now,
    with `overrides` of what may change.

    Raises Refused for an override of anything else, SpecError for a value that cannot be.
    """
    spec = moved_to(sweep)
    if not overrides:
        return spec
    _check_shape(overrides)
    document = Document(name=spec.name, data=json.loads(canonical_json(spec)), spots={})
    new = validate(document.with_overrides(overrides), SweepSpec)
    frozen = frozen_differences(spec, new)
    if frozen:
        keys = ", ".join(key for key, _, _ in frozen)
        raise Refused(
            f"{keys} is settled for the sweep {spec.name}; a resume may change "
            f"{', '.join(key for key in CHANGEABLE if key != 'storage')}. Nothing was started."
        )
    if new.storage != spec.storage:
        raise Refused(
            f"storage says where {spec.name} lies: move {sweep.folder.path}, and resume it by the "
            "path of its folder. Nothing was started."
        )
    recorded = new.recorded
    if recorded is None:
        return new
    curves = str(Path(recorded.curves).expanduser().resolve())
    return new.model_copy(update={"recorded": recorded.model_copy(update={"curves": curves})})


def _no_laws(spec: SweepSpec) -> list[tuple[int, str]]:
    """The places of laws in one line that are none, and why, before anything is spent."""
    from orchestrator.laws.stated import form_stated, is_line

    found: list[tuple[int, str]] = []
    for place, text in enumerate(spec.law.forms):
        if not is_line(text):
            continue
        try:
            form_stated(text)
        except ValueError as error:
            found.append((place, f"{error}{_fitted_names(text)}"))
    return found


def _fitted_names(text: str) -> str:
    """Which names of a law are read as fitted: a misspelt input is one of them."""
    from orchestrator.laws.forms.line import law_of

    try:
        names = [parameter.name for parameter in law_of(text).parameters]
    except ValueError:
        return ""
    return f" (here {', '.join(names)} are read as parameters to fit)"


def _of_form(document: Document, place: int) -> tuple[str | int, ...]:
    """Where a form stands: in the list, or alone."""
    law = cast("Mapping[str, object]", document.data["law"])
    return ("law", "forms") if isinstance(law["forms"], str) else ("law", "forms", place)


def _check_shape(overrides: Sequence[str]) -> None:
    for override in overrides:
        if "=" not in override:
            raise Refused(
                f"{override!r} is no override; write a.b=value, such as budget.flops=1e15 "
                "(one sweep at a time). Nothing was started."
            )
