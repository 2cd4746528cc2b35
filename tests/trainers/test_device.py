"""Device, precision and threads are resolved in one place and described in plain values."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from trainers.config import TrainConfig
from trainers.device import DeviceError, choose_device

Make = Callable[..., TrainConfig]


def test_a_cpu_computes_in_fp32_with_its_threads(make_config: Make) -> None:
    device = choose_device(make_config(threads=1))
    assert (device.device.type, device.precision) == ("cpu", "fp32")
    assert torch.get_num_threads() == 1
    assert choose_device(make_config(precision="bf16")).precision == "bf16"


def test_the_description_is_plain(make_config: Make) -> None:
    described = choose_device(make_config()).describe()
    assert json.loads(json.dumps(described)) == described
    assert described["torch"] == torch.__version__
    assert (described["device"], described["cuda"], described["threads"]) == ("cpu", None, 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")
def test_absent_cuda(make_config: Make) -> None:
    assert choose_device(make_config(device="auto")).device.type == "cpu"
    with pytest.raises(DeviceError, match="use device: auto"):
        choose_device(make_config(device="cuda"))


@pytest.mark.gpu
def test_cuda_is_taken_when_there_is_one(make_config: Make) -> None:
    described = choose_device(make_config(device="auto")).describe()
    assert (described["device"], described["precision"]) == ("cuda", "bf16")
    assert described["cuda"] is not None
