"""Values are valid from birth; curves are immutable though they share storage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.values import Candidate, Curve, Point


def point(tokens: int, loss: float = 2.0) -> Point:
    return Point(tokens=tokens, flops=6.0 * tokens, loss=loss)


def test_a_point_refuses_what_is_no_loss() -> None:
    for loss in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite loss"):
            point(1, loss)
    with pytest.raises(ValueError, match="tokens"):
        point(0)


def test_two_curves_grown_from_one_do_not_disturb_each_other() -> None:
    trunk = Curve.of(point(t, 3.0) for t in (1, 2, 3))
    left = trunk.append(point(4, 1.0))
    right = trunk.append(point(5, 9.0))
    assert trunk.tokens.tolist() == [1, 2, 3]
    assert left.tokens.tolist() == [1, 2, 3, 4] and left.last_loss == 1.0
    assert right.tokens.tolist() == [1, 2, 3, 5] and right.last_loss == 9.0
    with pytest.raises(ValueError, match="read-only"):
        left.loss[0] = 0.0


def test_a_curve_grows_forward_only_and_knows_its_best() -> None:
    curve = Curve.of([point(10, 3.0), point(20, 2.0), point(30, 2.5)])
    with pytest.raises(ValueError, match="beyond 30"):
        curve.append(point(30))
    assert curve.best_upto(9) == math.inf
    assert [curve.best_upto(t) for t in (10, 25, 99)] == [3.0, 2.0, 2.0]
    assert math.isnan(Curve().last_loss) and Curve().last_tokens == 0


@given(
    st.floats(1.0, 1e12),
    st.integers(1, 10_000),
    st.integers(1, 10**12),
    st.floats(0, 1e30),
)
def test_tokens_within_a_cost_are_the_most_that_fit(
    per_token: float, step: int, horizon: int, flops: float
) -> None:
    candidate = Candidate(
        id="c", params=1, horizon=horizon, flops_per_token=per_token, tokens_per_step=step
    )
    tokens = candidate.tokens_within(flops)
    assert tokens % step == 0 and 0 <= tokens <= candidate.end
    assert candidate.flops(tokens) <= flops
    more = tokens + step
    assert more > candidate.end or candidate.flops(more) > flops * (1 - 1e-9)


def test_points_take_no_more_memory_than_their_columns() -> None:
    curve = Curve.of(point(t) for t in range(1, 10_001))
    held = sum(np.asarray(column).nbytes for column in (curve.tokens, curve.flops, curve.loss))
    assert held == 24 * 10_000
