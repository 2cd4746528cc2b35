"""What a purchase costs in the unit that binds: FLOPs, GPU-hours or dollars.

FLOPs are exact and always accounted. Where the user caps GPU-hours or dollars as well, what a
segment takes is learned from those that ended (`pace`), and the unit that would run out first is
the one that gains are divided by. Hours count as the cap counts them: training seconds times the
GPUs of a trial. Where trials take different numbers, the pace is learned and told as if all took
the fewest, at the same GPU-seconds a token: what several GPUs lose by talking to each other is
learned only as a slower pace of those candidates. A pure function of the state; touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from orchestrator.policies.pace import Pace, Speed, learned
from orchestrator.state import SweepState
from orchestrator.trial import Timing, Track
from orchestrator.values import Candidate, Environment, flops_in_words

Unit = Literal["FLOPs", "GPU-hours", "dollars"]

MARGIN = 1.2816
"""What is left of a cap is held back by so many sd of a segment's own error, so that 9 sweeps in
10 end by themselves; not by those of a pace that is still being learned, or half of a small budget
would stay unspent (tried on worlds with known truth). The driver holds the cap itself."""
NOTHING_FITS = "nothing that is for sale fits what is left"
FEW_HOURS = 0.05
"""Below this, GPU-hours are said in GPU-seconds."""
MEASURED_SD, PEAK_SD = 0.5, 0.7
"""Sd of the log of a speed that the user states, and of one guessed from a device's peak."""
PEAK_SHARE = 0.3
"""Of a device's peak, what training reaches about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Prices at one state. `budget` and `left` in `unit`; `left` is what is neither spent nor on
    its way, of hours and money less a margin for the error of a segment's time, `held`, which is
    not spent either. `hours_left`: of the caps, in GPU-hours, infinite without one; `hour`: one
    GPU-hour in the unit."""

    state: SweepState
    unit: Unit
    budget: float
    left: float
    held: float = 0.0
    hours_left: float = math.inf
    hour: float = 1.0
    pace: Pace | None = None
    gpus: float = 1.0

    def of(self, candidate: Candidate, begin: int, end: int) -> float:
        """What training a candidate on from `begin` to `end` tokens costs, in the unit."""
        if self.unit == "FLOPs" or self.pace is None:
            return float(candidate.flops(end) - candidate.flops(begin))
        return self._hours(self.pace, candidate, end - begin) * self.hour

    def to(self, candidate: Candidate, tokens: int) -> float:
        """The price of training a candidate on to `tokens`, from where it stands."""
        return self.of(candidate, self._stands(candidate), tokens)

    @property
    def each(self) -> str:
        """One of the unit, in words."""
        return self.unit.removesuffix("s")

    def told(self, candidate: Candidate, tokens: int) -> str:
        """That price in words, with the FLOPs beside hours or money."""
        flops = candidate.flops(tokens) - candidate.flops(self._stands(candidate))
        said = in_words("FLOPs", flops)
        return (
            said if self.unit == "FLOPs" else f"{self.said(self.to(candidate, tokens))} ({said})"
        )

    @property
    def total(self) -> float:
        """What the whole pool would cost, every candidate from its beginning to its end."""
        if self.unit == "FLOPs":
            return float(self.state.pool.exhaustive_flops)
        return sum(self.of(candidate, 0, candidate.end) for candidate in self.state.pool)

    @property
    def nothing_fits(self) -> str | None:
        """That what hours or money are left buy nothing more, in words; None where they are not
        what binds."""
        if self.unit == "FLOPs":
            return None
        return (
            f"{NOTHING_FITS}, {self.said(self.left)} of "
            f"{self.said(self.budget)}, at the pace that was learned"
        )

    def fits(self, candidate: Candidate, tokens: int) -> bool:
        """Whether training a candidate on to `tokens` stays within what is left: of FLOPs, and of
        the caps as far as is known."""
        return self.together([(candidate, tokens)]) == 1

    def within(self, candidate: Candidate, tokens: int, *, hours: float) -> int:
        """The tokens, `tokens` at most and in whole steps, that training a candidate on reaches in
        so many GPU-hours; where it stands, if that pays for no step."""
        begin, step = self._stands(candidate), candidate.tokens_per_step
        low, high = 0, (tokens - begin) // step
        if self.pace is None:
            return tokens
        while low < high:
            middle = (low + high + 1) // 2
            fits = self._hours(self.pace, candidate, middle * step) <= hours
            low, high = (middle, high) if fits else (low, middle - 1)
        return begin + low * step

    def hours(self, candidate: Candidate, tokens: int) -> float:
        """GPU-hours of training a candidate on to `tokens`; none where no pace is known."""
        return self.hours_over(candidate, tokens - self._stands(candidate))

    def hours_over(self, candidate: Candidate, tokens: int) -> float:
        """GPU-hours of one segment of so many tokens; none where no pace is known."""
        return 0.0 if self.pace is None else self._hours(self.pace, candidate, tokens)

    def together(self, goals: Sequence[tuple[Candidate, int]]) -> int:
        """How many of these (candidate, tokens), from the first on, fit together; one a
        candidate."""
        flops, hours = self.state.remaining, self.hours_left
        for count, (candidate, tokens) in enumerate(goals):
            begin = self._stands(candidate)
            flops -= candidate.flops(tokens) - candidate.flops(begin)
            if self.pace is not None:
                hours -= self._hours(self.pace, candidate, tokens - begin)
            if flops < 0 or hours < 0:
                return count
        return len(goals)

    def _stands(self, candidate: Candidate) -> int:
        trial = self.state.trials.get(candidate.id)
        return trial.trunk.tokens if trial is not None else 0

    def said(self, price: float) -> str:
        """A price in words: `0.4 GPU-hours`."""
        return in_words(self.unit, price)

    def _hours(self, pace: Pace, candidate: Candidate, tokens: int) -> float:
        seconds, _ = pace.seconds(self.state.pool.position(candidate.id), tokens)
        return seconds / 3600 * self.gpus


def in_words(unit: Unit, price: float) -> str:
    """An amount with its unit, for a reason."""
    if unit == "GPU-hours" and price < FEW_HOURS:
        return f"{3600 * price:.3g} GPU-seconds"
    return f"{flops_in_words(price) if unit == 'FLOPs' else f'{price:.3g}'} {unit}"


def _no_speed(_: Environment) -> float | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """The user's budget beside the FLOPs, and what is known of speed before anything ran.

    `gpus`: those of one trial, on CPUs its processes, of the one with the fewest;
    `flops_per_s`: of one such worker, as the user states it; `peak`: the device's, of an
    environment. `aside`: which share of the user's caps is annealing's, and not in these: branches
    are paid from it, as far as it goes.
    """

    gpu_hours: float | None = None
    dollars: float | None = None
    dollars_per_gpu_hour: float | None = None
    gpus: float = 1.0
    flops_per_s: float | None = None
    peak: Callable[[Environment], float | None] = _no_speed
    aside: float = 0.0

    @property
    def capped(self) -> bool:
        """Whether there is a cap beside the FLOPs."""
        return bool(self._caps())

    def part(self, share: float) -> Purse:
        """A purse of a share of the caps, the rest of which is annealing's."""
        return replace(
            self,
            gpu_hours=None if self.gpu_hours is None else share * self.gpu_hours,
            dollars=None if self.dollars is None else share * self.dollars,
            aside=1.0 - share,
        )

    def spent_hours(self, state: SweepState) -> float:
        """GPU-hours that workers reported."""
        return state.ledger.gpu_s / 3600

    def prices(self, state: SweepState) -> Prices:
        """Prices for the next decision."""
        flops = Prices(
            state=state,
            unit="FLOPs",
            budget=float(state.terms.budget),
            left=float(state.remaining),
        )
        caps = list(self._caps())
        pace = self._pace(state) if caps else None
        if pace is None:
            return flops
        unit, hour, most = min(caps, key=lambda cap: cap[2])
        trunks, branches = _flying(pace, state)
        taken = self.spent_hours(state) + (trunks + branches) / 3600 * self.gpus
        of_branches = (state.ledger.branch_gpu_s + branches * self.gpus) / 3600
        taken -= min(of_branches, most * self.aside / (1.0 - self.aside))
        unspent = max(0.0, most - taken)
        left = unspent * math.exp(-MARGIN * pace.noise)
        known = replace(flops, hours_left=left, pace=pace, gpus=self.gpus)
        needed = state.remaining / self.speed(state, pace) / 3600 * self.gpus
        if left > 1.001 * needed:  # a budget that was cut to what hours buy binds in hours
            return known
        return replace(
            known,
            unit=unit,
            budget=most * hour,
            left=left * hour,
            held=(unspent - left) * hour,
            hour=hour,
        )

    def affordable(self, state: SweepState) -> SweepState:
        """The state with a budget that the caps can pay for; the state itself without a cap."""
        prices = self.prices(state)
        if prices.pace is None or prices.unit == "FLOPs":
            return state
        speed = self.speed(state, prices.pace)
        buys = int(prices.hours_left * 3600 / self.gpus * speed)
        budget = state.terms.budget - max(0, state.remaining - buys)
        return replace(state, terms=replace(state.terms, budget=budget))

    @staticmethod
    def speed(state: SweepState, pace: Pace) -> float:
        """FLOP/s of one worker over the whole pool, to the end."""
        seconds = sum(pace.seconds(place, c.end)[0] for place, c in enumerate(state.pool))
        return state.pool.exhaustive_flops / seconds

    def _caps(self) -> list[tuple[Unit, float, float]]:
        """(unit, one hour in it, the cap in hours) of each."""
        found: list[tuple[Unit, float, float]] = []
        if self.gpu_hours is not None:
            found.append(("GPU-hours", 1.0, self.gpu_hours))
        if self.dollars is not None and self.dollars_per_gpu_hour is not None:
            price = self.dollars_per_gpu_hour
            found.append(("dollars", price, self.dollars / price))
        return found

    def _pace(self, state: SweepState) -> Pace | None:
        timings: list[tuple[int, int, Timing]] = [
            (back, state.pool.position(trial.id), self._on_ours(timing))
            for trial in state.trials.values()
            for back, timing in enumerate(trial.timings, -len(trial.timings))
        ]
        # The newest of each trial last: older ones are the first to be forgotten.
        timings.sort(key=lambda entry: entry[0])
        seen = [(place, timing) for _, place, timing in timings]
        return learned(state.pool.candidates, seen, self._stated(state))

    def _on_ours(self, timing: Timing) -> Timing:
        """With the seconds that as many GPUs as the purse's would have taken."""
        times = timing.gpus / self.gpus
        opening = timing.opening
        if opening is not None:
            opening = (opening[0], opening[1] * times)
        return replace(timing, seconds=timing.seconds * times, opening=opening)

    def _stated(self, state: SweepState) -> Speed | None:
        if self.flops_per_s is not None:
            return Speed(flops_per_s=self.flops_per_s, sd=MEASURED_SD)
        peak = self.peak(state.environment) if state.environment is not None else None
        if peak is None:
            return None
        return Speed(flops_per_s=PEAK_SHARE * self.gpus * peak, sd=PEAK_SD)


def _flying(pace: Pace, state: SweepState) -> tuple[float, float]:
    """Seconds that trunks, and branches, have still to run."""
    found = [0.0, 0.0]
    for trial in state.trials.values():
        for index, track in enumerate(trial.tracks):
            if track.unfinished and not trial.out:
                place = state.pool.position(trial.id)
                found[index > 0] += _on_its_way(pace, place, track)
    return found[0], found[1]


def _on_its_way(pace: Pace, place: int, track: Track) -> float:
    """Seconds that a track has still to run. One that runs has its start-up behind it once it
    showed a point, and takes its share of the stack that it is in."""
    running = track.running
    members = len(track.stack) if running and track.stack is not None else 1
    begun = running and track.elapsed_s > 0
    return pace.seconds(place, track.target - track.tokens, members=members, begun=begun)[0]


IN_FLOPS = Purse()
"""Of who budgets in FLOPs alone."""
