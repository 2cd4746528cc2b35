"""What the bought runs say of one law or several, as features for buying more.

Optima are found afresh whenever the rows have grown by half, and followed from there with every
row since: what a decision rests on is a function of the rows alone, in their order, so a resumed
sweep decides as the first would have. Touches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from orchestrator.laws.averaging import larger_rows
from orchestrator.laws.errors import FitError
from orchestrator.laws.forms.base import LawForm
from orchestrator.laws.misfit import LENGTHS, SD, misfit_over
from orchestrator.laws.refining import Scene
from orchestrator.laws.runs import Runs
from orchestrator.laws.scarce import Belief, believed
from orchestrator.policies.buying import Choice, Market, Teaching, begun_with, cheapest, greedy
from orchestrator.policies.trust import Remembered
from orchestrator.threads import one_thread
from orchestrator.values import FloatArray

GROWTH = 1.5
"""Optima are looked for afresh when the runs have grown by this factor."""
TRUST = 0.5
"""Share of the forms' weights that goes by how they foresaw the dearest rows: what foresees these
best may do worse farther away, and few rows judge by chance. The rest is shared alike. Inside
ScaleBench's pools 13 of 19 cells of task, target and budget came nearer than with weights of one
over squared errors (by 4 % of the rms on the mean, standard error 4)."""
_DESIGN_START = 0.25  # share of the budget that a classical design may start with
_RUNS_PER_PARAMETER = 2.5  # and how many runs, as arXiv 2604.22753 has it


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """One belief a form, and their weights, which sum to 1."""

    beliefs: tuple[Belief, ...]
    weights: tuple[float, ...]

    @property
    def noise(self) -> float:
        """Sd of a row, weighted over forms."""
        terms = zip(self.weights, self.beliefs, strict=True)
        return math.sqrt(math.fsum(weight * belief.noise**2 for weight, belief in terms))

    @property
    def shares(self) -> tuple[tuple[str, float], ...]:
        """The weight of each form, by its name."""
        found: dict[str, float] = {}
        for weight, belief in zip(self.weights, self.beliefs, strict=True):
            found[belief.form.name] = found.get(belief.form.name, 0.0) + weight
        return tuple(found.items())

    def alone(self) -> Posterior:
        """The best optimum of the weightiest form, as if there were no other."""
        best = max(zip(self.weights, self.beliefs, strict=True), key=lambda pair: pair[0])[1]
        return Posterior(beliefs=(best.alone(),), weights=(1.0,))

    @one_thread
    def teaching(self, market: Market) -> Teaching:
        """What the market's offers would teach, with all that is in flight observed. A form that
        has no value at the target is left out; at an offer where one has none, nothing is learnt
        of that form. Raises FitError where nothing is learnt at any offer that can be afforded."""
        able = self._able_at(market.target)
        offers, target = able._taught(market.offers), able.features(market.target)
        valued = offers.any(axis=1).reshape(market.outputs, -1).any(axis=0)
        if not (valued & (market.cost <= market.affordable)).any():
            raise FitError("the law has no value at any of the runs that could be bought")
        teaching = Teaching(
            offers,
            target,
            outputs=market.outputs,
            noise=able.noise,
            loss=able.predict(market.offers),
        )
        for row in able._taught(market.flying) if market.in_flight else ():
            teaching.observe(row)
        return teaching

    def _able_at(self, inputs: Mapping[str, FloatArray]) -> Posterior:
        """The forms that have a value at all of the inputs. Raises FitError where none has."""
        with np.errstate(all="ignore"):
            able = [np.isfinite(belief.features(inputs)).all() for belief in self.beliefs]
        if all(able):
            return self
        pairs = zip(self.beliefs, self.weights, able, strict=True)
        kept = [(belief, weight) for belief, weight, sound in pairs if sound and weight > 0]
        if not kept:
            raise FitError("no law has a value at the target")
        total = math.fsum(weight for _, weight in kept)
        return Posterior(
            beliefs=tuple(belief for belief, _ in kept),
            weights=tuple(weight / total for _, weight in kept),
        )

    def _taught(self, inputs: Mapping[str, FloatArray]) -> FloatArray:
        """Features as of `features`; zeros for what a form without a value there would learn."""
        with np.errstate(all="ignore"):
            blocks = self._blocks(inputs)
        able = [np.isfinite(block).all(axis=1, keepdims=True) for block in blocks]
        found = [np.where(sound, block, 0.0) for sound, block in zip(able, blocks, strict=True)]
        return np.concatenate(found, axis=1)

    def predict(self, inputs: Mapping[str, FloatArray]) -> FloatArray:
        """Expected loss (Q,)."""
        said = [belief.predict(inputs) for belief in self.beliefs]
        return np.array(self.weights) @ np.stack(said)

    def features(self, inputs: Mapping[str, FloatArray]) -> FloatArray:
        """(Q, F): products of rows are covariances, between optima and between forms included."""
        return np.concatenate(self._blocks(inputs), axis=1)

    def _blocks(self, inputs: Mapping[str, FloatArray]) -> list[FloatArray]:
        """Features of each form, and of what lies between them: (Q, F) each."""
        if len(self.beliefs) == 1:
            return [self.beliefs[0].features(inputs)]
        roots = np.sqrt(np.array(self.weights))
        inner = [
            root * belief.features(inputs)
            for root, belief in zip(roots, self.beliefs, strict=True)
        ]
        means = np.stack([belief.weights @ belief.said(inputs) for belief in self.beliefs])
        away = roots[:, None] * (means - np.array(self.weights) @ means)
        return [*inner, away.T]


def scene_of(market: Market, misfit: float | None) -> Scene:
    """Where the law is asked: everything that could be run, and the target."""
    together = {
        name: np.concatenate([market.everywhere[name], market.target[name]])
        for name in market.target
    }
    return Scene(
        pool=market.everywhere,
        target=market.target,
        misfits=tuple(misfit_over(together, sd=misfit, length=each) for each in LENGTHS)
        if misfit
        else (),
    )


@dataclass(frozen=True, kw_only=True)
class Learner:
    """Fits `forms` to what a market knows. misfit: sd of log loss that no law says, or None."""

    forms: tuple[LawForm, ...]
    misfit: float | None = SD
    _anchors: Remembered[Belief | None] = field(
        default_factory=lambda: Remembered[Belief | None](), repr=False, compare=False
    )
    _judged: Remembered[list[float]] = field(
        default_factory=lambda: Remembered[list[float]](), repr=False, compare=False
    )

    @one_thread
    def learn(self, market: Market) -> Posterior:
        """What to choose the next runs by; forms are weighed by the rows at which optima were
        last looked for afresh. Raises FitError where no form has a believable optimum, or nothing
        is known."""
        scene, early = scene_of(market, self.misfit), _early(market)
        found, anchors, reasons = list[Belief](), list[Belief | None](), list[str]()
        for form in self.forms:
            anchor = self._anchor(form, early, scene)
            try:
                found.append(_followed(form, anchor, market, scene))
                anchors.append(anchor)
            except FitError as error:
                reasons.append(str(error))
        if len(found) < 2:
            return _together(found, [], reasons)
        key = (_content(early, scene), tuple(belief.form.expression for belief in found))
        foreseen = self._judged.get(key, lambda: _foreseen(anchors, scene, early))
        return _together(found, foreseen, reasons)

    @one_thread
    def told(self, market: Market) -> Posterior:
        """The law itself, of all rows, with optima found afresh. Raises FitError."""
        scene, runs, seed = scene_of(market, self.misfit), _known(market), market.sweep_seed
        found, reasons = list[Belief](), list[str]()
        for form in self.forms:
            try:
                found.append(believed(form, runs, scene, seed=seed))
            except FitError as error:
                reasons.append(str(error))
        foreseen = _foreseen(found, scene, market) if len(found) > 1 else []
        return _together(found, foreseen, reasons)

    def _anchor(self, form: LawForm, early: Market, scene: Scene) -> Belief | None:
        """What the first rows say of a form, found afresh; None where they say nothing."""
        key = (form.expression, _content(early, scene))
        return self._anchors.get(key, lambda: _afresh(form, early, scene))


def _early(market: Market) -> Market:
    """The market with its first runs alone: as many as when optima were last found afresh."""
    runs = _known(market)
    labels = list(dict.fromkeys(int(t) for t in runs.trial))
    count = 1.0
    while count * GROWTH <= len(labels):
        count *= GROWTH
    first = set(labels[: math.floor(count)])
    chosen = np.array([int(t) in first for t in runs.trial])
    return replace(market, known=runs.take(chosen), known_cost=market.known_cost[chosen])


def _content(market: Market, scene: Scene) -> tuple[object, ...]:
    """All that a belief about the market's rows depends on, as a key."""
    runs = _known(market)
    columns = (*runs.features.values(), *scene.target.values(), *scene.pool.values())
    return (market.sweep_seed, runs.loss.tobytes(), *(column.tobytes() for column in columns))


def _afresh(form: LawForm, market: Market, scene: Scene) -> Belief | None:
    try:
        return believed(form, _known(market), scene, seed=market.sweep_seed)
    except FitError:
        return None


def _followed(form: LawForm, anchor: Belief | None, market: Market, scene: Scene) -> Belief:
    """The belief of all rows about where those of the anchor have moved."""
    runs, seed = _known(market), market.sweep_seed
    if anchor is not None:
        try:
            return believed(form, runs, scene, seed=seed, warm=anchor.values)
        except FitError:
            pass  # the rows since then have ruled out every optimum that was followed
    return believed(form, runs, scene, seed=seed)


def _known(market: Market) -> Runs:
    if market.known is None:
        raise FitError("nothing is known yet")
    return market.known


def _together(found: list[Belief], foreseen: Sequence[float], reasons: list[str]) -> Posterior:
    """Beliefs weighed half alike, half by the density with which the dearest rows were foreseen
    (its log a form); all alike where none foresaw them."""
    if not found:
        raise FitError("; ".join(reasons))
    weights = [1.0 / len(found)] * len(found)
    best = max(foreseen, default=-math.inf)
    if math.isfinite(best):
        raw = [math.exp(density - best) for density in foreseen]
        total = math.fsum(raw)
        weights = [
            (1.0 - TRUST) * weight + TRUST * density / total
            for weight, density in zip(weights, raw, strict=True)
        ]
    return Posterior(beliefs=tuple(found), weights=tuple(weights))


def _foreseen(found: Sequence[Belief | None], scene: Scene, market: Market) -> list[float]:
    """Log density of the dearest rows together, as each belief's form foresees them from the
    others (a partial Bayes factor: O'Hagan 1995, J. R. Stat. Soc. B 57:99), with optima found
    afresh: those of all rows have seen the dearest. Minus infinity where there is no answer."""
    try:
        larger = larger_rows(market.known_cost)
    except FitError:
        return [-math.inf] * len(found)
    held, rest = _known(market).take(larger), _known(market).take(~larger)
    densities: list[float] = []
    for belief in found:
        try:
            if belief is None:
                raise FitError("no belief to judge")
            early = believed(belief.form, rest, scene, seed=market.sweep_seed)
        except FitError:
            densities.append(-math.inf)
            continue
        densities.append(_density(early, held))
    return densities


def _density(belief: Belief, rows: Runs) -> float:
    """Log of the joint normal density of these rows under a belief that has not seen them, noise
    included, up to what is the same for all beliefs; minus infinity where it has no value at
    some. Rows of one curve weigh as one run: as in the fit, the noise of a row is as much larger
    as it weighs less, and its sd counts once a run, not once a row."""
    with np.errstate(all="ignore"):
        gap = belief.weights @ belief.said(rows.features)
        gap = gap - (np.log(rows.loss) if belief.in_logs else rows.loss)
        features = belief.features(rows.features)
        covariance = features @ features.T + belief.noise**2 * np.diag(1.0 / rows.weight)
    if not (np.isfinite(gap).all() and np.isfinite(covariance).all()):
        return -math.inf
    sign, volume = np.linalg.slogdet(covariance)
    if sign <= 0:  # so wide that the noise is lost in rounding
        return -math.inf
    away = np.asarray(np.linalg.solve(covariance, gap), dtype=np.float64)
    spare = float(np.sum(1.0 - rows.weight)) * math.log(belief.noise)
    return spare - 0.5 * (float(gap @ away) + float(volume))


@dataclass(frozen=True, slots=True, kw_only=True)
class Optima:
    """The published values of the optima that a learner believes in, a form at a time."""

    learner: Learner

    def solve(self, form: LawForm, runs: Runs, market: Market) -> FloatArray:
        """(K, P), the best first; K = 0 where nothing can be fitted."""
        try:
            belief = replace(self.learner, forms=(form,)).learn(market).beliefs[0]
        except FitError:
            return np.zeros((0, len(form.parameters)))
        return form.publish(belief.values, belief.centre)


def classical_design(learner: Learner, market: Market, *, by_knowledge: bool) -> Choice:
    """The offers that an optimal design of one law, taken as true, would buy next: D-optimal
    `by_knowledge`, else V-optimal. A start of cheap runs goes before it."""
    size = max(len(form.parameters) for form in learner.forms)
    first = begun_with(
        market,
        runs=math.ceil(_RUNS_PER_PARAMETER * size / market.outputs),
        share=_DESIGN_START,
        why="a start: one of the cheapest, so that a law can be fitted",
    )
    if first.picks:
        return first
    try:
        teaching = learner.learn(market).alone().teaching(market)
    except FitError as error:
        why = f"the cheapest, since no law can be fitted yet: {error}"
        return cheapest(market, why)
    return greedy(market, teaching, by_knowledge=by_knowledge)
