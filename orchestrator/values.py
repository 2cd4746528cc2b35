"""What the rooms say to each other: candidates, points, curves, forecasts, decisions.

Plain frozen values, valid from birth. Touches nothing; imports NumPy only. Vocabulary and units
are those of the field: tokens and params are counts, compute is in FLOPs, loss is validation
cross-entropy in nats per token.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar: TypeAlias = bool | int | float | str
_Kind = TypeVar("_Kind", bound=np.generic)
FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]

Phase = Literal["warmup", "stable", "decay", "annealed"]
PHASES: tuple[Phase, ...] = ("warmup", "stable", "decay", "annealed")
NO_MORE = "no more is bought: "
"""How the reason of a stop begins that ends all buying."""
_SCALES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))


def flops_in_words(value: float) -> str:
    """Compute as every room says it: `2.31e15`; 0 stays 0."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def count_in_words(value: float) -> str:
    """Parameters or tokens to three digits: 131072 is `131K`, 7e9 is `7B`."""
    if not math.isfinite(value):
        return str(value)
    scale, letter = next(((s, x) for s, x in _SCALES if abs(value) >= s * 0.9995), (1.0, ""))
    text = f"{value / scale:.3g}"
    return (f"{value / scale:.0f}" if "e" in text else text) + letter


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A runnable configuration with known cost.

    `params` is N, the matmul parameters of blocks and head; `horizon` is the number of tokens for
    which its schedule is laid out (nothing trains past it); `settings` are the dotted keys that
    vary over the pool, in the order of the spec.
    """

    id: str
    params: int
    horizon: int
    flops_per_token: float
    tokens_per_step: int = 1
    settings: tuple[tuple[str, Scalar], ...] = ()

    def __post_init__(self) -> None:
        for name in ("params", "horizon", "tokens_per_step"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"candidate {self.id}: {name} must be at least 1, not {getattr(self, name)}"
                )
        if not (math.isfinite(self.flops_per_token) and self.flops_per_token > 0):
            raise ValueError(
                f"candidate {self.id}: flops_per_token must be positive, "
                f"not {self.flops_per_token}"
            )

    def flops(self, tokens: int) -> int:
        """FLOPs from scratch to `tokens`, a whole number so that ledgers add up exactly."""
        return round(self.flops_per_token * tokens)

    @property
    def end(self) -> int:
        """The horizon in whole steps: the most tokens that the candidate can be trained to."""
        return self.horizon - self.horizon % self.tokens_per_step

    @property
    def cost(self) -> int:
        """FLOPs of the whole run."""
        return self.flops(self.end)

    def tokens_within(self, flops: float) -> int:
        """The most tokens, in whole steps and not past the end, that cost at most `flops`."""
        step = self.tokens_per_step
        steps = max(0, math.floor(flops / (self.flops_per_token * step) * (1 + 1e-12)))
        tokens = min(steps * step, self.end)
        while tokens > 0 and self.flops(tokens) > flops:
            tokens -= step
        return tokens

    def setting(self, key: str) -> Scalar:
        """The value of a varied key; `params` and `horizon` are always there.

        Raises KeyError with the known keys.
        """
        known: dict[str, Scalar] = {
            **dict(self.settings),
            "params": self.params,
            "horizon": self.horizon,
        }
        try:
            return known[key]
        except KeyError:
            raise KeyError(
                f"candidate {self.id} has no setting {key!r}; known: {', '.join(known)}"
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One evaluation of a trial: loss in nats per token after `tokens` tokens and `flops` FLOPs.

    The optional figures are shown (MLflow, report) and never decided on. `elapsed_s` counts the
    training seconds of the attempt that reported the point, from the start of its segment.
    """

    tokens: int
    flops: float
    loss: float
    phase: Phase = "stable"
    train_loss: float | None = None
    bits_per_byte: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    elapsed_s: float | None = None

    def __post_init__(self) -> None:
        if self.tokens < 1 or not self.flops > 0:
            raise ValueError(
                f"a point needs tokens and FLOPs above zero, not {self.tokens} and {self.flops}"
            )
        if not math.isfinite(self.loss):
            raise ValueError(
                f"a point needs a finite loss, not {self.loss}: report the trial as diverged"
            )


@dataclass(slots=True)
class _Columns:
    """Append-only storage that the curves of one trial share; it grows in chunks by half."""

    tokens: IntArray
    flops: FloatArray
    loss: FloatArray
    phase: NDArray[np.int8]
    used: int = 0

    @classmethod
    def empty(cls, size: int) -> _Columns:
        return cls(
            np.empty(size, np.int64),
            np.empty(size, np.float64),
            np.empty(size, np.float64),
            np.empty(size, np.int8),
        )

    def grown_from(self, length: int) -> _Columns:
        """A copy of the first `length` rows with room for more."""
        new = _Columns.empty(max(8, length + length // 2))
        for name in ("tokens", "flops", "loss", "phase"):
            getattr(new, name)[:length] = getattr(self, name)[:length]
        new.used = length
        return new

    def write(self, point: Point) -> None:
        row = self.used
        self.tokens[row] = point.tokens
        self.flops[row] = point.flops
        self.loss[row] = point.loss
        self.phase[row] = PHASES.index(point.phase)
        self.used = row + 1


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The points of a trial, strictly increasing in tokens; 25 bytes a point.

    Immutable to its holder. Curves grown from one another share storage: appending to the newest
    one writes in place, appending to an older one copies, so a fold over n points costs O(n).
    """

    _columns: _Columns = field(default_factory=lambda: _Columns.empty(0), repr=False)
    _length: int = 0

    @classmethod
    def of(cls, points: Iterable[Point]) -> Curve:
        curve = cls()
        for point in points:
            curve = curve.append(point)
        return curve

    def append(self, point: Point) -> Curve:
        """This curve and one more point. Raises ValueError unless it lies further along."""
        if self._length and point.tokens <= self.last_tokens:
            raise ValueError(
                f"point at {point.tokens} tokens does not lie beyond {self.last_tokens}"
            )
        columns = self._columns
        if columns.used != self._length or columns.used == len(columns.tokens):
            columns = columns.grown_from(self._length)
        columns.write(point)
        return Curve(columns, self._length + 1)

    def __len__(self) -> int:
        return self._length

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Curve):
            return NotImplemented
        return (
            np.array_equal(self.tokens, other.tokens)
            and np.array_equal(self.flops, other.flops)
            and np.array_equal(self.loss, other.loss)
            and self.phases == other.phases
        )

    __hash__ = None  # type: ignore[assignment]  # compared by content, which may be long

    def _view(self, column: NDArray[_Kind]) -> NDArray[_Kind]:
        view = column[: self._length]
        view.flags.writeable = False
        return view

    @property
    def tokens(self) -> IntArray:
        return self._view(self._columns.tokens)

    @property
    def flops(self) -> FloatArray:
        return self._view(self._columns.flops)

    @property
    def loss(self) -> FloatArray:
        return self._view(self._columns.loss)

    @property
    def phases(self) -> tuple[Phase, ...]:
        codes: list[int] = self._view(self._columns.phase).tolist()
        return tuple(PHASES[code] for code in codes)

    @property
    def last_tokens(self) -> int:
        """Tokens of the last point; 0 for an empty curve."""
        return int(self._columns.tokens[self._length - 1]) if self._length else 0

    @property
    def last_loss(self) -> float:
        """Loss of the last point; NaN for an empty curve."""
        return float(self._columns.loss[self._length - 1]) if self._length else math.nan

    def best_upto(self, tokens: int) -> float:
        """The lowest loss among points at or before `tokens`; infinite where there is none."""
        n = int(np.searchsorted(self.tokens, tokens, side="right"))
        return float(self.loss[:n].min()) if n else math.inf

    def upto(self, tokens: int) -> Curve:
        """The points at or before `tokens`, in the same storage."""
        return Curve(self._columns, int(np.searchsorted(self.tokens, tokens, side="right")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a surrogate expects: log loss at queried points.

    `mean` and `sd` have shape (queries,); `samples`, joint over the queries, (draws, queries).
    """

    mean: FloatArray
    sd: FloatArray
    samples: FloatArray | None = None

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.mean.shape != self.sd.shape:
            raise ValueError(
                f"mean {self.mean.shape} and sd {self.sd.shape} must be of one length"
            )
        if self.samples is not None and self.samples.shape[1:] != self.mean.shape:
            raise ValueError(f"samples {self.samples.shape} must be (draws, {len(self.mean)})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """The forecast that a decision relied on, as one line of the journal keeps it.

    `loss` in nats per token after `tokens` tokens, `sd` of log loss, `by` the surrogate's name.
    """

    tokens: int
    loss: float
    sd: float
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extend:
    """Train the trial (start it, promote it, reopen it) until it has seen `tokens` tokens."""

    trial: str
    tokens: int
    reason: str
    expected: Expectation | None = None
    kind: Literal["extend"] = "extend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Release the trial's slot and reservation and keep its newest checkpoint."""

    trial: str
    reason: str
    expected: Expectation | None = None
    kind: Literal["stop"] = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anneal:
    """A short decay from the trial's newest checkpoint to `tokens`, as a branch of its own.

    The trunk is untouched; the branch is charged for its own tokens.
    """

    trial: str
    tokens: int
    reason: str
    expected: Expectation | None = None
    kind: Literal["anneal"] = "anneal"


Decision: TypeAlias = Extend | Stop | Anneal


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A resumable state of a trial: after how many tokens, and where.

    `path` is relative to the sweep's storage, so that a sweep can be moved.
    """

    tokens: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """How much of one part of a budget is used: `unit` is FLOPs, GPU-hours or dollars."""

    unit: str
    amount: float
    budget: float

    @property
    def share(self) -> float:
        return self.amount / self.budget if self.budget else 0.0

    @property
    def said(self) -> str:
        """Such as `41 % of 4 GPU-hours`."""
        said = flops_in_words if self.unit == "FLOPs" else "{:.3g}".format
        return f"{100 * self.share:.0f} % of {said(self.budget)} {self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a session runs: what a resume compares before it goes on.

    `facts` are (name, value) pairs: versions, device, precision. `slots` is the number of trials
    that can run at once. Where some take several slots, `blocks` holds how many lie together on a
    node, in the order in which slots are numbered, and `share` how many make one GPU; it is empty
    where all take one.
    """

    slots: int
    facts: tuple[tuple[str, str], ...] = ()
    blocks: tuple[int, ...] = ()
    share: int = 1

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError(f"an environment needs at least one slot, not {self.slots}")
        if self.blocks and sum(self.blocks) != self.slots:
            raise ValueError(f"blocks of {self.blocks} slots do not make {self.slots}")
