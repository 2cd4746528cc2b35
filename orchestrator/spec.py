"""The sweep as its user writes it: what could run, what to learn, what to spend, where to run it.

`load_spec` reads one YAML file (and the digest of a recorded curve table), and nothing else.
`trial` is the trainers' configuration with holes and `space` fills them; `pool` expands the two
into candidates. The canonical JSON is what the journal keeps, and what a later launch is compared
with.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from orchestrator.blocks import (
    Above0,
    Active,
    Aim,
    AnnealPlan,
    Block,
    Exhaustive,
    Policy,
    Positive,
    Recorded,
    Select,
    Space,
    SuccessiveHalving,
    Target,
    Tracking,
    Uniform,
)
from orchestrator.budget import Budget
from orchestrator.lawplan import LawPlan
from orchestrator.resources import Resources
from trainers.config import TrainConfig
from trainers.documents import Document, SpecError, load_document, validate
from trainers.findings import FieldError
from trainers.quantity import Count

__all__ = [
    "CHANGEABLE",
    "AnnealPlan",
    "Budget",
    "Exhaustive",
    "LawPlan",
    "Policy",
    "Recorded",
    "Resources",
    "Space",
    "SpecError",
    "SuccessiveHalving",
    "SweepSpec",
    "Target",
    "Tracking",
    "Uniform",
    "canonical_json",
    "differences",
    "frozen_differences",
    "json_schema",
    "load_spec",
    "load_spec_document",
    "spec_digest",
    "spec_from_json",
]

CHANGEABLE = (
    "resources",
    "storage",
    "tracking",
    "failures",
    "recorded.curves",
    "budget.flops",
    "budget.lost",
    "budget.gpu_hours",
    "budget.dollars",
    "budget.dollars_per_gpu_hour",
    "budget.flops_per_s",
)
"""What a resume may change: where and how the sweep runs and how much it may spend, never what it
tries or learns.

`recorded.curves` may move because `recorded.sha256` pins what is in it. `budget.flops` rises
alone, and not under every policy: see `assembly/raising`.
"""

LAID_OUT = (
    "uniform",
    "successive_halving",
    "hyperband",
    "asha",
    "one_shot",
    "static_ladder",
)
"""Policies that lay their runs out by the whole budget of FLOPs before the first begins."""


def _first_version(value: object) -> object:
    if value != 1 or isinstance(value, bool):
        raise ValueError(f"{value!r} is no version that this release reads; write version: 1")
    return 1


def _sweep_name(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text; put it in quotes")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", value) or ".." in value:
        raise ValueError(
            f"{value[:80]!r} cannot name a folder everywhere; use 1 to 63 of a-z, 0-9, '.', '_' "
            "and '-', starting with a letter or digit and without '..'"
        )
    return value


class SweepSpec(Block):
    """One sweep. Either `trial` and `space` say what could run, or `recorded` does."""

    version: Annotated[Literal[1], BeforeValidator(_first_version)]
    name: Annotated[str, BeforeValidator(_sweep_name)]
    seed: Annotated[Count, Field(lt=2**63)] = 0
    aim: Aim = "frontier"
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
        given = _mapping(data)
        if given is None or given.get("recorded") is None:
            return data
        resources = _mapping(given.get("resources", {}))
        if resources is None or "backend" in resources:
            return data
        return {**given, "resources": {**resources, "backend": "replay"}}

    @model_validator(mode="before")
    @classmethod
    def _aim_follows(cls, data: object) -> object:
        """Who says where the law must be right, or what would be deployed, and buys for it, need
        not name the aim; who says both has to, since a policy serves one."""
        given = _mapping(data)
        if given is None or "aim" in given or _kind(given.get("policy")) != "active":
            return data
        places = {"target": given.get("target"), "recommend": given.get("deployment_flops")}
        named = [aim for aim, place in places.items() if place is not None]
        if len(named) > 1:
            raise FieldError(
                "deployment_flops",
                "stands beside target, and policy active buys for one of them: add aim: target, "
                "aim: recommend or aim: frontier (the report answers all three)",
            )
        return {**given, "aim": named[0]} if named else data

    @model_validator(mode="before")
    @classmethod
    def _hours_alone(cls, data: object) -> object:
        """Who budgets in hours or money alone may buy the whole pool, as far as they go, from a
        policy that weighs its gains against them."""
        given = _mapping(data)
        budget = _mapping(given.get("budget")) if given is not None else None
        if given is None or budget is None or budget.get("flops") is not None:
            return data
        filled = {**given, "budget": {**budget, "flops": "100%"}}
        if budget.keys() - Budget.model_fields.keys():
            return filled  # a misspelt key is told by itself: what it was meant for is not missing
        key = next((key for key in ("gpu_hours", "dollars") if budget.get(key) is not None), None)
        if key is None:
            return data
        kind = _kind(given.get("policy"))
        if isinstance(kind, str) and kind not in PRICED:
            raise FieldError(
                f"budget.{key}",
                f"stands alone, and policy {kind} lays its runs out in FLOPs; add budget.flops, "
                f"such as 20%, or choose one of {', '.join(PRICED)}",
            )
        return filled

    @model_validator(mode="after")
    def _holds_together(self) -> SweepSpec:
        if self.aim == "target" and self.target is None:
            raise FieldError("aim", "needs to know where; add target: {params: 7B, tokens: 140B}")
        if self.aim == "recommend" and self.deployment_flops is None:
            raise FieldError(
                "aim", "needs the compute you would deploy; add deployment_flops: 1e21"
            )
        if isinstance(self.policy, Select) and self.target is None:
            raise FieldError(
                "policy",
                f"{self.policy.kind} needs to know where the law must be right; add target: "
                "{params: 7B, tokens: 140B}",
            )
        if isinstance(self.policy, Active):
            stray = self.policy.stray(self.aim)
            if stray is not None:
                raise FieldError(f"policy.{stray[0]}", stray[1])
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
        backend = self.resources.backend
        if self.recorded is None and backend == "replay":
            raise FieldError(
                "resources.backend",
                "'replay' has nothing to replay; add recorded: {curves: FILE.csv}, or use ray",
            )
        if self.recorded is not None and backend != "replay":
            raise FieldError(
                "resources.backend", f"{backend!r} cannot run recorded curves; use replay"
            )
        if self.recorded is not None and self.anneal is not None:
            raise FieldError("anneal", "cannot branch off recorded curves; remove the block")


PRICED = ("active", "frontier", "recommend")
"""Policies that weigh what a purchase brings against its cost in the unit that binds."""


def _mapping(value: object) -> dict[str, object] | None:
    """The value where it is a mapping, else None."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _kind(policy: object) -> object:
    """The kind of a policy as written: a name, or a mapping that has one."""
    named = _mapping(policy)
    return policy if named is None else named.get("kind")


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> SweepSpec:
    """The spec in a YAML file, with `a.b=value` assignments applied. Raises SpecError."""
    return validate(load_spec_document(path, overrides), SweepSpec)


def load_spec_document(path: str | Path, overrides: Sequence[str] = ()) -> Document:
    """The file's document, ready for `validate(document, SweepSpec)` and for placing problems.

    A nested `space: {model: {width: [...]}}`, as overrides write it, becomes the dotted key; a
    path to recorded curves is made absolute, starting at the file's folder, and their digest is
    filled in.
    """
    document = load_document(path).with_overrides(overrides)
    document = _with_dotted_space(_with_a_beginning(document))
    return _with_recorded_resolved(document, Path(path).resolve().parent)


def _with_a_beginning(document: Document) -> Document:
    """What is missing from the whole file is told where the file's first key stands."""
    first = next((document.spots.get((key,)) for key in document.data), None)
    if first is None:
        return document
    return dataclasses.replace(document, spots={**document.spots, (): first})


_RANGES = frozenset(("log", "log2", "linear"))


def _with_dotted_space(document: Document) -> Document:
    space = _mapping(document.data.get("space"))
    if space is None:
        return document
    flat: dict[str, object] = {}
    spots = dict(document.spots)
    for key, value in space.items():
        nested = _mapping(value)
        known = key in TrainConfig.model_fields or key == "settings"
        if not known or nested is None or not _RANGES.isdisjoint(nested):
            flat.setdefault(key, value)
            continue
        for inner, axis in nested.items():
            dotted = f"{key}.{inner}"
            flat[dotted] = axis
            for spot in [s for s in spots if s[:3] == ("space", key, inner)]:
                spots[("space", dotted, *spot[3:])] = spots[spot]
    return dataclasses.replace(document, data={**document.data, "space": flat}, spots=spots)


def _with_recorded_resolved(document: Document, folder: Path) -> Document:
    recorded = _mapping(document.data.get("recorded"))
    written = recorded.get("curves") if recorded is not None else None
    if recorded is None or not isinstance(written, str):
        return document
    curves = (folder / Path(written).expanduser()).resolve()
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
    """The spec in its canonical JSON, of this release or an earlier one. Raises
    pydantic.ValidationError (a ValueError)."""
    return SweepSpec.model_validate(_of_today(json.loads(text)))


def _of_today(data: object) -> object:
    """The data of an earlier release, in which every policy that buys for a law had the settings
    of `active`, and `active` bought for the target whatever the aim."""
    given = _mapping(data)
    policy = _mapping(given.get("policy")) if given is not None else None
    if given is None or policy is None or "half_width" not in policy or "regret" in policy:
        return data
    if policy.get("kind") == "active":
        by = None if policy.get("by") == "forms" else policy.get("by")
        return {**given, "aim": "target", "policy": {**policy, "by": by}}
    kept = {key: value for key, value in policy.items() if key in Select.model_fields}
    return {**given, "policy": kept}


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
