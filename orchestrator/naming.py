"""Short, readable, path-safe ids for candidates, made of the settings that vary: `w64-l2-lr0.003`.

Touches nothing. An id matches [a-z0-9][a-z0-9._-]* and is unique in its pool; the same pool always
gives the same ids.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import TypeAlias

from orchestrator.values import Scalar

Settings: TypeAlias = tuple[tuple[str, Scalar], ...]

_SHORT = {
    "model.width": "w",
    "model.layers": "l",
    "model.heads": "h",
    "model.context": "ctx",
    "model.vocab": "v",
    "optimizer.learning_rate": "lr",
    "optimizer.weight_decay": "wd",
    "optimizer.beta1": "b1-",
    "optimizer.beta2": "b2-",
    "schedule.warmup": "wu",
    "batch_tokens": "b",
    "horizon": "d",
    "horizon.tokens_per_param": "dn",
    "seed": "s",
}
_LONGEST_TEXT = 24


def candidate_ids(rows: Sequence[Settings]) -> list[str]:
    """One id a row; rows share their keys, and no two are equal.

    A key that the others tell apart without it, such as the heads that go with a width, is left
    out, the last one first.
    """
    rows = _telling(rows)
    keys = [key for key, _ in rows[0]]
    if not keys:
        return ["only"]
    labels = [_labels([row[i][1] for row in rows]) for i in range(len(keys))]
    prefixes = _prefixes(keys)
    return [
        "-".join(
            prefix + label[type(value), value]
            for prefix, label, (_, value) in zip(prefixes, labels, row, strict=True)
        )
        for row in rows
    ]


def safe_ids(names: Iterable[str]) -> list[str]:
    """Any distinct names as path-safe ones, still distinct."""
    ids: list[str] = []
    taken: set[str] = set()
    for name in names:
        stem = re.sub(r"[^a-z0-9._-]+|\.{2,}", "-", name.lower())[:80].strip("._-") or "curve"
        free, number = stem, 1
        while free in taken:
            number += 1
            free = f"{stem}-{number}"
        taken.add(free)
        ids.append(free)
    return ids


def unknown(word: str, valid: Collection[str], complaint: str) -> str:
    """What is wrong with a word, and the nearest valid one: by its last part, then by spelling."""
    tails = [name for name in valid if name.rpartition(".")[2] == word.rpartition(".")[2]]
    near = tails or difflib.get_close_matches(word, list(valid), n=1, cutoff=0.5)
    listed = ", ".join(list(valid)[:12])
    remedy = f"did you mean {near[0]!r}?" if near else f"valid: {listed}"
    return f"{word!r} {complaint}; {remedy}"


def _telling(rows: Sequence[Settings]) -> Sequence[Settings]:
    for i in reversed(range(len(rows[0]))):
        shorter = [row[:i] + row[i + 1 :] for row in rows]
        if shorter[0] and len({_exact(row) for row in shorter}) == len(rows):
            rows = shorter
    return rows


def _exact(row: Settings) -> tuple[tuple[type, Scalar], ...]:
    """Values with their types, since 1, 1.0 and true are equal and not the same."""
    return tuple((type(value), value) for _, value in row)


def _prefixes(keys: Sequence[str]) -> list[str]:
    """Abbreviations, or last words, or whole keys where shorter ones would collide."""
    short = [_SHORT.get(key) or _safe(key.rpartition(".")[2]) for key in keys]
    whole = [_safe(key) for key in keys]
    for prefixes in (short, whole):
        if len(set(prefixes)) == len(prefixes):
            return prefixes
    return [f"k{i}-" for i in range(len(keys))]


def _labels(column: Sequence[Scalar]) -> dict[tuple[type, Scalar], str]:
    """Each distinct value's label; values whose labels would agree get their number instead."""
    distinct = list(dict.fromkeys((type(value), value) for value in column))
    for digits in (3, 4, 6, 10, 17):
        labels = [_label(value, digits) for _, value in distinct]
        if len(set(labels)) == len(labels):
            return dict(zip(distinct, labels, strict=True))
    return {pair: f"no{i}" for i, pair in enumerate(distinct)}


def _label(value: Scalar, digits: int) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return _whole(value)
    if isinstance(value, float):
        return _fractional(value, digits)
    return _safe(value)[:_LONGEST_TEXT].strip("._") or "none"


def _whole(value: int) -> str:
    for suffix, scale in (("mi", 2**20), ("ki", 2**10), ("b", 10**9), ("m", 10**6)):
        if value >= scale and value % scale == 0:
            return f"{value // scale}{suffix}"
    return str(value).replace("-", "m")


def _fractional(value: float, digits: int) -> str:
    short = Decimal(f"{value:.{digits}g}")
    text = f"{short:f}" if 1e-6 <= abs(value) < 1e7 else f"{short:e}".replace("+", "")
    return text.replace("-", "m")


def _safe(text: str) -> str:
    return re.sub(r"[^a-z0-9._]+|\.{2,}", "_", text.lower())
