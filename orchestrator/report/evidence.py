"""What laws may rest on: the real points of trials that did not diverge, sorted by phase.

A failed trial's points are as real as any: what failed is the machine, and its curve ends early.

Touches nothing. Points of the constant rate (`stable`) and annealed ends are kept apart and
never meet in one fit: annealing lowers a loss by an amount that depends on size, so a mixture
has the wrong slope (DESIGN section 4). Of each size, only trials near its best enter a law of N
and D: a bad learning rate is no property of a size (Porian et al. 2024, arXiv 2406.19146, tune
it per size).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.laws.errors import FitError
from orchestrator.laws.frontier import Frontier, frontier
from orchestrator.laws.runs import CurveRows, Runs, finished_runs, runs_from_curves
from orchestrator.state import SweepState, Trial
from orchestrator.values import Curve, FloatArray, Scalar

NEAR_BEST = 0.01
"""A trial this close (in relative loss, at equal tokens) to the best of its size is near best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """An annealed end: tokens and FLOPs from scratch on the branch's own path, and its loss.

    `trunk_loss` is the loss of the trunk where the branch left it, None where that has no point;
    `start` the tokens there, None where unknown.
    """

    tokens: int
    flops: float
    loss: float
    trunk_loss: float | None
    start: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEvidence:
    """A trial's usable points. `stable` may be empty; `annealed` holds its branches' ends."""

    id: str
    params: int
    flops_per_token: float
    stable: CurveRows
    annealed: tuple[Branch, ...] = ()
    settings: tuple[tuple[str, Scalar], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All usable trials, in the order of the pool. `burn_in` is the share of each curve that is
    dropped as its start. `left_out` says what was excluded, and why; `cut_short` names the failed
    trials, whose points stay. `phases` are those of the points taken as stable; none where a table
    does not say. `costs`: (params, FLOPs per token) of the whole pool; empty where the trials are
    all that is known of it."""

    trials: tuple[TrialEvidence, ...]
    burn_in: float = 0.1
    left_out: tuple[str, ...] = ()
    cut_short: tuple[str, ...] = ()
    phases: tuple[str, ...] = ("stable",)
    costs: tuple[tuple[float, float], ...] = ()

    def with_points(self) -> tuple[TrialEvidence, ...]:
        return tuple(trial for trial in self.trials if len(trial.stable))

    def frontier(self) -> Frontier:
        """The lowest loss seen at each compute, where that is a frontier of sizes.

        Left out: what belongs to a curve still in its own burn-in, and the start of the smallest
        size's stretch, which it owns for want of a smaller one: it counts from the tokens per
        parameter at which the other sizes take the frontier over. Raises FitError where nothing
        is left.

        The envelope is that of whole curves: dropping their starts first would hand the frontier
        to runs that a cheaper one had already beaten.
        """
        curves = [trial.stable for trial in self.with_points()]
        edge = frontier(curves)
        ends = np.array([rows.tokens[-1] if len(rows) else np.inf for rows in curves])
        keep = self.burn_in * ends[edge.owner] <= edge.D
        ratio = edge.D / edge.N
        taken_over = np.flatnonzero(np.diff(edge.N) > 0) + 1
        if len(taken_over):
            begins = float(np.median(ratio[taken_over]))
            keep &= (edge.N.min() < edge.N) | (ratio >= begins)
        if not keep.any():
            raise FitError("no frontier: every curve on it is still in its burn-in")
        return Frontier(
            C=edge.C[keep],
            loss=edge.loss[keep],
            owner=edge.owner[keep],
            reached=edge.reached[keep],
            N=edge.N[keep],
            D=edge.D[keep],
        )

    def near_best(self) -> tuple[TrialEvidence, ...]:
        """Of every size, the trials within 1 % of the size's best at equal tokens."""
        by_size: dict[int, list[TrialEvidence]] = {}
        for trial in self.with_points():
            by_size.setdefault(trial.params, []).append(trial)
        kept = {
            trial.id
            for group in by_size.values()
            for trial in group
            if _near(trial.stable, _best_beside(trial, group).stable)
        }
        return tuple(trial for trial in self.with_points() if trial.id in kept)

    def without_costliest(self) -> tuple[Evidence, TrialEvidence] | None:
        """The evidence without the size whose run had the most compute, and that run.

        None where fewer than four sizes have points.
        """
        trials = self.with_points()
        if len({trial.params for trial in trials}) < 4:
            return None
        costliest = max(trials, key=lambda trial: float(trial.stable.flops[-1]))
        rest = tuple(trial for trial in self.trials if trial.params != costliest.params)
        return Evidence(trials=rest, burn_in=self.burn_in, phases=self.phases), costliest

    def free_settings(self) -> tuple[str, ...]:
        """Varied keys that differ within a size: what is tuned, rather than what makes the
        size."""
        values: dict[tuple[str, int], set[Scalar]] = {}
        for trial in self.trials:
            for key, value in trial.settings:
                values.setdefault((key, trial.params), set()).add(value)
        return tuple(dict.fromkeys(key for (key, _), seen in values.items() if len(seen) > 1))

    def stable_runs(self) -> Runs:
        """Rows of the trials near their size's best. Raises FitError where there are none."""
        try:
            return runs_from_curves(
                [trial.stable for trial in self.near_best()], burn_in=self.burn_in
            )
        except ValueError as error:
            raise FitError(f"no law yet: {error}") from None

    def annealed_runs(self) -> Runs:
        """Annealed ends of the trials near their size's best, one row each."""
        ends = [
            (trial.params, branch.tokens, branch.flops, branch.loss)
            for trial in self.near_best()
            for branch in trial.annealed
        ]
        if not ends:
            raise FitError("no law yet: no trial was annealed")
        N, D, C, loss = (np.array(column, dtype=np.float64) for column in zip(*ends, strict=True))
        rows = finished_runs(N, D, loss, C=C)
        return Runs(
            N=rows.N, D=rows.D, C=rows.C, loss=rows.loss, trial=rows.trial, weight=rows.weight,
            phases=("annealed",),
        )  # fmt: skip

    def annealing_gains(self) -> FloatArray:
        """Loss of the trunk where a branch left it, less that of the branch's end, per branch."""
        gains = [
            branch.trunk_loss - branch.loss
            for trial in self.trials
            for branch in trial.annealed
            if branch.trunk_loss is not None
        ]
        return np.array(gains, dtype=np.float64)


def _best_beside(trial: TrialEvidence, group: Sequence[TrialEvidence]) -> TrialEvidence:
    """The best trial of a size; of finished runs, which have one point, the best at the same
    tokens."""
    if len(trial.stable) == 1:
        last = trial.stable.tokens[-1]
        group = [t for t in group if len(t.stable) > 1 or t.stable.tokens[-1] == last]
    return min(group, key=lambda other: float(other.stable.loss[-1]))


def _near(rows: CurveRows, best: CurveRows) -> bool:
    """Whether the curve is near the best one at the last tokens that both have seen.

    Curves that have no tokens in common cannot be compared and count as near.
    """
    last = min(rows.tokens[-1], best.tokens[-1])
    if last < max(rows.tokens[0], best.tokens[0]):
        return True
    at = np.log(last)
    mine, its = (
        float(np.interp(at, np.log(curve.tokens), np.log(curve.loss))) for curve in (rows, best)
    )
    return mine <= its + np.log1p(NEAR_BEST)


def evidence_of(state: SweepState, *, burn_in: float) -> Evidence:
    """The evidence in a sweep's state. Diverged trials are named and left out; failed ones are
    named, and count as far as they came."""
    trials: list[TrialEvidence] = []
    left_out: list[str] = []
    cut_short: list[str] = []
    for candidate in state.pool.candidates:
        trial = state.trials.get(candidate.id)
        if trial is None:
            continue
        if trial.diverged is not None:
            left_out.append(f"{trial.id} ({trial.status})")
            continue
        if trial.failed is not None:
            cut_short.append(trial.id)
        trials.append(_evidence(trial))
    found = Evidence(
        trials=tuple(trials),
        burn_in=burn_in,
        left_out=tuple(left_out),
        cut_short=tuple(cut_short),
        costs=tuple((float(c.params), c.flops_per_token) for c in state.pool.candidates),
    )
    return found if found.with_points() else _ends_alone(found)


def _ends_alone(evidence: Evidence) -> Evidence:
    """A sweep whose rates never stood still, such as a cosine's: each annealed end is a finished
    run, and laws are of those."""
    ends = [(trial, branch) for trial in evidence.trials for branch in trial.annealed]
    if not ends:
        return evidence
    runs = tuple(
        replace(
            trial,
            stable=CurveRows(
                N=trial.params,
                tokens=np.array([branch.tokens], dtype=np.float64),
                flops=np.array([branch.flops]),
                loss=np.array([branch.loss]),
            ),
            annealed=(),
        )
        for trial, branch in ends
    )
    return replace(evidence, trials=runs, phases=("annealed",))


def _evidence(trial: Trial) -> TrialEvidence:
    candidate = trial.candidate
    branches = [
        Branch(
            tokens=branch.curve.last_tokens,
            flops=float(branch.curve.flops[-1]),
            loss=branch.curve.last_loss,
            trunk_loss=_loss_at(trial.curve, branch.start),
            start=branch.start,
        )
        for branch in trial.branches
        if len(branch.curve) and branch.curve.phases[-1] == "annealed"
    ]
    # A cosine trial anneals on its trunk: only its end counts, as a finished run.
    trunk = trial.curve
    if len(trunk) and trunk.phases[-1] == "annealed":
        branches.append(
            Branch(
                tokens=trunk.last_tokens,
                flops=float(trunk.flops[-1]),
                loss=trunk.last_loss,
                trunk_loss=None,
            )
        )
    return TrialEvidence(
        id=trial.id,
        params=candidate.params,
        flops_per_token=candidate.flops_per_token,
        stable=_stable(candidate.params, trunk),
        annealed=tuple(branches),
        settings=candidate.settings,
    )


def _stable(params: int, curve: Curve) -> CurveRows:
    keep = np.array([phase == "stable" for phase in curve.phases], dtype=np.bool_)
    return CurveRows(
        N=params,
        tokens=curve.tokens[keep].astype(np.float64),
        flops=curve.flops[keep],
        loss=curve.loss[keep],
    )


def _loss_at(curve: Curve, tokens: int) -> float | None:
    at = np.flatnonzero(curve.tokens == tokens)
    return float(curve.loss[at[0]]) if len(at) else None


def evidence_from_curves(
    curves: Mapping[str, tuple[int, Curve, Sequence[tuple[str, Scalar]]]], *, burn_in: float
) -> Evidence:
    """The evidence in recorded curves: (params, curve, settings) by id. All points count as those
    of a constant rate do; what they are is not known, and the evidence says so."""
    return Evidence(
        trials=tuple(
            TrialEvidence(
                id=name,
                params=params,
                flops_per_token=float(curve.flops[-1]) / curve.last_tokens,
                stable=_stable(params, curve),
                settings=tuple(settings),
            )
            for name, (params, curve, settings) in curves.items()
        ),
        burn_in=burn_in,
        phases=(),
    )
