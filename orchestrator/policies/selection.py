"""From a sweep to a market of offers, and from what a rule buys there to decisions.

A finished run is one row of the law: N its parameters, D its tokens, C its FLOPs, and any other
input the setting of that name. Where a prefix is a true shorter run (a constant learning rate), a
candidate is offered at several lengths, each for its extra tokens alone, and a curve gives several
rows, which count as one run together. Touches nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.laws.runs import Runs
from orchestrator.policies.acquisition import Purchase
from orchestrator.policies.base import ended, randomness
from orchestrator.policies.buying import Market, Pick, Rule
from orchestrator.policies.ending import stops
from orchestrator.policies.pricing import IN_FLOPS, Prices, Purse
from orchestrator.state import SweepState
from orchestrator.trial import Trial
from orchestrator.values import Candidate, Decision, Expectation, Extend, FloatArray

BURN_IN = 0.1
"""Points below this share of a curve's own tokens are no rows of a law."""
ROWS = 6
"""Rows of one curve, at most: points spread evenly in log tokens."""
APART = 2.0
"""Factor between the lengths of a candidate that are offered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Buys by `rule`. `target`: inputs of the law by name, one value a place where it must be
    right. `lengths`: at how many lengths a candidate is offered, the longest its horizon; 1 where
    only ends count. `purse`: what is paid with."""

    rule: Rule
    target: Mapping[str, tuple[float, ...]]
    lengths: int = 1
    purse: Purse = IN_FLOPS

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def watches_points(self) -> bool:
        return False

    def decide(self, state: SweepState) -> list[Decision]:
        places = state.unclaimed
        offered = offers_of(state, self.lengths) if places > 0 and not ended(state) else []
        if not offered:
            return []
        prices = self.purse.prices(state)
        offers = [o for o in offered if prices.fits(o.candidate, o.tokens)]
        if not offers:
            why = prices.nothing_fits
            return stops(state, why) if why is not None and not state.in_flight else []
        market = market_of(
            state, offers, self.target, lengths=self.lengths, places=places, prices=prices
        )
        choice = self.rule.choose(market)
        if choice.ended is not None and not choice.picks:
            return [] if state.in_flight else stops(state, choice.ended)
        picks = [(offers[pick.offer], pick) for pick in choice.picks]
        bought = prices.together([(offer.candidate, offer.tokens) for offer, _ in picks])
        return [self._bought(offer, pick, prices) for offer, pick in picks[:bought]]

    def _bought(self, offer: Purchase, pick: Pick, prices: Prices) -> Extend:
        expected = None
        if pick.loss is not None and pick.sd is not None:
            expected = Expectation(
                tokens=offer.tokens, loss=pick.loss, sd=pick.sd, by=self.rule.name
            )
        return Extend(
            trial=offer.candidate.id,
            tokens=offer.tokens,
            reason=f"{pick.why}, for {prices.told(offer.candidate, offer.tokens)}",
            expected=expected,
        )


def market_of(
    state: SweepState,
    offers: Sequence[Purchase],
    target: Mapping[str, tuple[float, ...]],
    *,
    lengths: int,
    places: int,
    prices: Prices | None = None,
) -> Market:
    """The market of these offers, in FLOPs without `prices`. Raises ValueError where a candidate
    lacks an input."""
    prices = prices or IN_FLOPS.prices(state)
    names = tuple(target)
    away = [trial for trial in state.trials.values() if trial.trunk.unfinished and not trial.out]
    flying = [(trial.candidate, trial.trunk.target) for trial in away]
    all_lengths = [(c, tokens) for c in state.pool for tokens in lengths_of(c, lengths)]
    seed = int(randomness(state).integers(2**31))
    known, cost = rows_known(state, names, lengths)
    return Market(
        offers=inputs_of([(offer.candidate, offer.tokens) for offer in offers], names),
        cost=np.array([prices.to(o.candidate, o.tokens) for o in offers], dtype=np.float64),
        owner=np.array([state.pool.position(offer.candidate.id) for offer in offers], np.int64),
        affordable=prices.left,
        held=prices.held,
        budget=prices.budget,
        total=prices.total,
        places=places,
        known=known,
        known_cost=cost,
        flying=inputs_of(flying, names),
        target={name: np.array(values, dtype=np.float64) for name, values in target.items()},
        everywhere=inputs_of(all_lengths, names),
        outputs=1,
        seed=seed,
        sweep_seed=state.terms.seed,
        flying_owner=tuple(state.pool.position(trial.id) for trial in away),
        said=prices.said,
    )


def lengths_of(candidate: Candidate, lengths: int) -> list[int]:
    """Tokens at which a candidate is offered, in whole steps: its end, and parts of it."""
    step = candidate.tokens_per_step
    found = {int(candidate.end / APART**k) // step * step for k in range(lengths)}
    return sorted(tokens for tokens in found if tokens > 0)


def offers_of(state: SweepState, lengths: int) -> list[Purchase]:
    """What can be bought and paid for: lengths beyond what a trial has, of candidates that are
    neither out nor on their way."""
    found: list[Purchase] = []
    for candidate in state.pool:
        trial = state.trials.get(candidate.id)
        if trial is not None and (trial.out or trial.trunk.running or trial.trunk.unfinished):
            continue
        done = trial.trunk.tokens if trial is not None else 0
        for tokens in lengths_of(candidate, lengths):
            flops = candidate.flops(tokens) - candidate.flops(done)
            if tokens > done and 0 < flops <= state.remaining:
                found.append(Purchase(candidate=candidate, tokens=tokens, flops=flops))
    return found


def rows_known(
    state: SweepState, names: tuple[str, ...], lengths: int
) -> tuple[Runs | None, FloatArray]:
    """Rows of every curve that is not diverged, in the order of decisions, and what each cost."""
    places: list[tuple[Candidate, int]] = []
    loss: list[float] = []
    label: list[int] = []
    weight: list[float] = []
    for trial in state.trials.values():
        rows = list(rows_of(trial, lengths))
        for tokens, value in rows:
            places.append((trial.candidate, tokens))
            loss.append(value)
            label.append(state.pool.position(trial.id))
            weight.append(1.0 / len(rows))
    if not loss:
        return None, np.zeros(0)
    known = Runs(features=inputs_of(places, names), loss=loss, trial=label, weight=weight)
    return known, np.array([float(candidate.flops(tokens)) for candidate, tokens in places])


def rows_of(trial: Trial, lengths: int) -> Iterator[tuple[int, float]]:
    """(tokens, loss) of a trial's curve that a law may be fitted to: its end alone where only
    ends count; else points past the burn-in, spread evenly in log tokens, the last one among
    them."""
    curve = trial.curve
    if trial.diverged is not None or not len(curve):
        return
    if lengths == 1:
        if trial.trunk.tokens >= trial.candidate.end:
            yield curve.last_tokens, curve.last_loss
        return
    tokens = curve.tokens
    last = float(tokens[-1])
    first = max(BURN_IN * last, 1.0)
    steps: FloatArray = np.arange(ROWS) / (ROWS - 1.0)
    wanted: FloatArray = first * (last / first) ** steps * (1 - 1e-9)
    for place in sorted(set(np.searchsorted(tokens, wanted).tolist())):
        yield int(tokens[place]), float(curve.loss[place])


def inputs_of(
    places: Sequence[tuple[Candidate, int]], names: tuple[str, ...]
) -> dict[str, FloatArray]:
    """Inputs of the law by name, (places,) each. Raises ValueError where a candidate has none."""
    columns: dict[str, FloatArray] = {}
    for name in names:
        columns[name] = np.array([_input(c, tokens, name) for c, tokens in places], np.float64)
    return columns


def _input(candidate: Candidate, tokens: int, name: str) -> float:
    for key, value in candidate.settings:
        if key == name and not isinstance(value, str):
            return float(value)
    usual = {"N": float(candidate.params), "D": float(tokens), "C": float(candidate.flops(tokens))}
    if name in usual:
        return usual[name]
    known = ", ".join([*usual, *(key for key, _ in candidate.settings)])
    raise ValueError(
        f"the law has an input {name!r}, and candidate {candidate.id} has no number of that name;"
        f" it has {known}"
    )
