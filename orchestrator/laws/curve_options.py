"""Priors and options of the law of curves. Touches nothing.

Priors are normal in logarithms: weak on E and on the two terms, moderate on the exponents, whose
published values lie between 0.2 and 0.6 (Hoffmann et al. 2022, arXiv 2203.15556: 0.34 and 0.28;
McLeish et al. 2025, arXiv 2502.06857, on how they move with what is fitted).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from orchestrator.laws.exponents import Exponents


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePriors:
    """Normal priors in logarithms; gamma's is normal itself, and its middle may be negative.

    floor: E, as a share of the smallest loss seen. term: A/N^alpha and B N^gamma/D^beta at the
    middle of the rows, as shares of it. sds are those of the logarithms.
    """

    floor: float = 0.6
    floor_sd: float = 0.7
    term: float = 0.2
    term_sd: float = 2.0
    alpha: float = 0.35
    alpha_sd: float = 0.5
    beta: float = 0.35
    beta_sd: float = 0.5
    gamma: float = 0.0
    gamma_sd: float = 0.1

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not math.isfinite(value) or (value <= 0 and name != "gamma"):
                raise ValueError(f"{name} is {value}; it must be finite and above zero")

    def about(self, exponents: Exponents) -> CurvePriors:
        """With these priors of the exponents."""
        return replace(
            self,
            alpha=exponents.alpha,
            alpha_sd=exponents.alpha_sd,
            beta=exponents.beta,
            beta_sd=exponents.beta_sd,
            gamma=exponents.gamma,
            gamma_sd=exponents.gamma_sd,
        )

    def widened(self, factor: float) -> CurvePriors:
        """The same centres with every sd times `factor`."""
        return replace(
            self,
            floor_sd=self.floor_sd * factor,
            term_sd=self.term_sd * factor,
            alpha_sd=self.alpha_sd * factor,
            beta_sd=self.beta_sd * factor,
            gamma_sd=self.gamma_sd * factor,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveOptions:
    """How curves are fitted. One setting for all data, chosen on laws asked for sizes larger than
    those they were fitted to, inside pools of public curves and on synthetic sweeps.

    burn_in: share of a curve's own tokens that is dropped. offset_sd: of a trial's log loss, with
    Huber's knees at knee_low and knee_high of it below and above the law. drift: sd of the slope
    of log loss in log N, and in log D, beyond the rows. nodes: of the grid over alpha.
    """

    burn_in: float = 0.3
    offset_sd: float = 0.007
    knee_low: float = 1.0
    knee_high: float = 0.5
    drift: float = 0.01
    nodes: int = 9
    priors: CurvePriors = field(default_factory=CurvePriors)


USUAL = CurveOptions()
