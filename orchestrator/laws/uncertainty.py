"""How sure a law is: refit it to trials drawn again, with replacement.

Touches nothing. The cluster bootstrap (Field and Welsh 2007, JRSS B 69:369): points of one run
share its seed, its shape and its learning rate, so trials are drawn, never points. All draws are
solved together, each from every optimum of weight, and the lowest end of a draw is the draw's: a
draw that another optimum fits better goes there. Drawing T of T clusters understates their
spread by the degrees of freedom that the law uses, and the spread is itself uncertain: intervals
are widened about the law's own value by sqrt(T / (T - p)) and by Student's t over the normal at
T - p degrees of freedom, in logarithms where the quantity is positive; and once more where runs
held out show that the spread falls short (`calibration`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orchestrator.laws.errors import FitError
from orchestrator.laws.forms.base import Parameter
from orchestrator.laws.law import LawFit, asked_inputs
from orchestrator.laws.levenberg import Problem, Solution, minimise
from orchestrator.laws.mixture import modes_of, student
from orchestrator.laws.posing import posed_again
from orchestrator.laws.runs import Array, Runs, levels_of

LEVELS = (0.8, 0.9)
_MOST_FAILED = 0.5
_MOST_OPTIMA = 4  # that every draw starts from,
_LEAST_WEIGHT = 0.01  # and the least weight of one
_TOLERANCE = 1e-7
_STEPS = 100  # then as many again for the draws that are still on their way
_FLAT = 2e-3  # of the objective, over the second lot: a tenth in log likelihood at 100 rows
_EQUAL = 1e-9  # nats: what rounding makes of no difference
_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LawPosterior:
    """A law and draws of it. draws: working values (draws, P) at the law's centre.

    failed: draws that had too few sizes or did not converge; they are left out.
    widening: the factor of the small-sample correction, 1 or more. degrees: of freedom of the
    draws' spread, None where unknown (then there is no correction for it).
    """

    law: LawFit
    draws: tuple[tuple[float, ...], ...]
    asked: int
    failed: int
    widening: float
    seed: int
    degrees: float | None = None
    rescaling: float = 1.0

    def widened(self, level: float) -> float:
        """By how much the quantiles of draws are widened about the law's own value."""
        widening = self.widening * self.rescaling
        if self.degrees is None:
            return widening
        return widening * student(level, self.degrees) / student(level, math.inf)

    def samples(self) -> dict[str, Array]:
        """Published name to its values over the draws, before widening."""
        form = self.law.form
        published = form.publish(np.array(self.draws), np.array(self.law.centre))
        return {parameter.name: published[:, k] for k, parameter in enumerate(form.parameters)}

    def parameter_intervals(self, level: float) -> dict[str, tuple[float, float]]:
        """Published name to (low, high) at this level; widening never leaves a parameter's box."""
        at = self.law.parameters
        return {
            known.name: boxed(
                known, values, self._interval(values, np.float64(at[known.name]), level)
            )
            for known, values in zip(
                self.law.form.parameters, self.samples().values(), strict=True
            )
        }

    def predictions(
        self,
        N: ArrayLike | None = None,
        D: ArrayLike | None = None,
        *,
        C: ArrayLike | None = None,
        **others: ArrayLike,
    ) -> Array:
        """Loss said by every draw: shape (draws, *questions). Before widening."""
        form = self.law.form
        asked, shape = asked_inputs(form, N=N, D=D, C=C, others=others)
        covariates = form.covariates(asked, np.array(self.law.centre))
        return form.loss(np.array(self.draws), covariates).reshape((len(self.draws), *shape))

    def interval(
        self,
        N: ArrayLike | None = None,
        D: ArrayLike | None = None,
        level: float = 0.9,
        *,
        C: ArrayLike | None = None,
        **others: ArrayLike,
    ) -> tuple[Array, Array]:
        """Low and high of the law's loss at (N, D) or C, at this level.

        It is about the law's own value; a single run scatters about it by `law.scatter` more. No
        end is above that where the rows end, of as much N, D and C or less (`bounded`).
        """
        form = self.law.form
        asked, shape = asked_inputs(form, N=N, D=D, C=C, others=others)
        end = self.law.end
        most = [end[name] if name in ("N", "D", "C") else math.inf for name in form.inputs]
        place = np.minimum(asked, np.array(most)[:, None])
        low, high = self.bounded(*self._said(asked), place, level)
        return low.reshape(shape), high.reshape(shape)

    def bounded(
        self,
        drawn: Array,
        at: Array,
        place: Array,
        level: float,
        of: NDArray[np.bool_] | None = None,
    ) -> tuple[Array, Array]:
        """Low and high of losses that the draws (draws, K) and the law (K,) say, none higher than
        the upper end at the inputs `place` (I, K) where all of them say no more than there. of:
        which of the draws say something, all where left out.

        Each draw falls from that place on, and so do their quantiles; only widening about the
        law's own value, by the same factor at either place, can make an upper end rise. One place
        is asked, whatever the widths: of many the lowest end would be the luckiest.
        """
        widened = self.widened(level)
        low, high = interval_of(drawn, at, level, widened)
        there, at_there = self._said(place)
        _, most = interval_of(there, at_there, level, widened)
        beside = there if of is None else there[of]
        falls = (at <= at_there + _EQUAL) & (drawn <= beside + _EQUAL).all(axis=0)
        return low, np.where(falls, np.maximum(low, np.minimum(high, most)), high)

    def _said(self, asked: Array) -> tuple[Array, Array]:
        """Loss by every draw (draws, K) and by the law (K,) at inputs (I, K)."""
        form = self.law.form
        covariates = form.covariates(asked, np.array(self.law.centre))
        own = form.loss(np.array(self.law.working)[None], covariates)[0]
        return form.loss(np.array(self.draws), covariates), own

    def _interval(self, values: Array, at: np.float64, level: float) -> tuple[float, float]:
        low, high = interval_of(values, np.asarray(at), level, self.widened(level))
        return float(low), float(high)

    def to_json(self) -> dict[str, object]:
        """Plain JSON values; `intervals` is there for readers."""
        return {
            "schema": _SCHEMA,
            "law": self.law.to_json(),
            "draws": [list(draw) for draw in self.draws],
            "asked": self.asked,
            "failed": self.failed,
            "widening": self.widening,
            "degrees": self.degrees,
            "rescaling": self.rescaling,
            "seed": self.seed,
            "intervals": {
                f"{level:g}": {
                    name: list(bounds) for name, bounds in self.parameter_intervals(level).items()
                }
                for level in LEVELS
            },
        }

    @staticmethod
    def from_json(record: Mapping[str, object]) -> LawPosterior:
        """The inverse of `to_json`."""
        if record.get("schema") != _SCHEMA:
            raise ValueError(
                f"these draws have schema {record.get('schema')!r}; this release reads {_SCHEMA}"
            )
        draws = cast(Sequence[Sequence[float]], record["draws"])
        return LawPosterior(
            law=LawFit.from_json(cast(Mapping[str, object], record["law"])),
            draws=tuple(tuple(draw) for draw in draws),
            asked=cast(int, record["asked"]),
            failed=cast(int, record["failed"]),
            widening=cast(float, record["widening"]),
            degrees=cast("float | None", record.get("degrees")),
            rescaling=cast(float, record.get("rescaling", 1.0)),
            seed=cast(int, record["seed"]),
        )


def boxed(known: Parameter, values: Array, interval: tuple[float, float]) -> tuple[float, float]:
    """The interval of a parameter's published values, cut to its box. A box that ends at the
    smallest loss of the rows, which a law does not keep, ends where the draws end; of one that
    moves with the centre, which scales it, zero alone stands."""
    if known.moves:
        return (max(interval[0], 0.0) if known.lower == 0 else interval[0]), interval[1]
    upper = float(values.max()) if known.upper is None else known.upper
    lower = known.lower
    if known.logarithmic:
        lower = math.exp(lower)
        upper = upper if known.upper is None else math.exp(min(upper, 700.0))
    low, high = (min(max(end, lower), upper) for end in interval)
    return low, high


def interval_of(
    values: Array, at: NDArray[np.float64], level: float, widening: float = 1.0
) -> tuple[Array, Array]:
    """Central interval of draws (draws, ...), widened about `at`: in logarithms where the
    quantity is above zero, else as it is. Raises ValueError for a level outside (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}; it lies between 0 and 1, such as 0.9")
    tail = 0.5 * (1.0 - level)
    low: Array = np.asarray(np.quantile(values, tail, axis=0))
    high: Array = np.asarray(np.quantile(values, 1.0 - tail, axis=0))
    if widening == 1.0:
        return low, high
    logarithmic = (at > 0) & (low > 0) & (high > 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        wide_low = at * (low / at) ** widening
        wide_high = at * (high / at) ** widening
    return (
        np.where(logarithmic, wide_low, at + widening * (low - at)),
        np.where(logarithmic, wide_high, at + widening * (high - at)),
    )


def bootstrap(law: LawFit, runs: Runs, *, draws: int = 200, seed: int = 0) -> LawPosterior:
    """Refit `law` to `draws` sets of trials drawn from `runs` with replacement.

    runs: the rows that the law was fitted to. A draw with too few different sizes for the form,
    or whose refit does not converge, fails. Raises FitError where more than half fail, or where
    there are fewer than three trials.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}; at least one is needed")
    labels, place = np.unique(runs.trial, return_inverse=True)
    trials = len(labels)
    if len(runs) != law.rows or trials != law.trials:
        raise ValueError(
            f"the law was fitted to {law.rows} rows of {law.trials} trials, but these are"
            f" {len(runs)} rows of {trials}: give bootstrap the rows of the fit"
        )
    if trials < 3:
        raise FitError(
            f"no uncertainty: the rows come from {trials} trials, and a bootstrap over trials"
            " needs at least 3"
        )
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(trials, np.full(trials, 1.0 / trials), size=draws).astype(np.float64)
    able = _able(law, runs, counts[:, place])
    drawn = counts[able]
    if not len(drawn):
        raise FitError(
            f"no uncertainty: none of {draws} draws of {trials} trials has enough sizes"
        )
    problem = posed_again(law, runs).problem(
        law.scale, weight=drawn[:, place] * runs.weight, count=drawn
    )
    others = [mode.values for mode in modes_of(law, runs)[1:] if mode.weight >= _LEAST_WEIGHT]
    starts = np.stack([np.array(law.working), *others[: _MOST_OPTIMA - 1]])
    solution = lowest_ends(problem, starts, len(drawn))
    return posterior_of(law, solution, asked=draws, clusters=trials, seed=seed)


def lowest_ends(problem: Problem, starts: Array, draws: int) -> Solution:
    """Where each of `draws` problems ends that is lowest, of those from all starts (K, P).

    In a long flat valley a draw is at its end where the last steps together change the objective
    by less than the rows can tell; the law's value hardly moves along such a valley.
    """
    each = np.tile(np.arange(draws, dtype=np.intp), len(starts))
    values = np.repeat(starts, draws, axis=0)
    found = minimise(problem.rows_of(each), values, tolerance=_TOLERANCE, most_iterations=_STEPS)
    on = np.flatnonzero(~found.converged & np.isfinite(found.objective))
    if len(on):
        last = minimise(
            problem.rows_of(each[on]),
            found.values[on],
            tolerance=_TOLERANCE,
            most_iterations=_STEPS,
        )
        gain = found.objective[on] - last.objective
        found.values[on], found.offsets[on] = last.values, last.offsets
        found.objective[on] = last.objective
        found.converged[on] = last.converged | (gain <= _FLAT * last.objective)
    objective = np.where(np.isfinite(found.objective), found.objective, np.inf)
    best = np.argmin(objective.reshape(len(starts), draws), axis=0) * draws + np.arange(draws)
    return Solution(
        values=found.values[best],
        offsets=found.offsets[best],
        objective=found.objective[best],
        converged=found.converged[best],
        iterations=found.iterations,
    )


def posterior_of(
    law: LawFit, solution: Solution, *, asked: int, clusters: int, seed: int
) -> LawPosterior:
    """The draws that converged, as a posterior. Raises FitError where more than half did not.

    Draws are held to what their law was: where that was stopped on its way, so may they be.
    """
    good = np.isfinite(solution.objective) & np.isfinite(solution.values).all(axis=1)
    if all(warning.kind != "not_converged" for warning in law.warnings):
        good &= solution.converged
    failed = asked - int(good.sum())
    if failed > _MOST_FAILED * asked:
        raise FitError(
            f"no uncertainty: {failed} of {asked} draws failed ({asked - len(good)} of them had"
            " too few sizes); the law needs more trials"
        )
    spare = max(clusters - len(law.working), 1)
    return LawPosterior(
        law=law,
        draws=tuple(tuple(float(x) for x in row) for row in solution.values[good]),
        asked=asked,
        failed=failed,
        widening=math.sqrt(clusters / spare),
        degrees=float(spare),
        seed=seed,
    )


def _able(law: LawFit, runs: Runs, times: Array) -> NDArray[np.bool_]:
    """Which draws keep as many different values of each input as the form needs.

    times: (draws, R), how often each row is drawn.
    """
    able = np.ones(len(times), dtype=np.bool_)
    for column, needed in zip(runs.inputs(law.form.inputs), law.form.levels, strict=True):
        level = levels_of(column)
        kept = np.zeros((len(times), int(level.max()) + 1), dtype=np.bool_)
        for k in range(kept.shape[1]):
            kept[:, k] = (times[:, level == k] > 0).any(axis=1)
        able &= kept.sum(axis=1) >= needed
    return able
