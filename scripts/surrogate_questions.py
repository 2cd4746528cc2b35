"""What the surrogates' benchmark asks of a pool of curves: prefixes that are seen, losses that are
not. `bench_surrogates.py` says what the tasks are. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.recorded import RecordedCurve
from orchestrator.surrogates.base import Observed
from orchestrator.values import Candidate, Curve, Point

Curves = Mapping[str, RecordedCurve]
RATIOS = (2, 4, 8)
TASKS = ("future", "uneven", "halved", "largest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is seen and what is asked: the log loss of `asked` after `tokens`."""

    cluster: str
    task: str
    ratio: int
    seen: Observed
    asked: tuple[Candidate, ...]
    tokens: tuple[int, ...]
    truth: tuple[float, ...]


def inside(curves: Curves, share: float) -> Curves:
    """The first `share` of every curve's tokens, without the largest third of the models."""
    limit = float(np.quantile([size(curve) for curve in curves.values()], 2 / 3))
    kept: dict[str, RecordedCurve] = {}
    for trial, curve in curves.items():
        points = int((curve.tokens <= share * curve.tokens[-1]).sum())
        if size(curve) <= limit and points >= 2:
            kept[trial] = prefix(curve, points)
    return kept


def size(curve: RecordedCurve) -> float:
    return float(curve.params or curve.flops[-1] / curve.tokens[-1])


def prefix(curve: RecordedCurve, points: int) -> RecordedCurve:
    return replace(
        curve,
        tokens=curve.tokens[:points],
        flops=curve.flops[:points],
        loss=curve.loss[:points],
    )


def posed(curves: Curves) -> Iterator[Question]:
    """All questions of one pool."""
    known = {trial: (curve.candidate(trial), curve) for trial, curve in curves.items()}
    for ratio in RATIOS:
        yield from future(known, ratio)
    for ratio in RATIOS:
        yield from uneven(known, ratio)
    for ratio in RATIOS:
        yield from halved(known, ratio)
    by_size = sorted(known, key=lambda trial: (size(known[trial][1]), trial))
    for trial in by_size[len(by_size) // 2 :]:
        for ratio in RATIOS:
            yield from largest(known, trial, ratio)


Known = Mapping[str, tuple[Candidate, RecordedCurve]]


def future(known: Known, ratio: int) -> Iterator[Question]:
    """Every curve seen up to 1/ratio of its tokens, all ends asked at once."""
    seen = [
        (candidate, part)
        for candidate, curve in known.values()
        if len(part := upto(curve, tokens=curve.tokens[-1] / ratio)) >= 2
    ]
    asked = tuple(candidate for candidate, _ in seen)
    if asked:
        yield Question(
            cluster="",
            task="future",
            ratio=ratio,
            seen=seen,
            asked=asked,
            tokens=tuple(int(known[c.id][1].tokens[-1]) for c in asked),
            truth=tuple(math.log(known[c.id][1].loss[-1]) for c in asked),
        )


def uneven(known: Known, ratio: int) -> Iterator[Question]:
    """Every curve seen up to a part of its own, drawn even in logs."""
    rng = np.random.default_rng([len(known), 53])
    parts = np.exp(rng.uniform(np.log(1 / 32), np.log(1 / 2), len(known)))
    limits = [
        part * curve.tokens[-1] for (_, curve), part in zip(known.values(), parts, strict=True)
    ]
    yield from ahead("uneven", known, dict(zip(known, limits, strict=True)), ratio)


def halved(known: Known, ratio: int) -> Iterator[Question]:
    """Every curve seen as far as plain halving takes it: half of the trials, by their lowest loss,
    go on to twice the compute, the last to half the median curve's."""
    rounds = math.ceil(math.log2(max(len(known), 2)))
    last = 0.5 * float(np.median([curve.flops[-1] for _, curve in known.values()]))
    limits: dict[str, float] = {}
    living = sorted(known)
    for number in range(rounds + 1):
        level = last / 2 ** (rounds - number)
        for trial in living:
            limits[trial] = level / known[trial][0].flops_per_token
        lowest = {t: upto(known[t][1], tokens=limits[t]).loss.min(initial=9e9) for t in living}
        living = sorted(living, key=lambda t: (lowest[t], t))[: max(1, len(living) // 2)]
    yield from ahead("halved", known, limits, ratio)


def ahead(task: str, known: Known, limits: Mapping[str, float], ratio: int) -> Iterator[Question]:
    """Every curve seen up to its limit in tokens; the recorded point nearest to `ratio` times what
    was seen is asked of each that has one."""
    seen: list[tuple[Candidate, Curve]] = []
    asked: list[tuple[Candidate, int, float]] = []
    for trial, (candidate, curve) in known.items():
        begun = upto(curve, tokens=limits[trial])
        if not len(begun):
            continue
        seen.append((candidate, begun))
        away = np.abs(np.log(curve.tokens / (ratio * begun.last_tokens)))
        place = int(np.argmin(away))
        if away[place] < math.log(2) / 2:
            asked.append((candidate, int(curve.tokens[place]), math.log(curve.loss[place])))
    if asked:
        yield Question(
            cluster="",
            task=task,
            ratio=ratio,
            seen=seen,
            asked=tuple(candidate for candidate, _, _ in asked),
            tokens=tuple(tokens for _, tokens, _ in asked),
            truth=tuple(truth for _, _, truth in asked),
        )


def largest(known: Known, trial: str, ratio: int) -> Iterator[Question]:
    """The end of one curve, from smaller models' points that cost at most 1/ratio of it."""
    candidate, curve = known[trial]
    limit = float(curve.flops[-1]) / ratio
    seen = [
        (other, part)
        for other, past in known.values()
        if size(past) < 0.99 * size(curve) and len(part := upto(past, flops=limit)) >= 2
    ]
    if len(seen) >= 3:
        yield Question(
            cluster=trial,
            task="largest",
            ratio=ratio,
            seen=seen,
            asked=(candidate,),
            tokens=(int(curve.tokens[-1]),),
            truth=(math.log(curve.loss[-1]),),
        )


def upto(curve: RecordedCurve, *, tokens: float = math.inf, flops: float = math.inf) -> Curve:
    """The points within the limits."""
    return Curve.of(
        Point(tokens=int(t), flops=float(c), loss=float(loss))
        for t, c, loss in zip(curve.tokens, curve.flops, curve.loss, strict=True)
        if t <= tokens and c <= flops
    )
