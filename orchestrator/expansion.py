"""From the axes of a space to checked configurations, one combination at a time.

Touches nothing. A choice is one value for each varied key; built, it is the trial with the choice
filled in, its horizon resolved, validated by the trainers' own `TrainConfig`.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from pydantic import BaseModel, JsonValue, ValidationError

from orchestrator import naming
from orchestrator.exclusions import Exclusion, ExclusionError, parse
from orchestrator.places import Places
from orchestrator.ranges import Axis, axis_values, plain
from orchestrator.spec import Space, SweepSpec
from orchestrator.values import Scalar
from trainers.config import TrainConfig
from trainers.documents import KeyPath
from trainers.findings import FieldError, Finding, problems_of
from trainers.own import OwnConfig, OwnTrainerError, RunConfig, cost_of
from trainers.quantity import parse_number
from trainers.rules import AUTO

PER_PARAM = "horizon.tokens_per_param"
OWN = "settings."
COMPUTED = ("params", "flops")
_FAR = 10**29
_ECHO = "the default factory"
"""pydantic's remark about a default that depends on a field which is already complained of."""

Choice: TypeAlias = tuple[tuple[str, int, Scalar], ...]
"""(key, index in its axis, value) for every varied key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """An exclusion, its place in the list, and the full key of every name it uses."""

    number: int
    exclusion: Exclusion
    keys: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A checked configuration, and the values of the varied keys as it understood them."""

    config: RunConfig
    settings: dict[str, Scalar]


def known_keys(spec: SweepSpec) -> tuple[str, ...]:
    """The dotted keys of every single value in a trial's configuration; of a trainer of the
    user's own, all settings that the spec names."""
    if not is_own(spec):
        return (*_leaf_keys(TrainConfig, ""), PER_PARAM)
    named = (*dict(_leaves(spec.trial or {}, "")), *(spec.space.keys if spec.space else ()))
    settings = dict.fromkeys(key for key in named if key.startswith(OWN))
    fixed = (key for key in _leaf_keys(OwnConfig, "") if key != "settings")
    return (*fixed, *settings, PER_PARAM)


def is_own(spec: SweepSpec) -> bool:
    """Whether the trials are run by a trainer of the user's own."""
    return "trainer" in (spec.trial or {})


def _leaf_keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _leaf_keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def check_axes(spec: SweepSpec, places: Places) -> None:
    """Note unknown keys, keys given twice, values given twice, and zip lists of unlike lengths."""
    space = spec.space or Space()
    known = known_keys(spec)
    seen: list[str] = []
    for path, key, axis in _all_axes(space, places):
        if key not in known:
            message = naming.unknown(key, known, "is no setting of a trial")
            places.add(path, message, at_key=True)
        for other in seen:
            if other == key or other.startswith(f"{key}.") or key.startswith(f"{other}."):
                places.add(path, f"varies twice, as {other} too; keep one", at_key=True)
        if _stated(spec.trial or {}, key):
            places.add(path, f"is fixed under trial.{key} too; remove one of them", at_key=True)
        seen.append(key)
        _check_values(path, axis, places)
    for number, block in enumerate(space.zip):
        lengths = {key: len(axis_values(axis)) for key, axis in block.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            last = list(lengths)[-1]
            path = places.source(last) or ("space", "zip", number)
            places.add(path, f"lists in a zip block advance together, but {told}", at_key=True)


def _all_axes(space: Space, places: Places) -> Iterator[tuple[KeyPath, str, Axis]]:
    pairs = [*(pair for block in space.zip for pair in block.items()), *space.axes.items()]
    for key, axis in pairs:
        yield places.source(key) or ("space", key), key, axis


def _check_values(path: KeyPath, axis: Axis, places: Places) -> None:
    if "zip" in path[:2]:
        return
    met: dict[tuple[bool, object], int] = {}
    for i, value in enumerate(axis_values(axis)):
        read = (isinstance(value, bool), plain(value))
        if read in met:
            places.add((*path, i), f"{value!r} is listed twice; keep one")
        met[read] = i


def _stated(trial: Mapping[str, JsonValue], key: str) -> bool:
    """Whether the trial gives the key a value, or something else a value where it would stand."""
    node: JsonValue = dict(trial)
    for word in key.split("."):
        if not isinstance(node, dict):
            break
        node = node.get(word)
    return node is not None


def stated_keys(spec: SweepSpec) -> frozenset[str]:
    """The dotted keys that the trial gives a value of its own, or the space varies."""
    written = {key for key, value in _leaves(spec.trial or {}, "") if value != AUTO}
    return frozenset((*written, *(spec.space.keys if spec.space else ())))


def combination_count(spec: SweepSpec) -> int:
    """How many choices the space spans, before exclusions."""
    return math.prod(len(group) for group in _groups(spec.space or Space(), counting=True))


def choices(spec: SweepSpec) -> Iterator[Choice]:
    """Every combination, zip blocks slowest, the last axis fastest."""
    for combination in itertools.product(*_groups(spec.space or Space())):
        yield tuple(itertools.chain.from_iterable(combination))


def _groups(space: Space, *, counting: bool = False) -> list[Sequence[Choice]]:
    groups: list[Sequence[Choice]] = []
    for block in (*space.zip, *({key: axis} for key, axis in space.axes.items())):
        columns = {key: axis_values(axis) for key, axis in block.items()}
        length = min((len(values) for values in columns.values()), default=1)
        if counting:
            groups.append([()] * length)
            continue
        groups.append(
            [tuple((key, i, values[i]) for key, values in columns.items()) for i in range(length)]
        )
    return groups


def read_conditions(spec: SweepSpec, places: Places) -> list[Condition]:
    """The exclusions, parsed; names may be shortened to a last word that only one key has."""
    keys = known_keys(spec)
    tails: dict[str, list[str]] = {}
    for key in keys:
        tails.setdefault(key.rpartition(".")[2], []).append(key)
    names = {tail: full[0] for tail, full in tails.items() if len(full) == 1}
    names.update({key: key for key in (*keys, *COMPUTED)})
    conditions: list[Condition] = []
    for number, text in enumerate(spec.space.exclude if spec.space else ()):
        try:
            exclusion = parse(text, names)
        except ExclusionError as error:
            _add_condition_problem(places, number, text, error)
            continue
        used = {name: names[name] for name in exclusion.names}
        conditions.append(Condition(number=number, exclusion=exclusion, keys=used))
    return conditions


def _add_condition_problem(places: Places, number: int, text: str, error: ExclusionError) -> None:
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    message = f"character {error.position + 1} of `{shown}`: {error}"
    places.add(("space", "exclude", number), message)


def build(
    spec: SweepSpec, choice: Choice, conditions: Sequence[Condition], places: Places
) -> Built | None:
    """The choice as a checked configuration; None where excluded, or where a problem was noted."""
    data = _filled(spec, choice)
    stated = dict(_leaves(data, ""))
    early = [c for c in conditions if set(c.keys.values()) <= stated.keys()]
    if _excluded(early, {key: plain(value) for key, value in stated.items()}, places):
        return None
    try:
        config = _validated(data)
    except ValidationError as error:
        for finding in problems_of(error, OwnConfig if is_own(spec) else TrainConfig, data):
            if not finding.message.startswith(_ECHO):
                _add_finding(places, choice, finding)
        return None
    except FieldError as error:
        path = tuple(error.key.split("."))
        _add_finding(places, choice, Finding(path=path, message=error.message))
        return None
    except OwnTrainerError as error:
        _add_finding(places, choice, Finding(path=("trainer",), message=str(error)))
        return None
    late = [c for c in conditions if c not in early]
    if late:
        understood = dict(_leaves(config.model_dump(), ""))
        if _excluded(late, {**stated, **understood, **_computed(config)}, places):
            return None
    return Built(
        config=config, settings={key: _understood(config, key, v) for key, _, v in choice}
    )


def _computed(config: RunConfig) -> dict[str, object]:
    cost = cost_of(config)
    tokens = config.floor_tokens(config.horizon)
    return {"params": cost.params, "flops": cost.flops_per_token * tokens}


def _understood(config: RunConfig, key: str, written: Scalar) -> Scalar:
    """A setting as the trainers took it; as it was written where they know nothing of it."""
    if key == PER_PARAM or key.startswith(OWN):
        return cast("Scalar", plain(written))
    value: object = config
    for word in key.split("."):
        value = getattr(value, word)
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _filled(spec: SweepSpec, choice: Choice) -> dict[str, Any]:
    """The trial's data with the choice in its holes, and the sweep's seed unless it has one."""
    data: dict[str, Any] = copy.deepcopy(dict(spec.trial or {}))
    data.setdefault("seed", spec.seed)
    for key, _, value in choice:
        *above, last = key.split(".")
        holder = data
        for word in above:
            if holder.get(word) is None:
                holder[word] = {}
            holder = holder[word]
        holder[last] = value
    return data


def _validated(data: dict[str, Any]) -> RunConfig:
    """The configuration, with a horizon in tokens per parameter turned into whole steps."""
    kind = OwnConfig if "trainer" in data else TrainConfig
    horizon = data.get("horizon")
    if not isinstance(horizon, dict):
        return _priced(kind.model_validate(data))
    ratio = _tokens_per_param(cast("dict[str, Any]", horizon))
    shape = _priced(kind.model_validate({**data, "horizon": _FAR}))
    params = cost_of(shape).params
    tokens = shape.floor_tokens(ratio * params)
    if tokens < 1:
        raise FieldError(
            PER_PARAM,
            f"{ratio:g} tokens for each of {params} parameters are less than one batch of "
            f"{shape.tokens_per_step}; raise it or make batch_tokens smaller",
        )
    return kind.model_validate({**data, "horizon": tokens})


def _priced(config: RunConfig) -> RunConfig:
    """The configuration, once it is sure that a trainer of the user's own can say its cost."""
    if isinstance(config, OwnConfig):
        try:
            cost_of(config)
        except OwnTrainerError:
            raise
        except ValueError as error:
            raise FieldError("settings", str(error)) from error
    return config


def _tokens_per_param(horizon: Mapping[str, Any]) -> float:
    only = PER_PARAM.rpartition(".")[2]
    for key in horizon:
        if key != only:
            message = f"is no known key; write {only}, as in {{{only}: 20}}"
            raise FieldError(f"horizon.{key}", message)
    if not horizon:
        raise FieldError("horizon", f"is empty; write a count, or {{{only}: 20}}")
    try:
        ratio = parse_number(horizon[only])
    except ValueError as error:
        raise FieldError(PER_PARAM, str(error)) from None
    if not 0 < ratio <= 1e9:
        raise FieldError(PER_PARAM, f"{ratio:g} is out of range; 20 is a usual value")
    return ratio


def _excluded(
    conditions: Sequence[Condition], values: Mapping[str, object], places: Places
) -> bool:
    for condition in conditions:
        named = {name: values.get(key) for name, key in condition.keys.items()}
        try:
            if condition.exclusion.holds(named):
                return True
        except ExclusionError as error:
            _add_condition_problem(places, condition.number, condition.exclusion.text, error)
            return True
    return False


def _add_finding(places: Places, choice: Choice, finding: Finding) -> None:
    """Tell a finding about a candidate at the axis value that brought it, else in the trial."""
    key = ".".join(map(str, finding.path))
    told = finding.message
    if choice and not (finding.at_key or told.startswith("is required")):
        candidate = ", ".join(f"{name}={value}" for name, _, value in choice)
        told = f"{told} (candidate {candidate})"
    for name, index, value in choice:
        source = places.source(name)
        if source is None or not (key == name or key.startswith(f"{name}.")):
            continue
        if isinstance(value, float) and "is not whole" in told:
            told = f"{told}; in a range, multiple_of: 1 rounds"
        places.add((*source, index), told)
        return
    places.add(("trial", *finding.path), told, at_key=finding.at_key)


def _leaves(data: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(cast("Mapping[str, Any]", value), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
