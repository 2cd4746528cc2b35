"""A belief's linear algebra runs on one thread, and the process gets its count back."""

from __future__ import annotations

import os
import subprocess
import sys

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


LATER = """
import numpy, sys
from threadpoolctl import threadpool_info
from orchestrator.threads import one_thread

def counts():
    return [pool["num_threads"] for pool in threadpool_info()]

first = one_thread(counts)()
assert first and "scipy" not in sys.modules, "nothing would come later"
import scipy.linalg
later = one_thread(counts)()
assert len(later) >= len(first) and {*first, *later} == {1}, (first, later)
"""


def test_a_library_that_is_loaded_after_the_first_call_has_one_thread_too() -> None:
    """In a process of its own: scipy brings its linear algebra when a surrogate needs it."""
    environment = dict(os.environ, OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2")
    run = [sys.executable, "-c", LATER]
    found = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
