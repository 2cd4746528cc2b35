"""One thread of linear algebra while a belief is made: the count is set back at the end.

The matrices here have a few hundred rows. A second thread of BLAS or OpenMP gains nothing on them
and loses much where cores are shared: on two busy cores a fit of the joint law took 0.07 CPU
seconds with one thread and 1.5 with two, whose waiting is spinning, and a purchase among 2,700
runs 0.1 and 0.3. One thread also adds in one order, which keeps a decision the same whatever the
machine's load. Touches the process's counts of threads, for the length of a call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

from threadpoolctl import ThreadpoolController  # pyright: ignore[reportMissingTypeStubs]

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


def one_thread(function: Callable[_Given, _Found]) -> Callable[_Given, _Found]:
    """`function`, called with linear algebra on one thread."""

    @wraps(function)
    def alone(*args: _Given.args, **kwargs: _Given.kwargs) -> _Found:
        with _pools(len(sys.modules)).limit(limits=1):  # pyright: ignore[reportUnknownMemberType]
            return function(*args, **kwargs)

    return alone


@lru_cache(maxsize=1)
def _pools(modules: int) -> ThreadpoolController:
    """The thread pools of the libraries that are loaded. They are looked for again once more
    modules are: numpy, scipy and torch bring one each, and a law needs no scipy yet."""
    return ThreadpoolController()
