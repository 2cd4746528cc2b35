"""A surrogate's linear algebra runs on one thread, and the process gets its count back."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from threadpoolctl import threadpool_info, threadpool_limits

from orchestrator.threads import one_thread


def counts() -> set[int]:
    return {int(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_one_within_and_as_before_after() -> None:
    scipy.linalg.cholesky(np.eye(3))
    with threadpool_limits(limits=2, user_api="blas"):
        before = counts()
        assert one_thread(counts)() == {1}
        assert counts() == before


def test_the_count_comes_back_after_an_error() -> None:
    def failed() -> None:
        raise ValueError("seven")

    with threadpool_limits(limits=2, user_api="blas"):
        before = counts()
        with pytest.raises(ValueError, match="seven"):
            one_thread(failed)()
        assert counts() == before


def test_a_call_within_a_call_leaves_the_outer_one_at_one() -> None:
    def outer() -> tuple[set[int], set[int]]:
        return one_thread(counts)(), counts()

    with threadpool_limits(limits=2, user_api="blas"):
        before = counts()
        assert one_thread(outer)() == ({1}, {1})
        assert counts() == before
