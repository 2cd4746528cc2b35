"""Trials of one sweep on different numbers of processes: placed, replaced, lost and resumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.assembly.specs import located
from orchestrator.backends.base import BackendError
from orchestrator.backends.ray import RayBackend
from orchestrator.demand import demand_of
from orchestrator.driver import Driver, Outcome
from orchestrator.events import AttemptLost, Opened, Record, Started
from orchestrator.journal import MemoryJournal
from orchestrator.policies.exhaustive import Exhaustive
from orchestrator.pool import Pool
from orchestrator.resources import Steps
from orchestrator.state import SweepState, Terms, fold
from orchestrator.values import Candidate
from tests.orchestrator.backends import ray_nodes
from tests.orchestrator.backends.fakes import STEP, fake_train, pool
from tests.orchestrator.backends.test_shared_seats import END, followers, tiny_config
from trainers.config import TrainConfig
from trainers.documents import SpecError
from trainers.loop import train

SMALL, LARGE = 10, 1000
TWO_FROM_LARGE = Steps.model_validate({"by": "params", "0": 1, str(LARGE): 2})
TWO_FROM_HALFWAY = Steps.model_validate({"by": "tokens", "0": 1, str(END // 2): 2})


@pytest.fixture(scope="module")
def nodes() -> Any:
    return ray_nodes.joined()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return tiny_config(tmp_path_factory, points=16)


def sized(configs: dict[str, TrainConfig], **sizes: int) -> Pool:
    candidates = tuple(
        Candidate(
            id=name,
            params=size,
            horizon=configs[name].horizon,
            flops_per_token=6e3,
            tokens_per_step=configs[name].batch_tokens,
        )
        for name, size in sizes.items()
    )
    return Pool(candidates=candidates, configs=tuple(configs[name] for name in sizes))


def session(
    candidates: Pool,
    storage: Path,
    before: list[Record],
    pause: Callable[[SweepState], str | None] = lambda _: None,
    *,
    train: Any = None,
    slots: int | None = None,
    **resources: Any,
) -> tuple[Outcome, list[Record]]:
    """One session over what `before` holds: its outcome, and all records."""
    demand = demand_of(candidates.candidates, candidates.configs, **resources)
    flops = candidates.exhaustive_flops
    terms = Terms(name="t", seed=1, budget=flops, lost_ceiling=flops, demand=demand)
    state = fold(SweepState(pool=candidates, terms=terms), [record.event for record in before])
    given = {f"{key}_per_trial": value for key, value in resources.items()}
    backend = RayBackend(candidates, storage, slots=slots, train=train, **given)
    journal = MemoryJournal(list(before))
    driver = Driver(
        state=state,
        policy=Exhaustive(),
        backend=backend,
        journal=journal,
        clock=time.time,
        pause=lambda: pause(driver.state),
    )
    try:
        opened = Opened(
            session=state.session + 1,
            name="t",
            spec="{}",
            digest="0" * 64,
            owner="test",
            environment=backend.environment,
        )
        return driver.run(opened), list(journal.records)
    finally:
        backend.close()


def begun(records: list[Record]) -> list[tuple[str, int, int]]:
    """(trial, attempt, how many slots) of each start."""
    starts = [record.event for record in records if isinstance(record.event, Started)]
    return [(s.trial, s.attempt, len(s.slots or (0,))) for s in starts]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_processes_by_size_through_a_loss_and_a_resume_by_another_rule(
    nodes: Any, tiny: TrainConfig, tmp_path: Path
) -> None:
    """The larger trial loses a process, goes on, is paused, and ends on one process and then two,
    with the losses of one that trained alone."""
    candidates = sized({"small": tiny, "large": tiny}, small=SMALL, large=LARGE)
    killed: list[int] = []

    def trouble(state: SweepState) -> str | None:
        large = state.trials["large"].trunk if "large" in state.trials else None
        if large is None or not large.checkpoint:
            return None
        if not killed:
            (victim,) = followers()
            killed.append(victim.pid)
            victim.kill()
        return "enough for now" if large.attempt > 1 and large.running else None

    paused, records = session(
        candidates, tmp_path, [], trouble, slots=2, gpus=0.0, processes=TWO_FROM_LARGE
    )
    assert paused.kind == "paused"
    lost = [r.event for r in records if isinstance(r.event, AttemptLost)]
    assert [(e.trial, e.attempt, e.cause) for e in lost[:1]] == [("large", 1, "died")]
    assert "lost process 2 of 2, which died" in lost[0].reason
    assert set(begun(records)) == {("small", 1, 1), ("large", 1, 2), ("large", 2, 2)}
    stopped = paused.state.trials["large"].trunk.tokens
    assert 0 < stopped < END

    done, again = session(
        candidates, tmp_path, records, slots=2, gpus=0.0, processes=TWO_FROM_HALFWAY
    )
    assert done.kind == "done"
    assert {trial.status for trial in done.state.trials.values()} == {"finished"}
    assert begun(again)[len(begun(records)) :] == [("large", 3, 2)]
    alone = {r.tokens: r.loss for r in train(tiny, until=END, folder=tmp_path / "alone")}
    for trial in done.state.trials.values():
        curve = dict(zip(trial.curve.tokens.tolist(), trial.curve.loss.tolist(), strict=True))
        assert curve == pytest.approx(alone, abs=1e-5)
    assert done.state == fold(
        SweepState(pool=candidates, terms=done.state.terms), [r.event for r in again]
    ), "the state is a fold of the journal"


def fakes(**sizes: int) -> Pool:
    whole = pool(horizon=6 * STEP)
    return sized(dict(zip((c.id for c in whole), whole.configs, strict=True)), **sizes)


def test_gpus_by_size_on_two_nodes_are_given_and_given_back(nodes: Any, tmp_path: Path) -> None:
    import ray

    gpus = Steps.model_validate({"by": "params", "0": 0.5, str(LARGE): 2})
    candidates = fakes(good=SMALL, good2=SMALL, slow=LARGE, slow2=LARGE)
    done, records = session(candidates, tmp_path, [], train=fake_train, gpus=gpus)
    assert done.kind == "done"
    environment = done.state.environment
    assert environment is not None
    assert (environment.slots, environment.blocks, environment.share) == (8, (4, 4), 2)
    starts = [record.event for record in records if isinstance(record.event, Started)]
    slots = {start.trial: start.slots for start in starts}
    assert slots["good"] == (0,) and slots["good2"] == (1,)
    assert slots["slow"] == (4, 5, 6, 7)
    assert [start.gpus for start in starts] == [0.5, 0.5, 2, 2]
    folders = {trial: tmp_path / "trials" / trial / "attempt-1" for trial in slots}
    seen = {trial: (folder / "gpus").read_text() for trial, folder in folders.items()}
    assert seen["good"] == seen["good2"], "two halves"
    assert all(given.isdigit() for given in seen.values()), "each process sees its own"
    deadline, free = time.monotonic() + 20, {}
    while time.monotonic() < deadline:
        free = ray.available_resources()
        if (free.get("GPU"), free.get("CPU")) == (4.0, 8.0) and not followers():
            break
        time.sleep(0.2)
    assert (free.get("GPU"), free.get("CPU")) == (4.0, 8.0)
    assert followers() == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"gpus_per_trial": {"by": "params", "0": 1, "1000": 4}}, "asks for 4 GPUs and 1 CPUs"),
        (
            {"gpus_per_trial": {"by": "params", "0": 1, "1000": 2}, "cpus_per_trial": 3.0},
            "a trial of 2 GPUs takes 2 slots of 1 GPUs and 3 CPUs each.*lower what the largest",
        ),
        (
            {"processes_per_trial": {"by": "params", "0": 1, "1000": 3}, "gpus_per_trial": 0},
            "3 processes do not share 4 sequences",
        ),
    ],
)
def test_what_no_node_holds_is_refused_before_anything_starts(
    given: dict[str, Any], words: str, nodes: Any, tmp_path: Path
) -> None:
    steps = {k: Steps.model_validate(v) if isinstance(v, dict) else v for k, v in given.items()}
    with pytest.raises(BackendError, match=words):
        RayBackend(fakes(good=SMALL, slow=LARGE), tmp_path, train=fake_train, **steps)


def test_a_demand_too_large_for_the_cluster_is_told_at_its_place_in_the_file(
    nodes: Any, tmp_path: Path
) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "version: 1\nname: large\ntrial: {}\nresources:\n"
        f"  gpus_per_trial: {{by: params, 0: 1, {LARGE}: 4}}\n"
    )
    gpus = Steps.model_validate({"by": "params", "0": 1, str(LARGE): 4})
    with pytest.raises(SpecError) as refusal, located(str(file), []):
        RayBackend(fakes(good=SMALL, slow=LARGE), tmp_path, train=fake_train, gpus_per_trial=gpus)
    told = str(refusal.value)
    assert told.startswith(f"{file}:5:19  resources.gpus_per_trial  a trial asks for 4 GPUs")
    assert "lower gpus_per_trial" in told
    assert told.endswith("Nothing was started.")
