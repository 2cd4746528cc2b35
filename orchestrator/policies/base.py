"""What a policy is: a pure function from the state of a sweep to decisions.

Touches nothing. `decide` is called at the start, when a segment ends, when a trial fails or
diverges and when a slot is free; on every point only where `watches_points` says so. It is called
again until it returns nothing, so it must not repeat what the state already holds.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from orchestrator.state import SweepState
from orchestrator.values import NO_MORE, Decision


class Policy(Protocol):
    """Chooses. Keeps nothing between calls: the same state gives the same decisions."""

    @property
    def name(self) -> str: ...

    @property
    def watches_points(self) -> bool: ...

    def decide(self, state: SweepState) -> list[Decision]:
        """What to do now; an empty list when there is nothing to add."""
        ...


def ended(state: SweepState) -> str | None:
    """Why nothing more is bought, as the stops that said so have it; None where none did."""
    return next(
        (
            trial.stop_reason
            for trial in state.trials.values()
            if trial.stop_reason is not None and trial.stop_reason.startswith(NO_MORE)
        ),
        None,
    )


def randomness(state: SweepState) -> np.random.Generator:
    """The generator of this decision: from the spec's seed and the decisions so far."""
    return np.random.default_rng((state.terms.seed, state.decided))
