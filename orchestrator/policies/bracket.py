"""A bracket: candidates halved at rungs of equal compute, as several policies do it.

Synchronous: a rung is decided when every live trial has reached it or is out. Trials are compared
by what was measured up to the rung, never by what came later, so that an interrupted sweep and a
live one decide alike. Trials that diverged, failed or have no point yet rank last; ties go by the
order of the pool. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.policies.ranking import Ranking, Standing, Verdict
from orchestrator.policies.rungs import Rung, grouped, ladder, survivors
from orchestrator.state import SweepState
from orchestrator.values import Candidate, Curve, Decision, Extend, Stop, flops_in_words


@dataclass(frozen=True, slots=True)
class _Compared:
    """A rung after its trials were compared: the survivors and the stopped, best first."""

    rung: Rung
    verdict: Verdict
    kept: tuple[Candidate, ...]
    stopped: tuple[tuple[Candidate, str], ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """What a bracket wants next. `order`: its candidates, best first, once the last rung was
    compared; empty before."""

    decisions: tuple[Decision, ...]
    order: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bracket:
    """`candidates` halved within `budget` FLOPs: each rung keeps 1 in `eta` or fewer, compared by
    `ranking` within the values of the setting `group_by`. `name` stands before its reasons.
    `slack`: who is this share short of a rung has reached it, for a budget that moves while the
    pace is learned that it is made of: rungs that move would take up again what they stopped."""

    candidates: tuple[Candidate, ...]
    budget: int
    eta: int
    ranking: Ranking
    group_by: str | None = None
    name: str = ""
    slack: float = 0.0

    def next(self, state: SweepState) -> Progress:
        """The decisions that are due; none while the bracket waits."""
        live = list(self.candidates)
        rungs = self.rungs
        behind: list[_Compared] = []
        for rung in rungs:
            if behind:
                live = list(behind[-1].kept)
            if not all(self._arrived(state, candidate, rung) for candidate in live):
                due = self._stops(state, behind) + self._climbs(state, live, rung)
                return Progress(tuple(due), ())
            behind.append(self._compared(state, live, rung, rungs[-1], behind))
        stops = self._stops(state, behind)
        order = list(behind[-1].kept)
        for compared in reversed(behind):
            order.extend(candidate for candidate, _ in compared.stopped)
        return Progress(tuple(stops), tuple(order))

    @property
    def rungs(self) -> tuple[Rung, ...]:
        groups = [len(group) for group in grouped(self.candidates, self.group_by).values()]
        return ladder(groups, self.budget, self.eta)

    def _compared(
        self,
        state: SweepState,
        live: Sequence[Candidate],
        rung: Rung,
        final: Rung,
        behind: Sequence[_Compared],
    ) -> _Compared:
        last = rung.index == rung.rounds - 1
        verdict = (
            _by_loss(state, live, rung)
            if last
            else self._verdict(state, live, rung, final, behind)
        )
        kept: list[Candidate] = []
        stopped: list[tuple[Candidate, str]] = []
        for value, group in grouped(live, self.group_by).items():
            order = verdict.order(group)
            most = len(order) if last else survivors(len(order), self.eta)
            chances = [c for c in order[:most] if c.id not in verdict.hopeless] or order[:1]
            kept.extend(chances)
            where = "" if self.group_by is None else f" of {self.group_by} {value}"
            why = f" ({verdict.why})" if verdict.why else ""
            for place, candidate in enumerate(order, 1):
                if candidate in chances:
                    continue
                surely = "no chance against the best, " if place <= most else ""
                stopped.append(
                    (
                        candidate,
                        f"{self._at(rung)}: rank {place} of {len(order)}{where} with "
                        f"{verdict.said(candidate)}, {surely}{len(chances)} kept, the last with "
                        f"{verdict.said(chances[-1])}{why}",
                    )
                )
        if last:
            kept = verdict.order(kept)
        stopped.sort(key=lambda entry: verdict.scores[entry[0].id])
        return _Compared(rung, verdict, tuple(kept), tuple(stopped))

    def _verdict(
        self,
        state: SweepState,
        live: Sequence[Candidate],
        rung: Rung,
        final: Rung,
        behind: Sequence[_Compared],
    ) -> Verdict:
        """The ranking's answer to the sweep as it stood at the rung."""
        reached = {
            candidate.id: compared.rung for compared in behind for candidate, _ in compared.stopped
        }
        observed: list[tuple[Candidate, Curve]] = []
        for candidate in self.candidates:
            curve = _measured(state, candidate, reached.get(candidate.id, rung))
            if curve is not None and len(curve):
                observed.append((candidate, curve))
        return self.ranking.verdict(
            Standing(
                rung=rung,
                live=tuple(live),
                losses=_losses(state, live, rung),
                observed=tuple(observed),
                final_flops=final.flops,
                lost=frozenset(c.id for c in live if _lost(state, c, rung)),
                seed=state.terms.seed,
            )
        )

    def _climbs(self, state: SweepState, live: Sequence[Candidate], rung: Rung) -> list[Decision]:
        """Extend the live trials to the rung, where that was not decided before."""
        decisions: list[Decision] = []
        for candidate in live:
            goal = _goal(candidate, rung)
            trial = state.trials.get(candidate.id)
            told = trial.trunk.target if trial is not None else 0
            if self._least(goal) <= told or (trial is not None and trial.out):
                continue
            standing = (
                "every candidate starts"
                if rung.index == 0
                else f"among the {len(live)} kept at the rung before"
            )
            decisions.append(
                Extend(trial=candidate.id, tokens=goal, reason=f"{self._at(rung)}: {standing}")
            )
        return decisions

    def _arrived(self, state: SweepState, candidate: Candidate, rung: Rung) -> bool:
        """Whether the candidate has been trained to the rung, or never will be."""
        goal = _goal(candidate, rung)
        trial = state.trials.get(candidate.id)
        if trial is None:
            return goal == 0
        on_its_way = trial.trunk.running and trial.trunk.until <= goal
        return trial.out or (trial.trunk.tokens >= self._least(goal) and not on_its_way)

    def _least(self, goal: int) -> int:
        """Tokens from which on a goal counts as reached."""
        return goal - int(self.slack * goal)

    def _stops(self, state: SweepState, behind: Sequence[_Compared]) -> list[Decision]:
        """Stop what the rungs dropped, where that was not decided before.

        A trial that was told to go beyond the rung that dropped it has been reopened: it stays so.
        """
        decisions: list[Decision] = []
        for compared in behind:
            for candidate, reason in compared.stopped:
                trial = state.trials.get(candidate.id)
                if trial is None or trial.out or trial.stop_reason is not None:
                    continue
                if self._least(trial.trunk.target) <= _goal(candidate, compared.rung):
                    expected = compared.verdict.expected.get(candidate.id)
                    decisions.append(Stop(trial=candidate.id, reason=reason, expected=expected))
        return decisions

    def _at(self, rung: Rung) -> str:
        at = flops_in_words(rung.flops)
        return f"{self.name}rung {rung.index + 1} of {rung.rounds} at {at} FLOPs"


def spent_out(state: SweepState, order: Sequence[Candidate], most: float) -> list[Decision]:
    """Extend the best trials that are not at their end with what the rungs left, each to a share
    `most` of the budget."""
    decisions: list[Decision] = []
    remaining = state.remaining
    for candidate in order:
        trial = state.trials.get(candidate.id)
        if trial is not None and trial.out:
            continue
        spent = candidate.flops(trial.trunk.tokens) if trial is not None else 0
        tokens = candidate.tokens_within(min(spent + remaining, most * state.terms.budget))
        if tokens <= (trial.trunk.tokens if trial is not None else 0):
            continue
        remaining -= candidate.flops(tokens) - spent
        decisions.append(
            Extend(
                trial=candidate.id,
                tokens=tokens,
                reason=f"the rungs left {flops_in_words(state.remaining)} FLOPs unspent; this is "
                "the "
                f"best-ranked trial that is not at its end",
            )
        )
    return decisions


def _goal(candidate: Candidate, rung: Rung) -> int:
    """Tokens at the rung, in whole steps, not past the candidate's end."""
    return candidate.tokens_within(rung.flops)


def _measured(state: SweepState, candidate: Candidate, rung: Rung) -> Curve | None:
    """The curve up to the rung; None for what never got there.

    Who reached the rung keeps its rank there, whatever becomes of it later: else a trial that
    diverges would bring back those that it beat.
    """
    trial = state.trials.get(candidate.id)
    if trial is None or _lost(state, candidate, rung):
        return None
    return trial.curve.upto(_goal(candidate, rung))


def _lost(state: SweepState, candidate: Candidate, rung: Rung) -> bool:
    """Whether the candidate diverged or failed on its way to the rung."""
    trial = state.trials.get(candidate.id)
    return trial is not None and trial.out and trial.trunk.until <= _goal(candidate, rung)


def _losses(state: SweepState, live: Sequence[Candidate], rung: Rung) -> Mapping[str, float]:
    """Lowest loss up to the rung; infinite for what never got there or shows no point."""
    losses: dict[str, float] = {}
    for candidate in live:
        curve = _measured(state, candidate, rung)
        losses[candidate.id] = math.inf if curve is None else curve.best_upto(curve.last_tokens)
    return losses


def _by_loss(state: SweepState, live: Sequence[Candidate], rung: Rung) -> Verdict:
    """The last rung is compared by what was measured, whatever the ranking: nothing lies ahead."""
    return Verdict(scores=_losses(state, live, rung), why="", expected={})
