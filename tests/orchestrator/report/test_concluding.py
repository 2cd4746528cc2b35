"""Laws that are known: conclusions must be near them, and say so when they cannot be."""

import json
from dataclasses import replace

import numpy as np
import pytest

from orchestrator.laws.calibration import Calibration, Check
from orchestrator.laws.errors import FitError
from orchestrator.laws.law import LawWarning
from orchestrator.policies.exhaustive import Exhaustive
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.report.answers import answered
from orchestrator.report.concluding import _headline, conclude
from orchestrator.report.conclusions import Conclusions, Question
from orchestrator.report.cost import FlopsPerToken
from orchestrator.report.evidence import evidence_of
from tests.orchestrator.report.ladders import (
    ALPHA,
    BETA,
    SIZES,
    Ladder,
    annealed,
    curves_of,
    swept,
    truth,
)


@pytest.fixture(scope="module")
def halved() -> Ladder:
    return swept(SuccessiveHalving(group_by="params"), 0.4, *curves_of())


@pytest.fixture(scope="module")
def concluded(halved: Ladder) -> Conclusions:
    return halved.conclusions()


def test_the_law_behind_the_curves_is_found(concluded: Conclusions) -> None:
    chinchilla = next(result for result in concluded.laws if result.form == "chinchilla")
    found = {name: bounded.value for name, _, bounded in chinchilla.parameters}
    assert found["alpha"] == pytest.approx(ALPHA, abs=0.08)
    assert found["beta"] == pytest.approx(BETA, abs=0.05)


def test_the_answer_is_near_the_truth_beyond_the_largest_run(concluded: Conclusions) -> None:
    target = concluded.target
    assert target is not None
    assert target.params is not None
    assert target.tokens is not None
    assert target.reach == pytest.approx(10.0)
    said = truth(target.params.value, target.tokens.value)
    assert target.loss.value == pytest.approx(said, rel=0.02)
    assert 6 * target.params.value * target.tokens.value == pytest.approx(target.flops, rel=1e-3)


def test_a_held_out_size_is_predicted(concluded: Conclusions) -> None:
    for result in concluded.laws:
        assert result.held_out is not None
        assert abs(result.held_out.error) < 0.03


def test_a_stated_target_is_answered_at_its_own_size(halved: Ladder) -> None:
    concluded = halved.conclusions(target=(5_000_000, 200_000_000), deployment_flops=1e16)
    target, recommended = concluded.target, concluded.recommended
    assert target is not None
    assert recommended is not None
    assert target.params is not None
    assert target.params.value == 5_000_000
    assert target.loss.value == pytest.approx(truth(5e6, 2e8), rel=0.03)
    assert "5M parameters on 200M tokens" in concluded.sentence
    assert recommended.flops == 1e16


def test_a_target_costs_the_same_whatever_was_trained(halved: Ladder) -> None:
    """Attention makes a token of small models dearer: what the larger sizes cost, trained or not,
    says what a larger one does."""
    evidence = evidence_of(halved.state, burn_in=0.1)
    costs = tuple((float(size), 6.0 * size * (1 + 1e5 / size)) for size in SIZES)
    trials = tuple(
        replace(trial, flops_per_token=dict(costs)[trial.params]) for trial in evidence.trials
    )
    evidence = replace(evidence, trials=trials, costs=costs)
    fewer = replace(evidence, trials=tuple(t for t in trials if t.params < SIZES[-1]))
    question = Question(forms=("chinchilla",), draws=0, target=(10_000_000, 400_000_000))
    whole, part = conclude(evidence, question), conclude(fewer, question)
    assert whole.target is not None and part.target is not None
    assert part.target.flops == whole.target.flops
    assert part.to_json()["flops_per_token"] == whole.to_json()["flops_per_token"]
    assert part.cost is not None
    assert (part.cost.smallest, part.cost.largest) == (SIZES[0], SIZES[-2])


def test_settings_to_begin_with_are_those_of_the_best_run(concluded: Conclusions) -> None:
    assert concluded.recommended is not None
    assert dict(concluded.recommended.settings) == {"optimizer.learning_rate": 1e-2}


def test_two_sizes_give_no_law_and_no_number() -> None:
    ladder = swept(Exhaustive(), 1.0, *curves_of(SIZES[:2], rates=(1e-2,)))
    concluded = ladder.conclusions(forms=("chinchilla",))
    assert concluded.headline is None
    assert concluded.target is None
    assert concluded.recommended is None
    assert concluded.sentence.startswith("No law yet: chinchilla")
    assert "needs 3 different values of N" in concluded.sentence
    assert concluded.to_json()["why_not"]


def test_a_sweep_without_a_point_concludes_nothing() -> None:
    ladder = swept(Exhaustive(), 0.0, *curves_of())
    concluded = ladder.conclusions()
    assert concluded.headline is None
    assert concluded.best is None
    assert concluded.sentence.startswith("No law yet")


@pytest.mark.parametrize(
    ("forms", "name"),
    [
        (("power_irreducible", "chinchilla"), "curves_less_gain"),
        (("chinchilla",), "chinchilla_less_gain"),
        (("E + A/N**a + B/D**b",), "(E + A/N**a + B/D**b) less gain"),
    ],
)
def test_annealed_ends_get_a_law_of_their_own(forms: tuple[str, ...], name: str) -> None:
    """The gain is taken off the form that was stated, or off the law of curves."""
    plain = swept(Exhaustive(), 1.0, *curves_of(rates=(1e-2,)))
    concluded = annealed(plain, gain=0.1).conclusions(forms=forms)
    stable, ends, less = concluded.laws[-3:]
    assert stable.phases == ("stable",)
    assert ends.phases == ("annealed",)
    assert ends.key == f"{stable.form} (annealed)"
    assert concluded.annealing_gain is not None
    assert concluded.annealing_gain.value == pytest.approx(0.12, abs=0.03)
    if ends.law is not None and stable.law is not None:
        N, D = SIZES[3], SIZES[3] * 40
        assert float(ends.law.predict(N, D)) < float(stable.law.predict(N, D))
    assert less.key == f"{name} (annealed)"
    assert less.law is not None and less.law.form.name == less.form
    assert less.phases == ("annealed", "stable")
    assert less.basis.startswith("annealed loss = stable law of 6 trials, less a gain of 0.")
    assert less.gain is not None
    assert (less.gain.cooldowns, less.gain.trials) == (6, 6)
    assert less.gain.nats == pytest.approx(0.1, abs=0.01)
    assert less.held_out is not None
    assert abs(less.held_out.error) < 0.02
    assert less.posterior is not None
    assert concluded.headline is less
    assert "the law says an annealed loss of" in concluded.sentence
    assert concluded.sentence.endswith(f": {less.basis}.")


def test_a_stated_form_that_cannot_be_drawn_has_a_law_without_an_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise FitError("no uncertainty: too few trials")

    monkeypatch.setattr("orchestrator.laws.stable.bootstrap", fails)
    plain = swept(Exhaustive(), 1.0, *curves_of(rates=(1e-2,)))
    less = annealed(plain, gain=0.1).conclusions(forms=("chinchilla",)).laws[-1]
    assert less.law is not None and less.posterior is None
    assert "no uncertainty: too few trials" in less.doubts


def test_one_cooldown_is_no_law_of_the_gain() -> None:
    plain = swept(Exhaustive(), 1.0, *curves_of(rates=(1e-2,)))
    concluded = annealed(plain, gain=0.1, trials=1).conclusions(forms=("chinchilla",))
    less = concluded.laws[-1]
    assert less.law is None
    assert less.why_not is not None and "cooldowns of one trial alone" in less.why_not
    assert concluded.headline is concluded.laws[0]


def test_cooldowns_of_trials_that_do_not_count_are_told() -> None:
    """Every size was annealed, at the worse of its two rates alone."""
    ladder = annealed(swept(Exhaustive(), 1.0, *curves_of()), gain=0.1)
    evidence = evidence_of(ladder.state, burn_in=0.1)
    best = {trial.id for trial in evidence.near_best()}
    worse = tuple(
        replace(trial, annealed=()) if trial.id in best else trial for trial in evidence.trials
    )
    count = sum(len(trial.annealed) for trial in worse)
    less = conclude(replace(evidence, trials=worse), Question(forms=(), draws=0)).laws[-1]
    assert count > 1 and less.why_not is not None
    assert "there is no cooldown" in less.why_not
    assert f"({count} cooldowns do not count, their trunks are more than 1 %" in less.why_not


def test_a_best_size_that_the_draws_put_anywhere_is_not_known(halved: Ladder) -> None:
    evidence = evidence_of(halved.state, burn_in=0.1)
    question = Question(forms=("chinchilla",), draws=40)
    found = conclude(evidence, question)
    assert found.target is not None and found.target.params is not None
    (law,) = found.laws
    assert law.posterior is not None
    vague = replace(law, posterior=replace(law.posterior, rescaling=60.0))
    cost = FlopsPerToken.of((float(size), 6.0 * size) for size in SIZES)
    said = answered(replace(found, laws=(vague,), headline=vague), evidence, cost)
    assert said.target is not None and said.target.params is None and said.target.tokens is None
    assert said.target.loss.value == pytest.approx(found.target.loss.value, rel=1e-3)
    assert any("the best size is not known: by chinchilla" in d for d in said.target.doubts)
    assert "reached by" in found.sentence and "reached by" not in said.sentence


def test_a_decay_that_failed_widens_no_interval() -> None:
    """The last of six cooldowns, that of the largest size, ends 20 % above all others."""
    sound = annealed(swept(Exhaustive(), 1.0, *curves_of(rates=(1e-2,))), gain=0.1)
    evidence = evidence_of(sound.state, burn_in=0.1)
    last = evidence.trials[-1]
    failed = replace(last.annealed[0], loss=1.2 * last.annealed[0].loss)
    question = Question(forms=(), draws=40)
    trials = (*evidence.trials[:-1], replace(last, annealed=(failed,)))
    one, other = (
        conclude(some, question).laws[-1] for some in (evidence, replace(evidence, trials=trials))
    )
    assert any("left out of the annealing gain" in doubt for doubt in other.doubts)
    assert not any("are widened" in doubt for doubt in other.doubts)
    assert one.line is not None and other.line is not None
    assert other.line.spread < 2.0 * one.line.spread
    assert other.held_out is not None and abs(other.held_out.error) < 0.02


def test_without_draws_no_interval_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def checked(*_: object) -> None:
        raise AssertionError("one draw says nothing of a spread")

    monkeypatch.setattr("orchestrator.report.annealing.check_annealed", checked)
    plain = swept(Exhaustive(), 1.0, *curves_of(rates=(1e-2,)))
    less = annealed(plain, gain=0.1).conclusions(forms=(), draws=0).laws[-1]
    assert less.law is not None and less.posterior is None


def test_an_annealed_law_that_fails_two_checks_tells_the_factor_that_widens_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(factor: float, what: str) -> Calibration:
        check = Check(share=0.2, rows=3, error=0.1, expected=0.01, factor=factor, fails=True)
        return Calibration(checks=(check,), notes=(), what=what)

    plain = swept(Exhaustive(), 1.0, *curves_of(rates=(1e-2,)))
    ladder = annealed(plain, gain=0.1)
    monkeypatch.setattr(
        "orchestrator.report.annealing.check_annealed", lambda *_: failing(1.5, "sizes")
    )
    monkeypatch.setattr(
        "orchestrator.laws.stable.calibration_of", lambda *_: failing(2.5, "trials")
    )
    less = ladder.conclusions(forms=("chinchilla",)).laws[-1]
    told = [doubt for doubt in less.doubts if "are widened" in doubt]
    assert len(told) == 1 and told[0].endswith(
        "of the trials the law errs at them by 0.1 where"
        " 0.01 was to be expected: its intervals are widened 2.5 times"
    )
    assert less.posterior is not None and less.posterior.rescaling == 2.5


def test_of_two_annealed_laws_the_surer_answers() -> None:
    plain = swept(Exhaustive(), 1.0, *curves_of(rates=(1e-2,)))
    concluded = annealed(plain, gain=0.1).conclusions(forms=("chinchilla",))
    stable, _, less = concluded.laws
    assert less.line is not None
    wide = replace(less, line=replace(less.line, high=2.0 * less.line.high))
    assert _headline([stable, wide, less]) is less
    assert _headline([stable, wide]) is wide


def test_annealing_needs_no_law_of_size_to_be_asked_for() -> None:
    plain = swept(Exhaustive(), 1.0, *curves_of(rates=(1e-2,)))
    concluded = annealed(plain, gain=0.1).conclusions(forms=("power_irreducible",), draws=0)
    less = concluded.laws[-1]
    assert less.law is not None and less.posterior is None
    assert any("bootstrap was switched off" in doubt for doubt in less.doubts)


def test_a_best_rate_at_the_end_of_the_grid_is_told() -> None:
    rates = (1e-3, 3e-3, 1e-2)
    ladder = swept(Exhaustive(), 1.0, *curves_of(rates=rates))
    doubts = " ".join(ladder.conclusions().doubts)
    assert "optimizer.learning_rate: the largest value tried, 0.01, is the best at 6 of" in doubts


def test_without_draws_there_is_no_interval(halved: Ladder) -> None:
    concluded = halved.conclusions(draws=0)
    assert concluded.headline is not None
    assert concluded.headline.posterior is None
    assert concluded.target is not None
    assert concluded.target.loss.low is None
    assert "(no interval)" in concluded.sentence


def test_the_same_evidence_gives_the_same_conclusions(halved: Ladder) -> None:
    one, two = (json.dumps(halved.conclusions().to_json()) for _ in range(2))
    assert one == two


def test_law_json_is_plain_and_finite(concluded: Conclusions) -> None:
    record = json.loads(json.dumps(concluded.to_json(), allow_nan=False))
    assert record["schema"] == "frontrunner.law/1"
    assert record["answer"] == concluded.sentence
    assert {law["form"] for law in record["laws"]} == {"power_irreducible", "chinchilla"}


def test_a_line_is_read_between_its_points(concluded: Conclusions) -> None:
    assert concluded.headline is not None
    line = concluded.headline.line
    assert line is not None
    loss, low, high, _ = line.at(float(np.sqrt(line.flops[3] * line.flops[4])))
    assert line.loss[4] < loss < line.loss[3]
    assert low <= loss <= high


def test_the_line_ends_at_ten_times_the_largest_run(concluded: Conclusions) -> None:
    for result in concluded.laws:
        assert result.line is not None
        assert result.line.flops[-1] == pytest.approx(10 * concluded.largest_flops)


def test_of_laws_that_no_rows_identify_the_surest_answers(concluded: Conclusions) -> None:
    """An annealed law goes before one at a constant rate, unless both are vague and it is more."""
    stable = next(result for result in concluded.laws if result.form == "chinchilla")
    law, line = stable.law, stable.line
    assert law is not None
    assert line is not None
    vague = tuple(
        LawWarning(kind="not_identified", text=f"{known.name} is not identified")
        for known in law.form.parameters
    )
    stable = replace(stable, law=replace(law, warnings=vague))
    wider = replace(stable, phases=("annealed",), line=replace(line, high=2.0 * line.high))
    assert _headline([stable, wider]) is stable
    as_sure = replace(wider, line=line)
    assert _headline([stable, as_sure]) is as_sure
