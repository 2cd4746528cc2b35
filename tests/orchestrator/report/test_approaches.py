"""Three ways to the best size, side by side, on curves of a known law."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.report.approaches import disagreements
from orchestrator.report.concluding import conclude
from orchestrator.report.conclusions import Approach, Bounded, Conclusions, Question
from orchestrator.report.evidence import evidence_from_curves
from orchestrator.values import Curve, Point
from tests.orchestrator.laws.sweeps import best_size, curves_across, exponent


def concluded(forms: tuple[str, ...] = ("chinchilla",), *, ends: bool = False) -> Conclusions:
    """What 13 long curves of a known law teach; with `ends`, their last points alone."""
    curves = {}
    for place, rows in enumerate(curves_across(sizes=13, trial_sd=0.002)):
        points = list(zip(rows.tokens, rows.flops, rows.loss, strict=True))
        points = points[-1:] if ends else points
        curve = Curve.of(Point(tokens=int(t), flops=float(f), loss=float(x)) for t, f, x in points)
        curves[f"c{place}"] = (int(rows.N), curve, ())
    question = Question(forms=forms, draws=40)
    return conclude(evidence_from_curves(curves, burn_in=0.1), question)


@pytest.fixture(scope="module")
def conclusions() -> Conclusions:
    return concluded()


def test_all_three_find_the_best_size(conclusions: Conclusions) -> None:
    assert [a.name for a in conclusions.approaches] == ["envelope", "IsoFLOP", "chinchilla"]
    for approach in conclusions.approaches:
        assert approach.why_not is None
        assert approach.flops == conclusions.largest_flops
        assert approach.exponent is not None and approach.params is not None
        assert approach.exponent.value == pytest.approx(exponent(), abs=0.04)
        best = float(best_size(approach.flops))
        assert abs(np.log(approach.params.value / best)) < 0.35
    assert not any("one of them leans" in doubt for doubt in conclusions.doubts)


def test_they_are_in_law_json(conclusions: Conclusions) -> None:
    record = json.loads(json.dumps(conclusions.to_json(), allow_nan=False))
    first = record["approaches"][0]
    assert first["name"] == "envelope"
    assert first["exponent_params"]["low"] < exponent() < first["exponent_params"]["high"]
    assert any("of the envelope" in note for note in first["notes"])


def test_what_has_no_estimate_says_why() -> None:
    """Finished runs make no envelope, and at one compute each no parabola."""
    approaches = concluded(ends=True).approaches
    assert approaches[0].params is None
    assert "needs learning curves" in (approaches[0].why_not or "")
    assert "nowhere have 4 finished runs" in (approaches[1].why_not or "")


def test_laws_of_compute_have_no_best_size() -> None:
    assert concluded(("power_irreducible",)).approaches == ()


def test_a_disagreement_is_a_doubt() -> None:
    one = Approach(name="envelope", flops=1.0, exponent=Bounded(value=0.5, low=0.4, high=0.6))
    same = replace(one, name="IsoFLOP", exponent=Bounded(value=0.7, low=0.6, high=0.8))
    other = replace(one, name="chinchilla", exponent=Bounded(value=0.7, low=0.61, high=0.8))
    assert disagreements([one, same]) == ()
    assert disagreements([one, Approach(name="x", flops=1.0, why_not="no")]) == ()
    (said,) = disagreements([one, other])
    assert "0.400 to 0.600 by envelope, and 0.610 to 0.800 by chinchilla" in said
