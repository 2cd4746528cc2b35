#!/usr/bin/env python3
"""Surrogates on curves whose rest is known: error, CRPS, coverage and CPU seconds by distance.

    OMP_NUM_THREADS=1 scripts/bench_surrogates.py [--curves FILE ...] [--worlds 8] [--json]

Four tasks, at 2, 4 and 8 times extrapolation:

- future: every curve is seen up to that part of its tokens, and its end is asked
- uneven: every curve is seen up to a part of its own, from a thirty-second to a half, and asked at
  so many times what was seen, as a sweep asks of young trials beside old ones
- largest: of the upper half of the pool, each curve in turn, never started: only smaller models
  are seen, and of them only what costs at most that part of the asked curve

Errors are of log loss (about relative errors of the loss). Intervals are 95 %, curves resampled.
`--inside SHARE` plays the same within the first SHARE of every curve and without the largest third
of the models: settings may be chosen by that, and by generated pools (worlds, crossings, rates),
never by the ends of real curves. Crossings are curves of another form than any law.
`--mix FILE FILE` pools tables whose curves differ by more than size, the table as a setting.
A second thread of BLAS multiplies the CPU seconds of matrices this small: allow one.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import ndtr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestrator.crossings import NOISES, crossing_curves, rate_pool
from orchestrator.recorded import RecordedError, read_recorded
from orchestrator.surrogates.base import NoForecast, Surrogate
from orchestrator.surrogates.deep_ensemble import DeepEnsemble
from orchestrator.surrogates.families import EXPONENTIAL, LOG_LINEAR, MMF
from orchestrator.surrogates.joint_law import JointLaw
from orchestrator.surrogates.latent_gp import LatentGP
from orchestrator.surrogates.multi_task_gp import MultiTaskGP
from orchestrator.surrogates.per_curve import PerCurve
from orchestrator.values import FloatArray
from scripts.curve_worlds import world
from scripts.surrogate_questions import RATIOS, TASKS, Curves, Question, inside, posed

SURROGATES: dict[str, Callable[[], Surrogate]] = {
    "joint_law": JointLaw,
    "multi_task_gp": MultiTaskGP,
    "latent_gp": LatentGP,
    "deep_ensemble_power_law": DeepEnsemble,
    "deep_ensemble_exponential": lambda: DeepEnsemble(family=EXPONENTIAL),
    "deep_ensemble_mmf": lambda: DeepEnsemble(family=MMF),
    "power_law": PerCurve,
    "exponential": lambda: PerCurve(family=EXPONENTIAL),
    "mmf": lambda: PerCurve(family=MMF),
    "log_linear": lambda: PerCurve(family=LOG_LINEAR),
}
LEVELS = {50: 0.674490, 80: 1.281552, 95: 1.959964}
RECORDED = Path(__file__).resolve().parents[2] / "shared" / "data" / "curves"
GENERATED = ("worlds", "crossings", "rates")
DENSITIES = (0.0, 0.3, 0.6, 0.9)
KNOWN = ("schram-nanogpt", "gemstones", "gemstones-half-lr", "gemstones-long", "olmo-ladder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One target: how far off in log loss (forecast minus truth), and the spread claimed."""

    cluster: str
    task: str
    ratio: int
    error: float
    sd: float


def main() -> int:
    args = arguments()
    try:
        sets = dict(chosen_sets(args))
    except (RecordedError, ValueError) as error:
        print(f"bench_surrogates: {error}", file=sys.stderr)
        return 2
    rows: list[dict[str, object]] = []
    for name in args.surrogate or list(SURROGATES):
        every: list[Answer] = []
        for label, pools in sets.items():
            if args.inside:
                pools = [inside(pool, args.inside) for pool in pools]
            answers, cpu = race(SURROGATES[name](), pools, args.quick)
            rows += summary(name, label, answers, cpu)
            every += [a for a in answers if label not in GENERATED]
        if len(sets) > 1:
            rows += summary(name, "all recorded", every, [])
    print(
        json.dumps({"schema": "frontrunner.bench_surrogates/1", "rows": rows})
        if args.json
        else table(rows)
    )
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--curves", nargs="*", help="CSVs with curve_id, tokens, flops, loss")
    parser.add_argument("--mix", nargs="+", help="CSVs whose curves make one more pool")
    parser.add_argument("--worlds", type=int, default=8, help="generated pools; 0 for none")
    parser.add_argument("--crossings", type=int, default=8, help="pools of crossing curves")
    parser.add_argument("--rates", type=int, default=4, help="pools with bad learning rates")
    parser.add_argument("--surrogate", action="append", choices=sorted(SURROGATES))
    parser.add_argument("--inside", type=float, help="stay within this share of every curve")
    parser.add_argument("--quick", action="store_true", help="a fifth of the questions")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser.parse_args()


def chosen_sets(args: argparse.Namespace) -> Iterator[tuple[str, list[Curves]]]:
    """Pools by name: the recorded ones that are there, and the worlds."""
    paths = [Path(path) for path in args.curves or []]
    if args.curves is None:
        paths = [RECORDED / f"{name}.csv.gz" for name in KNOWN]
        if not RECORDED.is_dir():
            print(f"bench_surrogates: no recorded curves in {RECORDED}", file=sys.stderr)
            paths = []
    for path in paths:
        yield path.name.split(".")[0], [read_recorded(path)]
    if args.mix:
        yield "mix", [mixed([Path(path) for path in args.mix])]
    if args.worlds:
        yield "worlds", [world(seed) for seed in range(args.worlds)]
    if args.crossings:
        yield "crossings", [crossing(seed) for seed in range(args.crossings)]
    if args.rates:
        yield "rates", [rate_pool(5, 4, seed=seed) for seed in range(args.rates)]


def crossing(seed: int) -> Curves:
    """A pool of crossing curves; densities and noises take turns."""
    density, noise = DENSITIES[seed % len(DENSITIES)], NOISES[(seed + seed // 4) % len(NOISES)]
    pool = crossing_curves(20, density, noise, seed=seed)
    return {f"x{seed}-{trial}": curve for trial, curve in pool.items()}


def mixed(paths: Sequence[Path]) -> Curves:
    """Curves of several tables, each with its table as a setting."""
    return {
        f"{trial}@{path.name.split('.')[0]}": replace(
            curve, settings=(*curve.settings, ("table", path.name.split(".")[0]))
        )
        for path in paths
        for trial, curve in read_recorded(path).items()
    }


def race(
    surrogate: Surrogate, pools: Sequence[Curves], quick: bool
) -> tuple[list[Answer], list[float]]:
    """Every answer, and the CPU seconds of each fit with its forecasts. A refusal is an answer
    without a spread."""
    answers: list[Answer] = []
    cpu: list[float] = []
    questions = [question for pool in pools for question in posed(pool)]
    for number, question in enumerate(questions[:: 5 if quick else 1]):
        begun = time.process_time()
        got = ask(surrogate, question)
        cpu.append(time.process_time() - begun)
        answers += got
        if sys.stderr.isatty():
            print(f"{surrogate.name}: {number + 1} of {len(questions)}", end="\r", file=sys.stderr)
    return answers, cpu


def ask(surrogate: Surrogate, question: Question) -> list[Answer]:
    def answers(error: FloatArray, sd: FloatArray) -> list[Answer]:
        return [
            Answer(
                cluster=question.cluster if len(question.asked) == 1 else candidate.id,
                task=question.task,
                ratio=question.ratio,
                error=float(e),
                sd=float(s),
            )
            for candidate, e, s in zip(question.asked, error, sd, strict=True)
        ]

    nothing = np.full(len(question.asked), math.nan)
    try:
        forecast = surrogate.fit(question.seen, seed=0).predict(
            question.asked, np.array(question.tokens, dtype=np.int64)
        )
    except NoForecast:
        return answers(nothing, nothing)
    return answers(forecast.mean - np.array(question.truth), forecast.sd)


def summary(
    surrogate: str, label: str, answers: Sequence[Answer], cpu: Sequence[float]
) -> list[dict[str, object]]:
    """A record for each task and ratio, and one for each task over all ratios."""
    rows: list[dict[str, object]] = []
    for task in TASKS:
        for ratio in (*RATIOS, None):
            some = [a for a in answers if a.task == task and ratio in (a.ratio, None)]
            if some:
                rows.append(
                    {"set": label, "surrogate": surrogate, "task": task, "ratio": ratio}
                    | figures(some)
                    | {"cpu_s": round(float(np.mean(cpu)), 3) if cpu else None}
                )
    return rows


def figures(answers: Sequence[Answer]) -> dict[str, object]:
    """Counts, errors of log loss and coverage of some answers; null where all were refused."""
    error = np.array([a.error for a in answers])
    given = np.isfinite(error)
    record: dict[str, object] = {"targets": len(answers), "refused": int((~given).sum())}
    names = np.array([a.cluster for a in answers])[given]
    error, sd = error[given], np.array([a.sd for a in answers])[given]
    record["curves"] = len(set(names.tolist()))
    keys = ("log_error", "bias", "crps", "mean_sd", *(f"cover_{level}" for level in LEVELS))
    if not len(error):
        return record | dict.fromkeys((*keys, "cover_80_low", "cover_80_high"))
    away = np.abs(error / sd)
    values = [np.abs(error).mean(), error.mean(), crps(error, sd).mean(), sd.mean()]
    values += [(away <= width).mean() for width in LEVELS.values()]
    low, high = clustered((away <= LEVELS[80]).astype(np.float64), names)
    record |= {key: round(float(value), 4) for key, value in zip(keys, values, strict=True)}
    return record | {"cover_80_low": round(low, 3), "cover_80_high": round(high, 3)}


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """The records under their names, columns as wide as their longest cell."""
    cells = [list(rows[0]), *([str("-" if v is None else v) for v in r.values()] for r in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )


def crps(error: FloatArray, sd: FloatArray) -> FloatArray:
    """Of a normal forecast (Gneiting and Raftery 2007), in log loss."""
    z = error / sd
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return sd * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / math.sqrt(math.pi))


def clustered(values: FloatArray, names: np.ndarray) -> tuple[float, float]:
    """Bounds of the 95 % interval of a mean, whole curves resampled."""
    _, place = np.unique(names, return_inverse=True)
    sums, counts = np.bincount(place, weights=values), np.bincount(place)
    picks = np.random.default_rng(0).integers(len(sums), size=(2000, len(sums)))
    low, high = np.quantile(sums[picks].sum(axis=1) / counts[picks].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    sys.exit(main())
