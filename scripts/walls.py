"""The `rooms` contract of import-linter: each module imports what its room allows, nothing else.

import-linter's own contracts say what is forbidden; a wall needs the opposite, or the next
dependency slips in unnamed. `.importlinter` holds the table; `lint-imports` runs this file.

Touches nothing. Two lines of the table:

    orchestrator.spec orchestrator.pool: orchestrator.values pydantic
    orchestrator.policies.*: orchestrator.values orchestrator.state numpy

Before the colon stand the modules and packages (with all that is in them) that share the room. A
name that ends in `.*` makes a room of its own of each child, so that siblings are strangers; one
that ends in `.__init__` is the package's own file alone. A module belongs to the longest name that
fits. After the colon stand modules, packages, or top-level packages of distributions; the standard
library and the room itself are always allowed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

OUR_PACKAGES = ("orchestrator", "trainers")
CHILDREN = ".*"
ITSELF = ".__init__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """One line of the table: the names that share a room, and what they may import."""

    names: tuple[str, ...]
    allowed: tuple[str, ...]

    @classmethod
    def parse(cls, line: str) -> Room:
        """Raises ValueError when the line is not `name name: allowed allowed`."""
        names, colon, allowed = line.partition(":")
        if not names.strip() or not colon:
            raise ValueError(f"room {line!r} is not of the form 'name name: allowed allowed'")
        return cls(names=tuple(names.split()), allowed=tuple(allowed.split()))

    def allows(self, name: str, module: str, imported: str) -> bool:
        """Whether `module`, which is here by `name`, may import `imported`."""
        if imported.partition(".")[0] in sys.stdlib_module_names:
            return True
        if any(_within(imported, allowed) for allowed in self.allowed):
            return True
        if name.endswith(CHILDREN):
            return _within(imported, _child(module, name))
        return any(_covers(shared, imported) for shared in self.names)


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _child(module: str, name: str) -> str:
    """The child of the package in `name` (`package.*`) that `module` is or lies in."""
    package = name.removesuffix(CHILDREN)
    return ".".join(module.split(".")[: package.count(".") + 2])


def _covers(name: str, module: str) -> bool:
    if name.endswith(ITSELF):
        return module == name.removesuffix(ITSELF)
    if name.endswith(CHILDREN):
        package = name.removesuffix(CHILDREN)
        return module != package and _within(module, package)
    return _within(module, name)


def _room_of(module: str, rooms: list[Room]) -> tuple[str, Room] | None:
    """The room of a module and the name that it is there by; None when it has none."""
    found = [(name, room) for room in rooms for name in room.names if _covers(name, module)]

    def closeness(pair: tuple[str, Room]) -> tuple[int, bool]:
        name = pair[0].removesuffix(CHILDREN).removesuffix(ITSELF)
        return name.count("."), pair[0].endswith((CHILDREN, ITSELF))

    return max(found, key=closeness, default=None)


class RoomsContract(Contract):
    """Direct imports against the table; also broken by a module that is in no room."""

    type_name = "rooms"

    rooms = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        rooms = [Room.parse(line) for line in cast("list[str]", self.rooms)]
        homeless: list[str] = []
        trespasses: list[str] = []
        ours = (m for m in graph.modules if m.partition(".")[0] in OUR_PACKAGES)
        for module in sorted(ours):
            found = _room_of(module, rooms)
            if found is None:
                homeless.append(module)
                continue
            name, room = found
            for imported in sorted(graph.find_modules_directly_imported_by(module)):
                if not room.allows(name, module, imported):
                    details = graph.get_import_details(importer=module, imported=imported)
                    lines = ", ".join(str(detail["line_number"]) for detail in details)
                    allowed = " ".join(room.allowed) or "the standard library alone"
                    trespasses.append(
                        f"{module} -> {imported} (line {lines}); its room allows {allowed}"
                    )
        return ContractCheck(
            kept=not homeless and not trespasses,
            metadata={"homeless": homeless, "trespasses": trespasses},
        )

    def render_broken_contract(self, check: ContractCheck) -> None:
        metadata: dict[str, Any] = check.metadata
        for module in metadata["homeless"]:
            output.print_error(f"- {module} is in no room: give it a line in .importlinter")
        for trespass in metadata["trespasses"]:
            output.print_error(f"- {trespass}")
        output.new_line()
