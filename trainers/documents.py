"""A YAML 1.2 file whose every problem is told with its line, its key and its remedy.

Reads one file, touches nothing else. ruamel.yaml scans and composes; this module resolves the
scalars by the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/, section 10.3: `1e18` is a
number, `no` is a word), remembers where each key and value stands, and refuses what a
configuration has no use for: duplicate keys, custom tags, aliases that grow without bound,
non-finite numbers. `validate` turns pydantic's findings into the same kind of problem.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from trainers.findings import problems_of

MAX_BYTES = 256_000
MAX_VALUES = 100_000
MAX_DEPTH = 40

Key = str | int
KeyPath = tuple[Key, ...]
Model = TypeVar("Model", bound=BaseModel)

_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong: where it stands, under which dotted key, what and what to do."""

    place: str
    key: str
    message: str

    def __str__(self) -> str:
        return "  ".join(part for part in (self.place, self.key, self.message) if part)


class SpecError(ValueError):
    """All problems of one document at once; nothing was started because of them."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        total = f"{count} problem{'' if count == 1 else 's'}. Nothing was started."
        return "\n".join([*map(str, self.problems), total])


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a key and its value stand in the text, already in words."""

    key: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Plain data (what JSON can hold) and the place of every key in it."""

    name: str
    data: dict[str, object]
    spots: Mapping[KeyPath, _Spot] = field(repr=False)

    def place(self, path: Sequence[Key], *, at_key: bool = False) -> str:
        """`file.yaml:3:7` for a dotted path, or for the nearest part of it that exists."""
        for end in range(len(path), -1, -1):
            spot = self.spots.get(tuple(path[:end]))
            if spot is not None:
                return spot.key if at_key or end < len(path) else spot.value
        return self.name

    def problem(self, path: Sequence[Key], message: str, *, at_key: bool = False) -> Problem:
        """A problem found later, told at the place of `path`."""
        key = ".".join(map(str, path))
        return Problem(place=self.place(path, at_key=at_key), key=key, message=message)

    def with_overrides(self, assignments: Sequence[str]) -> Document:
        """A copy with `a.b=value` applied in order; raises SpecError for those it cannot read."""
        data, spots = _copied(self.data), dict(self.spots)
        problems: list[Problem] = []
        for assignment in assignments:
            try:
                _assign(data, spots, assignment)
            except _Refused as refused:
                problems.append(refused.problem)
        if problems:
            raise SpecError(problems)
        return Document(name=self.name, data=data, spots=spots)


def load_document(path: str | Path) -> Document:
    """Read one YAML mapping from a file. Raises SpecError with the place of what is wrong."""
    path = Path(path)
    name = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise _error(name, f"cannot be read: {reason}; give the path of a YAML file") from None
    if len(raw) > MAX_BYTES:
        raise _error(name, f"is larger than {MAX_BYTES} bytes; a configuration is never that long")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _error(name, f"is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    return parse_document(text, name=name)


def parse_document(text: str, *, name: str) -> Document:
    """Read one YAML mapping from text; `name` stands for the file in every problem."""
    try:
        node = _compose(text, name)
        if not isinstance(node, MappingNode):
            found = "is empty" if node is None else "does not hold a mapping"
            raise _refuse(name, "", f"{found}; write `key: value` lines")
        reader = _Reader(name=name)
        data = reader.mapping(node)
    except _Refused as refused:
        raise SpecError([refused.problem]) from None
    if reader.problems:
        raise SpecError(reader.problems)
    return Document(name=name, data=data, spots=reader.spots)


def validate(document: Document, model: type[Model]) -> Model:
    """The document as `model`; raises SpecError listing everything that is wrong with it."""
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        findings = problems_of(error, model, document.data)
        raise SpecError(
            document.problem(found.path, found.message, at_key=found.at_key) for found in findings
        ) from None


class _Refused(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


def _refuse(place: str, key: str, message: str) -> _Refused:
    return _Refused(Problem(place=place, key=key, message=message))


def _error(place: str, message: str) -> SpecError:
    return SpecError([Problem(place=place, key="", message=message)])


def _compose(text: str, name: str) -> Node | None:
    try:
        return YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = name if mark is None else f"{name}:{mark.line + 1}:{mark.column + 1}"
        raise _refuse(place, "", f"{error.problem}; {_remedy(str(error.problem))}") from None
    except YAMLError as error:
        first = str(error).strip().splitlines()[0]
        raise _refuse(name, "", f"is not YAML: {first}; remove it") from None
    except RecursionError:
        raise _refuse(name, "", "is nested too deeply; flatten it") from None


def _remedy(problem: str) -> str:
    if r"'\t'" in problem or "tab" in problem:
        return "indent with spaces, not tabs"
    if "alias" in problem:
        return "define the anchor (&name) before the alias (*name), or quote the text"
    if "document" in problem:
        return "keep one document in the file, without `---` between parts"
    if "mapping values" in problem:
        return "quote a value that contains a colon, and check the indentation"
    return "check quotes, brackets and indentation just before this place"


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Walks composed nodes: plain data out, places noted, oddities refused."""

    name: str
    spots: dict[KeyPath, _Spot] = field(default_factory=dict[KeyPath, _Spot])
    problems: list[Problem] = field(default_factory=list[Problem])
    fixed_place: str | None = None
    values: int = 0

    def mapping(self, node: MappingNode) -> dict[str, object]:
        self.spots[()] = _Spot(self.name, self.name)
        return self._mapping(node, ())

    def read(self, node: Node, path: KeyPath, *, key: Node | None = None) -> object:
        own, at_key = self._place(node), self._place(key or node)
        block = isinstance(node, (MappingNode, SequenceNode)) and not node.flow_style
        self.spots[path] = _Spot(at_key, at_key if block else own)
        self.values += 1
        if self.values > MAX_VALUES:
            message = f"expands to more than {MAX_VALUES} values; use fewer aliases"
            raise _refuse(own, _dotted(path), message)
        if len(path) > MAX_DEPTH:
            raise _refuse(own, "", f"is nested more than {MAX_DEPTH} deep; flatten it")
        self._check_tag(node, path)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _place(self, node: Node) -> str:
        mark = node.start_mark
        if self.fixed_place is not None or mark is None:
            return self.fixed_place or self.name
        return f"{self.name}:{mark.line + 1}:{mark.column + 1}"

    def _report(self, node: Node, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(place=self._place(node), key=_dotted(path), message=message))

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, object]:
        data: dict[str, object] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._report(key, path, "a key must be a word; remove the brackets")
                continue
            word = str(key.value)
            if word == "<<":
                self._report(key, path, "merge keys are not YAML 1.2; repeat the keys instead")
            elif word in data:
                first = self.spots[(*path, word)].key
                message = f"is given twice, first at {first}; keep one of them"
                self._report(key, (*path, word), message)
            else:
                data[word] = self.read(value, (*path, word), key=key)
        return data

    def _scalar(self, node: Node, path: KeyPath) -> object:
        text = str(node.value)
        if not isinstance(node, ScalarNode) or node.style is not None:
            return text
        if text in _NULLS:
            return None
        if text in _BOOLS:
            return _BOOLS[text]
        if _NOT_FINITE.fullmatch(text):
            self._report(node, path, f"{text} is not finite; write a finite number")
            return None
        return _number(text)

    def _check_tag(self, node: Node, path: KeyPath) -> None:
        """Explicit tags have a handle (`!` or `!!`); those of the schema itself have none."""
        if node.ctag is not None and node.ctag.handle is not None:
            message = f"carries the tag {node.tag!s}, which is not read; remove the tag"
            self._report(node, path, message)


def _number(text: str) -> object:
    """A plain scalar by the core schema: int, float, or the text itself."""
    if len(text) <= 64 and _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if len(text) <= 64 and _FLOAT.fullmatch(text):
        value = float(text)
        return value if math.isfinite(value) else text
    return text


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))


def _copied(data: dict[str, object]) -> dict[str, object]:
    def copy(value: object) -> object:
        if isinstance(value, dict):
            return {key: copy(item) for key, item in value.items()}
        if isinstance(value, list):
            return [copy(item) for item in value]
        return value

    return {key: copy(value) for key, value in data.items()}


def _assign(data: dict[str, object], spots: dict[KeyPath, _Spot], assignment: str) -> None:
    """Put one `a.b=value` into `data`, and its place into `spots`."""
    dotted, equals, text = assignment.partition("=")
    dotted = dotted.strip()
    place = f"--set {dotted}"
    if not equals or not dotted or "" in dotted.split("."):
        message = f"{assignment!r} is not an assignment; write a.b=value"
        raise _refuse("--set", "", message)
    path, holder = _holder(data, dotted.split("."), place)
    for old in [spot for spot in spots if spot[: len(path)] == path]:
        del spots[old]
    for end in range(1, len(path)):
        spots.setdefault(path[:end], _Spot(place, place))
    node = _compose(text, place) if text.strip() else None
    reader = _Reader(name=place, fixed_place=place)
    value = None if node is None else reader.read(node, path)
    if reader.problems:
        raise _Refused(reader.problems[0])
    spots.update(reader.spots)
    spots.setdefault(path, _Spot(place, place))
    holder[path[-1]] = value


def _holder(data: dict[str, object], words: list[str], place: str) -> tuple[KeyPath, Any]:
    """The mapping or list that the last word is a key of, made on the way where it is missing."""
    path: list[Key] = []
    holder: Any = data
    for depth, word in enumerate(words):
        key: Any = word
        if isinstance(holder, list):
            if not word.isdecimal() or int(word) >= len(holder):
                message = f"{word!r} is no index of a list of {len(holder)} (they start at 0)"
                raise _refuse(place, "", message)
            key = int(word)
        elif not isinstance(holder, dict):
            above = ".".join(words[:depth])
            message = f"{above!r} holds {holder!r}, not a mapping; set {above!r} itself"
            raise _refuse(place, "", message)
        path.append(key)
        if depth < len(words) - 1:
            if isinstance(holder, dict) and holder.get(word) is None:
                holder[word] = {}
            holder = holder[key]
    return tuple(path), holder
