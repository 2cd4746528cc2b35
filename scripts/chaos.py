#!/usr/bin/env python3
"""Kill -9 at random moments, on a tiny sweep of real models through the real command.

    scripts/chaos.py [--kills 4] [--seed 0] [--processes 1] [--folder DIR] [--json]

One kill in four hits a training worker, the others the driver, which is launched again at once,
while its workers still write for seconds. Afterwards the journal is read by itself, with other
arithmetic than `state`'s, and must show: the sweep closed; every record that a kill found on disk
still there; no point counted twice, and repeated only by a later attempt on its way back from an
earlier checkpoint, with the same loss to the last bit; the ledger equal to the sum of the points
and the work declared lost; no resume but from a journalled checkpoint; one MLflow run a trial; and
no process left. Exits 1 where one of these fails.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from chaos_checks import Check, checks, name_of

from orchestrator.assembly.folders import SweepFolder
from orchestrator.assembly.reading import read_sweep
from orchestrator.assembly.refusal import Refused
from orchestrator.journal import JournalError

ROOT = Path(__file__).resolve().parents[1]
WORKERS = ("ray::Seat", "ray::SharedSeat", "ray::Follower")
SESSION_LIMIT_S = 300.0

SPEC = """\
version: 1
name: chaos
seed: 3
storage: {storage}
trial:
  model: {{context: 64, layers: 2}}
  data: {{source: python-sources}}
  batch_tokens: 1Ki
  horizon: {horizon}
  schedule: {{warmup: 8Ki}}
  evaluation: {{tokens: 4Ki, points: 40}}
  checkpoint: {{every_s: 0.7}}
  device: cpu
  precision: fp32
space:
  model.width: [16, 32]
  optimizer.learning_rate: [1e-3, 3e-3, 1e-2, 3e-2]
budget: {{flops: 60%, lost: 100%}}
policy: {{kind: successive_halving, eta: 2, group_by: params}}
anneal: {{share: 10%, decay: 20%, stopped: 1}}
resources: {{backend: ray, workers: 2, gpus_per_trial: 0, processes_per_trial: {processes}}}
tracking: {{mlflow: {mlflow}}}
"""


@dataclass
class Campaign:
    """The sweep under fire, and what was seen of it."""

    folder: SweepFolder
    spec: Path
    log: Path
    tell: Callable[[str], None]
    driver: subprocess.Popen[bytes] | None = None
    seen: dict[int, psutil.Process] = field(default_factory=dict[int, psutil.Process])
    snapshots: list[bytes] = field(default_factory=list[bytes])
    kills: Counter[str] = field(default_factory=Counter[str])

    def launch(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "orchestrator", "launch", str(self.spec)]
        with self.log.open("ab") as log:
            self.driver = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )
        return self.driver

    def below(self) -> list[psutil.Process]:
        """The driver's processes, remembered for the count at the end."""
        if self.driver is None or self.driver.poll() is not None:
            return []
        try:
            processes = psutil.Process(self.driver.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self.seen |= {process.pid: process for process in processes}
        return processes

    def journal(self) -> bytes:
        try:
            return self.folder.journal.read_bytes()
        except FileNotFoundError:
            return b""

    def spent(self) -> float:
        """The share of the budget that the journal shows as spent; 0 before it begins."""
        try:
            state = read_sweep(self.folder).state
        except (JournalError, OSError, Refused):
            return 0.0
        return state.ledger.spent / state.terms.budget

    def kill(self, target: str, chance: random.Random) -> bool:
        """Whether there was something of that kind to kill."""
        victims = [process for process in self.below() if name_of(process).startswith(WORKERS)]
        if target == "worker":
            if not victims:
                return False
            chance.choice(victims).kill()
        else:
            assert self.driver is not None
            os.kill(self.driver.pid, signal.SIGKILL)
            self.driver.wait()
        self.snapshots.append(self.journal())
        self.kills[target] += 1
        return True


def under_fire(campaign: Campaign, kills: int, chance: random.Random) -> int:
    """Launch, kill, launch again; the last session's exit code."""
    moments = sorted(chance.uniform(0.02, 0.85) for _ in range(kills))
    targets = ["worker" if i % 4 == 1 else "driver" for i in range(kills)]
    driver = campaign.launch()
    for moment, target in zip(moments, targets, strict=True):
        early = target == "driver" and chance.random() < 0.2
        deadline = time.monotonic() + SESSION_LIMIT_S
        if early:  # while it starts
            time.sleep(chance.uniform(0.5, 12.0))
        else:
            while campaign.spent() < moment:
                if driver.poll() is not None or time.monotonic() > deadline:
                    return _ended_early(campaign, driver)
                campaign.below()
                time.sleep(0.1)
            time.sleep(chance.uniform(0.0, 1.5))
        if driver.poll() is not None:
            return _ended_early(campaign, driver)
        if campaign.kill(target, chance):
            campaign.tell(f"killed the {target} at {campaign.spent():.0%} of the budget")
        if target == "driver":
            driver = campaign.launch()
    deadline = time.monotonic() + SESSION_LIMIT_S
    while driver.poll() is None and time.monotonic() < deadline:
        campaign.below()
        time.sleep(0.2)
    return _ended_early(campaign, driver) if driver.poll() is None else driver.returncode


def _ended_early(campaign: Campaign, driver: subprocess.Popen[bytes]) -> int:
    """A session that ended, or hung, before its turn; it is killed, and its code told."""
    if driver.poll() is None:
        campaign.tell(f"a session did not get on within {SESSION_LIMIT_S:.0f} s")
        driver.kill()
    return driver.wait()


# --- the command ---------------------------------------------------------------------------------


def main() -> int:
    args = arguments()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="frontrunner-chaos-") as made:
        root = Path(args.folder or made).resolve()
        root.mkdir(parents=True, exist_ok=True)
        spec = root / "chaos.yaml"
        horizon = "500K" if args.kills <= 8 else "1500K"
        storage = json.dumps(str(root / "sweeps"))
        mlflow = "false" if args.without_mlflow else "true"
        text = SPEC.format(
            storage=storage, horizon=horizon, mlflow=mlflow, processes=args.processes
        )
        spec.write_text(text)
        campaign = Campaign(
            folder=SweepFolder(root / "sweeps" / "chaos"),
            spec=spec,
            log=root / "chaos.log",
            tell=lambda line: print(f"{time.monotonic() - began:6.1f} s  {line}", file=sys.stderr),
        )
        try:
            code = under_fire(campaign, args.kills, random.Random(args.seed))
            found = list(judged(campaign, code, args.kills))
        finally:
            if campaign.driver is not None and campaign.driver.poll() is None:
                campaign.driver.kill()
        broken = [check for check in found if check.broken]
        if broken and campaign.log.exists():
            print(campaign.log.read_text(errors="replace")[-4000:], file=sys.stderr)
        tell(campaign, found, time.monotonic() - began, as_json=args.json)
    return 1 if broken else 0


def judged(campaign: Campaign, code: int, kills: int) -> Iterator[Check]:
    yield Check("the last session ends well", () if code == 0 else (f"exit code {code}",))
    done = campaign.kills.total()
    short = () if done == kills else (f"only {done} of {kills}: the sweep was over before",)
    yield Check("every kill was made", short)
    if campaign.folder.exists:
        seen = campaign.seen.values()
        yield from checks(read_sweep(campaign.folder), campaign.snapshots, seen)


def tell(campaign: Campaign, found: list[Check], wall_s: float, *, as_json: bool) -> None:
    rows = [{"promise": c.promise, "kept": not c.broken, "broken": list(c.broken)} for c in found]
    facts: dict[str, object] = {"kills": dict(campaign.kills), "wall_s": round(wall_s, 1)}
    if campaign.folder.exists:
        sweep = read_sweep(campaign.folder)
        ledger = sweep.state.ledger
        facts |= {
            "sessions": sweep.state.session,
            "trials": len(sweep.state.trials),
            "points": sweep.state.points,
            "attempts": sum(trial.attempts for trial in sweep.state.trials.values()),
            "stale": sweep.state.stale,
            "lost_share": round(ledger.lost / max(1, ledger.spent), 4),
        }
    if as_json:
        print(json.dumps({**facts, "rows": rows}))
        return
    for check in found:
        print(f"{'kept  ' if not check.broken else 'BROKEN'}  {check.promise}")
        for line in check.broken[:5]:
            print(f"          {line}")
    print(", ".join(f"{name} {value}" for name, value in facts.items()))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=4, help="how many (4)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills (0)")
    parser.add_argument("--processes", type=int, default=1, help="that train each trial (1)")
    parser.add_argument("--folder", help="keep the sweep here (a temporary folder)")
    parser.add_argument("--without-mlflow", action="store_true", help="leave MLflow out of it")
    parser.add_argument("--json", action="store_true", help="one object on stdout, with rows")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
