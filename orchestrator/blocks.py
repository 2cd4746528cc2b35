"""The blocks of a sweep file, each checked by itself: what varies, what to spend, how, where.

Frozen pydantic models; touches nothing. Rules that span several blocks live in `spec`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    field_validator,
    model_validator,
)

from orchestrator.ranges import Axis
from trainers.findings import FieldError
from trainers.quantity import Count, Fraction, Number, parse_number

Positive: TypeAlias = Annotated[Count, Field(ge=1)]
Above0: TypeAlias = Annotated[Number, Field(gt=0)]
Share: TypeAlias = Annotated[Fraction, Field(gt=0, lt=1)]


class Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Target(Block):
    """Where the law must be right: a model of `params` trained on `tokens`."""

    params: Positive
    tokens: Positive


class Space(Block):
    """What varies: dotted keys of the trial, each with a list or a range.

    Every combination is a candidate. The lists of one `zip` block advance together; `exclude`
    holds conditions, and a candidate that meets one is left out.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Axis] = Field(init=False)  # pyright: ignore

    zip: tuple[dict[str, Axis], ...] = ()
    exclude: tuple[str, ...] = ()

    @field_validator("zip", mode="before")
    @classmethod
    def _one_block_or_more(cls, value: object) -> object:
        return (cast("object", value),) if isinstance(value, Mapping) else value

    @field_validator("exclude", mode="before")
    @classmethod
    def _one_condition_or_more(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @property
    def axes(self) -> dict[str, Axis]:
        """The axes outside the zip blocks, in the order of the spec."""
        return dict(self.__pydantic_extra__)

    @property
    def keys(self) -> tuple[str, ...]:
        """Every varied key, zip blocks first."""
        return (*(key for block in self.zip for key in block), *self.axes)


class Recorded(Block):
    """Curves measured before, for the replay backend: a CSV file, and the SHA-256 of its bytes."""

    curves: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


def _amount(value: object) -> float | str:
    """FLOPs as a number, a share of the exhaustive cost as `20%`."""
    number = parse_number(value)
    if isinstance(value, str) and ("%" in value or "/" in value):
        if not 0 < number <= 10:
            raise ValueError(
                f"{value!r} of the exhaustive cost is out of range; write a share such as 20%"
            )
        return f"{number * 100:.12g}%"
    if number < 1:
        raise ValueError(
            f"{value!r} FLOPs buy nothing; write a number such as 1e18, or a share of the "
            "exhaustive cost such as 20%"
        )
    return number


class Budget(Block):
    """What may be spent. FLOPs rule every decision; hours and money are further caps.

    `lost` is the ceiling, as a share of the FLOPs, on work that crashes may waste beside them.
    """

    flops: Annotated[float | str, BeforeValidator(_amount)]
    gpu_hours: Above0 | None = None
    dollars: Above0 | None = None
    dollars_per_gpu_hour: Above0 | None = None
    lost: Fraction = 0.1

    @property
    def share(self) -> float | None:
        """The share of the exhaustive cost, where the budget is stated as one."""
        return parse_number(self.flops) if isinstance(self.flops, str) else None

    @model_validator(mode="after")
    def _priced(self) -> Budget:
        if self.dollars is not None and self.dollars_per_gpu_hour is None:
            raise FieldError(
                "dollars", "needs a price; add budget.dollars_per_gpu_hour, such as 3"
            )
        return self


class Exhaustive(Block):
    """Every candidate to its horizon."""

    kind: Literal["exhaustive"] = "exhaustive"


class Uniform(Block):
    """The budget divided evenly over the candidates."""

    kind: Literal["uniform"] = "uniform"


SURROGATES = (
    "joint_law",
    "multi_task_gp",
    "latent_gp",
    "deep_ensemble",
    "power_law",
    "exponential",
    "mmf",
    "log_linear",
)


def _a_surrogate(value: str) -> str:
    if value not in SURROGATES:
        raise ValueError(
            f"{value!r} is no surrogate of this release; there are {', '.join(SURROGATES)}: "
            "choose one, or remove the key"
        )
    return value


Surrogate: TypeAlias = Annotated[str, AfterValidator(_a_surrogate)]
"""The name of a model of the rest of a curve; see `surrogates`."""


class SuccessiveHalving(Block):
    """Rounds of equal cost, each keeping 1/eta of the trials; see `policies/successive_halving`.

    `group_by` halves within groups (`params`, or a varied key), so that a law keeps their spread.
    `surrogate` ranks by its forecasts at the last rung, where a backtest speaks for it (`gate`).
    """

    kind: Literal["successive_halving"] = "successive_halving"
    eta: Annotated[Count, Field(ge=2)] = 2
    spend_out: bool = True
    group_by: str | None = None
    surrogate: Surrogate | None = None
    gate: bool = True


class Hyperband(Block):
    """Brackets of halving, from brave to cautious; see `policies/hyperband`."""

    kind: Literal["hyperband"] = "hyperband"
    eta: Annotated[Count, Field(ge=2)] = 3
    spend_out: bool = True
    surrogate: Surrogate | None = None
    gate: bool = True


class Asha(Block):
    """Halving without a barrier: a free worker promotes or starts; see `policies/asha`."""

    kind: Literal["asha"] = "asha"
    eta: Annotated[Count, Field(ge=2)] = 2
    spend_out: bool = True


class OneShot(Block):
    """The budget on one candidate, at a stated number of tokens a parameter."""

    kind: Literal["one_shot"] = "one_shot"
    tokens_per_param: Above0 = 20.0


class StaticLadder(Block):
    """A few runs at a stated number of tokens a parameter, decided before anything runs."""

    kind: Literal["static_ladder"] = "static_ladder"
    tokens_per_param: Above0 = 20.0
    runs: Positive = 5
    share: Share = 0.75


class Frontier(Block):
    """The lowest loss for the compute, by forecasts; see `policies/frontier`.

    `most`: the largest share of the budget in one trial. `certainty`: by how many sd a forecast
    must be better to overrule the textbook's size.
    """

    kind: Literal["frontier"] = "frontier"
    surrogate: Surrogate = "joint_law"
    gate: bool = True
    most: Share = 0.75
    tokens_per_param: Above0 = 20.0
    certainty: Annotated[Number, Field(ge=0)] = 2.0


class Recommend(Block):
    """What tells most about the choice for `deployment_flops`; see `policies/recommend`."""

    kind: Literal["recommend"] = "recommend"
    surrogate: Surrogate = "joint_law"
    gate: bool = True
    most: Share = 0.75
    tokens_per_param: Above0 = 20.0
    certainty: Annotated[Number, Field(ge=0)] = 2.0


class Select(Block):
    """Buys runs for a law that is right at `target`; see `policies/selection` and the policy of
    each kind.

    `lengths`: at how many lengths a candidate is offered, each half the next; more than 1 where a
    prefix is a true shorter run (a constant rate). For `active`: `half_width` (90 %, of log loss)
    at the target that is enough, and `worth`, the least share of the half-width that a purchase
    must be expected to save for each share of the budget that it costs. `by: curves` (`active`
    alone): one belief of all curves, not of law forms, buys lengths of runs; `policies/target`.
    """

    kind: Literal[
        "active",
        "random",
        "cheapest",
        "cost_weighted_random",
        "d_optimal",
        "v_optimal",
        "published",
    ]
    by: Literal["forms", "curves"] = "forms"
    lengths: Annotated[Count, Field(ge=1, le=8)] = 1
    half_width: Above0 | None = None
    worth: Annotated[Number, Field(ge=0)] = 0.0


def _by_kind_alone(value: object) -> object:
    """`policy: uniform` for `policy: {kind: uniform}`."""
    return {"kind": value} if isinstance(value, str) else value


Policy: TypeAlias = Annotated[
    Exhaustive
    | Uniform
    | SuccessiveHalving
    | Hyperband
    | Asha
    | OneShot
    | StaticLadder
    | Frontier
    | Recommend
    | Select,
    Field(discriminator="kind"),
    BeforeValidator(_by_kind_alone),
]


def policy_named(kind: str, surrogate: str | None = None) -> Policy:
    """The policy with its own settings, as `policy: KIND` gives it. Raises ValueError."""
    plan = {"kind": kind} | ({} if surrogate is None else {"surrogate": surrogate})
    return TypeAdapter[Policy](Policy).validate_python(plan)


class AnnealPlan(Block):
    """Short decays branched off checkpoints, for the annealed losses that laws are quoted on.

    `share` of the budget is kept for them; each decays over `decay` of the tokens seen so far;
    besides the survivors, `stopped` of the stopped trials are sampled as a check on the pruning.
    """

    share: Share = 0.1
    decay: Share = 0.2
    stopped: Count = 2


LAW_NAMES = (
    "power",
    "power_irreducible",
    "chinchilla",
    "kaplan",
    "broken_power",
    "farseer",
)
"""Law forms of N and D or of C that ship. What stands in no such name is a law in one line."""


def _law_form(text: str) -> str:
    # Lines are parsed where laws are known: this room knows none.
    if text in LAW_NAMES or any(sign in text for sign in "+-*/^("):
        return text
    close = difflib.get_close_matches(text, LAW_NAMES, n=1, cutoff=0.5)
    near = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(
        f"{text!r} is no law form; {near}One of: {', '.join(LAW_NAMES)}; or a law in one line, "
        "such as E + A/N**alpha + B/D**beta"
    )


LawForm: TypeAlias = Annotated[str, Field(max_length=1000), AfterValidator(_law_form)]


def _one_or_more(value: object) -> object:
    if value in ([], ()):
        raise ValueError("is empty; name a form, such as chinchilla")
    return value


class LawPlan(Block):
    """Forms to fit, share of each curve dropped as burn-in, bootstrap draws, interval level."""

    forms: Annotated[tuple[LawForm, ...], BeforeValidator(_one_or_more)] = (
        "power_irreducible",
        "chinchilla",
    )
    burn_in: Annotated[Fraction, Field(lt=1)] = 0.1
    bootstrap: Annotated[Count, Field(le=100_000)] = 200
    level: Share = 0.9


def _without_secret(value: str) -> str:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^/@]*:[^/@]*@", value):
        raise ValueError(
            "holds a password, which would be printed and stored; write env:NAME and put the "
            "address in that variable, or use MLFLOW_TRACKING_USERNAME and _PASSWORD"
        )
    if value.startswith("env:") and not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError(f"{value!r} names no variable; write env:MLFLOW_TRACKING_URI")
    return value


class Tracking(Block):
    """The MLflow record. `uri` None: SQLite beside the sweep; `env:NAME` is read at launch."""

    mlflow: bool = True
    uri: Annotated[str, Field(min_length=1), AfterValidator(_without_secret)] | None = None
    experiment: Annotated[str, Field(min_length=1, max_length=250)] | None = None
