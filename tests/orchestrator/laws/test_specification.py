"""The specification curve: what each choice moves on data where the truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws.forms import POWER
from orchestrator.laws.optimum import Interval
from orchestrator.laws.specification import (
    Choices,
    Convention,
    as_recorded,
    six_ND,
    specification,
)
from tests.orchestrator.laws.sweeps import curves_of_truth, exponent, true_loss

N, D = 7e9, 1.4e11
FEW = Choices(deltas=(None,), burn_ins=(0.1,), smallest=(True,))


def clean(**changes):
    return curves_of_truth(**{"trial_sd": 0.0, "row_sd": 0.0, "per_size": 2, **changes})


def counted_without_a_head(curves, head=5e6):
    """The same runs where another count of sizes leaves out a head of `head` parameters."""
    bodies = tuple(float(curve.N) - head for curve in curves)
    return Convention(
        name="body", sizes=bodies, flops_per_token=tuple(6.0 * size for size in bodies)
    )


def test_on_exact_curves_every_choice_says_the_same():
    found = specification(clean(), N, D)
    assert len(found.variants) == 18
    for of, truth in (("loss", true_loss(N, D)), ("exponent_N", exponent())):
        spread = found.spread(of)
        assert spread.count == 18
        assert spread.low == pytest.approx(truth, rel=0.005)
        assert spread.high == pytest.approx(truth, rel=0.005)
    assert found.notes == ()


def test_an_early_part_that_is_no_power_law_shows_in_the_burn_in():
    """A bump over the first tenth of each curve: the spread is told, and by which choice."""
    bumped = []
    for curve in clean():
        share = curve.tokens / curve.tokens[-1]
        bumped.append(replace(curve, loss=curve.loss * (1 + 0.3 * np.exp(-40 * share))))
    found = specification(bumped, N, D, choices=Choices(burn_ins=(0.3, 0.1, 0.0)))
    spread = found.spread("loss")
    assert spread.by[0][0] == "burn_in"
    assert spread.high - spread.low > 0.02
    tight = Interval(value=spread.base, low=spread.base - 0.002, high=spread.base + 0.002)
    said = found.warning("loss", tight)
    assert said is not None and "most of it by the burn-in" in said
    wide = Interval(value=spread.base, low=spread.low - 1, high=spread.high + 1)
    assert found.warning("loss", wide) is None
    assert found.warning("loss", Interval(value=2.0)) is None


def test_how_sizes_are_counted_moves_the_exponent():
    """Without the head the exponent of the best size is too large (Porian et al. 2024, figure 1):
    it is the small sizes that lose most of their count."""
    curves = clean()
    ways = (as_recorded(curves), counted_without_a_head(curves))
    plain, body = specification(curves, 1e8, 1e10, conventions=ways, choices=FEW).variants
    assert (plain.convention, body.convention) == ("recorded", "body")
    assert plain.exponent_N == pytest.approx(exponent(), abs=0.002)
    assert body.exponent_N > plain.exponent_N + 0.02
    # The same question all the same: the size asked for is counted anew.
    assert body.loss == pytest.approx(plain.loss, abs=0.02)


def test_a_cost_that_is_not_6ND_moves_the_optimum_alone():
    curves = clean()
    dear = [replace(c, flops=c.flops * (1 + 1e8 / c.N)) for c in curves]
    ways = (as_recorded(dear), six_ND(dear))
    recorded, plain = specification(dear, 1e8, 1e10, conventions=ways, choices=FEW).variants
    assert recorded.loss == plain.loss
    # Tokens of small models are dear here, so fewer of them go to each parameter.
    assert recorded.tokens_per_param < 0.9 * plain.tokens_per_param


def test_leaving_out_the_smallest_size_leaves_out_its_lean():
    curves = clean()
    least = min(curve.N for curve in curves)
    leaning = [replace(c, loss=c.loss * 1.03) if least == c.N else c for c in curves]
    choices = Choices(deltas=(1.0,), burn_ins=(0.1,), smallest=(True, False))
    found = specification(leaning, N, D, choices=choices)
    with_it, without = found.variants
    assert without.loss == pytest.approx(true_loss(N, D), rel=0.002)
    assert abs(with_it.loss - without.loss) > 0.003


def test_a_variant_without_a_law_says_why_and_is_not_counted():
    curves = clean(sizes=3)
    choices = Choices(deltas=(None,), burn_ins=(0.1, 0.3), smallest=(True, False))
    found = specification(curves, N, D, choices=choices)
    assert [v.loss is None for v in found.variants] == [False, True, False, True]
    assert "needs 3 different values of N" in found.variants[1].why_not
    assert "2 of 4 variants have no law" in found.notes[0]
    assert found.spread("loss").count == 2


def test_phases_are_a_choice():
    curves = [
        replace(c, phase=tuple("stable" if k % 2 else "decay" for k in range(len(c))))
        for c in clean()
    ]
    lower = [
        replace(
            c,
            loss=c.loss * np.array([1.0 if word == "stable" else 0.98 for word in c.phase or ()]),
        )
        for c in curves
    ]
    choices = replace(FEW, phases=(("stable",), None, ("annealed",)))
    stable, both, none = specification(lower, N, D, choices=choices).variants
    assert stable.loss == pytest.approx(true_loss(N, D), rel=0.005)
    assert both.loss < stable.loss
    assert none.loss is None and "no" in none.why_not


def test_wrong_questions_are_refused():
    curves = clean(sizes=3)
    with pytest.raises(ValueError, match="power is one of C"):
        specification(curves, N, D, form=POWER)
    with pytest.raises(ValueError, match="must be finite and above zero"):
        specification(curves, -1, D)
    with pytest.raises(ValueError, match="counts 3 curves; there are 6"):
        specification(curves, N, D, conventions=(as_recorded(curves[:3]),))
    with pytest.raises(ValueError, match="one of each for every curve"):
        Convention(name="x", sizes=(1.0,), flops_per_token=())
    with pytest.raises(ValueError, match="deltas is empty"):
        Choices(deltas=())
