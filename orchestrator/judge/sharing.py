"""Fits that several contestants share: on one pool many of them ask a surrogate the same.

Literal and gated halving rank the same first rung, a policy's last belief is what recommends and
what coverage is judged by. A surrogate is a pure function, so equal prefixes need one fit; the CPU
seconds that a fit did cost are charged to everybody who uses it. Touches nothing.
"""

from __future__ import annotations

import time
from collections import OrderedDict

from orchestrator.policies.trust import fingerprint
from orchestrator.surrogates.base import Forecaster, NoForecast, Observed, Surrogate

MOST = 64


class Shared:
    """`surrogate`, with its latest `most` fits kept by content.

    `saved_s`: CPU seconds that fits would have cost which were at hand already.
    """

    def __init__(self, surrogate: Surrogate, *, most: int = MOST) -> None:
        self._surrogate = surrogate
        self._most = most
        self._kept: OrderedDict[object, tuple[Forecaster | NoForecast, float]] = OrderedDict()
        self.saved_s = 0.0

    @property
    def name(self) -> str:
        return self._surrogate.name

    def fit(self, observed: Observed, *, seed: int) -> Forecaster:
        """As the surrogate's own, refusals too."""
        key = (seed, fingerprint(observed))
        known = self._kept.get(key)
        if known is None:
            found, cost_s = self._fitted(observed, seed)
            self._kept[key] = found, cost_s
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        else:
            found, cost_s = known
            self._kept.move_to_end(key)
            self.saved_s += cost_s
        if isinstance(found, NoForecast):
            raise NoForecast(*found.args)
        return found

    def _fitted(self, observed: Observed, seed: int) -> tuple[Forecaster | NoForecast, float]:
        begun = time.process_time()
        try:
            found: Forecaster | NoForecast = self._surrogate.fit(observed, seed=seed)
        except NoForecast as error:
            found = error
        return found, time.process_time() - begun
