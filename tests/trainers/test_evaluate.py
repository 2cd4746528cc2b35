"""The held-out loss: a mean over windows, however they are cut and shared."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainers import evaluate
from trainers.device import Device
from trainers.evaluate import bits_per_byte, held_out_total
from trainers.memory import TooLarge

CPU = Device(device=torch.device("cpu"), precision="fp32", threads=1)


class MeanToken(nn.Module):
    """A network whose loss on windows is known: the mean of their tokens."""

    def forward(self, window: Tensor) -> Tensor:
        return window.float().mean()


@pytest.mark.parametrize("tokens", [8, 24, 10_000])
def test_every_window_counts_alike_whatever_the_chunks(
    tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "CHUNK_TOKENS", {"cpu": tokens})
    windows = torch.arange(7)[:, None].expand(7, 9)  # at 3 windows a chunk the last holds one
    assert held_out_total(MeanToken(), windows, CPU, 64).item() == pytest.approx(21.0)


class Narrow(MeanToken):
    """One that holds the hidden values of so many windows."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, window: Tensor) -> Tensor:
        if len(window) > self.rows:
            raise torch.OutOfMemoryError("planted")
        return super().forward(window)


def test_what_does_not_fit_is_read_in_smaller_parts(caplog: pytest.LogCaptureFixture) -> None:
    windows = torch.arange(7)[:, None].expand(7, 9)
    assert held_out_total(Narrow(3), windows, CPU, 64).item() == pytest.approx(21.0)
    assert "reading it by 2 rows" in caplog.text
    with pytest.raises(TooLarge, match="even one sequence at a time"):
        held_out_total(Narrow(0), windows, CPU, 64)


def test_a_worker_without_windows_adds_nothing() -> None:
    """There may be more workers than windows; the mean of no window is no number."""
    none = torch.empty(0, 9, dtype=torch.long)
    assert held_out_total(MeanToken(), none, CPU, 64).item() == 0.0


def test_bits_per_byte() -> None:
    assert bits_per_byte(1.386294361, 4.0) == pytest.approx(0.5)
