"""Rows that a law is fitted to: features (N, D, C or others) and loss, trial and weight.

Touches nothing. `runs_from_curves` turns learning curves into rows. It drops the first tenth of
each curve's own tokens and weighs the rest by tokens, because a curve's early part is not a power
law in D and log-spaced points would put half of the rows there (Choshen et al. 2025 drop the
early part for the same reason; on public curves the two steps halve the error of the law at
sizes held out).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int64]


def _column(name: str, values: ArrayLike, *, signed: bool = False) -> Array:
    """A read-only 1-D float copy of `values`, finite (and positive unless signed)."""
    column = np.array(values, dtype=np.float64, copy=True)
    if column.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {column.shape}")
    wrong = ~(np.isfinite(column) & (signed | (column > 0)))
    if wrong.any():
        row = int(np.argmax(wrong))
        rule = "finite" if signed else "finite and above zero"
        raise ValueError(
            f"{name}[{row}] is {column[row]}; every value must be {rule}"
            " (leave out diverged runs before fitting)"
        )
    column.setflags(write=False)
    return column


def levels_of(column: Array) -> Labels:
    """Number the different values of a column from 0, in order: (R,).

    Values within 1 % of the least of a level belong to it: rounding of configurations makes no
    second size.
    """
    values, place = np.unique(column, return_inverse=True)
    level = np.zeros(len(values), dtype=np.int64)
    least, number = 0.0, -1
    for k, value in enumerate(values):
        if number < 0 or value - least > 0.01 * abs(least):
            least, number = float(value), number + 1
        level[k] = number
    return level[place]


def count_levels(column: Array) -> int:
    """How many different values a column has, in the sense of `levels_of`."""
    return int(levels_of(column).max()) + 1 if len(column) else 0


@dataclass(frozen=True, slots=True, init=False, eq=False)
class Runs:
    """Rows of a fit. Arrays of equal length, made read-only.

    features: named columns, whatever a law has as inputs. N (parameters), D (tokens) and C
    (FLOPs) are columns like the others, but must be above zero.
    loss: nats per token, above zero; any finite number where signed (a loss from which another
    was subtracted), and then only for objectives without logarithms.
    trial: whole numbers; rows of one trial are one cluster for the bootstrap. Each row is its
    own where left out.
    weight: positive; what a row counts in the summed objective. 1 where left out.
    phases: the phases of training that the rows were taken from; empty if unknown.
    """

    features: Mapping[str, Array]
    loss: Array
    trial: Labels
    weight: Array
    phases: tuple[str, ...]
    signed: bool

    def __init__(
        self,
        *,
        loss: ArrayLike,
        N: ArrayLike | None = None,
        D: ArrayLike | None = None,
        C: ArrayLike | None = None,
        features: Mapping[str, ArrayLike] | None = None,
        trial: ArrayLike | None = None,
        weight: ArrayLike | None = None,
        phases: Collection[str] = (),
        signed: bool = False,
    ) -> None:
        columns = {
            name: _column(name, values)
            for name, values in (("N", N), ("D", D), ("C", C))
            if values is not None
        }
        for name, values in (features or {}).items():
            columns[name] = _column(name, values, signed=name not in ("N", "D", "C"))
        losses = _column("loss", loss, signed=signed)
        rows = len(losses)
        weights = _column("weight", np.ones(rows) if weight is None else weight)
        trials = _labels(np.arange(rows) if trial is None else trial)
        lengths = {name: len(column) for name, column in columns.items()}
        lengths |= {"loss": rows, "trial": len(trials), "weight": len(weights)}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"the columns of Runs must have equal lengths, got {lengths}")
        fields: dict[str, object] = {
            "features": MappingProxyType(columns),
            "loss": losses,
            "trial": trials,
            "weight": weights,
            "phases": tuple(sorted(set(phases))),
            "signed": signed,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def N(self) -> Array:
        """Parameters."""
        return self.column("N")

    @property
    def D(self) -> Array:
        """Tokens."""
        return self.column("D")

    @property
    def C(self) -> Array:
        """FLOPs."""
        return self.column("C")

    def column(self, name: str) -> Array:
        """One feature. Raises ValueError where the rows have none of that name."""
        if name not in self.features:
            known = ", ".join(self.features) or "none"
            raise ValueError(f"the rows have no column {name!r}; there are: {known}")
        return self.features[name]

    @property
    def trials(self) -> int:
        """How many different trials the rows come from."""
        return len(np.unique(self.trial))

    def inputs(self, names: Sequence[str]) -> Array:
        """The named features, stacked: shape (inputs, rows)."""
        columns = [self.column(name) for name in names]
        return np.stack(columns) if columns else np.zeros((0, len(self)))

    def take(self, rows: ArrayLike) -> Runs:
        """The rows chosen by an index or a mask."""
        chosen = np.asarray(rows)
        return Runs(
            features={name: column[chosen] for name, column in self.features.items()},
            loss=self.loss[chosen],
            trial=self.trial[chosen],
            weight=self.weight[chosen],
            phases=self.phases,
            signed=self.signed,
        )


def _labels(values: ArrayLike) -> Labels:
    trial = np.array(values, copy=True)
    if trial.ndim != 1 or not np.issubdtype(trial.dtype, np.integer):
        raise ValueError(
            f"trial must be whole numbers in one dimension, got {trial.dtype} of shape"
            f" {trial.shape}"
        )
    trial = trial.astype(np.int64)
    trial.setflags(write=False)
    return trial


def finished_runs(
    N: ArrayLike, D: ArrayLike, loss: ArrayLike, *, C: ArrayLike | None = None
) -> Runs:
    """Rows of finished runs, one trial each, weight 1. C is 6 N D unless given."""
    sizes, tokens = np.asarray(N, dtype=np.float64), np.asarray(D, dtype=np.float64)
    flops = 6.0 * sizes * tokens if C is None else C
    return Runs(
        N=sizes,
        D=tokens,
        C=np.asarray(flops, dtype=np.float64),
        loss=np.asarray(loss, dtype=np.float64),
        trial=np.arange(sizes.size),
        weight=np.ones(sizes.size),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CurveRows:
    """One learning curve: N parameters, and points increasing in tokens.

    tokens, flops, loss: 1-D, equal lengths; flops are cumulative. phase: one word a point, or
    None where it is not known.
    """

    N: float
    tokens: Array
    flops: Array
    loss: Array
    phase: tuple[str, ...] | None = field(default=None)

    def __post_init__(self) -> None:
        if not (np.isfinite(self.N) and self.N > 0):
            raise ValueError(f"N is {self.N}; a curve needs a finite size above zero")
        for name in ("tokens", "flops", "loss"):
            object.__setattr__(self, name, _column(name, getattr(self, name)))
        lengths = {name: len(getattr(self, name)) for name in ("tokens", "flops", "loss")}
        if self.phase is not None:
            lengths["phase"] = len(self.phase)
        if len(set(lengths.values())) != 1:
            raise ValueError(f"the columns of a curve must have equal lengths, got {lengths}")
        for name in ("tokens", "flops"):
            steps = np.diff(getattr(self, name))
            if (steps <= 0).any():
                at = int(np.argmax(steps <= 0)) + 1
                raise ValueError(f"{name} must increase along a curve, but not at point {at}")

    def __len__(self) -> int:
        return len(self.loss)


def runs_from_curves(
    curves: Sequence[CurveRows],
    *,
    burn_in: float = 0.1,
    weigh_by_tokens: bool = True,
    phases: Collection[str] | None = None,
) -> Runs:
    """Rows from learning curves; the trial of a row is its curve's place in `curves`.

    burn_in: points below this share of the curve's own last tokens are dropped.
    weigh_by_tokens: weight in proportion to tokens (else equal); either way the weights of a
        curve sum to one, so that a curve counts as one run however often it was evaluated.
    phases: keep only points of these phases; None keeps all.
    Raises ValueError where burn_in is outside [0, 1), a phase is asked for that no curve knows,
    or no point is left.
    """
    if not 0.0 <= burn_in < 1.0:
        raise ValueError(f"burn_in is {burn_in}; it is a share of a curve, from 0 to below 1")
    parts: list[tuple[Array, Array, Array, Array, Labels, Array]] = []
    used: set[str] = set()
    for place, curve in enumerate(curves):
        keep = _kept(curve, place, burn_in, phases)
        if not keep.any():
            continue
        tokens = curve.tokens[keep]
        weight = tokens if weigh_by_tokens else np.ones_like(tokens)
        if curve.phase is not None:
            used.update(word for word, kept in zip(curve.phase, keep, strict=True) if kept)
        sizes, labels = np.full(tokens.size, curve.N), np.full(tokens.size, place)
        parts.append(
            (sizes, tokens, curve.flops[keep], curve.loss[keep], labels, weight / weight.sum())
        )
    if not parts:
        wanted = "" if phases is None else f" in the phases {sorted(phases)}"
        raise ValueError(f"none of the {len(curves)} curves has a point left{wanted}")
    N, D, C, loss, trial, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Runs(N=N, D=D, C=C, loss=loss, trial=trial, weight=weight, phases=tuple(sorted(used)))


def _kept(
    curve: CurveRows, place: int, burn_in: float, phases: Collection[str] | None
) -> NDArray[np.bool_]:
    if len(curve) == 0:
        return np.zeros(0, dtype=np.bool_)
    keep = curve.tokens >= burn_in * curve.tokens[-1]
    if phases is not None:
        if curve.phase is None:
            raise ValueError(
                f"phases={sorted(phases)} was asked for, but the points of curve {place} carry no"
                " phase; give CurveRows.phase or leave phases out"
            )
        keep = keep & np.array([word in phases for word in curve.phase], dtype=np.bool_)
    return keep
