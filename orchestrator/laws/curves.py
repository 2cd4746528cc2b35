"""The law of learning curves: E + A/N^alpha + B N^gamma / D^beta with an offset for every trial.

Touches nothing. Curves of different sizes share a law (Hoffmann et al. 2022, arXiv 2203.15556,
eq. 2; gamma lets size and data interact), but each lies above or below it by its shape, rate and
seed. Four things make the fit hold at sizes that it has not seen:

- Only the last part of a curve counts, in proportion to tokens: its start is no power law in D.
- A trial's offset of log loss is shrunk robustly, and not alike on both sides: a run goes wrong in
  many ways and right in none, so a high curve is let go sooner than a low one (the one-sided
  errors of Aigner, Lovell and Schmidt 1977, J. Econometrics 6:21).
- The rows hardly tell E from alpha, so no single optimum is quoted: the law is a mean over a grid
  of alpha, each node with its own optimum, weighted by its posterior (Laplace's approximation
  around each; Rue, Martino and Chopin 2009, JRSS B 71:319).
- Beyond the rows the law may drift: its log loss has a random slope in log N and in log D there.

Priors and options are in `curve_options`;
`curve_solving` does the arithmetic; times are about 0.1 CPU s for 30 curves of 50 points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from orchestrator.laws.curve_options import USUAL, CurveOptions, CurvePriors
from orchestrator.laws.curve_solving import (
    ALPHA,
    FREE,
    Nodes,
    Rows,
    Shrinkage,
    Task,
    law_at,
    solve,
)
from orchestrator.laws.errors import FitError
from orchestrator.laws.robust import robust_sd
from orchestrator.laws.runs import Array, CurveRows, Labels, Runs, count_levels, runs_from_curves

EXPRESSION = "E + A/N**alpha + B*N**gamma/D**beta"
LEAST_SIZES = 3
_SCHEMA = 1
_ARRAYS = ("working", "weight", "covariance", "offsets")
_PLAIN = ("centre", "trials", "scale", "scatter", "rows", "ranges", "drift", "doubts")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CurveLaw:
    """A law of curves as a mixture over nodes. K nodes, P working values, T trials.

    working (K, P): logarithms of E, of the two terms at the centre, of alpha and beta; and gamma.
    weight (K,), sums to 1. covariance (K, P, P) about each node. centre: of log N and log D.
    offsets (T,): posterior mean shift of each trial's log loss, in the order of `trials`.
    scale: robust sd of a row about its curve. scatter: rms of the trials' offsets. ranges: of N
    and D among the rows. drift: see `CurveOptions`.
    """

    working: Array
    weight: Array
    covariance: Array
    centre: tuple[float, float]
    trials: tuple[int, ...]
    offsets: Array
    scale: float
    scatter: float
    rows: int
    ranges: tuple[tuple[float, float], tuple[float, float]]
    drift: float
    doubts: tuple[str, ...] = ()

    @property
    def parameters(self) -> dict[str, float]:
        """Posterior means of E and of the exponents, and the A and B with which the expression's
        terms are the law's in the middle of the rows. Elsewhere the law is a mean over nodes, and
        the expression comes near to it."""
        E, term_N, term_D, alpha, beta = self.weight @ np.exp(self.working[:, :5])
        gamma = self.weight @ self.working[:, 5]
        n0, d0 = self.centre
        return {
            "E": float(E),
            "A": float(term_N * np.exp(alpha * n0)),
            "alpha": float(alpha),
            "B": float(term_D * np.exp(beta * d0 - gamma * n0)),
            "beta": float(beta),
            "gamma": float(gamma),
        }

    def predict(self, N: ArrayLike, D: ArrayLike) -> Array:
        """Mean loss of a usual run at parameters N and tokens D (broadcast), in nats."""
        n, d, shape = self._logs(N, D)
        return (self.weight @ law_at(self.working, n, d)[0]).reshape(shape)

    def sd(self, N: ArrayLike, D: ArrayLike, *, single: bool = False) -> Array:
        """Sd of the law's loss at (N, D): parameters and drift. single: of one run's loss there,
        whose own scatter comes on top."""
        n, d, shape = self._logs(N, D)
        loss, slopes = law_at(self.working, n, d)
        mean = self.weight @ loss
        within = np.einsum("kpq,kpr,kqr->kr", self.covariance, slopes, slopes)
        variance = self.weight @ ((loss - mean) ** 2 + within)
        beyond_n, beyond_d = self._beyond(n, d)
        extra = self.drift**2 * (beyond_n**2 + beyond_d**2)
        if single:
            extra = extra + self.scatter**2 + self.scale**2
        return np.sqrt(variance + mean**2 * extra).reshape(shape)

    def samples(self, N: ArrayLike, D: ArrayLike, *, draws: int, seed: int) -> Array:
        """Joint draws of the law's loss, (draws, *questions): one law and one drift a draw."""
        n, d, shape = self._logs(N, D)
        rng = np.random.default_rng(seed)
        node = rng.choice(len(self.weight), size=draws, p=self.weight)
        roots = np.linalg.cholesky(self.covariance + 1e-12 * np.eye(self.working.shape[1]))
        normal = rng.standard_normal((draws, self.working.shape[1]))
        values = self.working[node] + np.einsum("spq,sq->sp", roots[node], normal)
        slopes = self.drift * rng.standard_normal((2, draws, 1))
        beyond_n, beyond_d = self._beyond(n, d)
        loss = law_at(values, n, d)[0] * np.exp(slopes[0] * beyond_n + slopes[1] * beyond_d)
        return loss.reshape((draws, *shape))

    def to_json(self) -> dict[str, object]:
        """Plain JSON values. `parameters` is there for readers."""
        arrays = {name: getattr(self, name).tolist() for name in _ARRAYS}
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {
            "schema": _SCHEMA,
            "expression": EXPRESSION,
            "parameters": self.parameters,
            **arrays,
            **plain,
        }

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> CurveLaw:
        """The inverse of `to_json`. Raises ValueError for a record of another schema."""
        if record.get("schema") != _SCHEMA:
            raise ValueError(
                f"this law of curves has schema {record.get('schema')!r}; this release reads"
                f" {_SCHEMA}"
            )
        sizes, tokens = record["ranges"]
        return CurveLaw(
            working=np.array(record["working"], dtype=np.float64),
            weight=np.array(record["weight"], dtype=np.float64),
            covariance=np.array(record["covariance"], dtype=np.float64),
            offsets=np.array(record["offsets"], dtype=np.float64),
            centre=(float(record["centre"][0]), float(record["centre"][1])),
            trials=tuple(map(int, record["trials"])),
            ranges=((float(sizes[0]), float(sizes[1])), (float(tokens[0]), float(tokens[1]))),
            rows=int(record["rows"]),
            scale=float(record["scale"]),
            scatter=float(record["scatter"]),
            drift=float(record["drift"]),
            doubts=tuple(map(str, record["doubts"])),
        )

    def _logs(self, N: ArrayLike, D: ArrayLike) -> tuple[Array, Array, tuple[int, ...]]:
        sizes, tokens = np.broadcast_arrays(
            np.asarray(N, dtype=np.float64), np.asarray(D, dtype=np.float64)
        )
        if not ((sizes > 0) & (tokens > 0)).all():
            raise ValueError("N and D must be finite and above zero")
        n = np.log(sizes).ravel() - self.centre[0]
        d = np.log(tokens).ravel() - self.centre[1]
        return n, d, sizes.shape

    def _beyond(self, n: Array, d: Array) -> tuple[Array, Array]:
        """Signed distances in log N and log D from the rows; 0 between them."""
        return tuple(  # type: ignore[return-value]
            np.maximum(x - (math.log(high) - c), 0.0) + np.minimum(x - (math.log(low) - c), 0.0)
            for x, (low, high), c in zip((n, d), self.ranges, self.centre, strict=True)
        )


_FIRST_SCALE = 0.02
_LEAST_SCALE = 5e-4
_ROUNDS = 3
_ROUND_STEPS = 30
_ALPHAS = (0.08, 1.1)


def fit_curves(
    curves: Sequence[CurveRows], *, options: CurveOptions = USUAL, warm: CurveLaw | None = None
) -> CurveLaw:
    """The law of these curves; a finished run is a curve of one point.

    warm: an earlier law of some of the same trials (their places in `curves`), to start from: it
    saves a third of the time, and, as the rows' scale is then settled in one round, moves the
    answer a little (0.005 nats at 3.5 times the largest size, on public curves).
    Raises FitError where the curves have fewer than three sizes, or no start reaches a finite
    objective.
    """
    runs = runs_from_curves(curves, burn_in=options.burn_in)
    return fit_rows(runs, options=options, warm=warm)


def fit_rows(
    runs: Runs, *, options: CurveOptions = USUAL, warm: CurveLaw | None = None
) -> CurveLaw:
    """As `fit_curves`, from rows whose weights sum to about 1 a trial."""
    sizes = count_levels(runs.N)
    if sizes < LEAST_SIZES:
        raise FitError(
            f"no law of curves yet: the curves have {sizes} different sizes and"
            f" {LEAST_SIZES} are needed; train another size"
        )
    runs = runs.take(np.lexsort([runs.D, runs.trial]))
    labels: Labels
    labels, first = np.unique(runs.trial, return_index=True)
    names = tuple(map(int, labels.tolist()))
    centre = (float(np.log(runs.N).mean()), float(np.average(np.log(runs.D), weights=runs.weight)))
    rows = Rows(
        n=np.log(runs.N) - centre[0],
        d=np.log(runs.D) - centre[1],
        y=np.log(runs.loss),
        weight=runs.weight,
        first=first,
    )
    mean, sd = _prior(options.priors, float(runs.loss.min()))
    values, offsets, scale = _start(options, mean, centre, names, warm)
    shrinkage = Shrinkage(sd=options.offset_sd, low=options.knee_low, high=options.knee_high)
    task = Task(rows=rows, shrinkage=shrinkage, mean=mean, sd=sd, scale=scale)
    for _ in range(_ROUNDS if warm is None else 1):
        nodes = solve(task, values, offsets, most=_ROUND_STEPS)
        values, offsets = nodes.values, nodes.offsets
        task = replace(task, scale=_spread(nodes, runs.weight))
    nodes = solve(task, values, offsets)
    if not np.isfinite(nodes.objective).any():
        raise FitError(f"no law of curves: no node is finite on {len(runs)} rows")
    return _law(nodes, _weights(nodes, mean, sd), runs, names, centre, task.scale, options)


def prior_law(curves: Sequence[CurveRows], *, options: CurveOptions = USUAL) -> CurveLaw:
    """What the priors alone say of these curves: all that is taken from them is their smallest
    loss and the middle of their rows."""
    runs = runs_from_curves(curves, burn_in=options.burn_in)
    mean, sd = _prior(options.priors, float(runs.loss.min()))
    covariance = np.diag(sd**2)[None]
    centre = (float(np.log(runs.N).mean()), float(np.average(np.log(runs.D), weights=runs.weight)))
    return CurveLaw(
        working=mean[None],
        weight=np.ones(1),
        covariance=covariance,
        centre=centre,
        trials=(),
        offsets=np.zeros(0),
        scale=options.offset_sd,
        scatter=options.offset_sd,
        rows=0,
        ranges=_ranges(runs),
        drift=options.drift,
    )


def _prior(priors: CurvePriors, least: float) -> tuple[Array, Array]:
    """Mean and sd of the working values."""
    term = math.log(priors.term * least)
    mean = [math.log(priors.floor * least), term, term, math.log(priors.alpha)]
    sd = [priors.floor_sd, priors.term_sd, priors.term_sd, priors.alpha_sd]
    return (
        np.array([*mean, math.log(priors.beta), priors.gamma]),
        np.array([*sd, priors.beta_sd, priors.gamma_sd]),
    )


def _start(
    options: CurveOptions,
    mean: Array,
    centre: tuple[float, float],
    names: Sequence[int],
    warm: CurveLaw | None,
) -> tuple[Array, Array, float]:
    """Values (K, P), offsets (K, T) and a row's sd to start from."""
    alphas = np.log(np.geomspace(*_ALPHAS, options.nodes))
    offsets = np.zeros((options.nodes, len(names)))
    if warm is None or len(warm.working) != options.nodes:
        values = np.tile(mean, (options.nodes, 1))
        values[:, ALPHA] = alphas
        return values, offsets, _FIRST_SCALE
    values = warm.working.copy()
    values[:, 1] -= np.exp(values[:, 3]) * (centre[0] - warm.centre[0])
    values[:, 2] += values[:, 5] * (centre[0] - warm.centre[0])
    values[:, 2] -= np.exp(values[:, 4]) * (centre[1] - warm.centre[1])
    known = dict(zip(warm.trials, warm.offsets, strict=True))
    offsets[:] = [known.get(name, 0.0) for name in names]
    return values, offsets, warm.scale


def _spread(nodes: Nodes, weight: Array) -> float:
    """Robust sd of a row at the best node."""
    best = nodes.residual[int(np.argmin(nodes.objective))]
    return max(robust_sd(best, weight), _LEAST_SCALE)


def _weights(nodes: Nodes, mean: Array, sd: Array) -> Array:
    """Posterior weight of each node: its objective, the volume about it, and alpha's prior."""
    volume: Array = np.asarray(np.linalg.slogdet(nodes.precision)[1], dtype=np.float64)
    alpha = (nodes.values[:, ALPHA] - mean[ALPHA]) / sd[ALPHA]
    logs = -nodes.objective - 0.5 * volume - 0.5 * alpha**2
    logs = np.where(np.isfinite(logs), logs, -np.inf)
    raw = np.exp(logs - logs.max())
    return raw / raw.sum()


def _law(
    nodes: Nodes,
    weight: Array,
    runs: Runs,
    names: tuple[int, ...],
    centre: tuple[float, float],
    scale: float,
    options: CurveOptions,
) -> CurveLaw:
    covariance = np.zeros((len(weight), 6, 6))
    covariance[:, FREE[:, None], FREE] = np.linalg.inv(nodes.precision)
    offsets = weight @ nodes.offsets
    return CurveLaw(
        working=nodes.values,
        weight=weight,
        covariance=covariance,
        centre=centre,
        trials=names,
        offsets=offsets,
        scale=scale,
        scatter=math.sqrt(float(np.mean(offsets**2))),
        rows=len(runs),
        ranges=_ranges(runs),
        drift=options.drift,
        doubts=_doubts(offsets, weight, runs, options),
    )


def _ranges(runs: Runs) -> tuple[tuple[float, float], tuple[float, float]]:
    return (
        (float(runs.N.min()), float(runs.N.max())),
        (float(runs.D.min()), float(runs.D.max())),
    )


def _doubts(offsets: Array, weight: Array, runs: Runs, options: CurveOptions) -> tuple[str, ...]:
    """What a reader must know: offsets that carry the level, a grid that is too short, one D."""
    found: list[str] = []
    middle = float(np.median(offsets))
    if abs(middle) > 3.0 * options.offset_sd:
        found.append(
            f"half of the trials lie more than {100 * abs(middle):.1f} % from the law: the offsets"
            " carry what the law should; give more trials, or a smaller offset_sd"
        )
    if max(weight[0], weight[-1]) > 0.2:
        found.append("alpha is not identified: its posterior reaches the end of the grid")
    if count_levels(runs.D) < LEAST_SIZES:
        found.append("beta is its prior's: the curves have fewer than three different tokens")
    return tuple(found)
