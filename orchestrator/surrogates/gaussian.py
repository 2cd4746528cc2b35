"""Joint normal vectors: factors, inverses and draws. Touches nothing; every generator is local."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from scipy.linalg import LinAlgError, cholesky, get_lapack_funcs

from orchestrator.values import FloatArray


def factor(covariance: FloatArray) -> FloatArray:
    """Lower Cholesky factor of a covariance that rounding may have made slightly indefinite.

    Raises numpy.linalg.LinAlgError where a ten-thousandth of its largest variance does not mend
    it: then it is no covariance.
    """
    diagonal = np.arange(len(covariance))
    largest = float(covariance[diagonal, diagonal].max(initial=0.0)) or 1.0
    for jitter in (0.0, 1e-12, 1e-10, 1e-8, 1e-6):
        mended = covariance.copy()
        mended[diagonal, diagonal] += jitter * largest
        try:
            return np.asarray(cholesky(mended, lower=True, check_finite=False))
        except LinAlgError:
            continue
    mended = covariance.copy()
    mended[diagonal, diagonal] += 1e-4 * largest
    return np.asarray(cholesky(mended, lower=True))


def inverse_of(root: FloatArray) -> FloatArray:
    """Inverse of the matrix that has this lower factor."""
    potri = cast("Any", get_lapack_funcs("potri", (root,)))
    lower, _ = potri(root, lower=1)
    return np.asarray(np.tril(lower) + np.tril(lower, -1).T)


def integrated_walk(left: FloatArray, right: FloatArray) -> FloatArray:
    """Covariance (left, right) of a Wiener process integrated once from zero: of a curve whose
    slope walks at random. Its variance is x^3 / 3; nothing has happened at x = 0 or before."""
    here, there = np.maximum(left, 0.0)[:, None], np.maximum(right, 0.0)[None, :]
    less, more = np.minimum(here, there), np.maximum(here, there)
    return less * less * (3.0 * more - less) / 6.0


def draw(mean: FloatArray, covariance: FloatArray, draws: int, seed: int) -> FloatArray:
    """Samples (draws, queries) of a joint normal; the same for the same arguments."""
    normal = np.random.default_rng(seed).standard_normal((draws, len(mean)))
    return mean + normal @ factor(covariance).T
