"""Records that a benchmark keeps as lines of JSON, read back so that it goes on where it stopped.

Touches the one file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def records_in(out: Path | None) -> Iterator[dict[str, Any]]:
    """The records of earlier runs; a line that a kill cut short is ended and left out."""
    if out is None or not out.is_file():
        return
    text = out.read_text(encoding="utf-8")
    if text and not text.endswith("\n"):
        with out.open("a", encoding="utf-8") as file:
            file.write("\n")
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue
