"""The `rooms` contract of import-linter: each module imports what its room allows, nothing else.

import-linter's own contracts say what is forbidden; a wall needs the opposite, or the next
dependency slips in unnamed. `.importlinter` holds the table; `lint-imports` runs this file.

Touches nothing. Format of one line of the table:

    orchestrator.policies.*: orchestrator.values orchestrator.state numpy

The name before the colon is a module or package with all that is in it; ending in `.*` it makes a
room of its own of each child, so that siblings are strangers, and ending in `.__init__` it is the
package's own file alone. A module belongs to the longest name that fits. The names after it are modules, packages with all that is in them, or distributions'
top-level packages; the standard library and the room itself are always allowed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal, cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

OUR_PACKAGES = ("orchestrator", "trainers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """One line of the table; `name` is without its ending, `reach` says which it had."""

    name: str
    reach: Literal["whole", "children", "itself"]
    allowed: tuple[str, ...]

    @classmethod
    def parse(cls, line: str) -> Room:
        """Raises ValueError when the line is not `name: allowed allowed`."""
        name, colon, allowed = line.partition(":")
        name = name.strip()
        if not name or not colon:
            raise ValueError(f"room {line!r} is not of the form 'name: allowed allowed'")
        reach = "whole"
        if name.endswith(".*"):
            name, reach = name.removesuffix(".*"), "children"
        elif name.endswith(".__init__"):
            name, reach = name.removesuffix(".__init__"), "itself"
        return cls(name=name, reach=reach, allowed=tuple(allowed.split()))

    def inside(self, module: str) -> str | None:
        """The root of the room that `module` is in, or None when it is in none of this line."""
        if not _within(module, self.name):
            return None
        if self.reach == "whole":
            return self.name
        if self.reach == "itself":
            return self.name if module == self.name else None
        child = module[len(self.name) + 1 :].partition(".")[0]
        return f"{self.name}.{child}" if child else None


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _room_of(module: str, rooms: list[Room]) -> tuple[str, Room] | None:
    found = [(root, room) for room in rooms if (root := room.inside(module)) is not None]
    # `a.b` beats `a.*` for the module a.b: both roots are as long, the named one is meant.
    return max(found, key=lambda pair: (len(pair[0]), pair[1].reach != "children"), default=None)


def _may_import(imported: str, root: str, room: Room) -> bool:
    top_level = imported.partition(".")[0]
    if top_level in sys.stdlib_module_names:
        return True
    inside = imported == root if room.reach == "itself" else _within(imported, root)
    return inside or any(_within(imported, name) for name in room.allowed)


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
            root, room = found
            for imported in sorted(graph.find_modules_directly_imported_by(module)):
                if not _may_import(imported, root, room):
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
        metadata = cast("dict[str, Any]", check.metadata)
        for module in metadata["homeless"]:
            output.print_error(f"- {module} is in no room: give it a line in .importlinter")
        for trespass in metadata["trespasses"]:
            output.print_error(f"- {trespass}")
        output.new_line()
