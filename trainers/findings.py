"""pydantic's findings in the words of the house: a key path, a rule, a remedy.

Touches nothing. pydantic puts the names of union branches and validators into its locations and
a URL into its text; here only keys that exist in the data (or are missing from it) remain, and an
unknown key is met with the nearest valid one. A validator that looks at several keys raises
`FieldError` to say which of them to change.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

KeyPath = tuple[str | int, ...]


class FieldError(ValueError):
    """A rule across several keys is broken; `key` (dotted, below the model) is the one to fix."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        self.message = message
        super().__init__(f"{key}: {message}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem: the path in the data, the words, and whether the key itself is at fault."""

    path: KeyPath
    message: str
    at_key: bool = False


def problems_of(error: ValidationError, model: type[BaseModel], data: object) -> list[Finding]:
    """Every distinct finding, in the order of pydantic; branches of one union become one."""
    merged: dict[KeyPath, Finding] = {}
    for raw in error.errors(include_url=False):
        if raw["type"] == "default_factory_not_called":
            continue  # the field that the default depends on has a finding of its own
        found = _finding(typing.cast("Mapping[str, Any]", raw), model, data)
        before = merged.get(found.path)
        if before is None:
            merged[found.path] = found
        elif found.message not in before.message:
            message = f"{before.message}, or {found.message}"
            merged[found.path] = Finding(path=found.path, message=message, at_key=before.at_key)
    return list(merged.values())


def _finding(raw: Mapping[str, Any], model: type[BaseModel], data: object) -> Finding:
    kind = str(raw["type"])
    loc: Sequence[str | int] = raw["loc"]
    path = _path_in(data, loc)
    context: Mapping[str, Any] = raw.get("ctx") or {}
    if kind == "missing":
        return Finding(path=(*path, loc[-1]), message="is required and not given; add it")
    if kind == "extra_forbidden":
        valid = sorted(_fields_at(model, path[:-1], data))
        return Finding(path=path, message=_unknown_key(str(loc[-1]), valid), at_key=True)
    cause = context.get("error")
    if isinstance(cause, FieldError):
        return Finding(path=(*path, *cause.key.split(".")), message=cause.message)
    if kind == "value_error" and cause is not None:
        return Finding(path=path, message=str(cause))
    if kind == "union_tag_not_found":
        key = str(context["discriminator"]).strip("'")
        return Finding(path=(*path, key), message="is required and not given; add it")
    if kind in ("literal_error", "enum", "union_tag_invalid"):
        if kind == "union_tag_invalid":
            path = (*path, str(context["discriminator"]).strip("'"))
            got = str(context["tag"])
        else:
            got = str(raw["input"])
        return Finding(path=path, message=_unknown_word(got, context))
    if kind in ("tuple_type", "list_type"):
        return Finding(path=path, message=_no_list(path, raw))
    if kind in ("model_type", "model_attributes_type", "dict_type", "mapping_type"):
        return Finding(path=path, message=_no_mapping(model, path, data, raw))
    message = str(raw["msg"]).replace("Input should be", "must be")
    return Finding(path=path, message=f"{message[0].lower()}{message[1:]}, not {_shown(raw)}")


def _no_list(path: KeyPath, raw: Mapping[str, Any]) -> str:
    value = raw["input"]
    if isinstance(value, Mapping) or value is None or not path:
        return f"must be a list, not {_shown(raw)}; write one such as [1, 2]"
    text = str(value)
    item = text if re.fullmatch(r"[\w.+-]+", text) else f'"{text}"'
    return f"must be a list, not {_shown(raw)}; write {path[-1]}: [{item}]"


def _no_mapping(
    model: type[BaseModel], path: KeyPath, data: object, raw: Mapping[str, Any]
) -> str:
    """What the value has to hold instead: the keys that must be there, and those that may."""
    fields = _all_fields_at(model, path, data)
    if not fields or not path:
        return f"must hold keys, not {_shown(raw)}; write `key: value` in it"
    needed = [name for name, required in fields.items() if required]
    if not needed:
        keys = ", ".join(sorted(fields))
        return f"must hold keys, not {_shown(raw)}; write {path[-1]}: {{KEY: ...}}, of {keys}"
    inner = ", ".join(f"{name}: ..." for name in needed)
    more = [name for name in sorted(fields) if name not in needed]
    others = f" (or {', '.join(more)})" if more else ""
    return f"must hold keys, not {_shown(raw)}; write {path[-1]}: {{{inner}}}{others}"


def _shown(raw: Mapping[str, Any]) -> str:
    value = raw["input"]
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unknown_key(word: str, valid: Sequence[str]) -> str:
    if not valid:
        return "is no known key; remove it"
    keys = f"alid keys: {', '.join(valid)}"
    near = _near(word, valid)
    return f"is no known key{near} V{keys}" if near else f"is no known key; v{keys}"


def _unknown_word(word: str, context: Mapping[str, Any]) -> str:
    expected = str(context.get("expected") or context.get("expected_tags") or "")
    valid = re.findall(r"'([^']*)'", expected)
    words = f"ne of: {', '.join(valid)}"
    near = _near(word, valid)
    return f"{word!r} is not known{near} O{words}" if near else f"{word!r} is not known; o{words}"


def _near(word: str, valid: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _path_in(data: object, loc: Sequence[str | int]) -> KeyPath:
    """The part of a pydantic location that are keys of the data; names of branches fall away."""
    path: list[str | int] = []
    for step in loc:
        if _holds(data, step):
            data = typing.cast("Any", data)[step]
            path.append(step)
    return tuple(path)


def _holds(data: object, step: str | int) -> bool:
    if isinstance(data, list):
        return isinstance(step, int) and 0 <= step < len(data)
    return isinstance(data, Mapping) and step in data


def _fields_at(model: type[BaseModel], path: KeyPath, data: object) -> set[str]:
    """The keys that the models reachable at `path` would accept there."""
    return set(_all_fields_at(model, path, data))


def _all_fields_at(model: type[BaseModel], path: KeyPath, data: object) -> dict[str, bool]:
    """Those keys, and whether each is required."""
    kinds: list[object] = [model]
    for step in path:
        kinds = [inner for kind in _models(kinds, data) for inner in _inner(kind, step)]
        data = typing.cast("Any", data)[step] if _holds(data, step) else None
    names: dict[str, bool] = {}
    for kind in _models(kinds, data):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            for name, info in kind.model_fields.items():
                names[info.alias or name] = info.is_required()
    return names


def _models(kinds: Sequence[object], data: object) -> Iterator[object]:
    """Unions opened, Annotated peeled, models whose literal tag contradicts the data left out,
    unless that leaves none."""
    opened = list(_opened(kinds))
    yield from [kind for kind in opened if not _contradicted(kind, data)] or opened


def _opened(kinds: Sequence[object]) -> Iterator[object]:
    for kind in kinds:
        origin = typing.get_origin(kind)
        if origin is typing.Annotated:
            yield from _opened([typing.get_args(kind)[0]])
        elif origin in (typing.Union, UnionType):
            yield from _opened(typing.get_args(kind))
        else:
            yield kind


def _contradicted(kind: object, data: object) -> bool:
    if not (isinstance(kind, type) and issubclass(kind, BaseModel) and isinstance(data, Mapping)):
        return False
    return any(
        typing.get_origin(info.annotation) is Literal
        and name in data
        and data[name] not in typing.get_args(info.annotation)
        for name, info in kind.model_fields.items()
    )


def _inner(kind: object, step: str | int) -> Iterator[object]:
    """What `kind` holds under one key: a model's field, a list's items, a mapping's values."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, info in kind.model_fields.items():
            if step in (name, info.alias):
                yield info.annotation
    else:
        yield from typing.get_args(kind)[-1:]
