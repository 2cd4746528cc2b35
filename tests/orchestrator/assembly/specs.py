"""Sweep files for the tests of assembly and command: recorded curves, and a tiny live one."""

from __future__ import annotations

import csv
import random
from pathlib import Path

from tests.orchestrator.report.ladders import curves_of


def recorded(folder: Path, *, name: str = "ladder", extra: str = "") -> Path:
    """A sweep over twelve recorded curves of a known law; runs in a second and trains nothing."""
    _, curves = curves_of()
    with (folder / "curves.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["curve_id", "params", "rate", "tokens", "flops", "loss"])
        for curve_id, curve in curves.items():
            rate = curve_id.rpartition("lr")[2]
            for row in zip(curve.tokens, curve.flops, curve.loss, strict=True):
                out.writerow([curve_id, curve.params, rate, *row])
    path = folder / f"{name}.yaml"
    path.write_text(
        f"version: 1\nname: {name}\nrecorded: {{curves: curves.csv}}\n"
        "budget: {flops: 40%}\n"
        "policy: {kind: successive_halving, eta: 2, group_by: params}\n"
        f"law: {{bootstrap: 20}}\nstorage: {folder / 'sweeps'}\ntracking: {{mlflow: false}}\n"
        f"{extra}",
        encoding="utf-8",
    )
    return path


def live(folder: Path, *, name: str = "tiny", horizon: int = 4096, extra: str = "") -> Path:
    """A sweep that really trains eight byte models of a few thousand parameters, in process."""
    chance = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["".join(chance.choices(letters, k=chance.randint(2, 8))) for _ in range(300)]
    paragraphs = [" ".join(chance.choices(vocabulary, k=200)) for _ in range(60)]
    (folder / "text.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")
    path = folder / f"{name}.yaml"
    path.write_text(
        f"version: 1\nname: {name}\nseed: 3\n"
        "trial:\n"
        "  model: {context: 16, layers: 1}\n"
        f"  data: {{source: {folder / 'text.txt'}, held_out: 10%, max_epochs: 50}}\n"
        f"  batch_tokens: 64\n  horizon: {horizon}\n  schedule: {{warmup: 256}}\n"
        "  evaluation: {tokens: 256, points: 8}\n  checkpoint: {every_s: 0.2}\n  device: cpu\n"
        "space:\n  model.width: [8, 16, 24, 32]\n  optimizer.learning_rate: [1e-3, 1e-2]\n"
        "budget: {flops: 60%}\n"
        "policy: {kind: successive_halving, eta: 2, group_by: params}\n"
        "anneal: {share: 10%, decay: 20%, stopped: 1}\nlaw: {bootstrap: 20}\n"
        "resources: {backend: inline, workers: 2}\n"
        f"storage: {folder / 'sweeps'}\ntracking: {{mlflow: false}}\n{extra}",
        encoding="utf-8",
    )
    return path
