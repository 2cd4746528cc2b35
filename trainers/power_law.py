"""A trainer of your own, whole, and no language model: regression with a power-law spectrum.

Feature i of the inputs has variance i^-(1 + a), and the teacher's weights are all of one size. A
student sees the first `features` of them and learns online by stochastic gradients, so its loss is
 noise + (tail of the spectrum) + (what it has not learnt yet): E + A / N^a + a power of the
tokens, with E = `noise` (Bahri et al. 2021, arXiv 2102.06701; Maloney et al. 2022, arXiv
2210.16859). Two seconds of numpy, and a scaling law that is known. Touches the folder it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from trainers.own import Cost, Setting

ALL_FEATURES = 2048
BATCH = 32
POINTS = 12


class PowerLawRegression:
    """`features` of the student; `exponent` a; `noise` E; `rate` of its steps."""

    @staticmethod
    def cost(settings: Mapping[str, Setting]) -> Cost:
        """Two multiplications and additions a feature forward, four backward."""
        features = int(settings["features"])
        if not 1 <= features <= ALL_FEATURES:
            raise ValueError(f"settings.features is {features}; use 1 to {ALL_FEATURES}")
        return Cost(params=features, flops_per_token=6.0 * features, tokens_per_step=BATCH)

    def __init__(self, settings: Mapping[str, Setting], seed: int) -> None:
        exponent = float(settings.get("exponent", 0.7))
        self._spread = np.arange(1, ALL_FEATURES + 1) ** (-(1 + exponent) / 2)
        self._noise = float(settings.get("noise", 0.05))
        self._rate = float(settings.get("rate", 0.2))
        self._seed = seed
        self._seen = 0
        self._weights = np.zeros(int(settings["features"]))

    def train(self, until: int) -> Iterator[tuple[int, float]]:
        yield from self._to(until, lambda _: 1.0)

    def anneal(self, start: int, until: int) -> Iterator[tuple[int, float]]:
        yield from self._to(until, lambda seen: 1 - (seen - start) / (until - start))

    def save(self, folder: Path) -> None:
        np.save(folder / "weights.npy", self._weights)
        np.save(folder / "seen.npy", self._seen)

    def load(self, folder: Path) -> None:
        self._weights = np.load(folder / "weights.npy")
        self._seen = int(np.load(folder / "seen.npy"))

    def _to(self, until: int, left: Callable[[int], float]) -> Iterator[tuple[int, float]]:
        while self._seen < until:
            self._step(self._rate * left(self._seen))
            if self._seen == until or self._seen in _PLACES:
                yield self._seen, self._loss()

    def _step(self, rate: float) -> None:
        """Batch k is drawn from (seed, k) alone, so a resumed run sees what it would have seen."""
        chance = np.random.Generator(np.random.Philox(key=[self._seed, self._seen]))
        inputs = chance.standard_normal((BATCH, ALL_FEATURES)) * self._spread
        targets = inputs.sum(1) + chance.standard_normal(BATCH) * self._noise**0.5
        own = inputs[:, : len(self._weights)]
        self._weights += rate * own.T @ (targets - own @ self._weights) / BATCH
        self._seen += BATCH

    def _loss(self) -> float:
        """The expected squared error, in closed form: no held-out set is needed."""
        missing = np.ones(ALL_FEATURES)
        missing[: len(self._weights)] -= self._weights
        return self._noise + float((missing * self._spread) @ (missing * self._spread))


_PLACES = frozenset(BATCH * 2**k for k in range(POINTS + 1))
"""Where a point is yielded: a pure function of the tokens, so segments change nothing."""
