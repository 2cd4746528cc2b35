"""Annealing at the end of any policy: short decays branched off the newest checkpoints.

A stopped or unfinished trial has no annealed loss, and laws are quoted on annealed losses. So when
the wrapped policy has nothing left to decide, the best trial of every size is annealed first, then
a small random sample of the stopped ones (a check on the pruning itself), then the other
survivors, as far as a stated share of the budget reaches. The wrapped policy never sees that
share. Decay fraction and shape: Haegele et al. 2024 (arXiv 2405.18392).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from orchestrator.policies.base import Around, randomness
from orchestrator.policies.pricing import IN_FLOPS, Purse
from orchestrator.state import SweepState
from orchestrator.trial import Trial
from orchestrator.values import NO_MORE, Anneal, Checkpoint, Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Annealed(Around):
    """`policy`, then annealing. `share` of the budget pays for the branches, or of what hours and
    money of the `purse` buy where that is less, and each fits the hours that are left; each decays
    over `decay` of the tokens its trunk has seen; `stopped` stopped trials are sampled."""

    share: float
    decay: float
    stopped: int
    purse: Purse = IN_FLOPS

    def decide(self, state: SweepState) -> list[Decision]:
        trunk = self._trunk_only(state)
        decisions = self.policy.decide(trunk)
        if decisions or state.in_flight or _annealed(state):
            return decisions
        left = min(state.remaining, self._set_aside(state) - state.ledger.branches)
        prices = self.purse.prices(state)
        hours = prices.hours_left
        for trial, checkpoint, why in self._in_order(state):
            if any(branch.origin == checkpoint for branch in trial.branches):
                continue
            tokens = checkpoint.tokens + self._decay_tokens(trial, checkpoint)
            cost = trial.candidate.flops(tokens) - trial.candidate.flops(checkpoint.tokens)
            takes = prices.hours_over(trial.candidate, tokens - checkpoint.tokens)
            if cost <= left and takes <= hours:
                left, hours = left - cost, hours - takes
                decisions.append(
                    Anneal(
                        trial=trial.id,
                        tokens=tokens,
                        reason=f"annealed over the next {tokens - checkpoint.tokens:,} tokens for "
                        f"the law: {why}",
                    )
                )
        return decisions

    def _set_aside(self, state: SweepState) -> int:
        return int(self.purse.affordable(state).terms.budget * self.share)

    def _trunk_only(self, state: SweepState) -> SweepState:
        """The sweep as the wrapped policy sees it: without branches and their budget. That is a
        share of the FLOPs whatever hours buy: what these buy moves with the pace, and rungs that
        are laid out over the rest would move with it."""
        ledger = replace(
            state.ledger, spent=state.ledger.spent - state.ledger.branches, branches=0
        )
        budget = state.terms.budget - int(state.terms.budget * self.share)
        return replace(state, ledger=ledger, terms=replace(state.terms, budget=budget))

    def _decay_tokens(self, trial: Trial, checkpoint: Checkpoint) -> int:
        step = trial.candidate.tokens_per_step
        return max(step, int(checkpoint.tokens * self.decay) // step * step)

    def _in_order(self, state: SweepState) -> Iterator[tuple[Trial, Checkpoint, str]]:
        """(trial, checkpoint, why), the most wanted first."""
        ready = [
            (trial, trial.trunk.checkpoint)
            for trial in state.trials.values()
            if not trial.out and trial.trunk.checkpoint is not None
        ]
        ready.sort(key=lambda entry: (_last_loss(entry[0]), state.pool.position(entry[0].id)))
        chosen: set[str] = set()
        sizes: set[int] = set()
        for trial, checkpoint in ready:
            params = trial.candidate.params
            if params not in sizes:
                sizes.add(params)
                chosen.add(trial.id)
                yield trial, checkpoint, f"the best trial with {params:,} parameters"
        stopped = [
            e for e in ready if _pruned(e[0]) and e[0].id not in chosen and not e[0].branches
        ]
        sampled = sum(_pruned(trial) and bool(trial.branches) for trial, _ in ready)
        if stopped and sampled < self.stopped:
            size = min(self.stopped - sampled, len(stopped))
            drawn = randomness(state).choice(len(stopped), size=size, replace=False)
            for index in sorted(int(i) for i in drawn):
                chosen.add(stopped[index][0].id)
                yield *stopped[index], "drawn from the stopped trials, as a check on the pruning"
        for trial, checkpoint in ready:
            if not _pruned(trial) and trial.id not in chosen:
                yield trial, checkpoint, "a survivor"


def _annealed(state: SweepState) -> bool:
    """Whether branches were decided, and no trunk after them: a budget that was raised in between
    buys longer trunks, whose ends are annealed in their turn."""
    trials = state.trials.values()
    branches = [branch.ordered for trial in trials for branch in trial.branches]
    return bool(branches) and max(branches) > max(trial.trunk.ordered for trial in trials)


def _last_loss(trial: Trial) -> float:
    """Infinite before the first point: what is no number has no place in an order."""
    return trial.curve.last_loss if len(trial.curve) else math.inf


def _pruned(trial: Trial) -> bool:
    """Whether it was stopped for what it showed: the end of all buying is no verdict on it."""
    return trial.stop_reason is not None and not trial.stop_reason.startswith(NO_MORE)
