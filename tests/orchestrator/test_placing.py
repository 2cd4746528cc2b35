"""Which segments start on which slots, where some take several."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from orchestrator.demand import demand_of
from orchestrator.events import AttemptLost, Decided, SegmentEnded, Started
from orchestrator.placing import Floor, starts
from orchestrator.pool import Pool
from orchestrator.resources import Steps
from orchestrator.state import DecisionError, SweepState, apply
from orchestrator.values import Candidate, Environment, Extend
from tests.orchestrator.worlds import fresh

END = 100


def pool_of(*sizes: int) -> Pool:
    """Named by their place: a0, b1, ..., the letter saying how large."""
    return Pool(
        candidates=tuple(
            Candidate(id=f"{'abcd'[size]}{i}", params=10**size, horizon=END, flops_per_token=6.0)
            for i, size in enumerate(sizes)
        )
    )


def waiting(
    pool: Pool, blocks: tuple[int, ...], numbers: tuple[float, ...], share: int = 1
) -> SweepState:
    """All of the pool wait, in its order; a size takes as many GPUs as its place in `numbers`."""
    steps = {str(10**size if size else 0): number for size, number in enumerate(numbers)}
    gpus = Steps.model_validate({"by": "params", **steps})
    state = fresh(pool, 1e9)
    state = replace(
        state,
        terms=replace(state.terms, demand=demand_of(pool.candidates, (), gpus=gpus)),
        environment=Environment(slots=sum(blocks), blocks=blocks, share=share),
    )
    decisions = tuple(Extend(trial=c.id, tokens=END, reason="") for c in pool)
    return apply(state, Decided(policy="test", decisions=decisions))


def begun(state: SweepState) -> tuple[SweepState, dict[str, tuple[int, ...]]]:
    """Start what can start; the slots of each."""
    found: dict[str, tuple[int, ...]] = {}
    for start in starts(state, most=1):
        ((trial, _),) = start.job
        assert start.slots is not None
        found[trial.id] = start.slots
        event = Started(
            trial=trial.id,
            attempt=trial.attempts + 1,
            until=END,
            slots=start.slots,
            gpus=start.gpus,
        )
        state = apply(state, event)
    return state, found


def ended(state: SweepState, *trials: str) -> SweepState:
    for trial in trials:
        attempt = state.trials[trial].attempts
        state = apply(state, SegmentEnded(trial=trial, attempt=attempt, tokens=END))
    return state


def test_a_large_trial_gets_slots_of_one_block() -> None:
    state, found = begun(waiting(pool_of(0, 1, 0, 1), (4, 4), (1, 4)))
    assert found == {"a0": (0,), "b1": (4, 5, 6, 7), "a2": (1,)}
    assert state.taken == 6
    assert [t.trunk.gpus for t in state.trials.values()] == [1, 4, 1, 1]
    state, found = begun(ended(state, "b1"))
    assert found == {"b3": (4, 5, 6, 7)}


def test_the_first_that_waits_keeps_a_block_and_the_others_go_by_elsewhere() -> None:
    small = pool_of(*[0] * 8, 1, *[0] * 8)
    state, found = begun(waiting(small, (4, 4), (1, 4)))
    assert sorted(found.values()) == [(i,) for i in range(8)]
    state, found = begun(ended(state, "a0"))
    assert found == {}, "slot 0 is kept for b8"
    state, found = begun(ended(state, "a5"))
    assert found == {"a9": (5,)}
    state, found = begun(ended(state, "a1", "a2"))
    assert found == {}
    state, found = begun(ended(state, "a3", "a6"))
    assert found == {"b8": (0, 1, 2, 3), "a10": (6,)}


def test_it_waits_where_the_least_is_left_to_do() -> None:
    state, _ = begun(waiting(pool_of(*[0] * 8, 1, 0, 0), (4, 4), (1, 4)))
    far = {
        f"a{i}": replace(
            state.trials[f"a{i}"],
            trunk=replace(state.trials[f"a{i}"].trunk, position=90 if i >= 4 else 10),
        )
        for i in range(8)
    }
    state = replace(state, trials={**state.trials, **far})
    _, found = begun(ended(state, "a0"))
    assert found == {"a9": (0,)}, "the second block is nearer its end, so the first stays open"


def test_fractions_share_a_gpu_and_leave_whole_ones_whole() -> None:
    state, found = begun(waiting(pool_of(0, 0, 0, 1, 2), (8,), (0.5, 1, 4), share=2))
    assert found == {"a0": (0,), "a1": (1,), "a2": (2,), "b3": (4, 5)}
    state, found = begun(ended(state, "a0", "b3"))
    assert found == {}
    state, found = begun(ended(state, "a1", "a2"))
    assert found == {"c4": tuple(range(8))}


def test_small_ones_fill_what_is_open_already() -> None:
    floor = Floor(blocks=(4, 4), share=2)
    assert floor.room(1, {0, 4}) == (1,)
    assert floor.room(1, {0, 1, 4}) == (5,)
    assert floor.room(2, {0, 4, 5}) == (6, 7)
    assert floor.room(4, {0}) == (4, 5, 6, 7)
    assert floor.room(4, {0, 7}) is None
    assert floor.room(4, {0}, closed={1}) is None


def test_what_no_node_holds_is_said_and_not_waited_for() -> None:
    state = waiting(pool_of(0, 1), (2, 2), (1, 4))
    with pytest.raises(DecisionError, match="b1 takes 4 slots and no node has more than 2"):
        starts(state, most=1)


def test_where_all_take_the_same_any_slot_will_do() -> None:
    state = waiting(pool_of(0, 0), (1,), (2,))
    state = replace(state, environment=Environment(slots=1))
    (start,) = starts(state, most=1)
    assert (start.slots, start.gpus) == (None, 2.0)


@pytest.mark.parametrize("seed", range(20))
def test_everybody_starts_in_the_end_and_the_first_is_overtaken_a_bounded_number_of_times(
    seed: int,
) -> None:
    """Random sweeps: slots are never taken twice, are all of one block, whoever waits first is
    never passed by in the block that it waits for, and nothing waits for ever."""
    chance = random.Random(seed)
    numbers = chance.choice([(1, 2, 4), (0.5, 1, 4), (1, 3), (2, 4, 8), (0.25, 1)])
    pool = pool_of(*(chance.randrange(len(numbers)) for _ in range(40)))
    steps = {str(10**i if i else 0): n for i, n in enumerate(numbers)}
    demand = demand_of(pool.candidates, (), gpus=Steps.model_validate({"by": "params", **steps}))
    if not demand.varies:
        return
    largest, share = demand.largest_slots, demand.share
    blocks = (largest, largest, *([share] if share < largest else []))
    state = waiting(pool, blocks, numbers, share)
    floor = Floor(blocks=blocks, share=share)
    first, passed = "", 0
    for _ in range(1000):
        state, found = begun(state)
        again, none = begun(state)
        assert not none and again is state, "what could start has started"
        running = [t.trunk.slots for t in state.trials.values() if t.running]
        taken = [slot for slots in running for slot in slots]
        assert len(taken) == len(set(taken)) == state.taken
        for trial, slots in found.items():
            assert len({floor.block_of(slot) for slot in slots}) == 1
            assert len(slots) == demand.slots(pool[trial], END)
        left = [t.id for t in state.trials.values() if t.status == "waiting"]
        if not left:
            break
        passed = passed + len(found) if first == left[0] else 0
        first = left[0]
        assert passed < len(pool)
        idle = state.environment.slots - state.taken if state.environment else 0
        small = min(demand.slots(pool[trial], END) for trial in left)
        if share == 1:
            assert idle < largest + small * len(blocks), "no more idles than one block keeps"
        running_now = [t.id for t in state.trials.values() if t.running]
        state = ended(state, chance.choice(running_now))
    assert {t.status for t in state.trials.values()} <= {"finished", "running"}


def test_a_lost_attempt_gives_its_slots_back() -> None:
    state, _ = begun(waiting(pool_of(1, 0), (4,), (1, 4)))
    assert state.taken == 4
    state = apply(
        state, AttemptLost(trial="b0", attempt=1, reached=0, cause="died", reason="gone")
    )
    assert state.taken == 0
    _, found = begun(state)
    assert found == {"a1": (0,)}, "who failed waits behind the others"


def test_slots_that_are_claimed_are_those_that_run_and_wait() -> None:
    state = waiting(pool_of(1, 0, 1), (4, 4), (1, 4))
    assert state.unclaimed == -1
    state, _ = begun(state)
    assert (state.taken, state.unclaimed) == (5, -1)
    assert ended(state, "b0", "a1").unclaimed == 4
