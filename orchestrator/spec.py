"""The sweep as its user writes it: what could run, what to learn, what to spend, where to run it.

Frozen pydantic models; `load_spec` reads one YAML file (and the digest of a recorded curve table),
nothing else is touched. `trial` is the trainers' configuration with holes and `space` fills them;
`pool` expands the two into candidates. The canonical JSON is what the journal keeps, and what a
later launch is compared with.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    field_validator,
    model_validator,
)

from orchestrator.ranges import Axis
from trainers.config import TrainConfig
from trainers.documents import Document, SpecError, load_document, validate
from trainers.findings import FieldError
from trainers.quantity import Count, Fraction, Number, parse_number

Positive: TypeAlias = Annotated[Count, Field(ge=1)]
Above0: TypeAlias = Annotated[Number, Field(gt=0)]
Share: TypeAlias = Annotated[Fraction, Field(gt=0, lt=1)]

CHANGEABLE = (
    "resources",
    "storage",
    "tracking",
    "failures",
    "recorded.curves",
    "budget.lost",
    "budget.gpu_hours",
    "budget.dollars",
    "budget.dollars_per_gpu_hour",
)
"""What a resume may change: where and how the sweep runs, never what it tries or learns.

`recorded.curves` may move because `recorded.sha256` pins what is in it.
"""


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Target(_Block):
    """Where the law must be right: a model of `params` trained on `tokens`."""

    params: Positive
    tokens: Positive


class Space(_Block):
    """What varies: dotted keys of the trial, each with a list or a range.

    Every combination is a candidate. The lists of one `zip` block advance together; `exclude` holds
    conditions, and a candidate that meets one is left out.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Axis] = Field(init=False)  # pyright: ignore

    zip: tuple[dict[str, Axis], ...] = ()
    exclude: tuple[str, ...] = ()

    @field_validator("zip", mode="before")
    @classmethod
    def _one_block_or_more(cls, value: object) -> object:
        return (value,) if isinstance(value, Mapping) else value

    @property
    def axes(self) -> dict[str, Axis]:
        """The axes outside the zip blocks, in the order of the spec."""
        return dict(self.__pydantic_extra__)

    @property
    def keys(self) -> tuple[str, ...]:
        """Every varied key, zip blocks first."""
        return (*(key for block in self.zip for key in block), *self.axes)


class Recorded(_Block):
    """Curves measured before, for the replay backend: a CSV file, and the SHA-256 of its bytes."""

    curves: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


def _amount(value: object) -> float | str:
    """FLOPs as a number, a share of the exhaustive cost as `20%`."""
    number = parse_number(value)
    if isinstance(value, str) and ("%" in value or "/" in value):
        if not 0 < number <= 10:
            raise ValueError(
                f"{value!r} of the exhaustive cost is out of range; write a share such as 20%"
            )
        return f"{number * 100:.10g}%"
    if number < 1:
        raise ValueError(
            f"{value!r} FLOPs buy nothing; write a number such as 1e18, or a share of the "
            "exhaustive cost such as 20%"
        )
    return number


class Budget(_Block):
    """What may be spent. FLOPs rule every decision; hours and money are further caps.

    `lost` is the ceiling, as a share of the FLOPs, on work that crashes may waste beside the budget.
    """

    flops: Annotated[float | str, BeforeValidator(_amount)]
    gpu_hours: Above0 | None = None
    dollars: Above0 | None = None
    dollars_per_gpu_hour: Above0 | None = None
    lost: Fraction = 0.1

    @property
    def share(self) -> float | None:
        """The share of the exhaustive cost, where the budget is stated as one."""
        return parse_number(self.flops) if isinstance(self.flops, str) else None

    @model_validator(mode="after")
    def _priced(self) -> Budget:
        if self.dollars is not None and self.dollars_per_gpu_hour is None:
            raise FieldError(
                "dollars", "needs a price; add budget.dollars_per_gpu_hour, such as 3"
            )
        return self


class Exhaustive(_Block):
    """Every candidate to its horizon."""

    kind: Literal["exhaustive"] = "exhaustive"


class Uniform(_Block):
    """The budget divided evenly over the candidates."""

    kind: Literal["uniform"] = "uniform"


class SuccessiveHalving(_Block):
    """Rounds of equal cost, each keeping 1/eta of the trials; see `policies/successive_halving`.

    `group_by` halves within groups (`params`, or a varied key), so that a law keeps their spread.
    """

    kind: Literal["successive_halving"] = "successive_halving"
    eta: Annotated[Count, Field(ge=2)] = 2
    spend_out: bool = True
    group_by: str | None = None
    surrogate: str | None = None

    @field_validator("surrogate")
    @classmethod
    def _none_yet(cls, value: str | None) -> None:
        if value is not None:
            raise ValueError(f"{value!r} is no surrogate of this release; remove the key")


Policy: TypeAlias = Annotated[
    Exhaustive | Uniform | SuccessiveHalving, Field(discriminator="kind")
]


class AnnealPlan(_Block):
    """Short decays branched off checkpoints, for the annealed losses that laws are quoted on.

    `share` of the budget is kept for them; each decays over `decay` of the tokens seen so far;
    besides the survivors, `stopped` of the stopped trials are sampled as a check on the pruning.
    """

    share: Share = 0.1
    decay: Share = 0.2
    stopped: Count = 2


LawForm: TypeAlias = Literal["power", "power_irreducible", "chinchilla"]


class LawPlan(_Block):
    """Forms to fit, the share of each curve dropped as burn-in, bootstrap draws, interval level."""

    forms: Annotated[tuple[LawForm, ...], Field(min_length=1)] = (
        "power_irreducible",
        "chinchilla",
    )
    burn_in: Annotated[Fraction, Field(lt=1)] = 0.1
    bootstrap: Annotated[Count, Field(le=100_000)] = 200
    level: Share = 0.9


class Resources(_Block):
    """Where trials run. `workers` None: as many as fit. `gpus_per_trial` None: decided at launch."""

    backend: Literal["ray", "inline", "replay"] = "ray"
    workers: Positive | None = None
    address: Annotated[str, Field(min_length=1)] | None = None
    gpus_per_trial: Annotated[Number, Field(ge=0)] | None = None
    cpus_per_trial: Above0 = 1.0

    @model_validator(mode="after")
    def _addressed(self) -> Resources:
        if self.address is not None and self.backend != "ray":
            raise FieldError("address", f"means nothing to the {self.backend} backend; remove it")
        return self


def _without_secret(value: str) -> str:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^/@]*:[^/@]*@", value):
        raise ValueError(
            "holds a password, which would be printed and stored; write env:NAME and put the "
            "address in that variable, or use MLFLOW_TRACKING_USERNAME and _PASSWORD"
        )
    if value.startswith("env:") and not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError(f"{value!r} names no variable; write env:MLFLOW_TRACKING_URI")
    return value


class Tracking(_Block):
    """The MLflow record. `uri` None: SQLite beside the sweep; `env:NAME` is read at launch."""

    mlflow: bool = True
    uri: Annotated[str, Field(min_length=1), AfterValidator(_without_secret)] | None = None
    experiment: Annotated[str, Field(min_length=1, max_length=250)] | None = None


def _sweep_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", value) or ".." in value:
        raise ValueError(
            f"{value[:80]!r} cannot name a folder everywhere; use 1 to 63 of a-z, 0-9, '.', '_' "
            "and '-', starting with a letter or digit and without '..'"
        )
    return value


class SweepSpec(_Block):
    """One sweep. Either `trial` and `space` say what could run, or `recorded` does."""

    version: Literal[1]
    name: Annotated[str, AfterValidator(_sweep_name)]
    seed: Annotated[Count, Field(lt=2**63)] = 0
    aim: Literal["frontier", "target", "recommend"] = "frontier"
    target: Target | None = None
    deployment_flops: Above0 | None = None
    trial: dict[str, JsonValue] | None = None
    space: Space | None = None
    recorded: Recorded | None = None
    budget: Budget
    policy: Policy
    anneal: AnnealPlan | None = None
    law: LawPlan = LawPlan()
    resources: Resources = Resources()
    failures: Positive = 3
    storage: Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f]+$")] = "sweeps"
    tracking: Tracking = Tracking()

    @model_validator(mode="before")
    @classmethod
    def _recorded_means_replay(cls, data: object) -> object:
        if not isinstance(data, Mapping) or data.get("recorded") is None:
            return data
        resources = data.get("resources", {})
        if isinstance(resources, Mapping) and "backend" not in resources:
            return {**data, "resources": {**resources, "backend": "replay"}}
        return data

    @model_validator(mode="after")
    def _holds_together(self) -> SweepSpec:
        if self.aim == "target" and self.target is None:
            raise FieldError(
                "target", "is required by aim: target; add {params: 7B, tokens: 140B}"
            )
        if self.aim == "recommend" and self.deployment_flops is None:
            raise FieldError(
                "deployment_flops",
                "is required by aim: recommend; add the compute you would deploy, such as 1e21",
            )
        self._says_what_could_run()
        return self

    def _says_what_could_run(self) -> None:
        live = self.trial is not None or self.space is not None
        if self.recorded is not None and live:
            key = "trial" if self.trial is not None else "space"
            raise FieldError(
                "recorded", f"stands beside {key}; a sweep trains or replays, remove one of them"
            )
        if self.recorded is None and self.trial is None:
            raise FieldError(
                "trial", "is required and not given; say what one trial trains, or add recorded"
            )
        if (self.recorded is not None) != (self.resources.backend == "replay"):
            raise FieldError(
                "resources.backend",
                f"{self.resources.backend!r} does not fit; recorded curves run on replay, "
                "and only they do",
            )
        if self.recorded is not None and self.anneal is not None:
            raise FieldError("anneal", "cannot branch off recorded curves; remove the block")


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """The spec in a YAML file, with `a.b=value` assignments applied. Raises SpecError."""
    return validate(load_spec_document(path, overrides), SweepSpec)


def load_spec_document(path: str | Path, overrides: Sequence[str] = ()) -> Document:
    """The file's document, ready for `validate(document, SweepSpec)` and for placing problems.

    A nested `space: {model: {width: [...]}}`, as overrides write it, becomes the dotted key; a path
    to recorded curves is made absolute, starting at the file's folder, and their digest is filled in.
    """
    document = load_document(path).with_overrides(overrides)
    return _with_recorded_resolved(_with_dotted_space(document), Path(path).resolve().parent)


def _with_dotted_space(document: Document) -> Document:
    space = document.data.get("space")
    if not isinstance(space, dict):
        return document
    nested = cast("dict[str, object]", space)
    flat: dict[str, object] = {}
    spots = dict(document.spots)
    for key, value in nested.items():
        if key not in TrainConfig.model_fields or not isinstance(value, dict) or not value:
            flat.setdefault(key, value)
            continue
        if not set(cast("dict[str, object]", value)).isdisjoint(("log", "log2", "linear")):
            flat[key] = value
            continue
        for inner, axis in cast("dict[str, object]", value).items():
            dotted = f"{key}.{inner}"
            flat[dotted] = axis
            for spot in [s for s in spots if s[:3] == ("space", key, inner)]:
                spots[("space", dotted, *spot[3:])] = spots[spot]
    return dataclasses.replace(document, data={**document.data, "space": flat}, spots=spots)


def _with_recorded_resolved(document: Document, folder: Path) -> Document:
    recorded = document.data.get("recorded")
    if not isinstance(recorded, dict) or not isinstance(recorded.get("curves"), str):
        return document
    curves = (folder / Path(cast("str", recorded["curves"])).expanduser()).resolve()
    try:
        digest = hashlib.sha256(curves.read_bytes()).hexdigest()
    except OSError as error:
        message = f"{curves} cannot be read: {error.strerror}; give the path of a CSV file"
        raise SpecError([document.problem(("recorded", "curves"), message)]) from None
    stated = recorded.get("sha256")
    if isinstance(stated, str) and stated != digest:
        message = f"the file's digest is {digest}; it is another file, or it has changed"
        raise SpecError([document.problem(("recorded", "sha256"), message)])
    resolved = {**recorded, "curves": str(curves), "sha256": digest}
    return dataclasses.replace(document, data={**document.data, "recorded": resolved})


def canonical_json(spec: SweepSpec) -> str:
    """The resolved spec on one line; equal specs give equal text.

    The order of keys is the models' own, `trial` is sorted, and `space` keeps the user's order,
    because the order of candidates follows from it.
    """
    data = spec.model_dump(mode="json")
    data["trial"] = _sorted(data["trial"])
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        mapping = cast("dict[str, Any]", value)
        return {key: _sorted(mapping[key]) for key in sorted(mapping)}
    return value


def spec_from_json(text: str) -> SweepSpec:
    """The spec in its canonical JSON. Raises pydantic.ValidationError (a ValueError)."""
    return SweepSpec.model_validate(json.loads(text))


def spec_digest(spec: SweepSpec) -> str:
    """SHA-256 of the canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical_json(spec).encode()).hexdigest()


def differences(old: SweepSpec, new: SweepSpec) -> list[tuple[str, JsonValue, JsonValue]]:
    """(dotted key, old value, new value) wherever the two differ; None where a key is missing."""
    before = dict(_leaves(json.loads(canonical_json(old)), ""))
    after = dict(_leaves(json.loads(canonical_json(new)), ""))
    keys = list(dict.fromkeys((*before, *after)))
    found = [(key, before.get(key), after.get(key)) for key in keys]
    changed = [entry for entry in found if entry[1] != entry[2]]
    if not changed and spec_digest(old) != spec_digest(new):
        order = [list(spec.space.keys) if spec.space else None for spec in (old, new)]
        return [
            ("space (order of its keys)", cast("JsonValue", order[0]), cast("JsonValue", order[1]))
        ]
    return changed


def frozen_differences(old: SweepSpec, new: SweepSpec) -> list[tuple[str, JsonValue, JsonValue]]:
    """The differences that forbid a resume: all but those under CHANGEABLE."""

    def changeable(key: str) -> bool:
        return any(key == prefix or key.startswith(f"{prefix}.") for prefix in CHANGEABLE)

    return [entry for entry in differences(old, new) if not changeable(entry[0])]


def _leaves(value: JsonValue, key: str) -> Iterator[tuple[str, JsonValue]]:
    if isinstance(value, dict) and value:
        for inner, part in value.items():
            yield from _leaves(part, f"{key}.{inner}" if key else inner)
    else:
        yield key, value


def json_schema() -> dict[str, Any]:
    """The JSON schema of a sweep file, for editors that complete and check while one writes."""
    return SweepSpec.model_json_schema()
