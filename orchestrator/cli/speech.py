"""How the command talks: words for people on stderr, data on stdout, errors with a code.

Touches the two streams. Nothing is read as markup, and control characters in names are not
printed.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.report.words import plain

DONE, FAULT, BAD, LATER = 0, 1, 2, 75


class _People(Console):
    """Falls silent where rich would end the process: whoever read the words has left."""

    def on_broken_pipe(self) -> None:
        self.quiet = True

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError:  # the terminal is gone
            self.quiet = True
            self._buffer.clear()


def people() -> Console:
    """stderr. Not a terminal: no colours, and lines wide enough for a table."""
    width = None
    if not sys.stderr.isatty() and "COLUMNS" not in os.environ:
        width = 120
    return _People(stderr=True, highlight=False, markup=False, emoji=False, width=width)


def say(line: str = "", *, style: str = "") -> None:
    """A line for people; several lines are printed as they are."""
    console = people()
    for part in line.split("\n"):
        console.print(Text(plain(part), style=style), soft_wrap=True)


@contextmanager
def busy(what: str) -> Generator[Callable[[str], None]]:
    """Says on a terminal what takes a while, in a line that goes away; the value replaces it."""
    console = people()
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda _: None
        return
    with console.status(Text(plain(what))) as line:
        yield lambda text: line.update(Text(plain(text)))


def data(verb: str, record: Mapping[str, object]) -> None:
    """A record for programs, under its schema."""
    whole = {"schema": f"frontrunner.{verb}/1", **record}
    sys.stdout.write(json.dumps(whole, indent=1, allow_nan=False) + "\n")
    sys.stdout.flush()


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[int] = (),
    folds: Sequence[int] = (),
    styles: Sequence[str] = (),
) -> None:
    """A table for people. `numbers` are columns set to the right, `folds` those that may wrap;
    `styles` colours rows."""
    grid = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style="bold",
        show_edge=False,
    )
    for place, head in enumerate(heads):
        grid.add_column(
            head,
            justify="right" if place in numbers else "left",
            no_wrap=place not in folds,
            overflow="fold" if place in folds else "ellipsis",
        )
    for place, row in enumerate(rows):
        style = styles[place] if place < len(styles) else ""
        grid.add_row(*(Text(plain(cell)) for cell in row), style=style)
    people().print(grid)


def program() -> str:
    """The command as it was called, short enough to be typed again."""
    called = sys.argv[0]
    if Path(called).name in ("__main__.py", "-c", "pytest", ""):
        return "frontrunner"
    found = shutil.which(Path(called).name)
    if found is not None and os.path.realpath(found) == os.path.realpath(called):
        return Path(called).name
    path = Path(os.path.abspath(called))
    try:
        return shlex.quote(str(path.relative_to(Path.cwd())))
    except ValueError:
        return shlex.quote(str(path))


def handle(folder: str, name: str) -> str:
    """What to call a sweep on the command line from here: its name, or its folder."""
    here = Path(os.path.abspath("sweeps")) / name
    return name if Path(folder) == here else shlex.quote(folder)


def beside(tool: str) -> str:
    """A tool of the same installation, as it is typed here."""
    if shutil.which(tool) is not None:
        return tool
    path = Path(sys.executable).parent / tool
    try:
        return shlex.quote(str(path.relative_to(Path.cwd())))
    except ValueError:
        return shlex.quote(str(path))
