"""Which segments start together, and what becomes of those whose stack is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from orchestrator.backends.inline import InlineBackend
from orchestrator.driver import Driver, Outcome
from orchestrator.events import (
    AttemptLost,
    Decided,
    Event,
    Opened,
    PointReported,
    SegmentEnded,
    Started,
)
from orchestrator.journal import MemoryJournal
from orchestrator.lockstep import jobs
from orchestrator.policies.exhaustive import Exhaustive
from orchestrator.pool import Pool
from orchestrator.state import SweepState, apply, fold
from orchestrator.values import Candidate, Checkpoint, Environment, Extend, Point
from tests.orchestrator.worlds import fresh
from trainers.config import TrainConfig

STEP = 64
END = 16 * STEP
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
Make = Callable[..., TrainConfig]


def config(layers: int, rate: float, **parts: object) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "model": {"layers": layers, "width": 16, "heads": 2, "context": 16},
            "optimizer": {"learning_rate": rate},
            "evaluation": {"tokens": 256, "points": 4},
            "batch_tokens": STEP,
            "horizon": END,
            "device": "cpu",
            "precision": "fp32",
        }
        | parts
    )


def pool_of(configs: Sequence[TrainConfig]) -> Pool:
    names = "abcdefghijklmnop"
    candidates = tuple(
        Candidate(
            id=names[place],
            params=1000 * each.model.layers,
            horizon=END,
            flops_per_token=6e3 * each.model.layers,
            tokens_per_step=STEP,
        )
        for place, each in enumerate(configs)
    )
    return Pool(candidates=candidates, configs=tuple(configs))


@pytest.fixture
def pool() -> Pool:
    """a to d of one layer, e to h of two; the rates differ."""
    return pool_of([config(layers, rate) for layers in (1, 2) for rate in RATES])


def waiting(pool: Pool, tokens: dict[str, int], slots: int = 2) -> SweepState:
    decisions = tuple(Extend(trial=t, tokens=n, reason="") for t, n in tokens.items())
    state = fresh(pool, 1e15)
    state = replace(state, environment=Environment(slots=slots))
    return apply(state, Decided(policy="test", decisions=decisions))


def started(state: SweepState, *trials: str, attempt: int = 1) -> SweepState:
    """Begun as one, where there are several."""
    stack = tuple((trial, attempt) for trial in trials) if len(trials) > 1 else None
    for trial in trials:
        track = state.trials[trial].trunk
        event = Started(
            trial=trial,
            attempt=attempt,
            until=track.target,
            resume_from=track.resume_from,
            stack=stack,
        )
        state = apply(state, event)
    return state


def lost(state: SweepState, cause: str, *trials: str, attempt: int = 1) -> SweepState:
    for trial in trials:
        event = AttemptLost(trial=trial, attempt=attempt, reached=0, cause=cause, reason="why")  # pyright: ignore[reportArgumentType]
        state = apply(state, event)
    return state


def names(state: SweepState, most: int | Literal["auto"]) -> list[str]:
    return ["".join(trial.id for trial, _ in job) for job in jobs(state, most=most)]


def test_auto_stacks_each_shape_as_far_as_it_pays() -> None:
    """On the device that the environment has; where it is unknown, as on a CPU."""
    parts = {"device": "auto", "batch_tokens": 2**14, "horizon": 2**18}
    model = {"layers": 1, "width": 64, "heads": 2, "context": 16}
    small = [config(1, rate, device="auto") for rate in RATES]
    large = [config(1, rate, **parts | {"model": model}) for rate in RATES]
    state = waiting(pool_of([*small, *large]), dict.fromkeys("abcdefgh", END), slots=2)
    facts = (("torch", "2"), ("device", "cpu"))
    cpu = replace(state, environment=Environment(slots=2, facts=facts))
    gpu = replace(state, environment=Environment(slots=2, facts=(("device", "cuda"),)))
    assert names(cpu, "auto") == ["abcd", "e"]
    assert names(gpu, "auto") == ["abcd", "efgh"]
    assert names(state, "auto") == names(cpu, "auto")


def test_trials_of_one_shape_start_together(pool: Pool) -> None:
    state = waiting(pool, dict.fromkeys("abcdefgh", END))
    assert names(state, 4) == ["abcd", "efgh"]
    assert names(state, 3) == ["abc", "d"], "the first that wait come first"
    assert names(state, 1) == ["a", "b"]


def test_the_order_of_decisions_gives_way_to_what_is_alike(pool: Pool) -> None:
    state = waiting(pool, dict.fromkeys("aebfcgdh", END))
    assert names(state, 4) == ["abcd", "efgh"]


def test_no_slot_idles_for_the_sake_of_a_stack(pool: Pool) -> None:
    four = dict.fromkeys("abcd", END)
    assert names(waiting(pool, four, slots=2), 8) == ["ab", "cd"]
    assert names(waiting(pool, four, slots=4), 8) == ["a", "b", "c", "d"]
    assert names(waiting(pool, four, slots=1), 8) == ["abcd"]


def test_a_stack_takes_one_slot_until_its_last_member_has_ended(pool: Pool) -> None:
    state = started(waiting(pool, dict.fromkeys("abcdefgh", END)), *"abcd")
    assert (state.running, state.taken) == (4, 1)
    assert names(state, 4) == ["ef"], "of four that wait, two are left for the slot that is taken"
    for trial in "abc":
        state = apply(state, SegmentEnded(trial=trial, attempt=1, tokens=END))
        assert state.taken == 1
    state = apply(state, SegmentEnded(trial="d", attempt=1, tokens=END))
    assert (state.running, state.taken) == (0, 0)


def test_only_those_at_the_same_tokens_to_the_same_tokens_are_alike(pool: Pool) -> None:
    state = waiting(pool, {"a": END, "b": 8 * STEP, "c": END, "d": END}, slots=1)
    assert names(state, 4) == ["acd"]
    point = Point(tokens=4 * STEP, flops=1.0, loss=3.0)
    saved = Checkpoint(tokens=4 * STEP, path="c")
    state = started(state, "c")
    state = apply(state, PointReported(trial="c", attempt=1, point=point, checkpoint=saved))
    state = lost(state, "interrupted", "c")
    assert names(state, 4) == ["ad"]


def test_what_differs_but_by_its_optimizer_schedule_and_seed_is_not_alike() -> None:
    one = config(1, 1e-3)
    same = [config(1, 1e-2, seed=3, checkpoint={"every_s": 7}), one]
    wsd = config(1, 1e-3, schedule={"kind": "wsd", "decay": 0.3})
    other = [
        config(1, 1e-3, batch_tokens=2 * STEP),
        config(1, 1e-3, evaluation={"tokens": 256, "points": 5}),
        config(1, 1e-3, data={"source": "elsewhere"}),
    ]
    assert {each.stack_key for each in [*same, wsd]} == {one.stack_key}
    assert len({each.stack_key for each in [one, *other]}) == 4
    gpt2 = {"family": "gpt2", "layers": 1, "width": 32, "heads": 4, "context": 16}
    assert config(1, 1e-3, model=gpt2).stack_key is None
    assert names(waiting(pool_of([config(1, 1e-3, model=gpt2)] * 2), {"a": END, "b": END}), 4) == [
        "a",
        "b",
    ]


@pytest.mark.parametrize("cause", ["died", "error"])
def test_the_members_of_a_lost_stack_go_alone_until_a_new_point(pool: Pool, cause: str) -> None:
    """Whose fault it was nobody knows, so none of them has failed."""
    state = started(waiting(pool, dict.fromkeys("abcd", END), slots=1), *"abcd")
    state = lost(state, cause, *"abcd")
    assert state.barren == ()
    assert {trial.failures for trial in state.trials.values()} == {0}
    assert names(state, 4) == ["a"]
    state = started(state, "a", attempt=2)
    point = Point(tokens=4 * STEP, flops=1.0, loss=3.0)
    state = apply(state, PointReported(trial="a", attempt=2, point=point))
    assert not state.trials["a"].alone
    alone = lost(started(lost(state, "interrupted", "a", attempt=2), "b", attempt=2), cause, "b")
    assert alone.trials["b"].failures == 0, "a stale attempt"
    alone = lost(started(state, "b", attempt=2), cause, "b", attempt=2)
    assert alone.trials["b"].failures == 1
    assert alone.barren == (("b", "why"),)


def test_a_trial_that_failed_is_in_no_stack(pool: Pool) -> None:
    state = lost(started(waiting(pool, dict.fromkeys("abcd", END), slots=1), "b"), "error", "b")
    assert names(state, 4) == ["acd"]


def test_a_stack_that_does_not_fit_is_halved_for_all_of_its_shape(pool: Pool) -> None:
    state = waiting(pool, dict.fromkeys("abcdefgh", END), slots=1)
    state = lost(started(state, *"abcd"), "crowded", *"abcd")
    assert {trial.failures for trial in state.trials.values()} == {0}
    assert state.barren == ()
    assert names(state, 4) == ["ab"]
    state = lost(started(state, *"cd"), "crowded", *"cd")
    assert names(state, 4) == ["a"], "a was in no stack of two"
    whole = lost(started(state, "a", attempt=2), "error", "a", attempt=2)
    assert whole.trials["a"].failures == 1
    rest = state
    for trial in "abcd":
        rest = apply(
            started(rest, trial, attempt=3), SegmentEnded(trial=trial, attempt=3, tokens=END)
        )
    assert names(rest, 4) == ["efgh"], "another shape has room of its own"


def driven(
    pool: Pool, storage: Path, before: Sequence[Event] = (), *, lockstep: int, slots: int = 1
) -> tuple[Outcome, list[Event]]:
    backend = InlineBackend(pool, storage, slots=slots)
    journal = MemoryJournal()
    try:
        driver = Driver(
            state=fold(fresh(pool, 1e15), before),
            policy=Exhaustive(),
            backend=backend,
            journal=journal,
            clock=lambda: 0.0,
            lockstep=lockstep,
        )
        outcome = driver.run(
            Opened(
                session=1,
                name="small",
                spec="{}",
                digest="0" * 64,
                owner="test",
                environment=backend.environment,
            )
        )
    finally:
        backend.close()
    return outcome, [record.event for record in journal.records]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    folder = tmp_path_factory.mktemp("text")
    for i in range(40):
        (folder / f"{i}.txt").write_text(f"{i} is a number and so is {i * i}. " * 40)
    data = {
        "source": str(folder),
        "cache": str(tmp_path_factory.mktemp("cache")),
        "max_epochs": 1000,
        "held_out": 0.2,
    }
    often = {"every_s": 1e-6}
    return pool_of(
        [
            config(1, rate, seed=seed, data=data, checkpoint=often)
            for seed, rate in enumerate(RATES)
        ]
    )


def curves(outcome: Outcome) -> dict[str, list[tuple[int, float]]]:
    return {
        trial: list(zip(value.curve.tokens.tolist(), value.curve.loss.tolist(), strict=True))
        for trial, value in outcome.state.trials.items()
    }


def alike(one: Outcome, other: Outcome) -> None:
    mine, theirs = curves(one), curves(other)
    assert mine.keys() == theirs.keys()
    for trial, points in mine.items():
        assert [tokens for tokens, _ in points] == [tokens for tokens, _ in theirs[trial]]
        losses = [loss for _, loss in theirs[trial]]
        assert [loss for _, loss in points] == pytest.approx(losses, abs=2e-4)


def test_a_sweep_in_lockstep_is_the_sweep_without(trained: Pool, tmp_path: Path) -> None:
    single, _ = driven(trained, tmp_path / "single", lockstep=1)
    stacked, events = driven(trained, tmp_path / "stacked", lockstep=4)
    starts = [event for event in events if isinstance(event, Started)]
    assert [event.stack for event in starts] == [tuple((trial, 1) for trial in "abcd")] * 4
    alike(stacked, single)
    assert stacked.state.ledger.spent == single.state.ledger.spent
    assert stacked.state.ledger.lost == 0
    timings = [timing for trial in stacked.state.trials.values() for timing in trial.timings]
    assert {timing.members for timing in timings} == {4}
    assert sum(t.seconds for t in timings) == pytest.approx(stacked.state.ledger.device_s)
    for trial, value in stacked.state.trials.items():
        assert value.trunk.checkpoint is not None
        assert value.trunk.checkpoint.path.startswith(f"trials/{trial}/attempt-1/")


@pytest.mark.parametrize("after", [6, 8, 14])
def test_a_driver_killed_in_a_stack_goes_on(trained: Pool, tmp_path: Path, after: int) -> None:
    whole, events = driven(trained, tmp_path / "whole", lockstep=4)
    # What the killed one left on disk is what its journal knows, and more.
    resumed, rest = driven(trained, tmp_path / "whole", events[:after], lockstep=4)
    starts = [event for event in rest if isinstance(event, Started)]
    assert {event.attempt for event in starts} == {2}
    assert any(event.resume_from is not None for event in starts) == (after > 6)
    assert any(event.stack is not None and len(event.stack) > 1 for event in starts)
    alike(resumed, whole)
    assert resumed.state.ledger.spent == whole.state.ledger.spent


class OutOfMemory:
    """Stands for a device that holds the weights of so many models."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int, exception: type) -> None:
        from trainers import stacked_learner

        make = stacked_learner.Stack.__init__
        self.asked: list[int] = []

        def narrow(stack: stacked_learner.Stack, networks: list[object]) -> None:
            self.asked.append(len(networks))
            if len(networks) > room:
                raise exception("planted")
            make(stack, networks)  # pyright: ignore[reportArgumentType]

        monkeypatch.setattr(stacked_learner.Stack, "__init__", narrow)


@pytest.mark.parametrize(("room", "asked"), [(2, [4, 2, 2]), (1, [4, 2])])
def test_out_of_memory_halves_the_stack_and_is_told(
    trained: Pool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    room: int,
    asked: list[int],
) -> None:
    import torch

    device = OutOfMemory(monkeypatch, room, torch.OutOfMemoryError)
    outcome, events = driven(trained, tmp_path, lockstep=4)
    assert outcome.kind == "done"
    assert device.asked == asked
    told = [event for event in events if isinstance(event, AttemptLost)]
    assert {(event.cause, "OutOfMemoryError: planted" in event.reason) for event in told} == {
        ("crowded", True)
    }
    assert len(told) == (4 if room == 2 else 6)
    assert {trial.status for trial in outcome.state.trials.values()} == {"finished"}
    assert {trial.failures for trial in outcome.state.trials.values()} == {0}


def test_a_fault_of_the_stack_is_nobodys_failure(
    trained: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = OutOfMemory(monkeypatch, 1, ValueError)
    outcome, events = driven(trained, tmp_path, lockstep=4)
    assert outcome.kind == "done"
    assert device.asked == [4]
    told = [event.cause for event in events if isinstance(event, AttemptLost)]
    assert told == ["error"] * 4
    assert {trial.status for trial in outcome.state.trials.values()} == {"finished"}
