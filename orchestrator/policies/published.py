"""The rule of Li et al. 2026 (arXiv 2604.22753), rebuilt from its description: a rival.

Solutions within 1.5 times the least squared error survive. About each stands a normal
distribution in scaled parameters; in the predictions at the target they are grouped into basins,
each weighed by its BIC. A candidate is worth the expected fall of the mean squared prediction
error, within basins (V-optimality of the mixture) and between them (by quadrature over what may be
seen), per cost^0.4; one is bought at a time. The noise is an inverse gamma's that starts at the
variance of the losses. What the authors' code takes from the labels of the whole pool is taken
here from the bought rows. With several outputs the part between basins is left out, as there.
Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from orchestrator.laws.forms.line import LineForm
from orchestrator.laws.least_squares import boxes
from orchestrator.laws.runs import Runs
from orchestrator.policies.buying import (
    COST_EXPONENT,
    Choice,
    Market,
    Pick,
    begun_with,
    cheapest,
)
from orchestrator.values import FloatArray

RUNS_PER_PARAMETER = 2.5
START_SHARE = 0.02  # of the cost of the whole pool
_SURVIVES = 1.5
_LEAST_WEIGHT = 1e-3
_NODES = 500
_PRIOR_ROWS = 2.0  # a_0


class Solver(Protocol):
    """Solutions of a form for rows: published values (K, P), the best first; none where there
    are none."""

    def solve(self, form: LineForm, runs: Runs, market: Market) -> FloatArray: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """`solver` fits `forms` to what is known; the paper has one. Solutions of several stand
    together, where the BIC counts the parameters of each."""

    forms: tuple[LineForm, ...]
    solver: Solver

    @property
    def name(self) -> str:
        return "published"

    def choose(self, market: Market) -> Choice:
        """The one purchase of most expected gain per cost^0.4."""
        most = max(len(form.parameters) for form in self.forms)
        runs = int(RUNS_PER_PARAMETER * most / market.outputs)
        share = START_SHARE * market.total / market.budget
        first = begun_with(market, runs=max(runs, 1), share=share, why="a start, the cheapest")
        if first.picks:
            return first
        known = market.known
        solved = [] if known is None else self._solved(known, market)
        if known is None or not solved:
            return cheapest(market, "no fit: the cheapest")
        able = np.flatnonzero(market.cost <= market.affordable)
        if not len(able):
            return Choice()
        offer = _Basins(solved, known, market.target).best(market, able)
        return Choice(picks=(Pick(offer=offer, why="of most expected gain per cost^0.4"),))

    def _solved(self, known: Runs, market: Market) -> list[_Solutions]:
        found = [(form, self.solver.solve(form, known, market)) for form in self.forms]
        return [
            _surviving(form, values, known, market.target) for form, values in found if len(values)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Solutions:
    """Of one form: published values (K, P), and the mean squared error (K,) of each."""

    form: LineForm
    values: FloatArray
    error: FloatArray

    def said(self, inputs: Mapping[str, FloatArray]) -> FloatArray:
        """(K, Q)"""
        return _said(self.form, self.values, inputs)

    def slopes(self, inputs: Mapping[str, FloatArray]) -> FloatArray:
        """(K, Q, P): by the scaled parameters, logarithms where the lower bound is above zero."""
        form = self.form
        stacked = np.stack([inputs[name] for name in form.inputs])
        with np.errstate(all="ignore"):
            working = form.absorb(self.values, np.zeros(0))
            slopes = form.jacobian(working, form.covariates(stacked, np.zeros(0)))[1]
        low = boxes(form)[0]
        for k, parameter in enumerate(form.parameters):
            if low[k] > 0 and not parameter.logarithmic:
                slopes[:, k] *= self.values[:, k, None]
            if low[k] <= 0 and parameter.logarithmic:
                slopes[:, k] /= np.maximum(self.values[:, k, None], 1e-300)
        return np.nan_to_num(slopes.swapaxes(1, 2), nan=0.0, posinf=1e100, neginf=-1e100)

    def roots(self, known: Runs, noise: float) -> FloatArray:
        """(K, P, P): of the covariance of the scaled parameters."""
        low, high = boxes(self.form)
        positive = low > 0
        width = np.where(
            positive,
            np.log(np.where(positive, high, 1.0)) - np.log(np.where(positive, low, 1.0)),
            high - low,
        )
        prior = (4.0 / width) ** 2
        roots = np.empty((len(self.values), len(low), len(low)))
        for k, slopes in enumerate(self.slopes(known.features)):
            matrix = slopes.T @ slopes / noise + np.diag(prior)
            values, axes = np.linalg.eigh(matrix)
            roots[k] = axes / np.sqrt(np.maximum(values, 1e-10 * values[-1]))
        return roots

    def taken(self, chosen: NDArray[np.intp]) -> _Solutions:
        """Some of them."""
        return replace(self, values=self.values[chosen], error=self.error[chosen])


def _said(form: LineForm, values: FloatArray, inputs: Mapping[str, FloatArray]) -> FloatArray:
    stacked = np.stack([inputs[name] for name in form.inputs])
    with np.errstate(all="ignore"):
        working = form.absorb(values, np.zeros(0))
        return form.loss(working, form.covariates(stacked, np.zeros(0)))


def _surviving(
    form: LineForm, values: FloatArray, known: Runs, target: Mapping[str, FloatArray]
) -> _Solutions:
    """The solutions of a form that have numbers, and little more error than its best."""
    error = np.mean((_said(form, values, known.features) - known.loss) ** 2, axis=1)
    able = np.isfinite(error) & np.isfinite(_said(form, values, target)).all(axis=1)
    able &= error <= _SURVIVES * np.min(error[able], initial=np.inf) + 1e-300
    return _Solutions(form=form, values=values[able], error=error[able])


def _among(solved: Sequence[_Solutions], chosen: NDArray[np.intp]) -> tuple[_Solutions, ...]:
    """The solutions of these numbers (ascending), counted through all forms."""
    found: list[_Solutions] = []
    begin = 0
    for each in solved:
        end = begin + len(each.error)
        own = chosen[(chosen >= begin) & (chosen < end)] - begin
        if len(own):
            found.append(each.taken(own))
        begin = end
    return tuple(found)


class _Basins:
    """The approximate posterior: weights (K,) of solutions that are one form's after another's,
    and the noise."""

    def __init__(
        self, solved: Sequence[_Solutions], known: Runs, target: Mapping[str, FloatArray]
    ) -> None:
        self.solved, self.noise = tuple(solved), 0.0
        self.most = max(len(each.form.parameters) for each in solved)
        error = np.concatenate([each.error for each in solved])
        self.weights = np.zeros(0)
        if not len(error):
            return
        rows = len(known)
        spread = max(float(np.var(known.loss)), 1e-12)
        total = _PRIOR_ROWS * spread + 0.5 * rows * float(error.min())
        self.noise = total / (_PRIOR_ROWS + 0.5 * rows - 1.0)
        self.known = known
        self.low = max(0.0, float(known.loss.min()) - 1.0) if not known.signed else -np.inf
        self.high = float(known.loss.max()) + 1.0
        self._grouped(target, error, rows)

    def _asked(self, inputs: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray]:
        """What each solution says (K, Q), and its slopes times its root (K, Q, P), with zeros
        where a form has fewer parameters than another."""
        said = np.concatenate([each.said(inputs) for each in self.solved])
        moved = np.zeros((*said.shape, self.most))
        begin = 0
        for each in self.solved:
            own = np.matmul(each.slopes(inputs), each.roots(self.known, self.noise))
            moved[begin : begin + len(own), :, : own.shape[2]] = own
            begin += len(own)
        return said, moved

    def _grouped(self, target: Mapping[str, FloatArray], error: FloatArray, rows: int) -> None:
        """One solution a basin, and its weight."""
        mean, moved = self._asked(target)
        variance = np.sum(moved**2, axis=2) + self.noise
        size = [[float(len(each.form.parameters))] * len(each.error) for each in self.solved]
        least = max(error.min(), 1e-300)
        score = -0.5 * rows * np.log(np.maximum(error, 1e-300) / least)
        score -= 0.5 * math.log(rows) * np.concatenate(size)
        best = [max(group, key=lambda k: score[k]) for group in basins_of(mean, variance)]
        weights = np.exp(score[best] - score[best].max())
        weights /= weights.sum()
        kept = weights >= _LEAST_WEIGHT
        order = np.argsort(np.array(best)[kept])
        chosen = np.array(best)[kept][order]
        self.weights = weights[kept][order] / weights[kept].sum()
        self.mean, self.moved = mean[chosen], moved[chosen]
        self.solved = _among(self.solved, chosen)

    def best(self, market: Market, able: NDArray[np.intp]) -> int:
        """The offer, of those that can be paid, of most expected fall of the squared error at
        the target, both parts, per cost^0.4."""
        price = market.cost**COST_EXPONENT
        if not len(self.weights):
            return int(able[np.argmin(market.cost[able])])
        said, offers = self._asked(market.offers)
        count = len(market.cost)
        rows = offers.reshape(len(offers), market.outputs, count, -1)
        within = np.zeros(count)
        for weight, row, moved in zip(self.weights, rows, self.moved, strict=True):
            joint = np.einsum("aqp,bqp->qab", row, row) + self.noise * np.eye(market.outputs)
            across = np.einsum("aqp,tp->qat", row, moved)
            solved = np.asarray(np.linalg.solve(joint, across), dtype=np.float64)
            within += weight * np.einsum("qat,qat->q", across, solved)
        if market.outputs > 1 or len(self.weights) == 1:
            return int(able[np.argmax((within / price)[able])])
        return self._best_of_both(able, within, price, said, rows[:, 0])

    def _best_of_both(
        self,
        able: NDArray[np.intp],
        within: FloatArray,
        price: FloatArray,
        said: FloatArray,
        rows: FloatArray,
    ) -> int:
        """The part between basins is found by quadrature, for an offer at a time; no more can
        fall than there is, so offers are looked at only while that could make one the best."""
        spread = np.sqrt(np.sum(rows**2, axis=2) + self.noise)
        now = self._distance()
        most = (within + now) / price
        best, worth = int(able[0]), -math.inf
        for offer in able[np.argsort(-most[able], kind="stable")].tolist():
            if most[offer] <= worth:
                break
            fall = now - self._left(said[:, offer], spread[:, offer], rows[:, offer])
            value = float(within[offer] + max(0.0, fall)) / float(price[offer])
            if value > worth:
                best, worth = offer, value
        return best

    def _distance(self) -> float:
        """The mean squared distance between basins at the target, as weighed now."""
        apart = np.sum((self.mean[:, None] - self.mean) ** 2, axis=2)
        return 0.5 * float(self.weights @ apart @ self.weights)

    def _left(self, at: FloatArray, wide: FloatArray, row: FloatArray) -> float:
        """The distance that is expected to be left once an offer is seen. at, wide (K,): what
        each basin expects there and the sd; row (K, P). All of it where there is no number."""
        if not np.isfinite(at).all():
            return self._distance()
        low = max(float(np.min(at - 4 * wide)), self.low)
        high = min(float(np.max(at + 4 * wide)), self.high)
        if not high > low:
            return self._distance()
        seen = np.linspace(low, high, _NODES)
        away = (seen - at[:, None]) / wide[:, None]
        dense = self.weights[:, None] * np.exp(-0.5 * away**2) / wide[:, None]
        dense /= math.sqrt(2 * math.pi)
        mixed = np.maximum(dense.sum(axis=0), 1e-300)
        pull = np.einsum("ktp,kp->kt", self.moved, row / wide[:, None] ** 2)
        left = np.zeros(_NODES)
        for k in range(len(at)):
            for j in range(k):
                gap = self.mean[k] - self.mean[j] - pull[k] * at[k] + pull[j] * at[j]
                slope = pull[k] - pull[j]
                square = gap @ gap + 2 * seen * float(gap @ slope) + seen**2 * float(slope @ slope)
                left += dense[k] * dense[j] / mixed * square
        return float(np.sum(left[1:] + left[:-1])) * 0.5 * float(seen[1] - seen[0])


def basins_of(mean: FloatArray, variance: FloatArray) -> list[list[int]]:
    """Basins by complete linkage on log1p of the symmetric divergence of the predictions; the
    cut of the best silhouette, one basin where that is below 0.01."""
    count = len(mean)
    if count < 3:
        return [[k] for k in range(count)] if count == 1 else [list(range(count))]
    apart = np.zeros((count, count))
    for k in range(count):
        ratio = variance[k] / variance
        gap = (mean[k] - mean) ** 2 * (1 / variance[k] + 1 / variance)
        apart[k] = np.log1p(0.25 * np.mean(ratio + 1 / ratio - 2 + gap, axis=1))
    linked = apart + np.diag(np.full(count, np.inf))
    label = np.arange(count, dtype=np.intp)
    best, found = 0.01, np.zeros(count, dtype=np.intp)
    for _ in range(count - 2):
        one, other = divmod(int(np.argmin(linked)), count)
        linked[one] = linked[:, one] = np.maximum(linked[one], linked[other])
        linked[other] = linked[:, other] = np.inf
        label[label == other] = one
        score = _silhouette(apart, label)
        if score > best:
            best, found = score, label.copy()
    return [np.flatnonzero(found == each).tolist() for each in np.unique(found)]


def _silhouette(apart: FloatArray, label: NDArray[np.intp]) -> float:
    """Mean over the solutions; 0 for one that is alone in its basin."""
    member = (label[:, None] == np.unique(label)).astype(np.float64)
    sums, count = apart @ member, member.sum(axis=0)
    own = member @ count
    inner = np.sum(sums * member, axis=1) / np.maximum(own - 1.0, 1.0)
    outer = np.min(np.where(member > 0, np.inf, sums / count), axis=1)
    score = (outer - inner) / np.maximum(np.maximum(outer, inner), 1e-300)
    return float(np.mean(np.where(own > 1, score, 0.0)))
