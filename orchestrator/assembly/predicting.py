"""Ask a law: the loss of a plan, of a compute, or the cheapest compute for a loss.

Touches nothing; `lawfiles` reads the law. Every answer says how sure the law is, and by how many
powers of ten it lies beyond the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from orchestrator.assembly.curvelaws import in_words, loss_of
from orchestrator.assembly.lawfiles import KnownLaw, LawFile
from orchestrator.assembly.refusal import Refused
from orchestrator.laws.errors import FitError
from orchestrator.laws.inverse import cheapest, decades_beyond, loss_at
from orchestrator.laws.optimum import Interval, Optimum, compute_optimal, six_N
from orchestrator.laws.runs import Array
from orchestrator.laws.uncertainty import LawPosterior
from orchestrator.report import words
from orchestrator.report.answers import WIDEST, wide
from orchestrator.report.conclusions import Bounded

USUAL = {"params": "N", "tokens": "D", "flops": "C"}
_WORDS = {letter: name for name, letter in USUAL.items()}
LONG_REACH = math.log10(30.0)
"""Decades beyond the data from which an answer carries a warning, as in a report."""
_SIX_ND = "the file does not say what a token costs: compute is counted as 6 N D"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to train with `flops` by the law `by`: size, tokens, loss, and the sizes within 0.5 %
    of that loss. exponent_params: of compute in the best size."""

    by: str
    flops: float
    params: Bounded
    tokens: Bounded
    loss: Bounded
    exponent_params: Bounded
    flat_params: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """An answer. loss in nats per token; level None where the law has no draws.

    decades: by how many powers of ten params, tokens and FLOPs (or the law's other inputs) lie
    beyond the data, below zero under the least; None where the file does not say. scatter: sd of
    a single run's log loss about the law.
    """

    asked: tuple[tuple[str, float], ...]
    by: str
    expression: str
    phases: tuple[str, ...]
    level: float | None
    loss: Bounded
    params: Bounded | None
    tokens: Bounded | None
    flops: Bounded | None
    optimum: Plan | None
    decades: tuple[tuple[str, float | None], ...]
    scatter: float
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        best = self.optimum
        return {
            "asked": dict(self.asked),
            "law": self.by,
            "expression": self.expression,
            "phases": list(self.phases),
            "level": self.level,
            "loss": _record(self.loss),
            "params": _record(self.params),
            "tokens": _record(self.tokens),
            "flops": _record(self.flops),
            "compute_optimal": best
            and {
                "law": best.by,
                "flops": best.flops,
                "params": _record(best.params),
                "tokens": _record(best.tokens),
                "loss": _record(best.loss),
                "exponent_params": _record(best.exponent_params),
                "params_within_half_percent": list(best.flat_params),
            },
            "decades_beyond_the_data": dict(self.decades),
            "scatter_log": self.scatter,
            "notes": list(self.notes),
        }


def asked_of(texts: Sequence[str]) -> dict[str, float]:
    """The question in words such as params=7B. Raises Refused for what is no question."""
    from trainers.quantity import parse_number

    asked: dict[str, float] = {}
    for text in texts:
        name, found, value = text.partition("=")
        name = _WORDS.get(name, name)
        if not found or not name:
            raise Refused(f"{text!r} is no NAME=VALUE; {_EXAMPLES}")
        if name in asked:
            raise Refused(f"{name} is given twice")
        try:
            asked[name] = parse_number(value)
        except ValueError as error:
            raise Refused(f"{name}: {error}") from None
    for name in ("loss", *USUAL):
        if name in asked and asked[name] <= 0:
            raise Refused(f"{name} is {asked[name]:g}; it must be above zero")
    if not asked:
        raise Refused(f"nothing is asked; {_EXAMPLES}")
    return asked


_EXAMPLES = "write params=7B tokens=140B, or flops=1e21, or loss=2.1"


def predict(
    file: LawFile, asked: Mapping[str, float], *, law: str | None = None, level: float = 0.9
) -> Prediction:
    """The answer by the law of this key, or by the first one of the file that can give it. Raises
    Refused where none can."""
    asker = _Asker(file=file, cost=file.cost or six_N, level=level, any_law=law is None)
    laws = file.laws if law is None else tuple(known for known in file.laws if known.key == law)
    if not laws:
        raise Refused(
            f"--law {law}: {file.path} holds {', '.join(known.key for known in file.laws)}"
        )
    try:
        if "loss" in asked:
            answer = asker.of_loss(laws, asked)
        elif set(asked) == {"flops"}:
            answer = asker.of_flops(laws, asked["flops"])
        else:
            answer = asker.of_inputs(laws, asked)
    except (FitError, ValueError) as error:
        raise Refused(str(error)) from None
    return replace(answer, asked=tuple(asked.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asker:
    file: LawFile
    cost: Callable[[Array], Array]
    level: float
    any_law: bool = True

    def of_loss(self, laws: Sequence[KnownLaw], asked: Mapping[str, float]) -> Prediction:
        if len(asked) > 1:
            raise Refused("loss= asks for the cheapest compute; leave the others out")
        known = _first(laws, (("C",), ("N", "D")), "the cheapest compute for a loss")
        found = cheapest(known.law, asked["loss"], flops_per_token=self.cost, level=self.level)
        loss, C = Bounded(value=found.loss), _bounded(found.C)
        if found.optimum is not None:
            plan = _plan(known, found.optimum)
            # The plan's own bounds hold at that compute, and not for all that the loss allows.
            N, D = Bounded(value=plan.params.value), Bounded(value=plan.tokens.value)
            return self._answer(known, loss, N, D, C, plan, found.notes)
        plan, notes = self._optimum(laws, known, found.C.value)
        return self._answer(known, loss, None, None, C, plan, (*found.notes, *notes))

    def of_flops(self, laws: Sequence[KnownLaw], flops: float) -> Prediction:
        known = _first(laws, (("C",), ("N", "D")), "the loss of a compute")
        C = Bounded(value=flops)
        if known.inputs == ("C",):
            loss = _bounded(loss_at(known.law, level=self.level, C=flops))
            plan, notes = self._optimum(laws, known, flops)
            return self._answer(known, loss, None, None, C, plan, notes)
        best = compute_optimal(known.law, flops, flops_per_token=self.cost, level=self.level)
        plan = _plan(known, best)
        return self._answer(known, plan.loss, plan.params, plan.tokens, C, plan, ())

    def of_inputs(self, laws: Sequence[KnownLaw], asked: Mapping[str, float]) -> Prediction:
        """Params and tokens, params and FLOPs, or whatever else a law takes as inputs."""
        given = self._completed(asked)
        named = {USUAL.get(name, name): value for name, value in given.items()}
        able = [law for law in laws if set(law.inputs) <= set(named) and _uses(law, asked)]
        of_size = [law for law in able if law.inputs != ("C",)]
        if not able:
            raise Refused(
                f"no law here takes {', '.join(asked)}: "
                + "; ".join(f"{law.key} takes {_inputs(law)}" for law in laws)
            )
        known = (of_size or able)[0]
        inputs = {name: named[name] for name in known.inputs}
        loss = _bounded(loss_at(known.law, level=self.level, **inputs))
        notes: tuple[str, ...] = ()
        if not of_size:
            notes = (f"{known.key} is a law of compute: the loss is that of the best size for it",)
        params, tokens, flops = (
            Bounded(value=given[name]) if name in given else None for name in USUAL
        )
        plan = None
        curves = self.file.curves
        if curves is not None and known.inputs == ("N", "D") and "annealed" not in known.phases:
            plain = loss_of(curves, inputs["N"], inputs["D"], self.level)
            notes = (*notes, in_words(plain, inputs["N"], inputs["D"], self.level))
        if flops is not None:
            plan, more = self._optimum(laws, known, flops.value)
            notes = (*notes, *more)
        answer = self._answer(known, loss, params, tokens, flops, plan, notes)
        extra = {name: value for name, value in inputs.items() if name not in USUAL.values()}
        answer = replace(
            answer, decades=(*answer.decades, *decades_beyond(known.law, extra).items())
        )
        return self._by_all(answer, inputs)

    def _by_all(self, answer: Prediction, inputs: Mapping[str, float]) -> Prediction:
        """At the place where all forms together answered, theirs, as in the report; elsewhere
        that they were not asked."""
        together = self.file.together
        if together is None or not self.any_law or set(inputs) != {"N", "D"}:
            return answer
        alone = answer.loss
        if not together.asked(inputs["N"], inputs["D"]):
            note = (
                f"{answer.by} answers alone: all forms together were asked at "
                f"{words.amount(together.params)} params and {words.amount(together.tokens)} "
                f"tokens, where they say {words.loss(together.loss.value)}"
            )
            return replace(answer, notes=(note, *answer.notes))
        note = (
            f"{answer.by} alone says {words.bounded(alone, words.loss)} (--law {answer.by!r}); "
            "best size, scatter and doubts are its own"
        )
        return replace(
            answer,
            by=together.by,
            expression="",
            level=self.level,
            loss=together.at(self.level),
            notes=(note, *answer.notes),
        )

    def _completed(self, asked: Mapping[str, float]) -> dict[str, float]:
        """Of params, tokens and FLOPs, the third where two are given."""
        given = dict(asked)
        usual = [name for name in USUAL if name in given]
        if len(usual) == 3 or usual == ["tokens", "flops"]:
            raise Refused(
                f"{', '.join(usual)}: give params with tokens or with flops; the third follows"
            )
        if "params" in given and ("tokens" in given) != ("flops" in given):
            cost = float(self.cost(np.array([given["params"]]))[0])
            if "flops" in given:
                given["tokens"] = given["flops"] / cost
            else:
                given["flops"] = cost * given["tokens"]
        return given

    def _optimum(
        self, laws: Sequence[KnownLaw], by: KnownLaw, flops: float
    ) -> tuple[Plan | None, tuple[str, ...]]:
        """The best size and tokens at a compute, by the same law or by the first one that knows
        size and rests on the same phases."""
        able = [
            law
            for law in (by, *laws, *self.file.laws)
            if law.inputs == ("N", "D") and law.phases == by.phases
        ]
        if not able:
            return None, ("no law of params and tokens here: the best size is not known",)
        try:
            best = compute_optimal(able[0].law, flops, flops_per_token=self.cost, level=self.level)
        except FitError as error:
            return None, (str(error),)
        said = () if able[0] is by else (f"size and tokens are by {able[0].key}",)
        return _plan(able[0], best), said

    def _answer(
        self,
        known: KnownLaw,
        loss: Bounded,
        params: Bounded | None,
        tokens: Bounded | None,
        flops: Bounded | None,
        plan: Plan | None,
        notes: Sequence[str],
    ) -> Prediction:
        decades = self._decades(known, params, tokens, flops)
        said = [*notes]
        if flops is not None and self.file.cost is None:
            said.append(_SIX_ND)
        if not isinstance(known.law, LawPosterior):
            said.append("no interval: the file holds no draws of this law")
        if plan is not None and wide(plan.params):
            said.append(
                f"the best size is not known: the interval of {plan.by} spans more than"
                f" {WIDEST:g} times"
            )
        for name, value in decades:
            if value is not None and abs(value) > LONG_REACH:
                where = "beyond the largest" if value > 0 else "under the smallest"
                said.append(
                    f"{name} lie {words.factor(10 ** abs(value))} times {where} of the data: a"
                    " long reach for any law"
                )
        return Prediction(
            asked=(),
            by=known.key,
            expression=known.fit.form.expression,
            phases=known.phases,
            level=self.level if isinstance(known.law, LawPosterior) else None,
            loss=loss,
            params=params,
            tokens=tokens,
            flops=flops,
            optimum=plan,
            decades=decades,
            scatter=known.fit.scatter,
            notes=(*said, *known.doubts),
        )

    def _decades(
        self,
        known: KnownLaw,
        params: Bounded | None,
        tokens: Bounded | None,
        flops: Bounded | None,
    ) -> tuple[tuple[str, float | None], ...]:
        given = {"params": params, "tokens": tokens, "flops": flops}
        values = {USUAL[name]: x.value for name, x in given.items() if x is not None}
        found: dict[str, float | None] = dict(decades_beyond(known.law, values))
        largest = self.file.largest_flops
        if flops is not None and largest is not None:
            # The law's rows leave out what was not the best of its size: the file knows all runs.
            beyond = math.log10(flops.value / largest)
            found["C"] = beyond if beyond > 1e-4 else min(found.get("C") or 0.0, 0.0)
        return tuple(
            (name, found.get(letter)) for name, letter in USUAL.items() if given[name] is not None
        )


def _first(laws: Sequence[KnownLaw], inputs: Sequence[tuple[str, ...]], what: str) -> KnownLaw:
    for law in laws:
        if law.inputs in inputs:
            return law
    raise Refused(
        f"{what} needs a law of params and tokens, or of flops; there is "
        + "; ".join(f"{law.key} of {_inputs(law)}" for law in laws)
    )


def _uses(law: KnownLaw, asked: Mapping[str, float]) -> bool:
    """Whether nothing that was asked stays unused: inputs of no law are slips."""
    return all(name in USUAL or name in law.inputs for name in asked)


def _inputs(law: KnownLaw) -> str:
    return " and ".join(_WORDS.get(name, name) for name in law.inputs)


def _plan(known: KnownLaw, best: Optimum) -> Plan:
    return Plan(
        by=known.key,
        flops=best.C,
        params=_bounded(best.N),
        tokens=_bounded(best.D),
        loss=_bounded(best.loss),
        exponent_params=_bounded(best.exponent_N),
        flat_params=best.flat_N,
    )


def _bounded(interval: Interval) -> Bounded:
    return Bounded(value=interval.value, low=interval.low, high=interval.high)


def _record(bounded: Bounded | None) -> dict[str, float | None] | None:
    return None if bounded is None else bounded.to_json()
