"""Generated sweeps with known annealed loss, for the intervals that `bench_annealing` asks about.

Touches nothing. Four kinds, of which the law of curves can say only the first: `true` (its own
form, runs with offsets), `faulty` (slopes of single runs, an early phase, a bend, a gain that
bends in size), `odd` (a sixth of the runs 1 to 5 % too high) and `broken` (another exponent of N
from some size on). The faults are those of `curve_worlds`, over its ranges. A pool is 13 of the 19
smaller models and k cooldowns; what is asked is the annealed loss of the 3 largest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from orchestrator.laws.annealed import CURVES, AnnealedLaw, fit_annealed, widened
from orchestrator.laws.annealed_check import check_annealed
from orchestrator.laws.cooldowns import Cooldown
from orchestrator.laws.errors import FitError
from orchestrator.laws.runs import Array, CurveRows
from scripts.curve_worlds import FAULTS, constants, remembering

Kind = Literal["true", "faulty", "odd", "broken"]
KINDS: tuple[Kind, ...] = get_args(Kind)
COUNTS = (3, 6)
_MODELS, _POINTS, _HELD, _SHARE = 22, 45, 3, 0.7
_SIZES, _SHARES = (4e7, 2e9), (0.4, 0.7, 1.0)
_DECAY = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What all runs share: terms of the loss, of the gain, and how far runs stray."""

    kind: Kind
    law: Mapping[str, float]
    faults: Mapping[str, float]
    gain: tuple[float, float, float, float]  # gain, its exponents of N and D, its bend in N
    gain_sd: float
    broken: tuple[float, float]  # log size of the break, and what it adds to the exponent
    horizon: float

    def loss(self, N: Array | float, D: Array | float, slope: float = 0.0) -> Array:
        """Of a run at the constant rate, its level apart."""
        n, d = np.log(np.asarray(N) / 1e8), np.log(np.asarray(D) / 2e9)
        bend = 0.5 * self.faults["bend"] * d * d
        tokens = np.exp(slope - self.law["b"] * d + self.law["c"] * n + bend)
        at, more = self.broken
        size = np.exp(-self.law["a"] * n - more * np.logaddexp(0.0, 4.0 * (n - at)) / 4.0)
        early = self.faults["early"] * np.exp(-0.8 * np.log(100.0 * np.asarray(D) / self.horizon))
        flat = self.law["E"] + self.law["at_size"] * size + self.law["at_tokens"] * tokens
        return np.asarray(flat * np.exp(early))

    def gained(self, N: Array | float, D: Array | float) -> Array:
        """In log loss."""
        gain, nu, delta, bend = self.gain
        n, d = np.log(np.asarray(N) / 3e8), np.log(np.asarray(D) / self.horizon)
        return np.asarray(gain * np.exp(nu * n + delta * d + bend * n * n))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A pool, and the annealed loss of usual runs at the questions (Q,)."""

    curves: tuple[CurveRows, ...]
    cooldowns: tuple[Cooldown, ...]
    N: Array
    D: Array
    truth: Array


def sweep(seed: int, kind: Kind, k: int) -> Sweep:
    """Sweep `seed` of a kind, with k cooldowns."""
    rng = np.random.default_rng([seed, KINDS.index(kind), 912])
    world = _world(rng, kind)
    sizes = np.sort(np.exp(rng.uniform(np.log(_SIZES[0]), np.log(_SIZES[1]), _MODELS)))
    runs = [_run(rng, world, float(N)) for N in sizes]
    pool, held = runs[:-_HELD], sizes[-_HELD:]
    kept = np.sort(rng.choice(len(pool), round(_SHARE * len(pool)), replace=False))
    places = [int(p) for p in rng.permutation(len(kept))[:k]]
    ends = [pool[kept[p]][1][rng.integers(len(_SHARES))] for p in places]
    D = np.full(_HELD, world.horizon)
    return Sweep(
        curves=tuple(pool[place][0] for place in kept),
        cooldowns=tuple(
            Cooldown(trial=p, tokens=end, loss=loss, start=(1.0 - _DECAY) * end)
            for p, (end, loss) in zip(places, ends, strict=True)
        ),
        N=held,
        D=D,
        truth=world.loss(held, D) * np.exp(-world.gained(held, D)),
    )


def _world(rng: np.random.Generator, kind: Kind) -> World:
    law = constants(rng)
    faults = {name: float(rng.uniform(*span)) for name, span in FAULTS.items()}
    if kind != "faulty":
        level = float(rng.uniform(0.002, 0.01))
        faults |= {"slope": 0.0, "bend": 0.0, "early": 0.0, "level": level}
    at, more = np.log(rng.uniform(2e8, 8e8) / 1e8), rng.normal(scale=0.15)
    nu, delta = rng.normal(scale=0.15, size=2)
    bend = rng.normal(scale=0.03)
    return World(
        kind=kind,
        law=law,
        faults=faults,
        gain=(rng.uniform(0.015, 0.05), nu, delta, bend if kind == "faulty" else 0.0),
        gain_sd=rng.uniform(0.03, 0.15),
        broken=(float(at), float(more) if kind == "broken" else 0.0),
        horizon=float(10 ** rng.uniform(10.3, 11.5)),
    )


def _run(
    rng: np.random.Generator, world: World, N: float
) -> tuple[CurveRows, list[tuple[float, float]]]:
    """A trunk and its cooldowns: tokens and loss of their ends."""
    tokens = np.linspace(1 / _POINTS, 1, _POINTS) * world.horizon
    slope = world.faults["slope"] * rng.standard_normal()
    level = world.faults["level"] * rng.standard_normal()
    if world.kind == "odd" and rng.random() < 1 / 6:
        level += rng.uniform(0.01, 0.05)
    noise = world.faults["noise"]
    loss = world.loss(N, tokens, slope) * np.exp(level + remembering(rng, noise, tokens))
    ends: list[tuple[float, float]] = []
    for share in _SHARES:
        end = share * world.horizon
        gain = float(world.gained(N, end)) * (1.0 + world.gain_sd * rng.standard_normal())
        away = level - gain + 0.5 * noise * rng.standard_normal()
        ends.append((end, float(world.loss(N, end, slope) * np.exp(away))))
    return CurveRows(N=N, tokens=tokens, flops=6 * N * tokens, loss=loss), ends


def world_task(count: int) -> Iterator[dict[str, Any]]:
    """Records of `count` sweeps of every kind and number of cooldowns: coverage of the law's own
    interval, its width in nats, and the same where the check fails, before and after."""
    for kind in KINDS:
        for k in COUNTS:
            found = [told for seed in range(count) if (told := _told(sweep(seed, kind, k)))]
            plain, wide, failed = (np.array(part) for part in zip(*found, strict=True))
            record = {"task": "worlds", "kind": kind, "k": k, **_summary(wide)}
            record |= {"failed": float(failed.mean()), "sweeps": len(found)}
            if failed.any():
                for name, part in (("plain", plain[failed]), ("widened", wide[failed])):
                    said = _summary(part)
                    record |= {f"{name}_{key}": value for key, value in said.items()}
            yield record


def _told(asked: Sweep) -> tuple[Array, Array, bool] | None:
    """(4, Q): inside at 80 %, at 90 %, width, error; of the law as it is and as it is quoted;
    whether its check fails. None where there is no law."""

    def build(curves: Any, cooldowns: Any) -> AnnealedLaw:
        return fit_annealed(curves, cooldowns, base=CURVES, draws=200)

    try:
        law = build(asked.curves, asked.cooldowns)
    except FitError:
        return None
    found = check_annealed(build, asked.curves, law.counted(asked.cooldowns))
    rows = [_inside(each, asked) for each in (law, widened(law, found.factor))]
    return rows[0], rows[1], found.factor > 1.0


def _inside(law: AnnealedLaw, asked: Sweep) -> Array:
    low, high = law.posterior.interval(asked.N, asked.D, level=0.8)
    least, most = law.posterior.interval(asked.N, asked.D, level=0.9)
    said = law.posterior.law.predict(asked.N, asked.D)
    return np.stack(
        [
            (low <= asked.truth) & (asked.truth <= high),
            (least <= asked.truth) & (asked.truth <= most),
            high - low,
            np.abs(said - asked.truth),
        ]
    ).astype(np.float64)


def _summary(told: Array) -> dict[str, float]:
    """Of (sweeps, 4, Q)."""
    names = ("coverage80", "coverage90", "width80", "error")
    return {name: float(told[:, place].mean()) for place, name in enumerate(names)}
