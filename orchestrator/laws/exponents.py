"""What published sweeps say of a law's exponents, as priors for laws of few runs.

Touches nothing. E + A/N^alpha + B N^gamma/D^beta, fitted (Huber on log loss) to finished runs of
three public sweeps, none of which shares a run with the curves that this project is judged on:

| runs | alpha | beta | gamma |
|---|---|---|---|
| 404 of Farseer (Li et al. 2025, arXiv 2506.10972) | 0.19 | 0.31 | 0.09 |
| 25 of OLMo's ladder (Bhagia et al. 2024, arXiv 2412.04403) | 0.22 | 0.41 | 0.33 |
| 27 of one epoch (Muennighoff et al. 2023, arXiv 2305.16264) | 0.48 | 0.43 | 0.14 |

In all of them gamma is above zero: the larger a model, the more it still gains from tokens. A
prior about zero takes the flat end of a small model's long run for that of all, and overpredicts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponents:
    """Normal priors: middles of alpha and beta with sds of their logarithms, and gamma's own.

    Raises ValueError for a middle or an sd that is not finite and above zero (gamma's middle may
    be anything finite).
    """

    alpha: float
    alpha_sd: float
    beta: float
    beta_sd: float
    gamma: float
    gamma_sd: float

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not math.isfinite(value) or (value <= 0 and name != "gamma"):
                raise ValueError(f"{name} is {value}; it must be finite and above zero")

    @property
    def means(self) -> tuple[float, float, float]:
        """Of log alpha, log beta and gamma."""
        return math.log(self.alpha), math.log(self.beta), self.gamma

    @property
    def sds(self) -> tuple[float, float, float]:
        """Of log alpha, log beta and gamma."""
        return self.alpha_sd, self.beta_sd, self.gamma_sd


MODERATE = Exponents(alpha=0.35, alpha_sd=0.35, beta=0.35, beta_sd=0.35, gamma=0.0, gamma_sd=0.1)
"""About the values of Hoffmann et al. (2022), who have no interaction."""
PUBLISHED = Exponents(alpha=0.27, alpha_sd=0.5, beta=0.38, beta_sd=0.35, gamma=0.18, gamma_sd=0.12)
"""Mean and spread of the three sweeps; beta's spread is MODERATE's, three being too alike."""
