"""Device, precision and threads are resolved in one place and described in plain values."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from trainers.config import TrainConfig
from trainers.device import DeviceError, choose_device, fault

Make = Callable[..., TrainConfig]


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"amx_bf16": True}, "bf16"),
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ({"avx512_f": True, "amx_bf16": False}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_a_cpu_computes_in_bf16_where_it_multiplies_bf16(
    make_config: Make,
    monkeypatch: pytest.MonkeyPatch,
    capabilities: dict[str, bool],
    precision: str,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    device = choose_device(make_config(threads=1))
    assert (device.device.type, device.precision) == ("cpu", precision)
    assert device.describe()["precision"] == precision
    assert torch.get_num_threads() == 1
    for wish in ("fp32", "bf16"):
        assert choose_device(make_config(precision=wish)).precision == wish


def test_the_description_is_plain(make_config: Make) -> None:
    described = choose_device(make_config()).describe()
    assert json.loads(json.dumps(described)) == described
    assert described["torch"] == torch.__version__
    assert (described["device"], described["cuda"], described["threads"]) == ("cpu", None, 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_absent_cuda(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device(make_config(device="auto")).device.type == "cpu"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(DeviceError, match="use device: auto, or install"):
        choose_device(make_config(device="cuda"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(DeviceError, match=r"started without one .* use device: auto"):
        choose_device(make_config(device="cuda"))


def test_a_gpu_that_failed_for_good_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nSearch for it")

    assert fault() is None
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert fault() is None
    monkeypatch.setattr(torch.cuda, "synchronize", fails)
    assert fault() == "CUDA error: an illegal memory access was encountered"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_cuda_is_taken_when_there_is_one(make_config: Make) -> None:
    described = choose_device(make_config(device="auto")).describe()
    ampere = torch.cuda.get_device_capability() >= (8, 0)
    assert described["device"] == "cuda"
    assert described["precision"] == ("bf16" if ampere else "fp32")
    assert described["cuda"] is not None
