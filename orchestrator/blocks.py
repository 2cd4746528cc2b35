"""The blocks of a sweep file, each checked by itself: what varies, how it is chosen and
recorded.

Frozen pydantic models; touches nothing. Rules that span several blocks live in `spec`.
"""

from __future__ import annotations

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
)

from orchestrator.ranges import Axis
from trainers.quantity import Count, Fraction, Number

Positive: TypeAlias = Annotated[Count, Field(ge=1)]
Above0: TypeAlias = Annotated[Number, Field(gt=0)]
AtLeast0: TypeAlias = Annotated[Number, Field(ge=0)]
Share: TypeAlias = Annotated[Fraction, Field(gt=0, lt=1)]
Lengths: TypeAlias = Annotated[Count, Field(ge=1, le=8)]
Aim: TypeAlias = Literal["frontier", "target", "recommend"]


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
    must be better to overrule the textbook's size. `worth` as in Active. The same as `active`
    under `aim: frontier`.
    """

    kind: Literal["frontier"] = "frontier"
    surrogate: Surrogate = "joint_law"
    gate: bool = True
    most: Share = 0.75
    tokens_per_param: Above0 = 20.0
    certainty: AtLeast0 = 2.0
    worth: AtLeast0 = 0.0


class Recommend(Block):
    """What tells most about the choice for `deployment_flops`; see `policies/recommend`. `regret`
    and `worth` as in Active. The same as `active` under `aim: recommend`.
    """

    kind: Literal["recommend"] = "recommend"
    surrogate: Surrogate = "joint_law"
    gate: bool = True
    most: Share = 0.75
    tokens_per_param: Above0 = 20.0
    certainty: AtLeast0 = 2.0
    regret: Above0 | None = None
    worth: AtLeast0 = 0.0


class Active(Block):
    """Buys what is expected to serve the sweep's `aim` most for its cost: a law that is right at
    the target, the choice for the deployment, or the lowest loss for the compute.

    Nothing more is bought once the aim is met: `half_width` (90 %, of log loss) at the target, or
    the expected `regret` (log loss) of the recommendation. Nor where no purchase is worth its
    cost: `worth` is the least that one must be expected to save for each share of the budget that
    it costs, as a share of the half-width, of the regret, or of the loss along the frontier.

    For the aim `target`: `by` law forms on finished runs, or `curves`, one belief of all curves.
    `lengths`: at how many lengths a candidate is offered, each half the next; more than 1 where a
    prefix is a true shorter run (a constant rate). The rest are the settings of `Frontier`, for
    the other two aims.
    """

    kind: Literal["active"] = "active"
    by: Literal["forms", "curves"] | None = None
    lengths: Lengths = 1
    half_width: Above0 | None = None
    regret: Above0 | None = None
    worth: AtLeast0 = 0.0
    surrogate: Surrogate = "joint_law"
    gate: bool = True
    most: Share = 0.75
    tokens_per_param: Above0 = 20.0
    certainty: AtLeast0 = 2.0

    def stray(self, aim: Aim) -> tuple[str, str] | None:
        """A setting that means nothing to this aim, and what to do about it; None where all do."""
        default = Active()
        allowed = {
            "target": ("by", "lengths", "half_width", "worth"),
            "recommend": ("regret", "worth", *FORECASTING),
            "frontier": ("worth", *FORECASTING),
        }
        if aim != "target" and self.by == "curves":
            allowed = {key: ("by", *names) for key, names in allowed.items()}
        for name in Active.model_fields:
            if name == "kind" or name in allowed[aim]:
                continue
            if getattr(self, name) != getattr(default, name):
                meant = " and ".join(key for key, names in allowed.items() if name in names)
                return name, f"is for aim: {meant}, not {aim}; remove it, or name another aim"
        return None


FORECASTING = ("surrogate", "gate", "most", "tokens_per_param", "certainty")
"""Settings of policies that choose by forecasts of single curves."""


class Select(Block):
    """Buys finished runs for a law that is right at `target`, by another rule than Active: its
    rivals; see `policies/selection` and the policy of each kind.

    `lengths` as in Active.
    """

    kind: Literal[
        "random",
        "cheapest",
        "cost_weighted_random",
        "d_optimal",
        "v_optimal",
        "published",
    ]
    lengths: Lengths = 1


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
    | Active
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
