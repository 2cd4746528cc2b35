"""How policies that forecast begin: a few sizes, so that a law can be fitted at all.

Where hours or money are budgeted and nobody knows the pace, shares of the FLOPs say nothing of
what starts may take: then one short run goes before them, and they are laid out by what it took.
Touches nothing.
"""

from __future__ import annotations

from orchestrator.policies.pricing import Purse
from orchestrator.policies.searching import DUST, Starts
from orchestrator.policies.textbook import by_ratio
from orchestrator.state import SweepState
from orchestrator.values import Candidate, Extend, flops_in_words

YOUNG = 1.5
"""A segment to less than this multiple of a start's compute is a start."""


def opening(
    state: SweepState, starts: Starts, purse: Purse, *, tokens_per_param: float
) -> list[Extend] | None:
    """What begins now; nothing while starts run, or where the budget is too small for any. None
    once the beginning is over."""
    if _under_way(state, starts):
        return []
    if not state.trials:
        scout = _scout(state, purse, tokens_per_param)
        return scout or starts.decisions(state, tokens_per_param=tokens_per_param)
    if len(state.trials) > 1 or not purse.capped:
        return None
    wanted = starts.decisions(state, tokens_per_param=tokens_per_param)
    least = DUST * state.terms.budget
    able = [each for each in wanted if not _out(state, each.trial)]
    return [each for each in able if _cost(state, each) >= least] or None


def _out(state: SweepState, name: str) -> bool:
    return name in state.trials and state.trials[name].out


def _under_way(state: SweepState, starts: Starts) -> bool:
    """Whether one of the first trials is on its way to its start."""
    most = YOUNG * starts.share * state.terms.budget
    return len(state.trials) <= starts.count and any(
        trial.in_flight and trial.candidate.flops(trial.trunk.target) < most
        for trial in state.trials.values()
    )


def _scout(state: SweepState, purse: Purse, tokens_per_param: float) -> list[Extend]:
    """One short run, where what is paid with is time and nobody knows the pace."""
    if not purse.capped or purse.prices(state).pace is not None:
        return []
    flops = DUST * state.terms.budget
    order = by_ratio(state.pool.candidates, flops, tokens_per_param, seed=state.terms.seed)
    return [_scouting(candidate, flops) for candidate in order[:1]]


def _scouting(candidate: Candidate, flops: float) -> Extend:
    return Extend(
        trial=candidate.id,
        tokens=candidate.tokens_within(flops),
        reason=f"a short run for {flops_in_words(flops)} FLOPs: nobody knows the pace yet, and "
        "hours or money "
        "bound what the others may take",
    )


def _cost(state: SweepState, decision: Extend) -> int:
    trial, candidate = state.trials.get(decision.trial), state.pool[decision.trial]
    done = trial.trunk.target if trial is not None else 0
    return candidate.flops(decision.tokens) - candidate.flops(done)
