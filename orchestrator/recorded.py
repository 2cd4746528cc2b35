"""Curves measured before, from a CSV table: one row a point, checked row by row.

Columns `curve_id, tokens, flops, loss`; `params` where it is known; any other column whose value
is constant along every curve is a setting. Reads one file (plain or gzipped), and nothing else.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np

from orchestrator.naming import safe_ids
from orchestrator.values import Candidate, FloatArray, IntArray, Scalar

Row: TypeAlias = Mapping[str | None, str | None]
"""Cells by column; None as a key holds cells beyond the header, None as a value a missing cell."""

NEEDED = ("curve_id", "tokens", "flops", "loss")
LARGEST_BYTES = 500_000_000


class RecordedError(ValueError):
    """A table of curves that cannot be replayed; the message names the file and the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCurve:
    """One curve: arrays of shape (points,), strictly increasing in tokens and in FLOPs.

    `curve_id` is the table's own name; `params` None where the table has no such column.
    """

    curve_id: str
    tokens: IntArray
    flops: FloatArray
    loss: FloatArray
    params: int | None = None
    settings: tuple[tuple[str, Scalar], ...] = ()

    def candidate(self, trial: str) -> Candidate:
        """The curve as something a policy can buy: its last point is its horizon.

        FLOPs per token are those of the last point. Without a params column N is 1.
        """
        return Candidate(
            id=trial,
            params=self.params or 1,
            horizon=int(self.tokens[-1]),
            flops_per_token=float(self.flops[-1]) / int(self.tokens[-1]),
            tokens_per_step=1,
            settings=self.settings,
        )


def read_recorded(
    path: str | Path, *, sha256: str | None = None, phase: str | None = None
) -> dict[str, RecordedCurve]:
    """Every curve of the table by its path-safe id, in the order of first appearance. phase: rows
    of this word in the phase column alone; none such is no curve.

    Raises RecordedError where the file cannot be read, is another than `sha256` says, or a row is
    not a point that follows the curve's last one.
    """
    name = str(path)
    rows, columns = _rows(Path(path), name, sha256)
    curves: dict[str, _Growing] = {}
    for line, row in rows:
        if phase is not None and (row.get("phase") or "").strip() != phase:
            continue
        try:
            _add_row(curves, row)
        except ValueError as error:
            raise RecordedError(f"{name}, line {line}: {error}") from None
    if not curves and phase is None:
        raise RecordedError(f"{name} holds no points; it needs rows under {', '.join(NEEDED)}")
    extra = [column for column in columns if column not in (*NEEDED, "params")]
    settings = [key for key in extra if all(key in curve.constant for curve in curves.values())]
    ids = safe_ids(curves)
    return {
        trial: curve.finished(settings) for trial, curve in zip(ids, curves.values(), strict=True)
    }


def _rows(
    path: Path, name: str, sha256: str | None
) -> tuple[list[tuple[int, Row]], tuple[str, ...]]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise RecordedError(f"{name} cannot be read: {error.strerror}; give a CSV file") from None
    digest = hashlib.sha256(raw).hexdigest()
    if sha256 is not None and digest != sha256:
        raise RecordedError(f"{name} is not the file of this sweep: its SHA-256 is {digest}")
    try:
        text = _unpacked(raw).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns = tuple(reader.fieldnames or ())
        rows = [(reader.line_num, cast("Row", row)) for row in reader]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise RecordedError(f"{name} is no CSV table in UTF-8: {error}") from None
    missing = [column for column in NEEDED if column not in columns]
    if missing:
        found = ", ".join(columns[:12]) or "none"
        raise RecordedError(f"{name} lacks the column {missing[0]!r}; it has {found}")
    if len(set(columns)) < len(columns):
        raise RecordedError(f"{name} names a column twice: {', '.join(columns)}")
    return rows, columns


def _unpacked(raw: bytes) -> bytes:
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    with gzip.open(io.BytesIO(raw)) as file:
        text = file.read(LARGEST_BYTES + 1)
    if len(text) > LARGEST_BYTES:
        raise OSError(f"it unpacks to more than {LARGEST_BYTES} bytes")
    return text


@dataclass(slots=True)
class _Growing:
    """A curve while its rows arrive."""

    curve_id: str
    params: int | None
    constant: dict[str, str]
    tokens: list[int] = field(default_factory=list[int])
    flops: list[float] = field(default_factory=list[float])
    loss: list[float] = field(default_factory=list[float])

    def finished(self, settings: list[str]) -> RecordedCurve:
        return RecordedCurve(
            curve_id=self.curve_id,
            tokens=np.array(self.tokens, np.int64),
            flops=np.array(self.flops, np.float64),
            loss=np.array(self.loss, np.float64),
            params=self.params,
            settings=tuple((key, _scalar(self.constant[key])) for key in settings),
        )


def _add_row(curves: dict[str, _Growing], row: Row) -> None:
    cells = {key: (value or "").strip() for key, value in row.items() if key is not None}
    if None in row or None in row.values():
        raise ValueError("has another number of cells than the header; complete or remove it")
    curve_id = cells["curve_id"]
    if not curve_id:
        raise ValueError("has no curve_id; every point belongs to a curve")
    tokens, flops, loss = (_positive(cells, column) for column in ("tokens", "flops", "loss"))
    if not tokens.is_integer() or tokens >= 2**63:
        raise ValueError(f"tokens {cells['tokens']!r} is no whole number below 2**63")
    params = _params(cells)
    curve = curves.get(curve_id)
    if curve is None:
        constant = {k: v for k, v in cells.items() if k not in (*NEEDED, "params")}
        curve = curves[curve_id] = _Growing(curve_id, params, constant)
    elif params != curve.params:
        raise ValueError(
            f"curve {curve_id!r} had {curve.params} params, now {params}; one is wrong"
        )
    elif tokens <= curve.tokens[-1] or flops <= curve.flops[-1]:
        raise ValueError(
            f"curve {curve_id!r} was at {curve.tokens[-1]} tokens and {curve.flops[-1]:g} FLOPs, "
            f"now {tokens:.0f} and {flops:g}; sort by tokens and remove duplicates"
        )
    for key in [key for key, value in curve.constant.items() if cells[key] != value]:
        del curve.constant[key]
    curve.tokens.append(int(tokens))
    curve.flops.append(flops)
    curve.loss.append(loss)


def _params(cells: Mapping[str, str]) -> int | None:
    return whole_params(_positive(cells, "params")) if "params" in cells else None


def whole_params(value: float) -> int:
    """A count of parameters. Raises ValueError for one in millions or billions, which has a
    fraction: rounded, 0.125 would be no model and 1.3 another one."""
    whole = round(value)
    if abs(value - whole) > 1e-6 * value:
        raise ValueError(
            f"params {value:g} is no whole number; write a count of parameters, such as 125000000"
        )
    return whole


def _positive(cells: Mapping[str, str], column: str) -> float:
    text = cells[column]
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{column} {text!r} is no number") from None
    if not math.isfinite(value) or value <= 0:
        raise ValueError(f"{column} is {text}; it must be finite and above zero")
    return value


def _scalar(text: str) -> Scalar:
    for read in (int, float):
        try:
            value = read(text)
        except ValueError:
            continue
        if math.isfinite(value):
            return value
    return text
