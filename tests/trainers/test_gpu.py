"""The trainer on CUDA: the twins of what the other files check on a CPU. Run with `-m gpu`."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainers.compiling import Compiled
from trainers.config import ModelConfig, TrainConfig
from trainers.course import Course
from trainers.device import Device, choose_device, fault
from trainers.distributed import joined
from trainers.feed import Feed
from trainers.learner import Learner
from trainers.lockstep import Member, train_lockstep
from trainers.loop import Report, Run, train
from trainers.network import build_network
from trainers.peaks import peak_flops

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

Make = Callable[..., TrainConfig]
STEP = 64
END = 40 * STEP
SHAPE = {"layers": 2, "width": 64, "heads": 2, "context": 16}


def configured(make: Make, **parts: Any) -> TrainConfig:
    """A rate at which losses fall steadily, so that rounding stays rounding."""
    base = {"device": "cuda", "model": SHAPE, "compile": "never"}
    return make(**(base | {"optimizer": {"learning_rate": 1e-3}} | parts))


def run(config: TrainConfig, folder: Path, **options: Any) -> list[Report]:
    return list(train(config, **({"until": END, "folder": folder} | options)))


def losses(reports: list[Report]) -> list[float]:
    return [report.loss for report in reports]


def test_bf16_against_fp32_and_the_cpu(make_config: Make, tmp_path: Path) -> None:
    bf16 = run(configured(make_config), tmp_path / "bf16")
    fp32 = run(configured(make_config, precision="fp32"), tmp_path / "fp32")
    cpu = run(configured(make_config, precision="fp32", device="cpu"), tmp_path / "cpu")
    assert losses(bf16) == pytest.approx(losses(fp32), abs=0.05)
    assert losses(bf16) != losses(fp32)
    assert losses(fp32) == pytest.approx(losses(cpu), abs=0.02)


def test_master_weights_and_moments_are_fp32(make_config: Make, tmp_path: Path) -> None:
    done = run(configured(make_config), tmp_path, until=2 * STEP)[-1]
    assert done.checkpoint is not None
    for file in done.checkpoint.glob("*.safetensors"):
        tensors = load_file(file)
        kinds = {t.dtype for name, t in tensors.items() if name != "generator"}
        assert kinds == {torch.float32}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("wish", ["always", "graphs"])
def test_compiled_against_eager(make_config: Make, tmp_path: Path, wish: str) -> None:
    eager = run(configured(make_config), tmp_path / "eager")
    compiled = run(configured(make_config, compile=wish), tmp_path / wish)
    assert losses(compiled) == pytest.approx(losses(eager), abs=0.05)


@pytest.mark.timeout(600)
@pytest.mark.skipif(
    torch.__version__ < "2.13", reason="pytorch issue 123177: graphs are by thread"
)
def test_graphs_in_one_thread_after_another(make_config: Make, tmp_path: Path) -> None:
    """As whoever calls the trainer may; the house's own workers keep to one thread."""
    config = configured(make_config, compile="graphs")
    told: list[list[float]] = []
    for turn in range(3):
        folder = tmp_path / str(turn)
        thread = threading.Thread(target=lambda f=folder: told.append(losses(run(config, f))))
        thread.start()
        thread.join()
    assert len(told) == 3
    assert told[1] == pytest.approx(told[0], abs=0.05)
    assert told[2] == pytest.approx(told[0], abs=0.05)


@pytest.mark.timeout(600)
def test_another_trial_of_a_shape_compiles_nothing(make_config: Make) -> None:
    from torch._dynamo.utils import counters

    device = choose_device(configured(make_config))
    shape = ModelConfig.model_validate(SHAPE)
    window = torch.zeros(4, 17, dtype=torch.long, device="cuda")
    counts: list[int] = []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        network = build_network(shape, generator).to("cuda")
        with device.autocast():
            Compiled(network)(window).backward()
        counts.append(counters["stats"]["unique_graphs"])
    assert counts[0] == counts[1] == counts[2]


def test_resume(make_config: Make, tmp_path: Path) -> None:
    config = configured(make_config, precision="fp32")
    straight = run(config, tmp_path / "a")
    first = run(config, tmp_path / "b", until=17 * STEP)
    second = run(config, tmp_path / "c", resume=first[-1].checkpoint)
    assert losses(second) == pytest.approx(losses(straight)[-len(second) :], abs=2e-3)
    elsewhere = configured(make_config, precision="fp32", device="cpu")
    third = run(elsewhere, tmp_path / "d", resume=first[-1].checkpoint)
    assert losses(third) == pytest.approx(losses(second), abs=0.02)


def test_lockstep_against_single(make_config: Make, tmp_path: Path) -> None:
    """At rates that leave rounding alone: weights moved by 5e-4 of themselves, as TF32 rounds,
    move a loss by 1e-4 at these, by .05 at 3e-3."""
    members = [
        Member(
            config=configured(
                make_config,
                seed=seed,
                precision="fp32",
                optimizer={"learning_rate": rate},
            ),
            folder=tmp_path / f"m{seed}",
        )
        for seed, rate in enumerate((3e-4, 6e-4, 1e-3))
    ]
    together: dict[int, list[Report]] = {}
    for place, report in train_lockstep(members, until=END):
        together.setdefault(place, []).append(report)
    for place, member in enumerate(members):
        single = run(member.config, tmp_path / f"s{place}")
        assert losses(together[place]) == pytest.approx(losses(single), abs=5e-3)


def test_memory_after_a_stop(make_config: Make, tmp_path: Path) -> None:
    config = configured(make_config)
    run(config, tmp_path / "first", until=STEP)
    gc.collect()
    before = torch.cuda.memory_allocated()
    for turn in range(3):
        asked = iter([False, True])
        reports = run(config, tmp_path / str(turn), stop=lambda asked=asked: next(asked))
        assert reports[-1].tokens < END
    abandoned = train(config, until=END, folder=tmp_path / "abandoned")
    next(abandoned)
    abandoned.close()
    del abandoned
    gc.collect()
    assert torch.cuda.memory_allocated() <= before + 2**20
    # Nor kept in reserve: another process may share the device.
    assert torch.cuda.memory_reserved() <= torch.cuda.memory_allocated() + 2**26


def test_tokens_live_on_the_device_and_give_the_same_windows(
    make_config: Make, tmp_path: Path
) -> None:
    config = configured(make_config)
    device = choose_device(config)
    batches = Course(config, until=END, folder=tmp_path).batches()
    here, there = Feed([batches], device), Feed([batches], device, resident=False)
    assert here.resident and not there.resident
    for k in range(20):
        assert torch.equal(here.windows(k), there.windows(k))
        assert torch.equal(here.windows(k).cpu(), torch.from_numpy(batches.batch(k)))


def test_no_synchronisation_between_two_reads(make_config: Make, tmp_path: Path) -> None:
    config = configured(make_config)
    running = Run(Course(config, until=END, folder=tmp_path), choose_device(config))
    running.train_to(2 * STEP)  # lazy state of the optimizer and the libraries
    torch.cuda.set_sync_debug_mode("error")
    try:
        running.learner.train(running.feed, running.course.rate, 2, 12)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_batch_that_does_not_fit_is_cut(make_config: Make) -> None:
    """Memory for about a quarter of the batch: the update is that of the whole all the same."""
    shape = {"layers": 4, "width": 256, "context": 512}
    config = configured(
        make_config,
        model=shape,
        batch_tokens=512 * 64,
        horizon=512 * 640,
        evaluation={"tokens": 512},
        precision="fp32",
    )
    device = choose_device(config)
    windows = torch.randint(0, 256, (64, 513), device="cuda")
    whole = Learner(config, device)
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    expected = whole.step(windows, 1e-3)[0].item()
    needed = torch.cuda.max_memory_allocated() - held
    del whole
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    allowed = torch.cuda.memory_allocated() + 2**28 + needed // 3
    torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total))
    try:
        learner = Learner(config, device)
        assert learner.step(windows, 1e-3)[0].item() == pytest.approx(expected, abs=1e-3)
        assert learner.micro_batch is not None and learner.micro_batch < 64
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_the_device_says_what_it_is(make_config: Make) -> None:
    device: Device = choose_device(configured(make_config, device="auto"))
    described = device.describe()
    assert described["device"] == "cuda"
    assert described["cuda"] is not None
    peak = peak_flops(device.name)
    if peak is None:
        pytest.skip(f"{device.name} is not in the table of peaks: MFU will not be told")
    assert peak > 1e13


def test_a_process_joins_one_nccl_group_after_another(tmp_path: Path) -> None:
    for turn in range(2):
        with joined(0, 1, f"file://{tmp_path / str(turn)}", "cuda"):
            ones = torch.ones(3, device="cuda")
            torch.distributed.all_reduce(ones)
            assert ones.tolist() == [1, 1, 1]


SHARE = """
import json, sys
from pathlib import Path
from trainers.config import TrainConfig
from trainers.distributed import joined
from trainers.loop import train

rank, meeting, folder, until, config = sys.argv[1:]
with joined(int(rank), 2, meeting, "cuda") as group:
    reports = train(TrainConfig.model_validate_json(config), until=int(until),
                    folder=Path(folder), group=group)
    print(json.dumps([report.loss for report in reports]))
"""


@pytest.mark.timeout(300)
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="torch sees fewer than two GPUs")
@pytest.mark.parametrize("compiling", ["never", "always"])
def test_two_gpus_match_one(make_config: Make, tmp_path: Path, compiling: str) -> None:
    config = configured(make_config, precision="fp32", compile=compiling)
    alone = losses(run(config, tmp_path / "alone"))
    arguments = [f"file://{tmp_path / 'meeting'}", str(tmp_path / "shared"), str(END)]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", SHARE, str(rank), *arguments, config.canonical_json()],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in both:
        told, _ = process.communicate(timeout=250)
        assert process.returncode == 0
        assert json.loads(told) == pytest.approx(alone, abs=5e-3)


BREAK = """
import torch
from trainers.device import fault
assert fault() is None
table = torch.zeros(4, 2, device="cuda")
assert fault() is None
torch.nn.functional.embedding(torch.tensor([7], device="cuda"), table)
print(fault(), flush=True)
"""


def test_an_assertion_in_a_kernel_is_a_fault_for_good() -> None:
    """In a process of its own, which can then do nothing more with its GPU."""
    assert fault() is None
    done = subprocess.run(
        [sys.executable, "-c", BREAK], capture_output=True, text=True, timeout=100
    )
    assert "device-side assert" in done.stdout, done.stderr
    assert fault() is None
