"""The table of peaks: names as drivers tell them, and no guesses."""

from __future__ import annotations

import pytest

from trainers.peaks import mfu, peak_flops


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H200 NVL", 835e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10G", 70e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA RTX A6000", 154.8e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("Tesla V100-SXM2-16GB", 125e12),
        ("x86_64 AVX512", None),
        ("NVIDIA H1000", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
    ],
)
def test_peaks_by_name(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak


def test_mfu_is_the_share_of_the_peak() -> None:
    assert mfu(989e12, 2.0, "NVIDIA H100 80GB HBM3") == pytest.approx(0.5)
    assert mfu(989e12, 2.0, "abacus") is None
    assert mfu(989e12, 0.0, "NVIDIA H100 80GB HBM3") is None
