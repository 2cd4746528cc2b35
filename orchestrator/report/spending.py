"""Where the compute went, against what training everything to its end would cost.

Touches nothing. "Saved" is no word of this page: a cheaper sweep buys a worse law, and the two are
shown side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.state import SweepState


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """FLOPs by what became of the trial they trained; `lost` is beside the budget.

    `parts` are (what, FLOPs, trials) and sum to `spent`.
    """

    budget: int
    spent: int
    reserved: int
    lost: int
    exhaustive: int
    device_s: float
    parts: tuple[tuple[str, int, int], ...]

    @property
    def share(self) -> float:
        """Of the exhaustive cost."""
        return self.spent / self.exhaustive


_FATES = (
    ("trained to their end", ("finished",)),
    ("kept, not at their end", ("idle", "running", "waiting")),
    ("stopped", ("stopped",)),
    ("diverged or failed", ("diverged", "failed")),
)


def spending_of(state: SweepState) -> Spending:
    """The ledger, parted by what became of the trials."""
    parts: list[tuple[str, int, int]] = []
    for what, statuses in _FATES:
        trials = [trial for trial in state.trials.values() if trial.status in statuses]
        spent = sum(trial.candidate.flops(trial.trunk.tokens) for trial in trials)
        if trials:
            parts.append((what, spent, len(trials)))
    branches = [
        (trial.candidate, branch) for trial in state.trials.values() for branch in trial.branches
    ]
    if branches:
        spent = sum(c.flops(b.tokens) - c.flops(b.start) for c, b in branches)
        parts.append(("annealing branches", spent, len(branches)))
    return Spending(
        budget=state.terms.budget,
        spent=state.ledger.spent,
        reserved=state.ledger.reserved,
        lost=state.ledger.lost,
        exhaustive=state.pool.exhaustive_flops,
        device_s=state.ledger.device_s,
        parts=tuple(parts),
    )
