"""A fitted law as a value: its parameters, how it was fitted, and what is doubtful about it.

Touches nothing. A `LawFit` predicts, says how far a question lies outside its rows, and goes to
JSON and back without loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orchestrator.laws.forms import LawForm, form_named
from orchestrator.laws.forms.line import LineForm, law_from

Array = NDArray[np.float64]
Objective = Literal["huber_log", "huber", "squared"]
OBJECTIVES: tuple[Objective, ...] = ("huber_log", "huber", "squared")
Doubt = Literal[
    "bound",
    "not_identified",
    "not_converged",
    "starts_disagree",
    "extrapolation",
    "offsets",
    "few_trials",
]
_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """A normal prior on one published parameter. It acts in the fit (MAP), not only beside it."""

    parameter: str
    mean: float
    sd: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.sd) and self.sd > 0):
            raise ValueError(
                f"the prior on {self.parameter} has mean {self.mean} and sd {self.sd};"
                " both must be finite, and sd above zero"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LawWarning:
    """Something a reader of the law must know. kind is for programs, text for people."""

    kind: Doubt
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptimum:
    """One place where starts ended: its objective, published values, and how many ended there."""

    objective: float
    values: tuple[float, ...]
    starts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LawFit:
    """A member of a law form, fitted.

    working, centre: the values the form is evaluated with (see `forms.base`).
    objective_value: what was minimised, summed over rows with their weights.
    delta: knee of the Huber loss, in log loss (None for squared error). knee: how many `scale`
        that is; None where delta itself was stated.
    scale: robust sd of a row's residual; scatter: rms over trials of a trial's mean residual,
        the part that more points of the same trials cannot shrink. rmse: over rows, weighted.
        All three in log loss, of the law without its offsets (but scale, which is within trials
        where offsets are used).
    ranges: smallest and largest value of each input among the rows.
    furthest: the inputs of the row that went furthest (`fit`); empty where it is not known.
    offsets: (trial, shift of its log loss) where per-trial offsets were asked for.
    """

    form: LawForm
    working: tuple[float, ...]
    centre: tuple[float, ...]
    objective: Objective
    objective_value: float
    delta: float | None
    scale: float
    rmse: float
    scatter: float
    rows: int
    trials: int
    ranges: tuple[tuple[float, float], ...]
    optima: tuple[LocalOptimum, ...]
    warnings: tuple[LawWarning, ...]
    starts: int
    seed: int
    priors: tuple[Prior, ...] = ()
    offsets_sd: float | None = None
    offsets: tuple[tuple[int, float], ...] = ()
    phases: tuple[str, ...] = ()
    knee: float | None = None
    furthest: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.working) != len(self.form.parameters):
            raise ValueError(
                f"{self.form.name} has {len(self.form.parameters)} parameters,"
                f" got {len(self.working)} values"
            )
        if not np.isfinite([*self.working, *self.centre, self.objective_value]).all():
            raise ValueError("a law's values must be finite")

    @property
    def parameters(self) -> dict[str, float]:
        """Published name to value, as in `form.expression`."""
        published = self.form.publish(np.array([self.working]), np.array(self.centre))[0]
        names = [parameter.name for parameter in self.form.parameters]
        return dict(zip(names, (float(value) for value in published), strict=True))

    @property
    def end(self) -> dict[str, float]:
        """Where the rows end: the inputs of the one that went furthest, by name, or where that is
        not known the largest value of each."""
        at = self.furthest or tuple(high for _, high in self.ranges)
        return dict(zip(self.form.inputs, at, strict=True))

    def predict(
        self,
        N: ArrayLike | None = None,
        D: ArrayLike | None = None,
        *,
        C: ArrayLike | None = None,
        **others: ArrayLike,
    ) -> Array:
        """Loss in nats per token at parameters N and tokens D, or at FLOPs C (broadcast).

        others: the form's further inputs by name. Raises ValueError where an input of the form
        is missing, not finite, or not positive where it must be.
        """
        asked, shape = asked_inputs(self.form, N=N, D=D, C=C, others=others)
        covariates = self.form.covariates(asked, np.array(self.centre))
        return self.form.loss(np.array([self.working]), covariates)[0].reshape(shape)

    def extrapolation(
        self,
        N: ArrayLike | None = None,
        D: ArrayLike | None = None,
        *,
        C: ArrayLike | None = None,
        **others: ArrayLike,
    ) -> Array:
        """How far outside the rows: the largest factor over the inputs; 1 inside their ranges.

        Infinite at an input below zero, or at zero, that the rows do not reach.
        """
        asked, shape = asked_inputs(self.form, N=N, D=D, C=C, others=others)
        low, high = np.array(self.ranges).T[:, :, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            factors = np.where(asked > high, asked / high, np.where(asked < low, low / asked, 1.0))
        factors = np.where(factors >= 1.0, factors, np.inf)
        return factors.max(axis=0).reshape(shape)

    def extrapolation_warning(
        self,
        N: ArrayLike | None = None,
        D: ArrayLike | None = None,
        *,
        C: ArrayLike | None = None,
        at_most: float = 10.0,
        **others: ArrayLike,
    ) -> LawWarning | None:
        """A warning where the question lies more than `at_most` times outside the rows."""
        factor = float(np.max(self.extrapolation(N, D, C=C, **others)))
        if factor <= at_most:
            return None
        return LawWarning(
            kind="extrapolation",
            text=f"the question lies {factor:.3g} times outside the rows of the fit"
            f" (more than {at_most:g})",
        )

    def to_json(self) -> dict[str, object]:
        """Plain JSON values. `parameters` is there for readers; `from_json` reads `working`."""
        return {
            "schema": _SCHEMA,
            "form": self.form.name,
            "expression": self.form.expression,
            "definition": self.form.to_json() if isinstance(self.form, LineForm) else None,
            "source": self.form.source,
            "parameters": self.parameters,
            "working": list(self.working),
            "centre": list(self.centre),
            "objective": self.objective,
            "objective_value": self.objective_value,
            "delta": self.delta,
            "knee": self.knee,
            "scale": self.scale,
            "rmse_log": self.rmse,
            "scatter_log": self.scatter,
            "rows": self.rows,
            "trials": self.trials,
            "ranges": {
                name: list(bounds)
                for name, bounds in zip(self.form.inputs, self.ranges, strict=True)
            },
            "optima": [
                {"objective": o.objective, "values": list(o.values), "starts": o.starts}
                for o in self.optima
            ],
            "warnings": [{"kind": w.kind, "text": w.text} for w in self.warnings],
            "starts": self.starts,
            "seed": self.seed,
            "priors": [
                {"parameter": p.parameter, "mean": p.mean, "sd": p.sd} for p in self.priors
            ],
            "offsets_sd": self.offsets_sd,
            "offsets": [list(offset) for offset in self.offsets],
            "phases": list(self.phases),
            "furthest": list(self.furthest),
        }

    @staticmethod
    def from_json(record: Mapping[str, object]) -> LawFit:
        """The inverse of `to_json`. Raises ValueError on an unknown form or schema."""
        if record.get("schema") != _SCHEMA:
            raise ValueError(
                f"this law has schema {record.get('schema')!r}; this release reads {_SCHEMA}"
            )
        defined = cast("Mapping[str, object] | None", record.get("definition"))
        form = form_named(str(record["form"])) if defined is None else law_from(defined)
        if record["expression"] != form.expression:
            raise ValueError(
                f"the law {form.name} was stored as {record['expression']!r}, but that form is"
                f" {form.expression!r} here: it comes from another release"
            )
        ranges = cast(Mapping[str, Sequence[float]], record["ranges"])
        optima = cast(Sequence[Mapping[str, object]], record["optima"])
        warnings = cast(Sequence[Mapping[str, str]], record["warnings"])
        priors = cast(Sequence[Mapping[str, object]], record["priors"])
        offsets = cast(Sequence[tuple[int, float]], record["offsets"])
        return LawFit(
            form=form,
            working=tuple(cast(Sequence[float], record["working"])),
            centre=tuple(cast(Sequence[float], record["centre"])),
            objective=cast(Objective, record["objective"]),
            objective_value=cast(float, record["objective_value"]),
            delta=cast("float | None", record["delta"]),
            scale=cast(float, record["scale"]),
            rmse=cast(float, record["rmse_log"]),
            scatter=cast(float, record["scatter_log"]),
            rows=cast(int, record["rows"]),
            trials=cast(int, record["trials"]),
            ranges=tuple((ranges[name][0], ranges[name][1]) for name in form.inputs),
            optima=tuple(
                LocalOptimum(
                    objective=cast(float, o["objective"]),
                    values=tuple(cast(Sequence[float], o["values"])),
                    starts=cast(int, o["starts"]),
                )
                for o in optima
            ),
            warnings=tuple(
                LawWarning(kind=cast(Doubt, w["kind"]), text=w["text"]) for w in warnings
            ),
            starts=cast(int, record["starts"]),
            seed=cast(int, record["seed"]),
            priors=tuple(
                Prior(
                    parameter=cast(str, p["parameter"]),
                    mean=cast(float, p["mean"]),
                    sd=cast(float, p["sd"]),
                )
                for p in priors
            ),
            offsets_sd=cast("float | None", record["offsets_sd"]),
            offsets=tuple((int(trial), float(shift)) for trial, shift in offsets),
            phases=tuple(cast(Sequence[str], record["phases"])),
            furthest=tuple(cast(Sequence[float], record.get("furthest", ()))),
            knee=cast("float | None", record["knee"]) if "knee" in record else _knee(record),
        )


def _knee(record: Mapping[str, object]) -> float | None:
    """That of a record of an earlier release, which did not say it."""
    delta, scale = cast("float | None", record["delta"]), cast(float, record["scale"])
    return delta / scale if delta is not None and scale > 0 else None


def asked_inputs(
    form: LawForm,
    *,
    N: ArrayLike | None = None,
    D: ArrayLike | None = None,
    C: ArrayLike | None = None,
    others: Mapping[str, ArrayLike] | None = None,
) -> tuple[Array, tuple[int, ...]]:
    """The form's inputs (I, R), and the shape that they broadcast to.

    Raises ValueError where one is missing, is not finite, or is one of N, D, C and not positive.
    """
    given: dict[str, ArrayLike | None] = {"N": N, "D": D, "C": C, **(others or {})}
    columns: list[Array] = []
    for name in form.inputs:
        column = given.get(name)
        if column is None:
            raise ValueError(f"{form.name} ({form.expression}) needs {name}")
        values = np.asarray(column, dtype=np.float64)
        if not np.isfinite(values).all() or (name in ("N", "D", "C") and (values <= 0).any()):
            raise ValueError(f"{name} must be finite and above zero to predict a loss")
        columns.append(values)
    together = np.broadcast_arrays(*columns)
    return np.stack([column.ravel() for column in together]), together[0].shape


__all__ = [
    "OBJECTIVES",
    "Doubt",
    "LawFit",
    "LawWarning",
    "LocalOptimum",
    "Objective",
    "Prior",
    "asked_inputs",
]
