"""What a sweep concluded, as values: laws with their intervals, answers, spending, doubts.

Touches nothing. `to_json` is the content of law.json, schema `frontrunner.law/1`; the page, the
Markdown and the command show these values and compute none of their own.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from orchestrator.laws.law import LawFit
from orchestrator.laws.uncertainty import LawPosterior
from orchestrator.report.cost import FlopsPerToken
from orchestrator.values import FloatArray, Scalar

SCHEMA = "frontrunner.law/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the spec wants to know. `forms` are law forms by name, `level` that of all intervals;
    `target` is (params, tokens); the rest in FLOPs."""

    forms: tuple[str, ...]
    burn_in: float = 0.1
    draws: int = 200
    level: float = 0.9
    seed: int = 0
    aim: str = "frontier"
    target: tuple[int, int] | None = None
    deployment_flops: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """A figure with its interval at the question's level; None where there is no interval."""

    value: float
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """The same law fitted without one size, and what it then said of the costliest run of all.

    `params` is the size held out, that of the run; `flops` the run's compute; `error` the relative
    error of the loss, signed.
    """

    params: int
    flops: float
    predicted: float
    seen: float

    @property
    def error(self) -> float:
        return self.predicted / self.seen - 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Loss along compute: for a law of N and D, at the best size for each C, which `params` holds.

    Arrays of one length.
    """

    flops: FloatArray
    loss: FloatArray
    low: FloatArray
    high: FloatArray
    params: FloatArray | None = None

    @property
    def spread(self) -> float:
        """Width of the interval at the far end, in log loss; infinite where it reaches zero."""
        low, high = float(self.low[-1]), float(self.high[-1])
        return float(np.log(high / low)) if low > 0 else np.inf

    def at(self, flops: float) -> tuple[float, float, float, float | None]:
        """(loss, low, high, params or None) at a compute on the line, in log-log."""
        place = np.log(flops)
        logs = np.log(self.flops)
        columns = (self.loss, self.low, self.high)
        loss, low, high = (float(np.exp(np.interp(place, logs, np.log(c)))) for c in columns)
        if self.params is None:
            return loss, low, high, None
        return loss, low, high, float(np.exp(np.interp(place, logs, np.log(self.params))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Residuals:
    """What is left of each row: log loss seen less that of the law. Arrays of one length."""

    flops: FloatArray
    params: FloatArray
    log_loss: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Gained:
    """What annealing gains in the middle of the cooldowns, in nats at equal tokens, and its sd;
    how many cooldowns of how many trials say so; decay: the share of the tokens over which the
    rate falls, None where unknown."""

    nats: float
    sd: float
    cooldowns: int
    trials: int
    decay: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LawResult:
    """A form and what became of it: a law, or the reason why there is none yet.

    `basis` says in words which points it rests on; `phases` names their phases; `gain` is what
    annealing gains, of a law that is made of a stable one and that.
    """

    form: str
    expression: str
    source: str
    basis: str
    phases: tuple[str, ...]
    law: LawFit | None = None
    posterior: LawPosterior | None = None
    parameters: tuple[tuple[str, str, Bounded], ...] = ()
    held_out: HeldOut | None = None
    line: Line | None = None
    residuals: Residuals | None = None
    gain: Gained | None = None
    why_not: str | None = None
    doubts: tuple[str, ...] = ()

    @property
    def loose(self) -> tuple[str, ...]:
        """Names of the exponents that rest at an end of their range: the rows do not fix them.

        An irreducible loss at zero is no such thing: it says that none was seen yet.
        """
        if self.law is None:
            return ()
        known = zip(self.law.form.parameters, self.law.working, strict=True)
        return tuple(
            parameter.name
            for parameter, value in known
            if not parameter.linear and _at_end(value, parameter.lower, parameter.upper)
        )

    @property
    def doubtful(self) -> bool:
        """Whether the rows leave an exponent loose, or the law between several optima."""
        kinds = {warning.kind for warning in self.law.warnings} if self.law else set[str]()
        return bool(self.loose) or "starts_disagree" in kinds

    @property
    def identified(self) -> bool:
        """Whether the rows tell at least half of the parameters."""
        if self.law is None:
            return False
        vague = sum(warning.kind == "not_identified" for warning in self.law.warnings)
        return 2 * vague <= len(self.law.form.parameters)

    @property
    def key(self) -> str:
        """Name of this result: the form, and the phase where it is not the constant rate."""
        return self.form if "annealed" not in self.phases else f"{self.form} (annealed)"

    def to_json(self) -> dict[str, object]:
        held = self.held_out
        return {
            "form": self.form,
            "expression": self.expression,
            "source": self.source,
            "basis": self.basis,
            "phases": list(self.phases),
            "why_not": self.why_not,
            "parameters": {name: bounded.to_json() for name, _, bounded in self.parameters},
            "held_out": held
            and {
                "params": held.params,
                "flops": held.flops,
                "predicted": held.predicted,
                "seen": held.seen,
                "relative_error": held.error,
            },
            "gain": asdict(self.gain) if self.gain else None,
            "doubts": list(self.doubts),
            "posterior": self.posterior.to_json() if self.posterior else None,
            "fit": self.law.to_json() if self.law and not self.posterior else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BestRun:
    """The lowest constant-rate loss seen, and the run that reached it."""

    trial: str
    params: int
    tokens: int
    flops: float
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Loss to expect at a compute: `what` names the question, `by` the law that answers.

    `params` and `tokens` are the compute-optimal ones, or those of the target; None where the law
    knows only compute. `reach` is how many times the compute lies beyond the largest run.
    """

    what: str
    by: str
    phases: tuple[str, ...]
    flops: float
    loss: Bounded
    params: Bounded | None
    tokens: Bounded | None
    reach: float
    settings: tuple[tuple[str, Scalar], ...] = ()
    doubts: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        return {
            "what": self.what,
            "by": self.by,
            "phases": list(self.phases),
            "flops": self.flops,
            "loss": self.loss.to_json(),
            "params": self.params.to_json() if self.params else None,
            "tokens": self.tokens.to_json() if self.tokens else None,
            "reach": self.reach,
            "settings": dict(self.settings),
            "doubts": list(self.doubts),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Averaged:
    """The loss at the target by all law forms together, and the weight of each."""

    loss: Bounded
    forms: tuple[tuple[str, float], ...]

    @property
    def key(self) -> str:
        """What answers, in words: the forms, of most weight first."""
        by_weight = sorted(self.forms, key=lambda form: -form[1])
        told = ", ".join(f"{name} {100 * weight:.0f} %" for name, weight in by_weight)
        return f"the forms' average ({told})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approach:
    """What one way of finding the best size says: the exponent of compute in it, and size and
    tokens at `flops`. None where it has no estimate, `why_not` then says why."""

    name: str
    flops: float
    exponent: Bounded | None = None
    params: Bounded | None = None
    tokens: Bounded | None = None
    why_not: str | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "flops": self.flops,
            "exponent_params": self.exponent.to_json() if self.exponent else None,
            "params": self.params.to_json() if self.params else None,
            "tokens": self.tokens.to_json() if self.tokens else None,
            "why_not": self.why_not,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusions:
    """All of it. `sentence` answers first; `frontier` is (FLOPs, loss) of the runs on the edge;
    `cost` counts the FLOPs of a token at any size; `approaches` find the best size in several
    ways, all of them where a law of N and D is asked for; `averaged`, where there is one, answers
    at the target instead of the headline."""

    question: Question
    sentence: str
    laws: tuple[LawResult, ...]
    headline: LawResult | None
    best: BestRun | None
    target: Answer | None
    recommended: Answer | None
    frontier: tuple[FloatArray, FloatArray]
    largest_flops: float
    trials: int
    points: int
    annealing_gain: Bounded | None = None
    left_out: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    cost: FlopsPerToken | None = None
    approaches: tuple[Approach, ...] = ()
    averaged: Averaged | None = None

    @property
    def why_not(self) -> str | None:
        """Why there is no law; None where there is one."""
        if self.headline is not None:
            return None
        reasons = [result.why_not for result in self.laws if result.why_not]
        return reasons[0] if reasons else "no law was asked for"

    def to_json(self) -> dict[str, object]:
        """Plain JSON values; figures that are not finite become None."""
        best = self.best
        record: dict[str, object] = {
            "schema": SCHEMA,
            "answer": self.sentence,
            "level": self.question.level,
            "aim": self.question.aim,
            "headline": self.headline.key if self.headline else None,
            "why_not": self.why_not,
            "laws": [result.to_json() for result in self.laws],
            "frontier": {
                "best": best
                and {
                    "trial": best.trial,
                    "params": best.params,
                    "tokens": best.tokens,
                    "flops": best.flops,
                    "loss": best.loss,
                },
                "flops": [float(x) for x in self.frontier[0]],
                "loss": [float(x) for x in self.frontier[1]],
            },
            "target": self.target.to_json() if self.target else None,
            "recommended": self.recommended.to_json() if self.recommended else None,
            "largest_flops": self.largest_flops,
            "flops_per_token": [list(pair) for pair in self.cost.pairs()] if self.cost else [],
            "trials": self.trials,
            "points": self.points,
            "approaches": [approach.to_json() for approach in self.approaches],
            "averaged": self.averaged
            and {"loss": self.averaged.loss.to_json(), "forms": dict(self.averaged.forms)},
            "annealing_gain": self.annealing_gain.to_json() if self.annealing_gain else None,
            "left_out": list(self.left_out),
            "doubts": list(self.doubts),
        }
        return {key: _finite(value) for key, value in record.items()}


def _at_end(value: float, low: float, high: float | None) -> bool:
    if high is None or not math.isfinite(high - low):
        return False
    return min(value - low, high - value) <= 1e-6 * (high - low)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}  # pyright: ignore
    if isinstance(value, list):
        return [_finite(inner) for inner in value]  # pyright: ignore
    return value
