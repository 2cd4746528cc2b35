"""Collects what is wrong with a spec beyond its shape, and tells each problem at its place.

Holds the document that the spec was read from, or none where it came from a journal: then problems
carry their dotted key alone. Touches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from orchestrator.spec import SweepSpec
from trainers.documents import Document, KeyPath, Problem, SpecError

MANY = 20


class Places:
    """The problems found so far, one for each place."""

    def __init__(self, spec: SweepSpec, document: Document | None) -> None:
        self._document = document
        self._zip_is_list = _zip_is_list(document)
        self._sources = dict(_sources(spec))
        self._found: dict[KeyPath, Problem] = {}

    @property
    def many(self) -> bool:
        """Whether enough was found that looking further would only tire the reader."""
        return len(self._found) >= MANY

    def source(self, key: str) -> KeyPath | None:
        """Where in the spec a varied key gets its values; None for a key that does not vary."""
        source = self._sources.get(key)
        if source is not None and source[1] == "zip" and not self._zip_is_list:
            return (*source[:2], *source[3:])
        return source

    def add(self, path: KeyPath, message: str, *, at_key: bool = False) -> None:
        """Note a problem, unless one is known at this place."""
        if path in self._found:
            return
        if self._document is None:
            key = ".".join(map(str, path))
            self._found[path] = Problem(place="", key=key, message=message)
        else:
            self._found[path] = self._document.problem(path, message, at_key=at_key)

    def raise_found(self) -> None:
        """Raise SpecError with all that was found, if anything was."""
        if self._found:
            raise SpecError(self._found.values())


def _zip_is_list(document: Document | None) -> bool:
    """Whether `zip` is written as a list of blocks; one block alone may stand without."""
    space = document.data.get("space") if document is not None else None
    if not isinstance(space, Mapping):
        return True
    return isinstance(cast("Mapping[str, object]", space).get("zip"), list)


def _sources(spec: SweepSpec) -> list[tuple[str, KeyPath]]:
    if spec.space is None:
        return []
    zipped: list[tuple[str, KeyPath]] = [
        (key, ("space", "zip", number, key))
        for number, block in enumerate(spec.space.zip)
        for key in block
    ]
    return [*zipped, *((key, ("space", key)) for key in spec.space.axes)]
