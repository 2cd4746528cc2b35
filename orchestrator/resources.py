"""The block of a sweep file that says where trials run, and on how much of what.

Frozen pydantic models; touches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from orchestrator.blocks import Above0, AtLeast0, Block, Positive
from orchestrator.values import Candidate
from trainers.findings import FieldError
from trainers.quantity import Number, parse_count

MOST_IN_A_STACK = 64
EXAMPLE = "{by: params, 0: 1, 300M: 4}"


class Steps(Block):
    """A number that depends on the trial: `{by: params, 0: 1, 300M: 4}` is 1 below 300M parameters
    and 4 from there on. By `tokens` or `flops` it follows what a segment trains to, from the
    trial's beginning: a rung.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Number] = Field(init=False)  # pyright: ignore

    by: Literal["params", "tokens", "flops"]

    @model_validator(mode="after")
    def _begins_at_none(self) -> Steps:
        found: dict[int, str] = {}
        for key in self.__pydantic_extra__:
            try:
                begin = parse_count(key)
            except ValueError as error:
                raise FieldError(
                    key, f"is no place to begin a step, such as 0 or 300M: {error}"
                ) from None
            if begin in found:
                raise FieldError(key, f"is {found[begin]} once more; remove one of them")
            found[begin] = key
        if 0 not in found:
            raise ValueError(f"does not say what the smallest take; write it as in {EXAMPLE}")
        return self

    @cached_property
    def levels(self) -> tuple[tuple[int, float], ...]:
        """(from where on, the number), ascending from 0."""
        return tuple(sorted((parse_count(key), n) for key, n in self.__pydantic_extra__.items()))

    def of(self, candidate: Candidate, tokens: int) -> float:
        """The number for a segment of the candidate that trains to `tokens`."""
        at = {"params": candidate.params, "tokens": tokens, "flops": candidate.flops(tokens)}
        return [number for begin, number in self.levels if begin <= at[self.by]][-1]


def _shape(value: object) -> str:
    return "steps" if isinstance(value, Mapping | Steps) else "number"


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


Processes: TypeAlias = Annotated[Positive, Field(le=64)]
GpusPerTrial: TypeAlias = Annotated[
    Annotated[AtLeast0, Tag("number")] | Annotated[Steps, Tag("steps")], Discriminator(_shape)
]
CpusPerTrial: TypeAlias = Annotated[
    Annotated[Above0, Tag("number")] | Annotated[Steps, Tag("steps")], Discriminator(_shape)
]
ProcessesPerTrial: TypeAlias = Annotated[
    Annotated[Processes, Tag("number")] | Annotated[Steps, Tag("steps")], Discriminator(_shape)
]


class Resources(Block):
    """Where trials run: as many workers as fit, and GPUs decided at launch, unless stated.

    A fraction of a GPU packs several trials on one, and on several GPUs a process on each
    takes its share of every batch; `processes_per_trial` asks for that on CPUs. Each of the three
    is a number for all trials, or `Steps`. Up to `lockstep` trials of one shape, at the same
    tokens, train as one stacked model in a slot; `auto` stacks as many as pay (`stacking`).
    """

    backend: Literal["ray", "inline", "replay"] = "ray"
    workers: Positive | None = None
    address: Annotated[str, Field(min_length=1)] | None = None
    gpus_per_trial: GpusPerTrial | None = None
    cpus_per_trial: CpusPerTrial = 1.0
    processes_per_trial: ProcessesPerTrial | None = None
    lockstep: Annotated[int | Literal["auto"], BeforeValidator(_stacked)] = 1

    @property
    def gpus_counted(self) -> float:
        """GPUs as hours and money count them, of the trial that takes the fewest. Without any, or
        where they are left open and each process may get one, a process counts as one."""
        gpus = 0.0 if self.gpus_per_trial is None else min(_numbers(self.gpus_per_trial))
        return gpus or min(_numbers(self.processes_per_trial)) or 1.0

    @property
    def stepped(self) -> tuple[str, ...]:
        """The keys that depend on the trial."""
        keys = ("gpus_per_trial", "processes_per_trial", "cpus_per_trial")
        return tuple(key for key in keys if isinstance(getattr(self, key), Steps))

    @model_validator(mode="after")
    def _in_numbers(self) -> Resources:
        for key, wrong in (
            ("gpus_per_trial", _no_gpus),
            ("processes_per_trial", _no_processes),
            ("cpus_per_trial", _no_cpus),
        ):
            given = getattr(self, key)
            if not isinstance(given, Steps):
                if given is not None and (why := wrong(given)):
                    raise FieldError(key, why)
                continue
            for begin, number in given.__pydantic_extra__.items():
                if why := wrong(number):
                    raise FieldError(f"{key}.{begin}", why)
            numbers = [number for _, number in given.levels]
            if key == "gpus_per_trial" and 0 in numbers and any(numbers):
                raise FieldError(
                    key,
                    "puts some trials on GPUs and some on none; give all of them some, as 0.5",
                )
        return self

    @model_validator(mode="after")
    def _one_each(self) -> Resources:
        gpus, processes = self.gpus_per_trial, self.processes_per_trial
        if isinstance(gpus, Steps) or not gpus or not isinstance(processes, int):
            return self  # what depends on the trial is checked for each (`demand`)
        if processes > 1 and gpus != processes:
            raise FieldError(
                "processes_per_trial",
                f"{processes} do not fit {gpus:g} GPUs: each process takes one; remove it",
            )
        return self

    @model_validator(mode="after")
    def _elsewhere(self) -> Resources:
        if self.backend == "ray":
            return self
        nothing = f"means nothing to the {self.backend} backend; remove it"
        if self.stepped:
            raise FieldError(self.stepped[0], nothing)
        if isinstance(self.processes_per_trial, int) and self.processes_per_trial > 1:
            raise FieldError("processes_per_trial", nothing)
        if self.address is not None:
            raise FieldError("address", nothing)
        return self

    @model_validator(mode="after")
    def _in_step(self) -> Resources:
        if self.lockstep == 1:
            return self
        if self.backend == "replay":
            raise FieldError("lockstep", "means nothing to the replay backend; remove it")
        if min(_numbers(self.processes_per_trial)) > 1 or min(_numbers(self.gpus_per_trial)) > 1:
            many = "several" if self.lockstep == "auto" else self.lockstep
            raise FieldError(
                "lockstep",
                f"{many} trials in a slot, and several processes for each: one or the "
                "other; remove lockstep, or gpus_per_trial and processes_per_trial",
            )
        return self


def _numbers(given: float | Steps | None) -> tuple[float, ...]:
    if isinstance(given, Steps):
        return tuple(number for _, number in given.levels)
    return (given or 0.0,)


def _no_gpus(number: float) -> str | None:
    if number < 0:
        return f"{number:g} GPUs are less than none; give 0 or more"
    if number > 1 and number != int(number):
        return f"{number:g} is above one GPU and not whole; round it"
    return None


def _no_processes(number: float) -> str | None:
    if number != int(number) or not 1 <= number <= 64:
        return f"{number:g} is no number of processes; give a whole one from 1 to 64"
    return None


def _no_cpus(number: float) -> str | None:
    return None if number > 0 else f"{number:g} CPUs run nothing; give more than 0, such as 1"
