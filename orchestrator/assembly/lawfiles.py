"""Laws on disk: law.json of a sweep, what `fit --json` prints, or a single law as JSON.

Reads one file; touches nothing else, and needs neither the sweep nor what trained it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import cast

import numpy as np

from orchestrator.assembly.refusal import Refused
from orchestrator.laws.curves import CurveLaw
from orchestrator.laws.inverse import Law, fitted_of
from orchestrator.laws.law import LawFit
from orchestrator.laws.uncertainty import LawPosterior
from orchestrator.report.conclusions import Bounded
from orchestrator.report.cost import FlopsPerToken

SCHEMAS = ("frontrunner.law/1", "frontrunner.fit/1")
LARGEST_BYTES = 200_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLaw:
    """A law of a file: its key there, the phases that it rests on, and what is doubtful."""

    key: str
    law: Law
    phases: tuple[str, ...]
    doubts: tuple[str, ...]

    @property
    def fit(self) -> LawFit:
        return fitted_of(self.law)

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.fit.form.inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """What all forms together said at one place, and nowhere else: params, tokens, the loss with
    its interval at `level`, and who they are."""

    params: float
    tokens: float
    loss: Bounded
    level: float
    by: str

    def asked(self, params: float, tokens: float) -> bool:
        """Whether this is the place."""
        places = ((params, self.params), (tokens, self.tokens))
        return all(math.isclose(one, other, rel_tol=1e-6) for one, other in places)

    def at(self, level: float) -> Bounded:
        """The loss with its interval at another level: their belief is normal in log loss."""
        ratio = NormalDist().inv_cdf(0.5 + 0.5 * level) / NormalDist().inv_cdf(
            0.5 + 0.5 * self.level
        )
        value, low, high = self.loss.value, self.loss.low, self.loss.high
        if low is None or high is None:
            return self.loss
        return Bounded(
            value=value, low=value * (low / value) ** ratio, high=value * (high / value) ** ratio
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LawFile:
    """The laws of a file, the one that it quotes first. largest_flops: of the largest run, cost:
    FLOPs per token at any size; None where the file does not say. curves: the law of curves that
    `fit` puts beside the others, None where it has none. together: what answers at the target
    instead of any one law, where several forms chose the runs."""

    path: Path
    laws: tuple[KnownLaw, ...]
    largest_flops: float | None
    cost: FlopsPerToken | None
    curves: CurveLaw | None = None
    together: Together | None = None


def read_laws(word: str, storage: str | None = None) -> LawFile:
    """The laws in a file, in a sweep's folder, or in the sweep of this name. Raises Refused where
    there is no law, or none that this release reads."""
    path = _path(word, storage)
    record = _record(path)
    try:
        return _laws(path, record)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        # Whatever is wrong in a file from elsewhere, its reader should not fall over it.
        raise Refused(
            f"{path} holds no law that this release reads: {type(error).__name__}: {error}"
        ) from error


def _path(word: str, storage: str | None) -> Path:
    from orchestrator.assembly.folders import find

    path = Path(word).expanduser()
    if path.is_file():
        return path
    if path.is_dir() and (path / "law.json").is_file():
        return path / "law.json"
    if word.endswith(".json") or (os.sep in word and not path.is_dir()):
        raise Refused(f"{word} cannot be read: there is no such file; give a law.json")
    folder = find(word, storage)
    if not folder.law.is_file():
        raise Refused(
            f"{folder.path} holds no law.json yet; write it with   frontrunner report {word}"
        )
    return folder.law


def _record(path: Path) -> Mapping[str, object]:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise Refused(f"{path} is larger than {LARGEST_BYTES} bytes: that is no law")
        record = cast(object, json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}; give a law.json") from None
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path} is no JSON: {error}; give a law.json") from None
    if not isinstance(record, dict):
        raise Refused(f"{path} holds no object; give a law.json, or what fit --json prints")
    return cast("Mapping[str, object]", record)


def _laws(path: Path, record: Mapping[str, object]) -> LawFile:
    if "working" in record or "draws" in record:
        law = _sound(
            LawPosterior.from_json(record) if "draws" in record else LawFit.from_json(record)
        )
        fitted = fitted_of(law)
        known = KnownLaw(
            key=fitted.form.name,
            law=law,
            phases=fitted.phases,
            doubts=tuple(map(str, fitted.warnings)),
        )
        return LawFile(path=path, laws=(known,), largest_flops=None, cost=None)
    if record.get("schema") not in SCHEMAS:
        raise Refused(
            f"{path} has the schema {record.get('schema')!r}; a law has {' or '.join(SCHEMAS)}"
        )
    entries = cast("Sequence[Mapping[str, object]]", record["laws"])
    laws = [law for law in map(_known, entries) if law is not None]
    if not laws:
        raise Refused(f"{path} holds no law: {record.get('why_not') or 'none was fitted'}")
    laws.sort(key=lambda law: law.key != record.get("headline"))
    largest = cast("float | None", record.get("largest_flops"))
    pairs = cast("Sequence[Sequence[float]]", record.get("flops_per_token") or ())
    if not all(math.isfinite(x) and x > 0 for pair in pairs for x in pair):
        raise ValueError("a size or its FLOPs per token is not above zero")
    if largest and not (math.isfinite(largest) and largest > 0):
        raise ValueError(f"largest_flops is {largest}, which is no compute")
    return LawFile(
        path=path,
        laws=tuple(laws),
        largest_flops=float(largest) if largest else None,
        cost=FlopsPerToken.of((float(pair[0]), float(pair[1])) for pair in pairs)
        if pairs
        else None,
        curves=_curves(record),
        together=_together(record),
    )


def _together(record: Mapping[str, object]) -> Together | None:
    averaged = cast("Mapping[str, object] | None", record.get("averaged"))
    target = cast("Mapping[str, object] | None", record.get("target"))
    if averaged is None or target is None:
        return None
    loss = cast("Mapping[str, float | None]", averaged["loss"])
    if target["loss"] != loss:
        return None  # annealed losses were asked for, and one law answered
    params, tokens = (
        cast("Mapping[str, float]", target[name])["value"] for name in ("params", "tokens")
    )
    found = Together(
        params=float(params),
        tokens=float(tokens),
        loss=Bounded(value=float(loss["value"] or 0.0), low=loss["low"], high=loss["high"]),
        level=float(cast(float, record["level"])),
        by=str(target["by"]),
    )
    if min(found.params, found.tokens, found.loss.value) <= 0 or not 0 < found.level < 1:
        raise ValueError("what all forms say at the target is no loss")
    return found


def _curves(record: Mapping[str, object]) -> CurveLaw | None:
    beside = cast("Mapping[str, object]", record.get("curves") or {})
    law = cast("Mapping[str, object] | None", beside.get("law"))
    if law is None:
        return None
    curves = CurveLaw.from_json(law)
    curves.sd(*(low for low, _ in curves.ranges))
    return curves


def _sound(law: Law) -> Law:
    """The law, once it has answered: what is damaged in it shows here and not in an answer."""
    fitted = fitted_of(law)
    least = {name: low for name, (low, _) in zip(fitted.form.inputs, fitted.ranges, strict=True)}
    if not all(0 < low <= high for low, high in fitted.ranges if low > 0):
        raise ValueError("the range of an input ends before it begins")
    fitted.predict(**least)
    if isinstance(law, LawPosterior):
        draws = np.array(law.draws, dtype=np.float64)
        if draws.shape != (len(draws), len(fitted.working)) or not np.isfinite(draws).all():
            raise ValueError("its draws are not numbers, one for each parameter")
        law.interval(**least)
    return law


def _known(entry: Mapping[str, object]) -> KnownLaw | None:
    """A law of the file; None where it says why there is none."""
    drawn = cast("Mapping[str, object] | None", entry.get("posterior"))
    plain = cast("Mapping[str, object] | None", entry.get("fit"))
    law: Law
    if drawn is not None:
        law = _sound(LawPosterior.from_json(drawn))
    elif plain is not None:
        law = _sound(LawFit.from_json(plain))
    else:
        return None
    phases = tuple(cast("Sequence[str]", entry.get("phases") or ()))
    form = str(entry["form"])
    return KnownLaw(
        key=f"{form} (annealed)" if "annealed" in phases else form,
        law=law,
        phases=phases,
        doubts=tuple(cast("Sequence[str]", entry.get("doubts") or ())),
    )
