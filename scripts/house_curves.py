#!/usr/bin/env python3
"""The house's own curves: trained here, on a CPU, and recorded as tables in the package.

    scripts/house_curves.py run                   trains what is missing, then exports: hours
    scripts/house_curves.py export [--out DIR]    writes the tables from the sweep as it stands
    scripts/house_curves.py law [--tables DIR]    the law of the annealed ends, and the target

`run` is `frontrunner launch configs/house-curves.yaml` (or --config), resumable like any launch;
behind `--` it takes overrides. It notes the commit of each session beside the journal.

Written, into `orchestrator/recorded_data` unless --out says otherwise:

    house-curves.csv.gz    the trunks: constant rate, first seed, the longest horizon of each size
    house-annealed.csv     one row an annealed end, of every size, rate, horizon and seed
    house.json             spec, seed, commits, facts of the machine, and the SHA-256 of both
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator.assembly.folders import find, folder_of
from orchestrator.assembly.reading import Sweep, read_sweep
from orchestrator.assembly.refusal import Refused
from orchestrator.laws.errors import FitError
from orchestrator.laws.fit import fit
from orchestrator.laws.forms import CHINCHILLA, LawForm
from orchestrator.laws.forms.line import law_of
from orchestrator.laws.law import LawFit
from orchestrator.laws.runs import finished_runs
from orchestrator.recorded import RecordedError, read_recorded
from orchestrator.spec import load_spec
from orchestrator.trial import Trial
from orchestrator.values import Curve
from trainers.config import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "configs" / "house-curves.yaml"
TABLES = ROOT / "orchestrator" / "recorded_data"
CURVES, ENDS, FACTS = "house-curves.csv.gz", "house-annealed.csv", "house.json"
COMMITS = "commits.txt"
SETTINGS = ("width", "layers", "learning_rate", "seed")
INTERACTION = "E + A/N**a + B*N**c/D**b"

Row = Mapping[str, object]


def main() -> int:
    args = arguments()
    try:
        if args.verb == "run":
            return run(args.config, args.out, args.overrides)
        if args.verb == "export":
            sweep = read_sweep(find(args.sweep or str(folder_of(load_spec(args.config)).path)))
            return export(sweep, args.out)
        return law(args.tables, as_json=args.json)
    except (Refused, RecordedError, FitError, OSError, ValueError) as error:
        print(f"house_curves: {error}", file=sys.stderr)
        return 2


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("run", "export"):
        asked = verbs.add_parser(verb)
        asked.add_argument("--config", type=Path, default=CONFIG, help="the sweep file")
        asked.add_argument("--out", type=Path, default=TABLES, help="folder of the tables")
        if verb == "run":
            asked.add_argument("overrides", nargs="*", metavar="key=value")
        else:
            asked.add_argument("--sweep", help="its folder, where it was moved")
    asked = verbs.add_parser("law")
    asked.add_argument("--tables", type=Path, default=TABLES, help="folder of the tables")
    asked.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser.parse_args()


def run(config: Path, out: Path, overrides: Sequence[str]) -> int:
    """Launch or go on, and export once it is over; the command's exit code."""
    from orchestrator.cli.app import run as frontrunner

    folder = folder_of(load_spec(config, overrides))
    folder.path.mkdir(parents=True, exist_ok=True)
    with (folder.path / COMMITS).open("a", encoding="utf-8") as file:
        file.write(commit() + "\n")
    code = frontrunner(["launch", str(config), *overrides])
    return export(read_sweep(folder), out) if code == 0 else code


def commit() -> str:
    """The checked-out commit, `-dirty` where tracked files differ from it."""
    said = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() or "unknown"


def export(sweep: Sweep, out: Path) -> int:
    """Write the tables. Says what is missing, and leaves it out."""
    waiting = [trial for trial in sweep.pool if trial.id not in sweep.state.trials]
    unfinished = [
        t for t in sweep.state.trials.values() if t.status not in ("finished", "diverged")
    ]
    if waiting or unfinished:
        told = f"{len(waiting)} trials not begun, {len(unfinished)} not finished"
        print(f"house_curves: {told}: the tables hold what there is", file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    trials = [t for c in sweep.pool if (t := sweep.state.trials.get(c.id)) is not None]
    held_out = max(candidate.params for candidate in sweep.pool)
    trunks = list(trunk_rows(sweep, trials, held_out))
    ends = list(end_rows(sweep, trials, held_out))
    files = {CURVES: gzip.compress(table(trunks).encode(), mtime=0)}
    if ends:  # annealing comes last
        files[ENDS] = table(ends).encode()
    for name, content in files.items():
        (out / name).write_bytes(content)
    facts = {
        "schema": "frontrunner.house/1",
        "spec": json.loads(sweep.first.model_dump_json()),
        "seed": sweep.first.seed,
        "commits": commits(sweep),
        "facts": dict(sweep.opened.environment.facts),
        "flops": sweep.state.ledger.spent,
        "diverged": sorted(t.id for t in trials if t.diverged is not None),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    (out / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    curves = len({row["curve_id"] for row in trunks})
    print(
        f"{curves} curves of {len(trunks)} points and {len(ends)} annealed ends in {out}; "
        f"{sweep.state.ledger.spent:.3g} FLOPs",
        file=sys.stderr,
    )
    return 0


def commits(sweep: Sweep) -> list[str]:
    """The distinct commits of the sweep's sessions, oldest first."""
    path = sweep.folder.path / COMMITS
    lines = path.read_text(encoding="utf-8").split() if path.exists() else []
    return list(dict.fromkeys(lines))


def trunk_rows(sweep: Sweep, trials: Sequence[Trial], held_out: int) -> Iterable[Row]:
    """Points at a constant rate: of the first seed, the longest horizon of each size, and not of
    the target."""
    for trial in trials:
        row = settings(sweep, trial)
        longest = max(c.horizon for c in sweep.pool if c.params == trial.candidate.params)
        kept = row["seed"] == sweep.first.seed and trial.candidate.horizon == longest
        if kept and trial.candidate.params != held_out:
            name = f"w{row['width']}-lr{row['learning_rate']}"
            yield from (
                {
                    "curve_id": name,
                    "params": trial.candidate.params,
                    **point,
                    "phase": "stable",
                    **row,
                }
                for point in points(trial.curve)
            )


def end_rows(sweep: Sweep, trials: Sequence[Trial], held_out: int) -> Iterable[Row]:
    """The last point of every finished anneal, with the trunk's tokens and loss before it."""
    for trial in trials:
        for track in trial.branches:
            if not len(track.curve) or track.curve.phases[-1] != "annealed":
                continue
            yield {
                "curve_id": trial.id,
                "params": trial.candidate.params,
                **list(points(track.curve))[-1],
                **settings(sweep, trial),
                "trunk_tokens": track.start,
                "trunk_loss": f"{trial.curve.last_loss:.6f}",
                "held_out": int(trial.candidate.params == held_out),
            }


def settings(sweep: Sweep, trial: Trial) -> dict[str, object]:
    config = sweep.pool.train_config(trial.id)
    if not isinstance(config, TrainConfig):
        raise ValueError(f"{trial.id} is no language model of ours")
    values = (config.model.width, config.model.layers, config.optimizer.learning_rate, config.seed)
    return dict(zip(SETTINGS, values, strict=True))


def points(curve: Curve) -> Iterable[dict[str, object]]:
    for tokens, flops, loss in zip(curve.tokens, curve.flops, curve.loss, strict=True):
        yield {"tokens": int(tokens), "flops": f"{flops:.9g}", "loss": f"{loss:.6f}"}


def table(rows: Sequence[Row]) -> str:
    """The rows as CSV under their keys. Raises ValueError where there are none."""
    if not rows:
        raise ValueError("the sweep has no such points yet; let it run on")
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """An annealed end."""

    params: int
    tokens: int
    flops: float
    loss: float
    rate: float
    seed: int
    held_out: bool


def law(tables: Path, *, as_json: bool) -> int:
    """E + A/N^alpha + B/D^beta over the ends at each size's and length's best rate, and what it
    says of the larger model that it has not seen; beside it the same with a tokens' term that
    falls with size, which the first leaves out."""
    ends = read_ends(tables / ENDS)
    shown = best_rates([end for end in ends if not end.held_out])
    targets = best_rates([end for end in ends if end.held_out])
    record: dict[str, object] = {
        "schema": "frontrunner.house_law/2",
        "ends": len(shown),
        "sizes": len({end.params for end in shown}),
        "seed_sd_pct": seed_noise(ends),
        "law": said_of(CHINCHILLA, shown, targets),
        "with_interaction": said_of(law_of(INTERACTION), shown, targets),
    }
    print(json.dumps(record) if as_json else json.dumps(record, indent=1))
    return 0


def said_of(form: LawForm, shown: Sequence[End], targets: Sequence[End]) -> dict[str, object]:
    """A form fitted to the ends shown: its parameters, residuals, and errors at the targets (of
    the loss that was measured there), in per cent."""
    found = fit(
        form,
        finished_runs(
            [end.params for end in shown],
            [end.tokens for end in shown],
            [end.loss for end in shown],
            C=[end.flops for end in shown],
        ),
    )
    residual = residuals(found, shown)
    missed = -residuals(found, targets)
    return {
        "form": form.expression,
        "parameters": found.parameters,
        "residual_rms_pct": float(100 * np.sqrt(np.mean(residual**2))),
        "residual_worst_pct": float(100 * np.abs(residual).max()),
        "target": [
            {
                "params": end.params,
                "tokens": end.tokens,
                "loss": end.loss,
                "predicted": end.loss * float(np.exp(off)),
                "error_pct": float(100 * np.expm1(off)),
            }
            for end, off in zip(targets, missed, strict=True)
        ],
    }


def read_ends(path: Path) -> list[End]:
    """The ends in a table. Raises RecordedError or ValueError for another kind of table."""
    ends: list[End] = []
    for curve in read_recorded(path).values():
        known = dict(curve.settings)
        ends.append(
            End(
                params=curve.params or 0,
                tokens=int(curve.tokens[-1]),
                flops=float(curve.flops[-1]),
                loss=float(curve.loss[-1]),
                rate=float(known["learning_rate"]),
                seed=int(known["seed"]),
                held_out=bool(known["held_out"]),
            )
        )
    return ends


def best_rates(ends: Sequence[End]) -> list[End]:
    """The lowest loss of the first seed for each size and number of tokens."""
    first = min((end.seed for end in ends), default=0)
    best: dict[tuple[int, int], End] = {}
    for end in ends:
        key = (end.params, end.tokens)
        if end.seed == first and (key not in best or end.loss < best[key].loss):
            best[key] = end
    return list(best.values())


def residuals(found: LawFit, ends: Sequence[End]) -> np.ndarray:
    """ln(loss / law), one an end."""
    predicted = found.predict([end.params for end in ends], [end.tokens for end in ends])
    return np.log([end.loss for end in ends]) - np.log(predicted)


def seed_noise(ends: Sequence[End]) -> float | None:
    """Pooled standard deviation of ln loss over seeds of one configuration, in per cent."""
    groups: dict[tuple[int, int, float], list[float]] = {}
    for end in ends:
        groups.setdefault((end.params, end.tokens, end.rate), []).append(float(np.log(end.loss)))
    several = [np.asarray(losses) for losses in groups.values() if len(losses) > 1]
    if not several:
        return None
    squares = sum(float(((losses - losses.mean()) ** 2).sum()) for losses in several)
    return 100 * float(np.sqrt(squares / sum(len(losses) - 1 for losses in several)))


if __name__ == "__main__":
    sys.exit(main())
