from dataclasses import replace

import numpy as np
import pytest

from orchestrator.events import Decided, Diverged, Started
from orchestrator.laws.errors import FitError
from orchestrator.laws.runs import CurveRows
from orchestrator.policies.exhaustive import Exhaustive
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.report.concluding import conclude
from orchestrator.report.conclusions import Question
from orchestrator.report.evidence import (
    Branch,
    Evidence,
    TrialEvidence,
    _ends_alone,
    evidence_of,
)
from orchestrator.state import fold
from orchestrator.values import Extend
from tests.orchestrator.report.ladders import SIZES, annealed, curves_of, swept, truth


def one(name: str, params: int, tokens: list[float], loss: list[float]) -> TrialEvidence:
    at = np.array(tokens)
    rows = CurveRows(N=params, tokens=at, flops=6.0 * params * at, loss=np.array(loss))
    return TrialEvidence(id=name, params=params, flops_per_token=6.0 * params, stable=rows)


def test_a_bad_rate_is_no_property_of_a_size() -> None:
    ladder = swept(Exhaustive(), 1.0, *curves_of())
    near = evidence_of(ladder.state, burn_in=0.1).near_best()
    assert [trial.id for trial in near] == [f"n{size}-lr0.01" for size in SIZES]


def test_near_best_is_judged_at_tokens_that_both_have_seen() -> None:
    long = one("long", 100, [10, 20, 40], [4.0, 3.0, 2.0])
    short = one("short", 100, [10, 20], [4.0, 3.01])
    worse = one("worse", 100, [10, 20], [4.0, 3.2])
    apart = one("apart", 100, [1, 2], [6.0, 5.0])
    evidence = Evidence(trials=(long, short, worse, apart))
    assert [trial.id for trial in evidence.near_best()] == ["long", "short", "apart"]


def test_finished_runs_are_judged_among_those_of_equal_tokens() -> None:
    """A bad rate is none the better for having been tried on fewer tokens."""
    runs = [
        one(f"{tokens}-{rate}", 100, [tokens], [loss * (1.1 if rate == "bad" else 1.0)])
        for tokens, loss in ((10, 4.0), (20, 3.0), (40, 2.0))
        for rate in ("good", "bad")
    ]
    near = Evidence(trials=tuple(runs)).near_best()
    assert [trial.id for trial in near] == ["10-good", "20-good", "40-good"]


def test_a_diverged_trial_is_named_and_left_out() -> None:
    pool, _ = curves_of(rates=(1e-2,))
    ladder = swept(Exhaustive(), 0.0, *curves_of(rates=(1e-2,)))
    name = pool.candidates[0].id
    state = replace(ladder.state, terms=replace(ladder.state.terms, budget=10**15))
    state = fold(
        state,
        [
            Decided(policy="p", decisions=(Extend(trial=name, tokens=1000, reason="r"),)),
            Started(trial=name, attempt=1, until=1000),
            Diverged(trial=name, attempt=1, tokens=500, reason="the loss was nan"),
        ],
    )
    evidence = evidence_of(state, burn_in=0.1)
    assert evidence.trials == ()
    assert evidence.left_out == (f"{name} (diverged)",)


def test_what_a_failed_trial_reported_stays_evidence() -> None:
    """The machine failed, not the run: a fault common to all trials must not empty the law."""
    ladder = swept(SuccessiveHalving(group_by="params"), 0.3, *curves_of())
    before = evidence_of(ladder.state, burn_in=0.1)
    trials = {
        name: replace(trial, failed="CUDA error: no device")
        for name, trial in ladder.state.trials.items()
    }
    state = replace(ladder.state, trials=trials)
    evidence = evidence_of(state, burn_in=0.1)
    assert evidence.left_out == ()
    assert evidence.cut_short == tuple(trial.id for trial in before.trials)
    assert len(evidence.stable_runs()) == len(before.stable_runs()) > 0
    said = conclude(evidence, Question(forms=("chinchilla",), draws=0))
    assert any("failed, with the points up to there" in doubt for doubt in said.doubts)


def test_phases_never_meet() -> None:
    ladder = annealed(swept(Exhaustive(), 1.0, *curves_of()), gain=0.1)
    evidence = evidence_of(ladder.state, burn_in=0.1)
    assert evidence.stable_runs().phases == ()  # stable points alone, all of one kind
    ends = evidence.annealed_runs()
    assert ends.phases == ("annealed",)
    assert len(ends) == len(SIZES)
    stable = np.concatenate([trial.stable.loss for trial in evidence.trials])
    assert not np.isin(ends.loss, stable).any()


def test_the_gain_of_annealing_is_measured_against_the_trunk_where_it_was_left() -> None:
    plain = swept(Exhaustive(), 1.0, *curves_of(rates=(1e-2,), noise=0.0))
    gains = evidence_of(annealed(plain, gain=0.1).state, burn_in=0.1).annealing_gains()
    # The branch's own tokens lower the loss a little too.
    assert len(gains) == len(SIZES)
    assert ((gains > 0.1) & (gains < 0.2)).all()


def test_of_rates_that_never_stand_still_the_annealed_ends_are_finished_runs() -> None:
    """A sweep of cosines has no stable point, and a law all the same."""
    none = np.zeros(0)
    trials = tuple(
        TrialEvidence(
            id=f"n{params}-{ratio}",
            params=params,
            flops_per_token=6.0 * params,
            stable=CurveRows(N=params, tokens=none, flops=none, loss=none),
            annealed=(
                Branch(
                    tokens=params * ratio,
                    flops=6.0 * params * params * ratio,
                    loss=truth(params, params * ratio),
                    trunk_loss=None,
                ),
            ),
        )
        for params in SIZES
        for ratio in (10, 20, 40)
    )
    found = _ends_alone(Evidence(trials=trials))
    assert found.phases == ("annealed",)
    said = conclude(found, Question(forms=("chinchilla",), draws=40))
    assert said.headline is not None
    assert said.headline.key == "chinchilla (annealed)"
    assert "the law says an annealed loss of" in said.sentence
    assert said.headline.law is not None
    E = said.headline.law.parameters["E"]
    assert pytest.approx(1.6, abs=0.05) == E


def test_without_an_annealed_trial_there_are_no_annealed_rows() -> None:
    ladder = swept(Exhaustive(), 1.0, *curves_of())
    with pytest.raises(FitError, match="no trial was annealed"):
        evidence_of(ladder.state, burn_in=0.1).annealed_runs()


def test_the_costliest_size_is_the_one_held_out() -> None:
    ladder = swept(SuccessiveHalving(group_by="params"), 0.3, *curves_of())
    evidence = evidence_of(ladder.state, burn_in=0.1)
    parted = evidence.without_costliest()
    assert parted is not None
    rest, run = parted
    most = max(float(trial.stable.flops[-1]) for trial in evidence.with_points())
    assert float(run.stable.flops[-1]) == most
    assert all(trial.params != run.params for trial in rest.trials)


def test_three_sizes_are_too_few_to_hold_one_out() -> None:
    ladder = swept(Exhaustive(), 1.0, *curves_of(SIZES[:3]))
    assert evidence_of(ladder.state, burn_in=0.1).without_costliest() is None


def test_the_smallest_size_does_not_own_the_start_of_the_frontier_for_want_of_a_smaller() -> None:
    ladder = swept(Exhaustive(), 1.0, *curves_of(rates=(1e-2,), noise=0.0))
    evidence = evidence_of(ladder.state, burn_in=0.01)
    edge = evidence.frontier()
    firsts = np.flatnonzero(np.diff(edge.N) > 0) + 1
    others = np.median((edge.D / edge.N)[firsts])
    smallest = SIZES[0] == edge.N
    assert ((edge.D / edge.N)[smallest] >= 0.8 * others).all()
    assert (np.diff(edge.loss) <= 0).all()


def test_only_what_differs_within_a_size_is_tuned() -> None:
    ladder = swept(Exhaustive(), 1.0, *curves_of())
    assert evidence_of(ladder.state, burn_in=0.1).free_settings() == ("optimizer.learning_rate",)
    single = swept(Exhaustive(), 1.0, *curves_of(rates=(1e-2,)))
    assert evidence_of(single.state, burn_in=0.1).free_settings() == ()
