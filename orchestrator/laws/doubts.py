"""What is doubtful about a fit, in words: bounds, identification, disagreeing starts, offsets.

Touches nothing.
"""

from __future__ import annotations

import numpy as np

from orchestrator.laws.law import LawWarning
from orchestrator.laws.levenberg import Problem, Solution, reduced, resting, stand
from orchestrator.laws.runs import Array, Labels, Runs

# Starts that ended in one optimum: the best of them, and all of them. Best optimum first.
Groups = list[tuple[int, list[int]]]

_FEWEST_TRIALS = 8
_LOOSE = 0.5  # relative standard error beyond which a parameter says little
_SINGULAR = 1e-12  # least to largest root of the scaled normal matrix
_EXCESS = 2.0  # squared residuals, in units of the row's variance, that data can tell apart
_TREND = 0.6  # correlation of offsets with log N
_TURNED = 0.02  # of the loss at twice the largest inputs
_SPREAD = 2_654_435_761  # odd, so that multiples visit different corners (Knuth)
_APART = 0.005  # of log loss, ten times beyond the rows


def probe_inputs(inputs: Array) -> Array:
    """Where optima are compared: corners of the rows' box of inputs (I, R), and the same ten
    times beyond (a box further, for an input that is not positive). At most 256 of them."""
    low, high = inputs.min(axis=1), inputs.max(axis=1)
    if (low > 0).all():
        middle, beyond = np.sqrt(low * high), 10.0 * high
    else:
        middle, beyond = 0.5 * (low + high), 2.0 * high - low
    steps = np.stack([low, middle, high, beyond], axis=1)
    count = len(low)
    total = int(4**count)
    chosen = range(total) if count <= 4 else [_SPREAD * k % total for k in range(256)]
    corners = [[steps[i, k // 4**i % 4] for i in range(count)] for k in chosen]
    return np.array(corners, dtype=np.float64).T


def relative(problem: Problem, loss: Array) -> Array:
    """Log loss, or the loss in units of the rows' mean where residuals are not of log loss."""
    if not problem.in_logs:
        return loss / problem.unit
    with np.errstate(all="ignore"):
        return np.log(loss)


def doubts_about(
    problem: Problem,
    solution: Solution,
    groups: Groups,
    runs: Runs,
    probes: Array,
    scale: float,
    unshifted: Array | None,
) -> tuple[LawWarning, ...]:
    """All warnings about the best optimum, best group first.

    probes: covariates at `probe_inputs`. unshifted: working values of the fit without offsets,
    where there were offsets.
    """
    best = groups[0][0]
    values, offsets = solution.values[best], solution.offsets[best]
    found = [*_bounds(problem, values), *_identification(problem, values, offsets, runs)]
    found += _starts(problem, solution, groups, probes, scale)
    if not solution.converged[best]:
        found.append(
            LawWarning(
                kind="not_converged",
                text="the search was stopped while the objective still fell, if slowly: the law"
                " has more parameters than the rows fix",
            )
        )
    if unshifted is not None:
        found += _offsets(problem, values, offsets, runs, unshifted)
    if runs.trials < _FEWEST_TRIALS:
        found.append(
            LawWarning(
                kind="few_trials",
                text=f"the rows come from {runs.trials} trials; below {_FEWEST_TRIALS} a"
                " bootstrap over trials says too little",
            )
        )
    return tuple(found)


def _bounds(problem: Problem, values: Array) -> list[LawWarning]:
    found: list[LawWarning] = []
    for k, parameter in enumerate(problem.form.parameters):
        low, high = float(problem.lower[k]), float(problem.upper[k])
        close = 1e-6 * (high - low if np.isfinite(high) else 1.0)
        if parameter.logarithmic:
            low, high = float(np.exp(low)), float(np.exp(high))
        if values[k] - float(problem.lower[k]) <= close:
            where = f"lower bound, {low:g}"
        elif float(problem.upper[k]) - values[k] <= close:
            shown = "the smallest loss seen" if parameter.upper is None else f"{high:g}"
            where = f"upper bound, {shown}"
        else:
            continue
        found.append(
            LawWarning(
                kind="bound",
                text=f"{parameter.name} ({parameter.meaning}) rests at its {where}: the rows"
                " do not fix it",
            )
        )
    return found


def _identification(
    problem: Problem, values: Array, offsets: Array, runs: Runs
) -> list[LawWarning]:
    """Parameters whose standard error is most of their value."""
    found: list[LawWarning] = []
    spread = standard_errors(problem, values, offsets, runs.trial)
    for parameter, value, sd in zip(problem.form.parameters, values, spread, strict=True):
        if sd <= _LOOSE * abs(value):
            continue
        why = "the rows leave a direction free"
        if np.isfinite(sd) and value != 0.0:
            why = f"its standard error is {sd / abs(value):.0%} of its value"
        found.append(
            LawWarning(
                kind="not_identified",
                text=f"{parameter.name} ({parameter.meaning}) is not identified: {why}",
            )
        )
    return found


def standard_errors(problem: Problem, values: Array, offsets: Array, trial: Labels) -> Array:
    """Standard errors (P,) of the working values at one optimum; zero at a bound.

    The larger of two: rows taken as independent, and rows of a trial taken as one cluster
    (the sandwich of Liang and Zeger 1986). The first is too small where trials differ, the
    second where there are few of them. Infinite where the normal matrix is singular.
    """
    at = stand(problem, values[None, :], offsets[None, :])
    normal = reduced(problem, at)
    kept = np.flatnonzero(~resting(problem, values, normal.slope[0]))
    errors = np.zeros(len(values))
    matrix = normal.matrix[0][np.ix_(kept, kept)]
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    roots, axes = np.linalg.eigh(matrix / np.outer(scale, scale))
    if kept.size and roots[0] <= _SINGULAR * roots[-1]:
        errors[kept] = np.inf
        return errors
    inverse = (axes / roots) @ axes.T / np.outer(scale, scale)
    weight = np.broadcast_to(problem.weight[0], at.residual[0].shape)
    residual = np.clip(at.residual[0], -problem.delta, problem.delta)
    rows = float(np.sum(weight) ** 2 / np.sum(weight**2))  # as many rows as weights count
    spare = max(rows - len(values), 1.0)
    alone = float(np.sum(weight * residual**2)) / spare * np.diag(inverse)
    labels = np.unique(trial)
    pushes = (at.gradient[0][kept] * (weight * residual)) @ (trial[:, None] == labels)
    # With offsets this is the slope of what is left once they have given way (envelope).
    few = len(labels) / max(len(labels) - len(values), 1)
    together = few * np.diag(inverse @ (pushes @ pushes.T) @ inverse)
    errors[kept] = np.sqrt(np.maximum(alone, together))
    return errors


def _starts(
    problem: Problem,
    solution: Solution,
    groups: Groups,
    probes: Array,
    scale: float,
) -> list[LawWarning]:
    """Optima that fit as well within noise but say something else beyond the rows."""
    best = groups[0][0]
    said = relative(problem, problem.form.loss(solution.values, probes))
    rivals: list[float] = []
    for leader, _ in groups[1:]:
        excess = (solution.objective[leader] - solution.objective[best]) / scale**2
        with np.errstate(invalid="ignore"):  # two laws without a value at one probe
            apart = float(np.max(np.abs(said[leader] - said[best])))
        if excess < _EXCESS and not apart <= max(_APART, scale / problem.unit):
            rivals.append(apart)
    if not rivals:
        return []
    return [
        LawWarning(
            kind="starts_disagree",
            text=f"{len(rivals)} other {'optima fit' if len(rivals) > 1 else 'optimum fits'}"
            f" the rows as well within noise and differ by up to {max(rivals):.1%} ten times"
            " beyond them",
        )
    ]


def _offsets(
    problem: Problem, values: Array, offsets: Array, runs: Runs, unshifted: Array
) -> list[LawWarning]:
    """Offsets that took over what the law should say: the degenerate mode of wide offsets.

    Two signs, both absent where offsets are what they are meant for: they follow the size, or
    the law turns away from the one without them.
    """
    found: list[LawWarning] = []
    trend = 0.0
    if "N" in runs.features:
        labels = np.unique(runs.trial)
        sizes = np.array([float(np.mean(runs.N[runs.trial == t])) for t in labels])
        trend = _correlation(np.log(sizes), offsets)
    if abs(trend) > _TREND:
        found.append(
            LawWarning(
                kind="offsets",
                text=f"the trials' offsets follow their size (correlation {trend:.2f}): they and"
                " the law in N are not told apart; give a smaller offsets_sd",
            )
        )
    inputs = runs.inputs(problem.form.inputs)
    centre = problem.form.middle(inputs, runs.weight)
    corner = problem.form.covariates(2.0 * inputs.max(axis=1, keepdims=True), centre)
    both = problem.form.loss(np.stack([values, unshifted]), corner)[:, 0]
    apart = float(both[0] / both[1] - 1.0)
    if abs(apart) > _TURNED:
        found.append(
            LawWarning(
                kind="offsets",
                text=f"at twice the largest inputs the law differs by {apart:+.1%} from the one"
                " without offsets: give a smaller offsets_sd",
            )
        )
    return found


def _correlation(one: Array, other: Array) -> float:
    a, b = one - one.mean(), other - other.mean()
    length = float(np.sqrt(np.sum(a * a) * np.sum(b * b)))
    return float(np.sum(a * b)) / length if length > 0 else 0.0
