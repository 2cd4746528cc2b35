"""Which curves of many one fit is given."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.policies.portion import in_lots, portion
from orchestrator.values import Candidate, Curve, Point
from tests.orchestrator.policies.forecasting import Seer

MANY = [
    (
        Candidate(
            id=f"t{k:03d}", params=1000 + k, horizon=10**6, flops_per_token=6.0 * (1000 + k)
        ),
        Curve.of([Point(tokens=100, flops=6e5 + 600 * k, loss=3.0 + 0.001 * ((37 * k) % 300))]),
    )
    for k in range(300)
]


def test_it_holds_the_lowest_losses_and_a_spread_over_sizes() -> None:
    kept = portion(MANY, 40)
    assert len(kept) == len({candidate.id for candidate, _ in kept}) == 40
    lowest = sorted(MANY, key=lambda pair: pair[1].last_loss)[:20]
    assert {c.id for c, _ in lowest} <= {c.id for c, _ in kept}
    sizes = sorted(c.params for c, _ in kept)
    assert sizes[0] < 1010 and sizes[-1] > 1290
    assert np.diff(sizes).max() < 40
    assert {c.id for c, _ in portion(MANY[::-1], 40)} == {c.id for c, _ in kept}
    assert portion(MANY[:40], 40) is not None and len(portion(MANY[:40], 40)) == 40


def test_lots_forecast_every_curve_beside_a_common_core() -> None:
    lots = in_lots(Seer(shy=True), MANY, seed=0, most=40)
    everyone = [candidate for candidate, _ in MANY]
    assert all(map(lots.forecasts, everyone))
    assert len(lots.fits) == 14
    tokens = np.full(len(everyone), 1000, np.int64)
    whole = Seer().fit(MANY, seed=0).predict(everyone, tokens)
    assert lots.predict(everyone, tokens).mean == pytest.approx(whole.mean)
    with pytest.raises(ValueError, match="no joint samples"):
        lots.predict(everyone, tokens, draws=8)
    few = in_lots(Seer(), MANY[:30], seed=0, most=40)
    assert few.predict(everyone, tokens, draws=8).samples is not None
