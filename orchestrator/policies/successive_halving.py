"""Successive Halving on compute (Jamieson and Talwalkar 2016; in FLOPs as in arXiv 2605.17234).

Synchronous: a rung is decided when every live trial has reached it or is out. Trials are ranked by
the lowest loss seen up to the rung, never by a later one, so that an interrupted sweep and a live
one decide alike. Trials that diverged, failed or have no point yet rank last; ties go by the order
of the pool.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.policies.rungs import Rung, grouped, ladder, survivors
from orchestrator.state import SweepState
from orchestrator.values import Candidate, Decision, Extend, Stop


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A rung after its trials were compared: the survivors and the stopped, best first."""

    rung: Rung
    kept: tuple[Candidate, ...]
    stopped: tuple[tuple[Candidate, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessiveHalving:
    """Halve the pool at rungs of equal compute.

    `eta`: keep 1/eta. `spend_out`: what survivors at their end cannot use extends stopped trials
    in rank order; off, it stays unspent, as in the paper. `group_by`: a setting (or "params")
    within whose values trials are compared, so that a law keeps its spread of sizes.
    """

    eta: int = 2
    spend_out: bool = True
    group_by: str | None = None

    @property
    def name(self) -> str:
        return "successive_halving"

    @property
    def watches_points(self) -> bool:
        return False

    def decide(self, state: SweepState) -> list[Decision]:
        live = list(state.pool.candidates)
        groups = [len(group) for group in grouped(live, self.group_by).values()]
        behind: list[_Ranked] = []
        for rung in ladder(groups, state.terms.budget, self.eta):
            if behind:
                live = list(behind[-1].kept)
            if not all(_arrived(state, candidate, rung) for candidate in live):
                return _stops(state, behind) + _climbs(state, live, rung)
            behind.append(self._ranked(state, live, rung))
        stops = _stops(state, behind)
        if stops or not self.spend_out or state.in_flight:
            return stops
        return self._spend_out(state, behind)

    def _ranked(self, state: SweepState, live: Sequence[Candidate], rung: Rung) -> _Ranked:
        kept: list[Candidate] = []
        stopped: list[tuple[Candidate, str]] = []
        last = rung.index == rung.rounds - 1
        for value, group in grouped(live, self.group_by).items():
            losses = {candidate.id: _loss(state, candidate, rung) for candidate in group}
            order = sorted(group, key=lambda candidate: losses[candidate.id])
            keep = len(order) if last else survivors(len(order), self.eta)
            kept.extend(order[:keep])
            where = "" if self.group_by is None else f" of {self.group_by} {value}"
            for place, candidate in enumerate(order[keep:], keep + 1):
                stopped.append(
                    (
                        candidate,
                        f"rung {rung.index + 1} of {rung.rounds} at {rung.flops:.3g} FLOPs: rank "
                        f"{place} of {len(order)}{where} with {_said(losses[candidate.id])}, "
                        f"{keep} kept, the last with {_said(losses[order[keep - 1].id])}",
                    )
                )
        if last:
            kept.sort(key=lambda candidate: _loss(state, candidate, rung))
        stopped.sort(key=lambda entry: _loss(state, entry[0], rung))
        return _Ranked(rung, tuple(kept), tuple(stopped))

    def _spend_out(self, state: SweepState, behind: Sequence[_Ranked]) -> list[Decision]:
        """Extend the best trials that are not at their end with what is left."""
        order = list(behind[-1].kept)
        for ranked in reversed(behind):
            order.extend(candidate for candidate, _ in ranked.stopped)
        decisions: list[Decision] = []
        remaining = state.remaining
        for candidate in order:
            trial = state.trials.get(candidate.id)
            if trial is not None and trial.out:
                continue
            spent = candidate.flops(trial.trunk.tokens) if trial is not None else 0
            tokens = candidate.tokens_within(spent + remaining)
            if tokens <= (trial.trunk.tokens if trial is not None else 0):
                continue
            remaining -= candidate.flops(tokens) - spent
            decisions.append(
                Extend(
                    trial=candidate.id,
                    tokens=tokens,
                    reason=f"the rungs left {state.remaining:.3g} FLOPs unspent; this is the "
                    f"best-ranked trial that is not at its end",
                )
            )
        return decisions


def _goal(candidate: Candidate, rung: Rung) -> int:
    """Tokens at the rung, in whole steps, not past the candidate's end."""
    return candidate.tokens_within(rung.flops)


def _arrived(state: SweepState, candidate: Candidate, rung: Rung) -> bool:
    """Whether the candidate has been trained to the rung, or never will be."""
    goal = _goal(candidate, rung)
    trial = state.trials.get(candidate.id)
    if trial is None:
        return goal == 0
    on_its_way = trial.trunk.running and trial.trunk.until <= goal
    return trial.out or (trial.trunk.tokens >= goal and not on_its_way)


def _loss(state: SweepState, candidate: Candidate, rung: Rung) -> float:
    """Lowest loss up to the rung; infinite for what never got there or shows no point.

    Who reached the rung keeps its rank there, whatever becomes of it later: else a trial that
    diverges would bring back those that it beat.
    """
    trial = state.trials.get(candidate.id)
    goal = _goal(candidate, rung)
    if trial is None or (trial.out and trial.trunk.until <= goal):
        return math.inf
    return trial.curve.best_upto(goal)


def _said(loss: float) -> str:
    return f"loss {loss:.4f}" if math.isfinite(loss) else "no loss"


def _climbs(state: SweepState, live: Sequence[Candidate], rung: Rung) -> list[Decision]:
    """Extend the live trials to the rung, where that was not decided before."""
    decisions: list[Decision] = []
    for candidate in live:
        goal = _goal(candidate, rung)
        trial = state.trials.get(candidate.id)
        told = trial.trunk.target if trial is not None else 0
        if goal <= told or (trial is not None and trial.out):
            continue
        standing = (
            "every candidate starts"
            if rung.index == 0
            else f"among the {rung.live} kept at the rung before"
        )
        decisions.append(
            Extend(
                trial=candidate.id,
                tokens=goal,
                reason=f"rung {rung.index + 1} of {rung.rounds} at {rung.flops:.3g} FLOPs: "
                f"{standing}",
            )
        )
    return decisions


def _stops(state: SweepState, behind: Sequence[_Ranked]) -> list[Decision]:
    """Stop what the rungs dropped, where that was not decided before.

    A trial that was told to go beyond the rung that dropped it has been reopened: it stays so.
    """
    decisions: list[Decision] = []
    for ranked in behind:
        for candidate, reason in ranked.stopped:
            trial = state.trials.get(candidate.id)
            if trial is None or trial.out or trial.stop_reason is not None:
                continue
            if trial.trunk.target <= _goal(candidate, ranked.rung):
                decisions.append(Stop(trial=candidate.id, reason=reason))
    return decisions
