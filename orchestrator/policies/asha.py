"""ASHA, the promotion type (Li et al. 2020, arXiv 1810.05934): halving without a barrier.

Whenever a slot is free, the highest rung with a trial in the top 1/eta of those that reached it,
and not promoted yet, promotes its best one; where no rung has one, the next candidate of the pool
starts. So a worker never waits for the slowest trial of a round. Rungs are levels of compute,
eta times apart, from the one at which plain halving would compare all candidates for the first
time. Deterministic given the order in which the segments ended. Touches nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.policies.rungs import ladder
from orchestrator.state import SweepState
from orchestrator.values import Candidate, Decision, Extend, flops_in_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Asha:
    """Promote without waiting. `eta`: a rung's best 1/eta go on, to eta times its compute;
    `spend_out`: once nobody can be promoted, what is left extends the best trials, none beyond a
    share `most` of the budget."""

    eta: int = 2
    spend_out: bool = True
    most: float = 0.75

    @property
    def name(self) -> str:
        return "asha"

    @property
    def watches_points(self) -> bool:
        return False

    def decide(self, state: SweepState) -> list[Decision]:
        free = state.unclaimed
        remaining = state.remaining
        decisions: list[Decision] = []
        for wanted, cost in self._wanted(state):
            if len(decisions) >= free:
                break
            if cost <= remaining:
                remaining -= cost
                decisions.append(wanted)
        if decisions or not self.spend_out or state.in_flight or free < 1:
            return decisions
        return self._spent_out(state)

    def levels(self, state: SweepState) -> list[int]:
        """FLOPs of the rungs, up to the costliest candidate's whole run."""
        pool = state.pool.candidates
        level = max(1, ladder([len(pool)], state.terms.budget, self.eta)[0].flops)
        cheapest = min(candidate.flops(candidate.tokens_per_step) for candidate in pool)
        level = max(level, cheapest)
        most = min(max(candidate.cost for candidate in pool), state.terms.budget)
        levels = [level]
        while levels[-1] < most:
            levels.append(levels[-1] * self.eta)
        return levels

    def _wanted(self, state: SweepState) -> Iterator[tuple[Extend, int]]:
        """(decision, extra FLOPs), the most wanted first."""
        levels = self.levels(state)
        moved: set[str] = set()
        for index in range(len(levels) - 2, -1, -1):
            for candidate, place, of in self._promotable(state, levels[index]):
                if candidate.id in moved:
                    continue
                done = state.trials[candidate.id].trunk.tokens
                tokens = candidate.tokens_within(levels[index + 1])
                if tokens > done:
                    moved.add(candidate.id)
                    yield (
                        Extend(
                            trial=candidate.id,
                            tokens=tokens,
                            reason=f"rank {place} of the {of} that reached "
                            f"{flops_in_words(levels[index])} "
                            f"FLOPs so far, and the best 1 in {self.eta} go on to "
                            f"{flops_in_words(levels[index + 1])}",
                        ),
                        candidate.flops(tokens) - candidate.flops(done),
                    )
        for candidate in state.pool.candidates:
            tokens = candidate.tokens_within(levels[0])
            if candidate.id not in state.trials and tokens > 0:
                yield (
                    Extend(
                        trial=candidate.id,
                        tokens=tokens,
                        reason=f"nobody can be promoted: the next candidate starts, to "
                        f"{flops_in_words(levels[0])} FLOPs",
                    ),
                    candidate.flops(tokens),
                )

    def _promotable(self, state: SweepState, level: int) -> Iterator[tuple[Candidate, int, int]]:
        """(candidate, rank, of how many) in the top 1/eta of a rung and told to go no further."""
        there: list[tuple[float, int, Candidate]] = []
        for trial in state.trials.values():
            goal = trial.candidate.tokens_within(level)
            on_its_way = trial.trunk.running and trial.trunk.until <= goal
            if trial.trunk.tokens >= goal and not on_its_way and not trial.out:
                place = state.pool.position(trial.id)
                there.append((trial.curve.best_upto(goal), place, trial.candidate))
        there.sort(key=lambda entry: entry[:2])
        for place, (_, _, candidate) in enumerate(there[: len(there) // self.eta], 1):
            trunk = state.trials[candidate.id].trunk
            if trunk.target <= candidate.tokens_within(level) and not trunk.running:
                yield candidate, place, len(there)

    def _spent_out(self, state: SweepState) -> list[Decision]:
        """The trial with the lowest loss that is not at its end takes what is left."""
        trials = [t for t in state.trials.values() if not t.out]
        for trial in sorted(trials, key=lambda t: t.curve.best_upto(t.curve.last_tokens)):
            done = trial.trunk.tokens
            reach = trial.candidate.flops(done) + state.remaining
            tokens = trial.candidate.tokens_within(min(reach, self.most * state.terms.budget))
            if tokens > done:
                return [
                    Extend(
                        trial=trial.id,
                        tokens=tokens,
                        reason="nobody can be promoted within the "
                        f"{flops_in_words(state.remaining)} FLOPs "
                        "that are left; this is the best trial that is not at its end",
                    )
                ]
        return []
