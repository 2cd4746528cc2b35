"""A sweep as its journal tells it, read without a lock: for status, report and fit.

Reads the sweep's folder; writes nothing, starts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from orchestrator.assembly.folders import SweepFolder, folder_of
from orchestrator.assembly.parts import initial_state, terms_of
from orchestrator.assembly.refusal import Refused
from orchestrator.events import Opened, Record
from orchestrator.journal import holder, read_records
from orchestrator.pool import Pool, build_pool
from orchestrator.spec import SweepSpec, spec_from_json
from orchestrator.state import SweepState, apply


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep on disk. `spec` is that of its latest session, `first` that of its first; `records`
    counts the journal's; times are UNIX seconds."""

    folder: SweepFolder
    spec: SweepSpec
    first: SweepSpec
    pool: Pool
    state: SweepState
    opened: Opened
    records: int
    begun_s: float
    last_s: float

    @property
    def held_by(self) -> str | None:
        """Who drives it now; None when nobody does."""
        return holder(self.folder.journal)

    def story(self) -> Iterator[Record]:
        """All records, read again from the disk."""
        return read_records(self.folder.journal)


def read_sweep(folder: SweepFolder) -> Sweep:
    """Fold the journal of `folder`. Raises Refused where it says nothing yet, JournalError where
    it is damaged, RecordedError or SpecError where its pool cannot be built any more."""
    records = read_records(folder.journal)
    head = next(records, None)
    if head is None or not isinstance(head.event, Opened):
        raise Refused(
            f"{folder.journal} does not begin with an opened sweep: it was never started, or is "
            "another file"
        )
    first = spec_from_json(head.event.spec)
    pool = build_pool(_latest(folder, first) if first.recorded else first)
    state = apply(initial_state(first, pool), head.event)
    opened, last, count = head.event, head.time, 1
    for record in records:
        if isinstance(record.event, Opened):
            opened = record.event
            state = under(spec_from_json(opened.spec), state)
        state = apply(state, record.event)
        last, count = record.time, count + 1
    spec = spec_from_json(opened.spec)
    return Sweep(
        folder=folder,
        spec=spec,
        first=first,
        pool=pool,
        state=state,
        opened=opened,
        records=count,
        begun_s=head.time,
        last_s=last,
    )


def under(spec: SweepSpec, state: SweepState) -> SweepState:
    """The state from here on under the terms of a later session's spec."""
    return replace(state, terms=terms_of(spec, state.pool))


def _latest(folder: SweepFolder, first: SweepSpec) -> SweepSpec:
    """The spec of the last session: recorded curves may have moved since the first."""
    spec = first
    for record in read_records(folder.journal):
        if isinstance(record.event, Opened):
            spec = spec_from_json(record.event.spec)
    return spec


def moved_to(sweep: Sweep) -> SweepSpec:
    """The sweep's spec with storage and name as its folder has them now: folders get moved."""
    path = sweep.folder.path
    if folder_of(sweep.spec).path == path:
        return sweep.spec
    if path.name != sweep.spec.name:
        raise Refused(
            f"{path} holds the sweep {sweep.spec.name!r}: name the folder {sweep.spec.name} again"
        )
    return sweep.spec.model_copy(update={"storage": str(path.parent)})
