"""A table of finished runs: one row a run, `params, tokens, loss`, and `flops` where counted.

Reads one file; touches nothing else. A run is a curve of one point. Without a flops column its
compute is 6 N D.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from orchestrator.recorded import LARGEST_BYTES, RecordedCurve, RecordedError, whole_params

NEEDED = ("params", "tokens", "loss")


def finished_in(path: str) -> dict[str, RecordedCurve] | None:
    """The runs of a table by the number of their row; None where it has a curve_id column, and so
    holds curves. Raises RecordedError where it cannot be read, lacks a column, or a cell is no
    positive number; the message names the line, the column and the remedy."""
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        if "curve_id" in columns:
            return None
        _check(path, columns)
        runs: dict[str, RecordedCurve] = {}
        for row in reader:
            cells = {(k or "").strip(): v for k, v in row.items()}
            place = f"{path}, line {reader.line_num}"
            if None in row:
                raise RecordedError(
                    f"{place} has more cells than the header; numbers are written without commas"
                )
            runs[f"run-{len(runs) + 1}"] = _run(place, cells)
    except csv.Error as error:
        raise RecordedError(f"{path} is no CSV table: {error}") from None
    if not runs:
        raise RecordedError(f"{path} holds no runs; it needs rows under {', '.join(NEEDED)}")
    return runs


def phases_in(path: str) -> dict[str, int]:
    """The words of a table's phase column, sorted, and the first line of each; none where it has
    no such column. Raises RecordedError where it cannot be read."""
    rows = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        columns = [name.strip() for name in next(rows, list[str]())]
        if "phase" not in columns:
            return {}
        place = columns.index("phase")
        first: dict[str, int] = {}
        for row in rows:
            if len(row) > place:
                first.setdefault(row[place].strip(), rows.line_num)
        return dict(sorted(first.items()))
    except csv.Error as error:
        raise RecordedError(f"{path} is no CSV table: {error}") from None


def starts_in(path: str) -> dict[tuple[str, int], int]:
    """Of a table's annealed rows, by curve_id and tokens, where the rate began to fall: its
    decay_start column, in tokens; what leaves it empty is left out. Raises RecordedError where a
    cell is no count of tokens before the row's own."""
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    found: dict[tuple[str, int], int] = {}
    try:
        for row in reader:
            cells = {(k or "").strip(): v for k, v in row.items()}
            phase, text = cells.get("phase"), cells.get("decay_start")
            if not isinstance(phase, str) or phase.strip() != "annealed":
                continue
            if not isinstance(text, str) or not text.strip():
                continue
            place = f"{path}, line {reader.line_num}"
            tokens = _positive(place, cells, "tokens")
            start = _start(place, text.strip())
            if start >= tokens:
                raise RecordedError(
                    f"{place}: decay_start {start:.0f} does not lie before the row's own tokens,"
                    f" {tokens:.0f}; it is where the rate began to fall"
                )
            found[str(cells.get("curve_id")).strip(), int(tokens)] = int(start)
    except csv.Error as error:
        raise RecordedError(f"{path} is no CSV table: {error}") from None
    return found


def _start(place: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise RecordedError(
            f"{place}: decay_start is {text!r}; write the tokens at which the rate began to fall,"
            " or leave it empty where they are not known"
        )
    return value


def _text(path: str) -> str:
    try:
        raw = Path(path).read_bytes()
        if raw.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(raw)) as file:
                raw = file.read(LARGEST_BYTES + 1)
        if len(raw) > LARGEST_BYTES:
            raise RecordedError(f"{path} holds more than {LARGEST_BYTES} bytes")
        return raw.decode("utf-8-sig")
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecordedError(f"{path} cannot be read: {reason}; give a CSV file") from None
    except UnicodeDecodeError as error:
        raise RecordedError(f"{path} is no CSV table in UTF-8: {error}") from None


def _check(path: str, columns: list[str]) -> None:
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise RecordedError(
            f"{path} lacks the column {missing[0]!r}; it has {', '.join(columns[:12]) or 'none'}."
            " A table of finished runs needs params, tokens and loss (flops if counted), one of"
            " curves curve_id, params, tokens, flops and loss: rename or add the column"
        )
    if len(set(columns)) < len(columns):
        raise RecordedError(f"{path} names a column twice: {', '.join(columns)}; rename one")


def _run(place: str, cells: Mapping[str, str | list[str] | None]) -> RecordedCurve:
    params, tokens, loss = (_positive(place, cells, name) for name in NEEDED)
    flops = _positive(place, cells, "flops") if "flops" in cells else 6.0 * params * tokens
    if not tokens.is_integer() or tokens >= 2**63:
        raise RecordedError(f"{place}: tokens {cells['tokens']!r} is no whole number below 2**63")
    try:
        size = whole_params(params)
    except ValueError as error:
        raise RecordedError(f"{place}: {error}") from None
    return RecordedCurve(
        curve_id=place,
        tokens=np.array([int(tokens)], np.int64),
        flops=np.array([flops], np.float64),
        loss=np.array([loss], np.float64),
        params=size,
    )


def _positive(place: str, cells: Mapping[str, str | list[str] | None], column: str) -> float:
    text = cells.get(column)
    shown = text.strip() if isinstance(text, str) else ""
    try:
        value = float(shown)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        raise RecordedError(
            f"{place}: {column} is {repr(shown) if shown else 'empty'}; write a number above"
            " zero, or remove the row of a run that diverged"
        )
    return value
