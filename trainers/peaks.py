"""What accelerators can do at most, and the share of it that training uses (MFU).

Convention: `mfu` is FLOPs of training by the exact convention of `trainers.flops` (attention not
halved for causality, the head counted, the embedding not; PaLM, appendix B) per second, over the
makers' dense bf16 peak of the whole device (fp16 where there is no bf16; sparsity never counted).
Sources are the makers' data sheets. A device outside the table has no MFU, nor has a slice of one
(MIG): none is guessed.
Touches nothing and imports no torch.
"""

from __future__ import annotations

# Dense bf16 FLOP/s by what a device calls itself: all words of a row appear in the name, and the
# first row that fits is taken, so that variants stand before their plain names.
_PEAKS: tuple[tuple[tuple[str, ...], float], ...] = (
    (("GB200",), 2500e12),
    (("B200",), 2250e12),
    (("H200", "NVL"), 835e12),
    (("H200",), 989e12),
    (("GH200",), 989e12),
    (("H100", "PCIe"), 756e12),
    (("H100", "NVL"), 835e12),
    (("H100",), 989e12),
    (("H800",), 989e12),
    (("A100",), 312e12),
    (("A800",), 312e12),
    (("A40",), 149.7e12),
    (("A30",), 165e12),
    (("A10G",), 70e12),
    (("A10",), 125e12),
    (("L40S",), 362e12),
    (("L40",), 181e12),
    (("L4",), 121e12),
    (("RTX", "A6000"), 154.8e12),
    (("RTX", "4090"), 165.2e12),
    (("RTX", "3090"), 71e12),
    (("V100",), 125e12),
    (("T4",), 65e12),
)


def peak_flops(device_name: str) -> float | None:
    """Dense bf16 FLOP/s of a device by its name as the driver tells it; None if not known."""
    words = set(device_name.replace("-", " ").split())
    if "MIG" in words:
        return None
    for wanted, peak in _PEAKS:
        if words.issuperset(wanted):
            return peak
    return None


def mfu(flops: float, seconds: float, device_name: str) -> float | None:
    """The share of the device's peak that `flops` in `seconds` are; None for unknown devices."""
    peak = peak_flops(device_name)
    return None if peak is None or seconds <= 0 else flops / seconds / peak
