"""The block of a sweep file that says where trials run, and on how much of what.

A frozen pydantic model; touches nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from orchestrator.blocks import Above0, Block, Positive
from trainers.findings import FieldError
from trainers.quantity import Number, parse_count

MOST_IN_A_STACK = 64


def _stacked(value: object) -> int | str:
    """A number of trials, or `auto`."""
    if value == "auto":
        return "auto"
    try:
        count = parse_count(value)
    except ValueError:
        raise ValueError(f"{value!r} is neither auto nor a number of trials such as 4") from None
    if not 1 <= count <= MOST_IN_A_STACK:
        raise ValueError(f"{count} is out of range; auto, or 1 to {MOST_IN_A_STACK} trials")
    return count


class Resources(Block):
    """Where trials run: as many workers as fit, and GPUs decided at launch, unless stated.

    A fraction of a GPU packs several trials on one, and on several GPUs a process on each
    takes its share of every batch; `processes_per_trial` asks for that on CPUs. Up to `lockstep`
    trials of one shape, at the same tokens, train as one stacked model in a slot; `auto` stacks
    as many as pay (`stacking`).
    """

    backend: Literal["ray", "inline", "replay"] = "ray"
    workers: Positive | None = None
    address: Annotated[str, Field(min_length=1)] | None = None
    gpus_per_trial: Annotated[Number, Field(ge=0)] | None = None
    cpus_per_trial: Above0 = 1.0
    processes_per_trial: Annotated[Positive, Field(le=64)] | None = None
    lockstep: Annotated[int | Literal["auto"], BeforeValidator(_stacked)] = 1

    @property
    def gpus_counted(self) -> float:
        """GPUs of a trial as hours and money count them. On CPUs a worker counts as one; where
        GPUs are left open, each process may get one, and counts as one."""
        if self.gpus_per_trial is None:
            return float(self.processes_per_trial or 1)
        return self.gpus_per_trial or 1.0

    @model_validator(mode="after")
    def _shared(self) -> Resources:
        gpus, processes = self.gpus_per_trial or 0.0, self.processes_per_trial or 1
        if gpus > 1 and gpus != int(gpus):
            raise FieldError(
                "gpus_per_trial", f"{gpus:g} is above one GPU and not whole; round it"
            )
        wrong = f"means nothing to the {self.backend} backend" if self.backend != "ray" else ""
        if gpus and gpus != processes:
            wrong = f"{processes} do not fit {gpus:g} GPUs: each process takes one"
        if processes > 1 and wrong:
            raise FieldError("processes_per_trial", f"{wrong}; remove it")
        return self

    @model_validator(mode="after")
    def _addressed(self) -> Resources:
        if self.address is not None and self.backend != "ray":
            raise FieldError("address", f"means nothing to the {self.backend} backend; remove it")
        return self

    @model_validator(mode="after")
    def _in_step(self) -> Resources:
        if self.lockstep == 1:
            return self
        if self.backend == "replay":
            raise FieldError("lockstep", "means nothing to the replay backend; remove it")
        if (self.processes_per_trial or 1) > 1 or (self.gpus_per_trial or 0) > 1:
            many = "several" if self.lockstep == "auto" else self.lockstep
            raise FieldError(
                "lockstep",
                f"{many} trials in a slot, and several processes for each: one or the "
                "other; remove lockstep, or gpus_per_trial and processes_per_trial",
            )
        return self
