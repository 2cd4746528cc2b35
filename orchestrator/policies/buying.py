"""What is for sale, what is known, and the purchase that teaches most about a target per cost.

Observing a run moves the whole belief, a normal distribution given by features whose products are
covariances: with x of an offer and t of the target, the mean variance there falls by
|cov(t, x)|^2 / (var(x) + noise^2). A batch is bought one by one, each on the belief that the ones
before it have left (deflation needs no observation, only that there will be one), and what is in
flight is taken for observed first. Touches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.runs import Runs
from orchestrator.values import FloatArray, IntArray

COST_EXPONENT = 0.4
"""Gain is divided by cost to this power (arXiv 2604.22753): between the best next run, and the
best of many of the same cost."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Market:
    """Offers and knowledge as arrays. An offer is one run; a run may have several outputs.

    offers: inputs by name, (outputs * Q,), output by output. cost (Q,), above zero. owner (Q,):
    offers of one owner are lengths of one run, of which one is bought. affordable: what may be
    spent now. budget: of the whole sweep, in the unit of cost. known: rows seen, None before the
    first. known_cost: of each row. flying: inputs of rows that will come. target: inputs where
    the law must be right. everywhere: inputs of all that could ever be run. signed: losses may
    be negative. seed: of this decision.
    """

    offers: Mapping[str, FloatArray]
    cost: FloatArray
    owner: IntArray
    affordable: float
    budget: float
    known: Runs | None
    known_cost: FloatArray
    flying: Mapping[str, FloatArray]
    target: Mapping[str, FloatArray]
    everywhere: Mapping[str, FloatArray]
    outputs: int
    signed: bool
    seed: int

    @property
    def seen(self) -> int:
        """Runs (trials) that are known."""
        return 0 if self.known is None else self.known.trials


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """An offer, and the half-width (90 %, of log loss) at the target before and after; None where
    nothing was expected of it. why: in words."""

    offer: int
    before: float | None = None
    after: float | None = None
    why: str = ""


class Teaching:
    """What observations of offers do to the belief at the target."""

    def __init__(
        self, offers: FloatArray, target: FloatArray, *, outputs: int, noise: float
    ) -> None:
        """offers (outputs * Q, F) and target (T, F): features. noise: sd of an observation."""
        self._offers, self._target = offers, target
        self._outputs, self._noise = outputs, noise**2
        blocks = offers.reshape(outputs, -1, offers.shape[1])
        self._across = offers @ target.T
        self._blocks = np.einsum("aqf,bqf->qab", blocks, blocks)
        self._variance = np.sum(target**2, axis=1)
        self._learnt: list[FloatArray] = []

    @property
    def variance(self) -> float:
        """Mean variance over the target."""
        return float(self._variance.mean())

    def gains(self) -> FloatArray:
        """(Q,): by how much each offer would lower the target's mean variance."""
        across = self._across.reshape(self._outputs, -1, len(self._variance))
        if self._outputs == 1:
            squares = np.sum(across[0] ** 2, axis=1)
            return squares / (self._blocks[:, 0, 0] + self._noise) / len(self._variance)
        joint = self._blocks + self._noise * np.eye(self._outputs)
        moved = np.linalg.solve(joint, np.einsum("aqt,bqt->qab", across, across))
        return np.trace(moved, axis1=1, axis2=2) / len(self._variance)

    def buy(self, offer: int) -> None:
        """Let all outputs of an offer be observed."""
        for row in self._offers.reshape(self._outputs, -1, self._offers.shape[1])[:, offer]:
            self.observe(row)

    def observe(self, row: FloatArray) -> None:
        """Let a row with these features (F,) be observed."""
        left = row
        for known in self._learnt:
            left = left - known * float(known @ row)
        known = left / np.sqrt(max(float(row @ left), 0.0) + self._noise)
        self._learnt.append(known)
        at_offers, at_target = self._offers @ known, self._target @ known
        split = at_offers.reshape(self._outputs, -1)
        self._across = self._across - np.outer(at_offers, at_target)
        self._blocks = self._blocks - np.einsum("aq,bq->qab", split, split)
        self._variance = np.maximum(self._variance - at_target**2, 0.0)
