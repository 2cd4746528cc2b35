"""A sweep file, read with its overrides and expanded. Reads one file; touches nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.assembly.refusal import Refused
from orchestrator.pool import Pool, load_sweep
from orchestrator.spec import SweepSpec


def read_spec(path: str, overrides: Sequence[str]) -> tuple[SweepSpec, Pool]:
    """The spec and its pool. Raises SpecError with the place of every problem, Refused for an
    override that is none."""
    for override in overrides:
        if "=" not in override:
            raise Refused(
                f"{override!r} is no override; write a.b=value, such as budget.flops=1e15 "
                "(one sweep file at a time). Nothing was started."
            )
    return load_sweep(path, overrides)
