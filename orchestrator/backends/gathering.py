"""Segments that were started as one stack, kept until all of them are here. Touches nothing."""

from __future__ import annotations

from orchestrator.events import Started


class Gathering:
    """A backend is handed one segment at a time; those of a stack begin together."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, int], Started] = {}

    def add(self, segment: Started) -> tuple[Started, ...]:
        """The segments to begin now, in their stack's order: none while others are missing."""
        if segment.stack is None:
            return (segment,)
        self._waiting[segment.trial, segment.attempt] = segment
        if any(key not in self._waiting for key in segment.stack):
            return ()
        return tuple(self._waiting.pop(key) for key in segment.stack)
