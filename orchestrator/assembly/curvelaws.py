"""The law of curves beside the laws that a spec names: of a sweep's trials or of a table.

Reads the sweep's journal or the table; writes nothing. See `laws.curves`: it has an offset for
every trial and holds better at sizes larger than those trained than any single form does.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

from orchestrator.assembly.choosing import evidence_about
from orchestrator.assembly.refusal import Refused
from orchestrator.laws.curves import CurveLaw, fit_curves
from orchestrator.laws.errors import FitError
from orchestrator.report import words
from orchestrator.report.answers import interval
from orchestrator.report.conclusions import Bounded, Conclusions


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvesSaid:
    """The law of curves, and what it says of the conclusions' target; or why there is none.
    `beside_annealed`: the conclusions answer with annealed losses, and this law knows none."""

    law: CurveLaw | None
    beside_annealed: bool = False
    params: float | None = None
    tokens: float | None = None
    loss: Bounded | None = None
    level: float = 0.9
    why_not: str | None = None

    @property
    def words(self) -> str:
        """One line for people."""
        if self.law is None:
            return f"law of curves: {self.why_not}"
        if self.loss is None or self.params is None or self.tokens is None:
            return f"law of curves: of {len(self.law.trials)} trials, and no plan to ask it for"
        said = in_words(self.loss, self.params, self.tokens, self.level)
        return f"{said}, before annealing" if self.beside_annealed else said

    def to_json(self) -> dict[str, object]:
        return {
            "law": self.law.to_json() if self.law is not None else None,
            "params": self.params,
            "tokens": self.tokens,
            "loss": self.loss.to_json() if self.loss is not None else None,
            "why_not": self.why_not,
        }


def curves_said(
    source: str, conclusions: Conclusions, *, storage: str | None = None
) -> CurvesSaid:
    """The law of the curves behind these conclusions, those near the best of their size."""
    try:
        evidence, _ = evidence_about(source, conclusions, storage)
        law = fit_curves([trial.stable for trial in evidence.near_best()])
    except (FitError, Refused, ValueError) as error:
        return CurvesSaid(law=None, why_not=str(error))
    target = conclusions.target
    if target is None or target.params is None or target.tokens is None:
        return CurvesSaid(law=law)
    params, tokens = target.params.value, target.tokens.value
    level = conclusions.question.level
    loss = loss_of(law, params, tokens, level)
    annealed = "annealed" in target.phases and "annealed" not in evidence.phases
    return CurvesSaid(
        law=law, beside_annealed=annealed, params=params, tokens=tokens, loss=loss, level=level
    )


def loss_of(law: CurveLaw, params: float, tokens: float, level: float) -> Bounded:
    """What the law says of a plan, with its interval (normal in the loss)."""
    value, sd = float(law.predict(params, tokens)), float(law.sd(params, tokens))
    reach = NormalDist().inv_cdf(0.5 + 0.5 * level) * sd
    return Bounded(value=value, low=value - reach, high=value + reach)


def in_words(loss: Bounded, params: float, tokens: float, level: float) -> str:
    """What the law of curves says of a plan, with the level of its interval."""
    return (
        "law of curves (an offset a trial, a drift beyond the rows):"
        f" {interval(loss, level)} at {words.amount(params)} params,"
        f" {words.amount(tokens)} tokens"
    )
